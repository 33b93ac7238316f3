import numpy as np
import pytest
from voices import RATE_HZ, hiss, play, speak

from detector.results import Reason
from detector.voices.features import (
    BANDS,
    FFT_HOP_LENGTH,
    FFT_LENGTH,
    FLOOR_DB,
    HOP_S,
    LEVEL,
    MAX_SPECTROGRAM_COLUMNS,
    MEL_BANDS,
    WINDOW_S,
    cut_windows,
    has_sound,
    log_spectrogram,
    mel_filters,
    mel_spectrogram,
    normalize_level,
    speech_exclusion_reasons,
)


def tone(hz, seconds=1.0, level=0.1):
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def test_loudness_offset_and_pauses_say_nothing():
    speech = speak(2)
    paused = np.concatenate([speech, np.zeros(5 * RATE_HZ, np.float32)])
    usual = normalize_level(speech)
    np.testing.assert_allclose(normalize_level(0.01 * speech + 0.2), usual, atol=2e-4)
    np.testing.assert_allclose(normalize_level(paused)[: len(speech)], usual, atol=2e-3)
    assert np.sqrt(np.mean(np.square(normalize_level(tone(440))))) == pytest.approx(LEVEL, rel=0.01)
    assert not normalize_level(np.zeros(RATE_HZ, np.float32)).any() and len(normalize_level(np.zeros(0))) == 0
    assert np.abs(normalize_level(tone(1000, 0.01))).max() == pytest.approx(
        2**0.5 * LEVEL, rel=0.02
    )  # less than a frame


@pytest.mark.parametrize("samples", [1, FFT_LENGTH, RATE_HZ - 1, RATE_HZ, RATE_HZ + 1, 3 * RATE_HZ + 777])
def test_windows_cover_a_recording_from_end_to_end_and_are_never_padded(samples):
    sound = np.arange(1, samples + 1, dtype=np.float32)
    windows, starts_s = cut_windows(sound)
    starts = np.rint(starts_s * RATE_HZ).astype(int)
    assert windows.shape[1] == min(samples, WINDOW_S * RATE_HZ)
    assert all(
        (window == sound[start : start + len(window)]).all() for window, start in zip(windows, starts, strict=True)
    )
    assert starts[0] == 0 and starts[-1] + windows.shape[1] == samples
    assert np.diff(starts, prepend=0).max() <= HOP_S * RATE_HZ


def test_a_band_is_sixteen_hertz_and_a_doubling_six_decibels():
    spectrogram = log_spectrogram(np.stack([tone(2000), tone(2000, level=0.2)]))
    assert spectrogram.shape == (2, BANDS, 1 + (RATE_HZ - FFT_LENGTH) // FFT_HOP_LENGTH)
    loudest = spectrogram[0].mean(axis=1).argmax()
    assert (loudest + 1) * RATE_HZ / FFT_LENGTH == pytest.approx(2000, abs=8)  # the first band is not the offset
    np.testing.assert_allclose(spectrogram[1, loudest] - spectrogram[0, loudest], 6.02, atol=0.01)
    np.testing.assert_allclose(log_spectrogram(np.zeros((1, FFT_LENGTH), np.float32)), FLOOR_DB, atol=1e-3)


def test_pauses_are_told_from_sound_and_where_there_is_nothing_else_they_stay():
    sound = np.concatenate([normalize_level(speak(1)), 0.001 * hiss(1)])
    assert has_sound(sound.reshape(2, -1)).tolist() == [True, False]
    assert has_sound(np.zeros((3, RATE_HZ))).all()


def test_the_picture_shows_a_tone_in_its_place_at_any_length():
    picture = mel_spectrogram(tone(1000, 2))
    assert (
        picture.shape == (MEL_BANDS, 1 + (2 * RATE_HZ - FFT_LENGTH) // FFT_HOP_LENGTH) and picture.dtype == np.float32
    )
    assert abs(int(picture.mean(axis=1).argmax()) - int(mel_filters(MEL_BANDS, 513)[:, 64].argmax())) <= 1
    assert picture.min() >= 0 and 0.9 < picture.max() <= 1
    assert mel_spectrogram(tone(1000, 40)).shape == (MEL_BANDS, MAX_SPECTROGRAM_COLUMNS)
    assert mel_spectrogram(tone(1000, 0.01)).shape == (MEL_BANDS, 0)


def test_the_picture_is_in_the_order_of_time():
    picture = mel_spectrogram(np.concatenate([tone(300, 20), tone(4000, 20)]))
    low, high = (picture[:, part].mean(axis=1).argmax() for part in (slice(0, 400), slice(600, 1000)))
    assert low < high


def test_mel_filters_cover_everything_between_the_first_and_the_last_peak():
    filters = mel_filters(20, 513)
    peaks = filters.argmax(axis=1)
    assert (np.diff(peaks) > 0).all()
    np.testing.assert_allclose(filters.sum(axis=0)[peaks[0] : peaks[-1]], 1, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("level", [1, 0.02])
def test_speech_is_in_scope_loud_and_quiet(seed, level):
    assert speech_exclusion_reasons(level * speak(2.5, seed, pitch_hz=100 + 50 * seed)) == ()


@pytest.mark.parametrize(
    ("sound", "reason"),
    [
        (np.zeros(0, np.float32), Reason.TOO_SHORT),
        (np.zeros(3 * RATE_HZ, np.float32), Reason.SILENT),
        (1e-4 * speak(3), Reason.SILENT),
        (speak(0.7), Reason.TOO_SHORT),
        (np.concatenate([speak(0.7), 1e-4 * hiss(3)]), Reason.TOO_SHORT),
        (play(), Reason.NO_SPEECH),
        (tone(220, 3), Reason.NO_SPEECH),
        (speak(3, glide=0), Reason.NO_SPEECH),
        (hiss(), Reason.NO_SPEECH),
        (speak(3) + hiss(3), Reason.NOISY),
    ],
    ids=[
        "nothing",
        "silence",
        "near silence",
        "too short",
        "a word and a pause",
        "notes",
        "tone",
        "one pitch",
        "hiss",
        "in noise",
    ],
)
def test_what_cannot_be_judged_is_named(sound, reason):
    assert reason in speech_exclusion_reasons(sound)


def test_silence_is_the_only_reason_where_it_is_one():
    assert speech_exclusion_reasons(np.zeros(100 * RATE_HZ, np.float32)) == (Reason.SILENT,)
