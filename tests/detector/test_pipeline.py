"""Which of the networks analyses a file."""

import io
import threading

import numpy as np
import pytest
from clips import make_sound, make_video

from detector.pictures.detect import PictureDetector
from detector.pipeline import Detector
from detector.results import ModelError, PictureDetection, UnreadableMedia, VideoDetection


class VoiceStub:
    """Replaces the voice network and records its calls."""

    def __init__(self, picture_detector):
        self.engine, self.seen = picture_detector.engine, []

    def detect(self, source):
        self.seen.append(source)


@pytest.fixture
def voices(picture_detector):
    return VoiceStub(picture_detector)


@pytest.fixture
def detector(picture_detector, voices):
    return Detector(picture_detector, lambda: voices)


@pytest.fixture(scope="module")
def tone():
    return np.sin(np.arange(16_000) / 10).astype(np.float32) / 4


@pytest.fixture(scope="module")
def silent_film(portrait):
    return make_video([portrait[:256, :256]] * 30)


def test_every_kind_of_source_gives_the_same_detection(detector, voices, face_jpeg, portrait, tmp_path):
    path = tmp_path / "film.mp4"  # the name does not count
    path.write_bytes(face_jpeg)
    found = [detector.detect(source) for source in (face_jpeg, path, str(path))]
    assert len({detection.logit for detection in found}) == 1
    assert {type(detection) for detection in [*found, detector.detect(portrait)]} == {PictureDetection}
    assert voices.seen == []


@pytest.mark.slow
def test_a_video_is_analysed_by_its_frames_and_its_audio_track(detector, voices, silent_film, portrait, tone, tmp_path):
    path = tmp_path / "face.jpg"
    path.write_bytes(make_video([portrait[:256, :256]] * 30, waveform=tone))
    shares = []
    assert isinstance(detector.detect(path, progress=shares.append), VideoDetection)
    (waveform,) = voices.seen
    assert waveform.shape == pytest.approx((16_000,), rel=0.1)
    assert shares == sorted(shares) and shares[-1] == 1
    assert isinstance(detector.detect(silent_film), VideoDetection) and len(voices.seen) == 1


@pytest.mark.slow
def test_every_s_is_the_distance_between_sampled_frames(detector, portrait):
    film = make_video([portrait[:64, :64]] * 30, fps=1)
    assert [detector.detect(film, every_s=seconds).frames_seen for seconds in (1.0, 3.0)] == [30, 10]


def test_a_video_container_with_sound_alone_is_a_recording(detector, voices, tone):
    wave, m4a = make_sound(tone), make_sound(tone, format="mp4", codec="aac")
    detector.detect(wave)
    detector.detect(m4a)
    assert voices.seen == [wave, m4a]


@pytest.mark.parametrize("source", [b"", b"%PDF-1.7 hello", b"<html>"])
def test_other_files_are_refused(detector, source):
    with pytest.raises(UnreadableMedia):
        detector.detect(source)


def test_thresholds_are_those_of_the_medium(detector, voices, picture_detector):
    assert (
        detector.calibration_of("image") == detector.calibration_of("video") == picture_detector.engine.spec.calibration
    )
    voices.engine = type("Other", (), {"spec": type("Spec", (), {"calibration": "its own"})})
    assert detector.calibration_of("audio") == "its own"


def test_the_voice_network_is_loaded_once_and_only_when_it_is_needed(picture_detector, voices, face_jpeg, tone):
    loads = []
    detector = Detector(picture_detector, lambda: loads.append(1) or voices)
    detector.detect(face_jpeg)
    assert loads == []
    askers = [threading.Thread(target=detector.detect, args=(make_sound(tone),)) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert loads == [1] and len(voices.seen) == 4


def test_a_missing_voice_network_does_not_affect_pictures(picture_detector, face_jpeg, tone):
    def refuse():
        raise ModelError("There is none.")

    detector = Detector(picture_detector, refuse)
    assert isinstance(detector.pictures, PictureDetector) and detector.detect(face_jpeg).faces
    with pytest.raises(ModelError, match="There is none"):
        detector.detect(io.BytesIO(make_sound(tone)).getvalue())


def test_a_silent_video_needs_no_voice_network(picture_detector, silent_film):
    def refuse():
        raise ModelError("There is none.")

    assert Detector(picture_detector, refuse).detect(silent_film).sound is None
