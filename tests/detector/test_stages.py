from contextlib import contextmanager

import pytest
from clips import make_sound
from voices import play

from detector.stages import observe_stages, stage


@pytest.fixture
def seen():
    """The stages that begin and end, in their order."""
    names = []

    @contextmanager
    def observe(name):
        names.append(name)
        yield
        names.append(f"end of {name}")

    observe_stages(observe)
    yield names
    observe_stages(None)


def test_the_stages_of_a_picture_and_a_recording_are_observed(real_detector, face_jpeg, seen):
    real_detector.detect(face_jpeg)
    assert [name for name in seen if not name.startswith("end")] == ["decode", "find faces", "score"]
    seen.clear()
    real_detector.detect(make_sound(play(1)))
    assert [name for name in seen if not name.startswith("end")] == ["decode", "score"]


def test_a_stage_is_a_context_and_a_decorator(seen):
    @stage("inner")
    def work():
        return 7

    with stage("outer"):
        assert (work(), work()) == (7, 7)
    assert seen == ["outer", *["inner", "end of inner"] * 2, "end of outer"]
    observe_stages(None)
    assert work() == 7 and len(seen) == 6
