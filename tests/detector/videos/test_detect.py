import json
from types import SimpleNamespace

import av
import numpy as np
import pytest
from clips import make_sound, make_video

from detector.media.videos import open_media, sample_frames
from detector.models.calibration import Calibration
from detector.models.engines import Engine
from detector.models.spec import FaceInput, ModelSpec
from detector.pictures.detect import PictureDetector
from detector.pictures.faces import resize
from detector.pipeline import Detector
from detector.record import to_record
from detector.results import Reason, UnreadableMedia, Verdict
from detector.videos.detect import MIN_SAMPLES, detect_video
from detector.videos.tracks import robust_mean

pytestmark = pytest.mark.slow


class BrightnessEngine(Engine):
    """Replaces the network: the brighter a crop, the higher its logit; grey is neutral."""

    model_sha256 = "0" * 64
    spec = ModelSpec("brightness", FaceInput(64, 1.3), Calibration(0.1, 0.0, 0.2, 0.8))

    def run(self, batch):
        logits = batch.mean((1, 2, 3)) - 127.5
        return logits.astype(np.float32), np.tile(logits[:, None, None], (1, 4, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def pictures(finder):
    return PictureDetector(BrightnessEngine(), finder)


def lit(image, offset):
    return np.clip(image.astype(int) + offset, 0, 255).astype(np.uint8)


def scene(*faces, background=110):
    """Return a frame of 480 x 270 with faces (picture, x, y, side)."""
    frame = np.full((270, 480, 3), background, np.uint8)
    for picture, x, y, side in faces:
        frame[y : y + side, x : x + side] = resize(picture, side, side)
    return frame


def film(show, seconds, **options):
    """Return a video with two frames a second, each made by `show(second)`."""
    return make_video([show(i / 2) for i in range(2 * seconds)], fps=2, options={"crf": "10"}, **options)


@pytest.fixture(scope="module")
def walking(portrait):
    """Return a video of ten seconds in which a face moves and becomes brighter."""
    return film(lambda s: scene((lit(portrait, 6 * s - 30), int(24 * s), int(4 * s), 200)), 10)


def detect(data, pictures, **options):
    with open_media(data) as video:
        return detect_video(video, pictures, **options)


def comparable(detection):
    return {name: value for name, value in to_record(detection).items() if name != "elapsed_ms"}


def test_a_walking_face_is_one_track_with_a_frame_a_second(walking, pictures):
    detection = detect(walking, pictures)
    (track,) = detection.tracks
    assert [frame.timestamp_s for frame in track.frames] == list(range(10)) and detection.frames_seen == 10
    assert (detection.width_px, detection.height_px, detection.duration_s) == (480, 270, 10.0)
    logits = [frame.logit for frame in track.frames]
    assert logits == sorted(logits) and detection.logit == track.logit == pytest.approx(robust_mean(np.array(logits)))
    assert detection.probability == pictures.engine.spec.calibration.probability(detection.logit)
    assert (detection.verdict, detection.reasons) == (track.verdict, track.reasons)
    assert detection.error_rates == () and detection.sound is None and detection.elapsed_ms > 0
    assert json.loads(json.dumps(to_record(detection), allow_nan=False)) == to_record(detection)


def test_a_frame_is_processed_like_a_picture(walking, picture_detector):
    (track,) = detect(walking, picture_detector).tracks
    for frame, (_, pixels) in zip(track.frames, sample_frames(walking), strict=True):
        (face,) = picture_detector.detect(pixels).faces
        assert (frame.box, frame.logit, frame.probability) == (face.box, face.logit, face.probability)
        if frame.heatmap is not None:
            np.testing.assert_array_equal(frame.heatmap, face.heatmap)
            assert frame.crop.shape == (picture_detector.engine.spec.face.size_px,) * 2 + (3,)


@pytest.mark.parametrize(("offset", "verdict"), [(-60, Verdict.REAL), (70, Verdict.DEEPFAKE)])
def test_the_most_suspicious_person_decides(offset, verdict, portrait, pictures):
    other = lit(portrait[:, ::-1], -60)
    detection = detect(film(lambda s: scene((lit(portrait, offset), 0, 0, 230), (other, 260, 40, 200)), 5), pictures)
    assert detection.verdict is verdict and len(detection.tracks) == 2
    assert detection.tracks[0].logit > detection.tracks[1].logit and detection.logit == detection.tracks[0].logit
    assert {len(track.frames) for track in detection.tracks} == {detection.frames_seen}


def test_a_shot_change_begins_new_tracks(portrait, pictures):
    def show(second):
        return scene((lit(portrait, 60 if second >= 5 else -60), 100, 20, 240), background=30 if second >= 5 else 200)

    detection = detect(film(show, 10), pictures)
    assert detection.shot_changes_s == (5.0,) and detection.verdict is Verdict.DEEPFAKE
    times_s = [[frame.timestamp_s for frame in track.frames] for track in detection.tracks]
    assert times_s == [[5, 6, 7, 8, 9], [0, 1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("visible_s", "side", "reason", "tracks"),
    [(0, 200, Reason.NO_FACE, 0), (10, 100, Reason.TOO_SMALL, 0), (2, 200, Reason.TOO_FEW_FRAMES, 1)],
)
def test_too_little_of_a_face_gives_a_score_without_a_verdict(visible_s, side, reason, tracks, portrait, pictures):
    bright = lit(portrait, 90)
    data = film(lambda s: scene(*[(bright, 100, 20, side)] * (s < visible_s)), 10)
    detection = detect(data, pictures)
    assert (detection.verdict, detection.reasons) == (Verdict.INCONCLUSIVE, (reason,))
    assert len(detection.tracks) == tracks and detection.frames_seen == 10
    whole = detection.logit == pytest.approx(110 - 127.5, abs=3)  # the grey frames scored as a whole
    assert whole == (reason is Reason.NO_FACE) and detection.probability < 1


def test_one_frame_is_too_few(portrait, pictures):
    detection = detect(make_video([scene((portrait, 100, 20, 240))]), pictures)
    assert detection.reasons == (Reason.TOO_FEW_FRAMES,) and detection.frames_seen == 1
    assert len(detection.tracks[0].frames) == 1 and 0 < detection.duration_s < 1


def test_a_short_clip_is_sampled_more_often(portrait, pictures):
    clip = make_video([scene((portrait, 100 + i, 20, 240)) for i in range(40)], fps=25)
    assert MIN_SAMPLES <= detect(clip, pictures).frames_seen <= MIN_SAMPLES + 1


def test_a_rotated_video_is_turned_upright(portrait, pictures):
    frames = [scene((portrait, 120, 10, 250))] * 6
    upright = detect(make_video(frames, fps=2, options={"crf": "10"}), pictures)
    turned = [np.rot90(frame) for frame in frames]
    detection = detect(make_video(turned, fps=2, options={"crf": "10"}, turn=(-90, False)), pictures)
    assert (detection.width_px, detection.height_px) == (480, 270)
    np.testing.assert_allclose(detection.tracks[0].frames[0].box, upright.tracks[0].frames[0].box, atol=4)
    assert detection.logit == pytest.approx(upright.logit, abs=2)


def test_progress_reports_the_finished_part(walking, pictures):
    reported = []
    expected = detect(walking, pictures, progress=reported.append)
    assert comparable(expected) == comparable(detect(walking, pictures))
    assert len(reported) == 11 and reported == sorted(reported) and reported[0] >= 0 and reported[-1] == 1
    assert max(np.diff(reported)) < 0.2


def test_an_exception_from_progress_stops_the_work(walking, finder):
    class Stopped(Exception):
        pass

    class CountingEngine(BrightnessEngine):
        runs = 0

        def run(self, batch):
            self.runs += 1
            return super().run(batch)

    engine = CountingEngine()

    def stop(finished):
        if finished > 0.3:
            raise Stopped

    with pytest.raises(Stopped):
        detect(walking, PictureDetector(engine, finder), progress=stop)
    assert engine.runs < 6


def test_the_sound_is_classified_beside_the_frames(portrait, pictures):
    tone = (0.5 * np.sin(np.arange(48_000) * 0.2)).astype(np.float32)
    frames = [scene((portrait, 100, 20, 240))] * 6
    classified = []

    def detect_voice(waveform):
        classified.append(waveform)
        return "the result"

    with_sound = make_video(frames, fps=2, waveform=tone)
    assert detect(with_sound, pictures, detect_voice=detect_voice).sound == "the result"
    (waveform,) = classified
    assert waveform.dtype == np.float32 and len(waveform) == pytest.approx(48_000, rel=0.05)
    assert detect(with_sound, pictures).sound is None
    assert detect(make_video(frames, fps=2), pictures, detect_voice=detect_voice).sound is None and len(classified) == 1


@pytest.mark.parametrize("has_sound", [True, False])
def test_a_video_is_opened_three_times_at_most(has_sound, portrait, pictures, monkeypatch):
    """Once for its packets, once for its frames and once for its sound."""
    opened = []
    open_container = av.open
    monkeypatch.setattr(
        av, "open", lambda *arguments, **options: opened.append(1) or open_container(*arguments, **options)
    )
    waveform = np.sin(np.arange(48_000) * 0.2).astype(np.float32) if has_sound else None
    data = make_video([scene((portrait, 100, 20, 240))] * 6, fps=2, waveform=waveform)
    opened.clear()  # the file was written by the same function
    voices = SimpleNamespace(detect=lambda waveform: "the result")
    detection = Detector(pictures, lambda: voices).detect(data)
    assert len(detection.tracks) == 1 and (detection.sound is not None) is has_sound
    assert len(opened) == (3 if has_sound else 2)


def test_files_without_frames_give_a_readable_error(pictures):
    with pytest.raises(UnreadableMedia, match=r"\(audio/wav\) holds sound and no video"):
        detect(make_sound(np.zeros(8000)), pictures)
    with pytest.raises(UnreadableMedia, match="empty"):
        detect(b"", pictures)
