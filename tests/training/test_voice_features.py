import numpy as np
import pytest
from clips import make_sound
from voices import hiss, speak

from detector.voices.detect import load_voice_detector
from detector.voices.features import FFT_LENGTH
from training import voice_features
from training.manifests import Example
from training.voice_features import (
    STORED_VOICE,
    Variant,
    VariantCache,
    VariantChoice,
    WindowFeatures,
    build_feature_extractor,
    compute_features,
    decode_int16,
    filters_sha256,
)
from training.voice_networks import STATISTICS_SIZES


@pytest.fixture
def recording(tmp_path):
    (tmp_path / "speech.wav").write_bytes(make_sound(speak(0.6)))
    return Example(tmp_path / "speech.wav", 0, "studio", "human", "speaker", "train")


@pytest.fixture(autouse=True)
def few_variants(monkeypatch):
    monkeypatch.setattr(voice_features, "VOCODERS", {"halve": lambda waveform, rng: waveform / 2})
    degradations = {STORED_VOICE: None, "quiet": lambda waveform: waveform / 4}
    monkeypatch.setattr(voice_features, "WAVEFORM_DEGRADATIONS", degradations)


def test_a_stored_recording_is_read_as_it_is(recording, tmp_path):
    found = decode_int16(VariantCache(tmp_path / "cache").read(recording, Variant()))
    np.testing.assert_allclose(found, speak(0.6), atol=1e-4)
    assert not list((tmp_path / "cache").iterdir())


def test_a_variant_is_computed_once_and_then_read_from_disk(recording, tmp_path, monkeypatch):
    cache, variants = VariantCache(tmp_path / "cache"), VariantChoice(1).variants(recording)
    first = [cache.read(recording, variant) for variant in variants]
    for name in ("VOCODERS", "WAVEFORM_DEGRADATIONS"):
        monkeypatch.setattr(voice_features, name, {})
    monkeypatch.delattr(voice_features, "degrade_waveform")
    for expected, variant in zip(first, variants, strict=True):
        np.testing.assert_array_equal(VariantCache(tmp_path / "cache").read(recording, variant), expected)


def test_a_copy_is_degraded_like_its_recording(recording, tmp_path, monkeypatch):
    seeds = []
    monkeypatch.setattr(voice_features, "degrade_waveform", lambda w, rng: seeds.append(rng.random()) or w)
    cache = VariantCache(tmp_path / "cache")
    original = cache.read(recording, Variant())
    for vocoder, scale in (("", 1), ("halve", 2)):
        for number in "01":
            np.testing.assert_allclose(cache.read(recording, Variant(vocoder, number)) * scale, original, atol=2)
    assert seeds[:2] == seeds[2:] and seeds[0] != seeds[1]
    np.testing.assert_allclose(cache.read(recording, Variant("", "quiet")) * 4, original, atol=4)


def test_copies_are_made_of_reals_only_and_named_degradations_are_for_tests_only(recording):
    variants = VariantChoice(2).variants(recording)
    assert [(v.vocoder, v.degradation) for v in variants] == [
        ("", "stored"), ("", "0"), ("", "1"), ("", "quiet"), ("halve", "stored"), ("halve", "0"), ("halve", "1"),
    ]  # fmt: skip
    assert [v.degradation for v in variants if not v.is_for_training] == ["quiet"]
    fake = Example(recording.path, 1, "studio", "g", "speaker", "train")
    assert VariantChoice(2).variants(fake) == variants[:4]


def test_a_choice_without_copies_tests_each_recording_in_some_degradations(tmp_path, monkeypatch):
    names = ("mp3", "noise", "telephone")
    monkeypatch.setattr(voice_features, "WAVEFORM_DEGRADATIONS", dict.fromkeys([STORED_VOICE, *names]))
    choice, tested = VariantChoice(1, tests=1, copies=False), set()
    for number in range(12):
        (tmp_path / f"{number}.wav").write_bytes(bytes([number]))
        variants = choice.variants(Example(tmp_path / f"{number}.wav", 0, "studio", "human", "speaker", "train"))
        assert [v.degradation for v in variants[:2]] == ["stored", "0"] and not any(v.vocoder for v in variants)
        tested |= {v.degradation for v in variants[2:]}
        assert len(variants) == 3
    assert tested == set(names)


@pytest.mark.slow
def test_features_are_of_the_windows_and_the_quality_gate_of_the_detector():
    extract, detector = build_feature_extractor(), load_voice_detector(threads=1)
    for waveform in (speak(2.2), hiss(1)):
        found, expected = extract(waveform), detector.detect(waveform)
        assert len(found.statistics) == len(expected.segments)
        assert set(filter(None, found.reasons.split(";"))) == set(expected.reasons) - {"between_thresholds"}
    short = extract(speak(1)[: FFT_LENGTH - 1])
    assert short.statistics.shape == (0, found.statistics.shape[1]) and short.reasons == ""


def test_features_of_a_run_are_measured_once(recording, tmp_path, monkeypatch):
    measured = []

    def extract(waveform):
        measured.append(waveform)
        return WindowFeatures(np.full((2, 3), len(measured), np.float32), "noisy" if len(measured) == 1 else "")

    monkeypatch.setattr(voice_features, "build_feature_extractor", lambda: extract)
    cache = VariantCache(tmp_path / "cache")
    first, again = (compute_features([recording], cache, VariantChoice(1), run=tmp_path, threads=1) for _ in range(2))
    assert len(measured) == 5 and list(first[0]) == list(again[0]) == VariantChoice(1).variants(recording)
    for variant, features in first[0].items():
        np.testing.assert_array_equal(again[0][variant].statistics, features.statistics)
        assert again[0][variant].reasons == features.reasons
    assert first[0][Variant()].reasons == "noisy" and first[0][Variant()].statistics[0, 0] == 1


@pytest.mark.slow
def test_the_hash_of_the_filters_follows_the_computation_and_not_the_text(monkeypatch):
    expected = filters_sha256()
    changes = {
        "training.voice_networks.VOICE_LIMIT": 3.0,  # applied after the statistics
        "training.voice_networks.build_voice_network.__doc__": "Another text.",
    }
    for name, value in changes.items():
        with monkeypatch.context() as patch:
            patch.setattr(name, value)
            assert filters_sha256() == expected, name
    changes = {
        "training.voice_networks.VOICE_SMOOTH": 23,
        "training.voice_networks.ENCODER_SCALE": 0.5,
        "training.voice_features.RECIPE": 0,
        "training.voice_features.PAUSE_DB": 21,
        "detector.voices.quality.MIN_VOICED": 0.13,
    }
    for name, value in changes.items():
        with monkeypatch.context() as patch:
            patch.setattr(name, value)
            assert filters_sha256() != expected, name


@pytest.mark.slow
def test_both_engines_measure_the_same_statistics(monkeypatch):
    fast = build_feature_extractor()(speak(0.5)).statistics
    assert fast.shape[1] == sum(STATISTICS_SIZES)
    monkeypatch.setattr(voice_features, "can_export", lambda: False)
    np.testing.assert_allclose(build_feature_extractor()(speak(0.5)).statistics, fast, atol=1e-3)
