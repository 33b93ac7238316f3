"""The front door: which of the networks a file is led to."""

import io
import threading

import numpy as np
import pytest
from clips import make_sound, make_video

from detector.pictures.detect import PictureDetector
from detector.pipeline import Detector
from detector.results import ModelError, PictureDetection, UnreadableMedia, VideoDetection


class Heard:
    """Stands for the voice network where it only matters that it is asked."""

    def __init__(self, picture_detector):
        self.engine, self.seen = picture_detector.engine, []

    def detect(self, source):
        self.seen.append(source)


@pytest.fixture
def ears(picture_detector):
    return Heard(picture_detector)


@pytest.fixture
def judge(picture_detector, ears):
    return Detector(picture_detector, lambda: ears)


@pytest.fixture(scope="module")
def tone():
    return np.sin(np.arange(16_000) / 10).astype(np.float32) / 4


@pytest.fixture(scope="module")
def silent_film(portrait):
    return make_video([portrait[:256, :256]] * 30)


def test_a_picture_is_judged_alike_from_every_kind_of_source(judge, ears, face_jpeg, portrait, tmp_path):
    path = tmp_path / "film.mp4"  # whatever its name
    path.write_bytes(face_jpeg)
    found = [judge.detect(source) for source in (face_jpeg, path, str(path))]
    assert len({detection.logit for detection in found}) == 1
    assert {type(detection) for detection in [*found, judge.detect(portrait)]} == {PictureDetection}
    assert ears.seen == []


def test_a_video_is_judged_by_its_frames_and_its_sound(judge, ears, silent_film, portrait, tone, tmp_path):
    path = tmp_path / "face.jpg"
    path.write_bytes(make_video([portrait[:256, :256]] * 30, waveform=tone))
    shares = []
    assert isinstance(judge.detect(path, progress=shares.append), VideoDetection)
    (waveform,) = ears.seen
    assert waveform.shape == pytest.approx((16_000,), rel=0.1)
    assert shares == sorted(shares) and shares[-1] == 1
    assert isinstance(judge.detect(silent_film), VideoDetection) and len(ears.seen) == 1


def test_every_s_is_how_often_a_video_is_looked_at(judge, portrait):
    film = make_video([portrait[:64, :64]] * 30, fps=1)
    assert [judge.detect(film, every_s=seconds).frames_seen for seconds in (1.0, 3.0)] == [30, 10]


def test_sound_alone_is_heard_even_in_a_container_of_videos(judge, ears, tone):
    wave, m4a = make_sound(tone), make_sound(tone, format="mp4", codec="aac")
    judge.detect(wave)
    judge.detect(m4a)
    assert ears.seen == [wave, m4a]


@pytest.mark.parametrize("source", [b"", b"%PDF-1.7 hello", b"<html>"])
def test_other_files_are_refused(judge, source):
    with pytest.raises(UnreadableMedia):
        judge.detect(source)


def test_thresholds_are_those_of_the_medium(judge, ears, picture_detector):
    assert judge.calibration_of("image") == judge.calibration_of("video") == picture_detector.engine.spec.calibration
    ears.engine = type("Other", (), {"spec": type("Spec", (), {"calibration": "its own"})})
    assert judge.calibration_of("audio") == "its own"


def test_the_voice_network_is_loaded_once_and_only_when_it_is_needed(picture_detector, ears, face_jpeg, tone):
    loads = []
    judge = Detector(picture_detector, lambda: loads.append(1) or ears)
    judge.detect(face_jpeg)
    assert loads == []
    askers = [threading.Thread(target=judge.detect, args=(make_sound(tone),)) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert loads == [1] and len(ears.seen) == 4


def test_a_missing_voice_network_harms_no_picture(picture_detector, face_jpeg, tone):
    def refuse():
        raise ModelError("There is none.")

    judge = Detector(picture_detector, refuse)
    assert isinstance(judge.pictures, PictureDetector) and judge.detect(face_jpeg).faces
    with pytest.raises(ModelError, match="There is none"):
        judge.detect(io.BytesIO(make_sound(tone)).getvalue())


def test_a_silent_video_needs_no_voice_network(picture_detector, silent_film):
    def refuse():
        raise ModelError("There is none.")

    assert Detector(picture_detector, refuse).detect(silent_film).sound is None
