from dataclasses import replace

import numpy as np
import pytest
from clips import make_sound, make_video
from voices import RATE_HZ, hiss, play, speak

from detector.models.calibration import Calibration
from detector.models.engines import Engine
from detector.models.reference_scores import ReferenceScores
from detector.models.spec import FaceInput, ModelSpec
from detector.results import ModelError, Reason, UnreadableMedia, Verdict
from detector.voices import detect
from detector.voices.detect import VOICE_MODEL_FILES, VoiceDetector, load_voice_detector
from detector.voices.features import (
    BANDS,
    FFT_LENGTH,
    MAX_SPECTROGRAM_COLUMNS,
    MEL_BANDS,
    VOICE_INPUT,
    cut_windows,
    mel_spectrogram,
    network_input,
    normalize_level,
)
from training.voice_fitting import VOICE_TOLERANCE

SPEC = ModelSpec("voice", VOICE_INPUT, Calibration(1.0, 0.4, 0.3, 0.7))
GROUPS = 4


class BandEngine(Engine):
    """Scores the level of the band at 5 kHz; the class map has that level in the group of the band."""

    spec, model_sha256 = SPEC, "5" * 64

    def __init__(self, bias=0.0):
        self.bias, self.batches = bias, []

    def run(self, batch):
        self.batches.append(batch)
        loud = batch[:, :, 319].mean(axis=1) / 10 + 5
        class_maps = np.full((len(batch), GROUPS, 1), self.bias, np.float32)
        class_maps[:, 319 * GROUPS // BANDS, 0] += GROUPS * loud
        return class_maps.mean(axis=(1, 2)), class_maps


@pytest.fixture(scope="module")
def shipped():
    return load_voice_detector(threads=1)


def test_the_logit_of_a_recording_is_the_mean_over_its_windows():
    found = VoiceDetector(BandEngine()).detect(speak(3.2))
    logits = [segment.logit for segment in found.segments]
    assert len(logits) == 2 and found.logit == pytest.approx(np.mean(logits))
    assert [found.segments[0].start_s, found.segments[-1].end_s, found.duration_s] == pytest.approx([0, 3.2, 3.2])
    assert found.probability == SPEC.calibration.probability(found.logit)
    assert found.segments[0].probability == SPEC.calibration.probability(logits[0])


def test_a_recording_is_normalized_once(monkeypatch):
    normalized = []
    monkeypatch.setattr(detect, "normalize_level", lambda w: normalized.append(normalize_level(w)) or normalized[-1])
    found = VoiceDetector(BandEngine()).detect(speak(2))
    assert len(normalized) == 1
    np.testing.assert_array_equal(found.spectrogram, mel_spectrogram(normalized[0]))


def test_pauses_are_not_analysed():
    found = VoiceDetector(BandEngine()).detect(np.concatenate([speak(2), 1e-4 * hiss(8), speak(2, 1)]))
    assert not [segment for segment in found.segments if segment.start_s > 2 and segment.end_s < 10]
    assert [found.segments[0].start_s, found.segments[-1].start_s] == [0, 9.5]
    assert (found.heatmap[:, 16:32] == 0.5).all() and np.ptp(found.heatmap[:, :8], axis=0).all()


@pytest.mark.parametrize(
    ("bias", "verdict", "reasons"),
    [
        (9, Verdict.DEEPFAKE, ()),
        (-9, Verdict.REAL, ()),
        (0, Verdict.INCONCLUSIVE, (Reason.BETWEEN_THRESHOLDS,)),
    ],
)
def test_the_thresholds_decide(bias, verdict, reasons):
    neutral = VoiceDetector(BandEngine()).detect(speak(3)).logit
    found = VoiceDetector(BandEngine(bias - neutral)).detect(speak(3))
    assert (found.verdict, found.reasons) == (verdict, reasons)


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (play(), Reason.NO_SPEECH),
        (hiss(), Reason.NO_SPEECH),
        (np.zeros(3 * RATE_HZ, np.float32), Reason.SILENT),
        (speak(0.5), Reason.TOO_SHORT),
    ],
    ids=["music", "noise", "silence", "too short"],
)
@pytest.mark.parametrize("bias", [-50, 50])
def test_an_excluded_recording_gets_a_score_but_no_verdict(sound, reason, bias):
    found = VoiceDetector(BandEngine(bias)).detect(sound)
    assert found.verdict is Verdict.INCONCLUSIVE and reason in found.reasons
    assert Reason.BETWEEN_THRESHOLDS not in found.reasons and np.isfinite(found.logit)


def test_the_heatmap_marks_the_time_and_the_frequency():
    speech = speak(6)
    times = np.arange(len(speech)) / RATE_HZ
    whistle = np.where((times > 4) & (times < 6), 0.05 * np.sin(2 * np.pi * 5000 * times), 0).astype(np.float32)
    found = VoiceDetector(BandEngine()).detect(speech + whistle)
    assert found.spectrogram.shape[0] == found.heatmap.shape[0] == MEL_BANDS
    assert found.heatmap.dtype == np.float32 and 0 <= found.heatmap.min() <= found.heatmap.max() <= 1
    row, column = np.unravel_index(found.heatmap.argmax(), found.heatmap.shape)
    assert column > 0.6 * found.heatmap.shape[1] and row > 50  # of 80, in mel
    before, after = np.split(found.heatmap[row], [found.heatmap.shape[1] // 2])
    assert after[-4:].mean() > before[:4].mean() + 0.05


def test_the_heatmap_is_uniform_where_all_windows_score_the_same(monkeypatch):
    monkeypatch.setattr(BandEngine, "run", lambda self, batch: (np.ones(len(batch)), np.ones((len(batch), GROUPS, 1))))
    found = VoiceDetector(BandEngine()).detect(speak(3.3))
    np.testing.assert_allclose(found.heatmap, found.heatmap[0, 0])
    assert found.heatmap[0, 0] > 0.5


def test_a_long_recording_is_scored_in_batches(monkeypatch):
    monkeypatch.setattr(detect, "WINDOWS_PER_BATCH", 8)
    engine = BandEngine()
    found = VoiceDetector(engine).detect(np.tile(speak(4), 10))
    assert max(len(batch) for batch in engine.batches) == 8 and sum(map(len, engine.batches)) == len(found.segments)
    assert found.spectrogram.shape == (MEL_BANDS, MAX_SPECTROGRAM_COLUMNS) and found.heatmap.shape == (MEL_BANDS, 160)


def test_a_file_its_bytes_and_the_audio_track_of_a_video_score_alike(tmp_path):
    speech = speak(3)
    detector, file = VoiceDetector(BandEngine()), make_sound(speech)
    (tmp_path / "voice.wav").write_bytes(file)
    video = make_video([np.zeros((64, 64, 3), np.uint8)] * 75, waveform=speech)
    expected = detector.detect(speech).logit
    assert (
        detector.detect(file).logit
        == detector.detect(tmp_path / "voice.wav").logit
        == pytest.approx(expected, abs=0.01)
    )
    assert detector.detect(video).logit == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize(
    "sound",
    [
        np.zeros(500, np.float32),
        np.zeros((2, RATE_HZ), np.float32),
        np.zeros(RATE_HZ, np.int16),
        np.full(RATE_HZ, np.nan, np.float32),
    ],
    ids=["too few samples", "stereo", "integers", "not a number"],
)
def test_an_array_that_is_not_a_recording_is_rejected_with_a_sentence(sound):
    with pytest.raises(UnreadableMedia, match=r"^(The|A) recording .*\.$"):
        VoiceDetector(BandEngine()).detect(sound)


def test_the_shortest_recording_that_is_accepted_gets_a_score(shipped):
    assert np.isfinite(shipped.detect(speak(1)[:FFT_LENGTH]).logit)


@pytest.mark.parametrize("streams", [1, 3])
def test_threads_share_the_batches_of_a_recording_and_keep_their_order(streams):
    engine = BandEngine()
    engine.streams = streams
    speech = np.concatenate([speak(20), 0.4 * speak(20, 1)])
    logits = [segment.logit for segment in VoiceDetector(engine).detect(speech).segments]
    windows = cut_windows(normalize_level(speech))[0]
    np.testing.assert_allclose(logits, BandEngine().run(network_input(windows))[0], atol=1e-4)
    assert np.ptp(logits) > 0.1 and len(engine.batches) > 3


def test_one_thread_is_one_stream(shipped):
    assert shipped.engine.streams == 1
    assert 1 <= load_voice_detector().engine.streams <= detect.MAX_STREAMS


def test_another_kind_of_network_is_rejected():
    engine = BandEngine()
    engine.spec = ModelSpec("mobilenet", FaceInput(192, 1.3), SPEC.calibration)
    with pytest.raises(ModelError, match="'mobilenet'"):
        VoiceDetector(engine)
    engine.spec = ModelSpec("voice", replace(VOICE_INPUT, fft_hop_length=128), SPEC.calibration)
    with pytest.raises(ModelError, match="other spectrograms"):
        VoiceDetector(engine)
    with pytest.raises(ModelError, match="choose from onnx, keras"):
        load_voice_detector(engine="torch")


def test_error_rates_come_with_a_verdict_only():
    table = ReferenceScores.from_scores(
        labels=np.repeat([0, 1], 50),
        probabilities=np.linspace(0, 1, 100),
        face_px=np.ones(100),
        groups=np.arange(100),
        split="folds",
        model_sha256=BandEngine.model_sha256,
    )
    assert [rate.kind for rate in VoiceDetector(BandEngine(), table).detect(speak(3)).error_rates] == ["real", "fake"]
    assert (
        VoiceDetector(BandEngine(), table).detect(play()).error_rates
        == VoiceDetector(BandEngine()).detect(speak(3)).error_rates
    )
    assert VoiceDetector(BandEngine()).detect(speak(3)).error_rates == ()


def test_reference_scores_of_another_model_are_ignored(shipped, tmp_path, monkeypatch):
    assert shipped.reference_scores is not None and len(shipped.detect(speak(3)).error_rates) == 2
    table = ReferenceScores("0" * 64, "folds", shipped.reference_scores.sizes)
    table.write(tmp_path / "table.json")
    monkeypatch.setattr(detect, "VOICE_REFERENCE_SCORES_FILE", tmp_path / "table.json")
    assert load_voice_detector(threads=1).reference_scores is None


def test_both_engines_give_the_same_logit(shipped):
    fast, reference = (detector.detect(speak(2.5)) for detector in (shipped, load_voice_detector(engine="keras")))
    assert fast.logit == pytest.approx(reference.logit, abs=VOICE_TOLERANCE)
    assert fast.model_sha256 == reference.model_sha256
    np.testing.assert_allclose(fast.heatmap, reference.heatmap, atol=1e-4)


def test_loudness_does_not_change_the_score_of_the_shipped_network(shipped):
    speech = speak(3)
    assert shipped.detect(0.05 * speech).logit == pytest.approx(shipped.detect(speech).logit, abs=1e-3)


def test_the_shipped_class_map_averages_to_the_logit_with_evidence_for_both_classes(shipped):
    logits, class_maps = shipped.engine.run(network_input(speak(1).reshape(1, -1)))
    assert class_maps.shape == (1, 8, 1) and class_maps.mean() == pytest.approx(logits[0], abs=1e-4)
    assert class_maps.min() < 0 < class_maps.max()


def test_onnxruntime_gives_the_same_outputs_for_the_shipped_file(shipped):
    import onnxruntime

    spectrograms = network_input(np.stack([speak(1), hiss(1)]))
    session = onnxruntime.InferenceSession(VOICE_MODEL_FILES["onnx"])
    outputs = session.run(None, {session.get_inputs()[0].name: spectrograms})
    logits, class_maps = shipped.engine.run(spectrograms)
    found = {values.ndim: values for values in outputs}
    np.testing.assert_allclose(found[2][:, 0], logits, atol=1e-4)
    np.testing.assert_allclose(found[4][..., 0], class_maps, atol=1e-4)
