import json

import numpy as np
import pytest
from blue_engine import BlueEngine, crop_without_blue, plant

from detector.evidence.explanation_checks import DELETION_SHARES, RANDOM_DELETIONS, run_deletion_check
from detector.evidence.explanations import explain
from detector.record import to_values


@pytest.fixture(scope="module")
def face(portrait):
    return crop_without_blue(portrait)


def test_a_map_of_another_place_does_not_matter_to_the_score(face):
    crop, engine = plant(face, 24, 24), BlueEngine()
    right = explain(crop, engine).heatmap
    good, bad = (run_deletion_check(crop, heatmap, engine) for heatmap in (right, right[::-1, ::-1]))
    assert good.matters and "lowers the score more" in good.sentence
    assert not bad.matters and "does not show what this score is based on" in bad.sentence
    assert good.area < good.random_area and bad.area > bad.random_area
    assert good.random_logits[0] == good.logits[0] == bad.logits[0] == pytest.approx(engine.run(crop[None])[0][0])
    assert good.logits[1] < bad.logits[1]
    json.dumps(to_values(good))


def test_no_map_matters_to_a_score_that_never_changes(face):
    check = run_deletion_check(face, np.random.default_rng(0).random((6, 6), np.float32), BlueEngine(gain=0))
    assert not check.matters and check.area == pytest.approx(check.random_area)


@pytest.mark.slow
def test_a_map_of_noise_passes_about_as_often_as_the_rule_says(face):
    """Noise over noise: 1 in 20 passes, so more than 3 of 20 would do so once in 60 times."""
    rng = np.random.default_rng(1)
    crop = face.copy()
    crop[..., 2] = rng.integers(0, 256, crop.shape[:2])
    passed = [run_deletion_check(crop, rng.random((6, 6), np.float32), BlueEngine()).matters for _ in range(20)]
    assert sum(passed) <= 3 and RANDOM_DELETIONS == 19


def test_every_deletion_removes_the_stated_proportion(face):
    """With a score that is the number of changed pixels, as much is removed at random as by the map."""
    check = run_deletion_check(plant(face, 48, 48, side=96), np.eye(12, dtype=np.float32), BlueEngine())
    assert check.shares == (0.0, *DELETION_SHARES) and len(check.logits) == len(check.random_logits) == 6
    assert check.logits == pytest.approx(check.random_logits, abs=0.5)
