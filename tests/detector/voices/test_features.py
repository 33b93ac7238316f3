import numpy as np
import pytest
from voices import RATE_HZ, hiss, speak, tone

from detector.voices.features import (
    BANDS,
    ENCODER_BANDS,
    FFT_HOP_LENGTH,
    FFT_LENGTH,
    FLOOR_DB,
    HOP_S,
    LEVEL,
    LEVEL_GROUPS,
    LEVEL_TOP,
    MAX_SPECTROGRAM_COLUMNS,
    MEL_BANDS,
    ROWS,
    SPECTROGRAM_RANGE_DB,
    WIDEBAND_FFT_LENGTHS,
    WIDEBAND_ROWS,
    WINDOW_S,
    cut_windows,
    encoder_filters,
    filter_powers,
    group_powers,
    has_sound,
    log_spectrogram,
    mel_filters,
    mel_spectrogram,
    network_input,
    normalize_level,
    packed_powers,
    power_spectrogram,
)


def test_normalizing_removes_loudness_offset_and_the_effect_of_pauses():
    speech = speak(2)
    paused = np.concatenate([speech, np.zeros(5 * RATE_HZ, np.float32)])
    expected = normalize_level(speech)
    np.testing.assert_allclose(normalize_level(0.01 * speech + 0.2), expected, atol=2e-4)
    np.testing.assert_allclose(normalize_level(paused)[: len(speech)], expected, atol=2e-3)
    assert np.sqrt(np.mean(np.square(normalize_level(tone(440))))) == pytest.approx(LEVEL, rel=0.01)
    assert not normalize_level(np.zeros(RATE_HZ, np.float32)).any() and len(normalize_level(np.zeros(0))) == 0
    shorter_than_a_frame = tone(1000, 0.01)
    assert np.abs(normalize_level(shorter_than_a_frame)).max() == pytest.approx(2**0.5 * LEVEL, rel=0.02)


@pytest.mark.parametrize("samples", [1, FFT_LENGTH, RATE_HZ - 1, RATE_HZ, RATE_HZ + 1, 3 * RATE_HZ + 777])
def test_windows_cover_a_recording_from_start_to_end_without_padding(samples):
    sound = np.arange(1, samples + 1, dtype=np.float32)
    windows, starts_s = cut_windows(sound)
    starts = np.rint(starts_s * RATE_HZ).astype(int)
    assert windows.shape[1] == min(samples, WINDOW_S * RATE_HZ)
    assert all(
        (window == sound[start : start + len(window)]).all() for window, start in zip(windows, starts, strict=True)
    )
    assert starts[0] == 0 and starts[-1] + windows.shape[1] == samples
    assert np.diff(starts, prepend=0).max() <= HOP_S * RATE_HZ


def test_a_band_is_16_hz_wide_and_a_doubled_amplitude_adds_6_db():
    spectrogram = log_spectrogram(np.stack([tone(2000), tone(2000, level=0.2)]))
    assert spectrogram.shape == (2, BANDS, 1 + (RATE_HZ - FFT_LENGTH) // FFT_HOP_LENGTH)
    loudest = spectrogram[0].mean(axis=1).argmax()
    assert (loudest + 1) * RATE_HZ / FFT_LENGTH == pytest.approx(2000, abs=8)  # the offset has no band
    np.testing.assert_allclose(spectrogram[1, loudest] - spectrogram[0, loudest], 6.02, atol=0.01)
    np.testing.assert_allclose(log_spectrogram(np.zeros((1, FFT_LENGTH), np.float32)), FLOOR_DB, atol=1e-3)


@pytest.mark.parametrize("samples", [FFT_LENGTH, 5000, RATE_HZ])
def test_the_input_of_the_network_has_short_and_wideband_frames_beside_each_long_one(samples):
    windows = np.stack([speak(1)[:samples], hiss(1)[:samples]])
    rows = network_input(windows)
    count = 1 + (samples - FFT_LENGTH) // FFT_HOP_LENGTH
    assert rows.shape == (2, count, ROWS) and rows.dtype == np.float32
    rows = np.swapaxes(rows, 1, 2)
    np.testing.assert_array_equal(rows[:, :BANDS], log_spectrogram(windows))

    def levels_db(powers):
        return 10 * np.log10(group_powers(powers) + 10 ** (FLOOR_DB / 10))

    levels = rows[:, BANDS : BANDS + 3 * LEVEL_GROUPS].reshape(2, 3, LEVEL_GROUPS, count)
    first_wideband = BANDS + 3 * LEVEL_GROUPS + 2 * ENCODER_BANDS
    mels = rows[:, BANDS + 3 * LEVEL_GROUPS : first_wideband].reshape(2, 2, ENCODER_BANDS, count)
    wideband = rows[:, first_wideband:].reshape(2, len(WIDEBAND_FFT_LENGTHS), WIDEBAND_ROWS, count)
    for frame in (0, count - 1):
        start = frame * FFT_HOP_LENGTH
        expected = levels_db(power_spectrogram(windows[:, start : start + FFT_LENGTH])[:, 0])
        np.testing.assert_allclose(levels[:, 0, :, frame], expected, atol=1e-4)
        for number in (0, 1):
            # The first short frame has the centre of the long one, the second follows half a hop later.
            first = start + FFT_LENGTH // 4 + number * FFT_HOP_LENGTH // 2
            short = power_spectrogram(windows[:, first : first + FFT_LENGTH // 2], FFT_LENGTH // 2)[:, 0]
            np.testing.assert_allclose(levels[:, 1 + number, :, frame], levels_db(short), atol=1e-4)
            expected = 10 * np.log10(short @ encoder_filters().T + 10 ** (FLOOR_DB / 10))
            np.testing.assert_allclose(mels[:, number, :, frame], expected, atol=1e-4)
        for number, length in enumerate(WIDEBAND_FFT_LENGTHS):
            # Their middle is that of the long frame; the last starts a hop before the next long frame's first.
            first = start + (FFT_LENGTH - length) // 2
            samples = windows[:, first : first + FFT_HOP_LENGTH + length * 3 // 4]
            powers = power_spectrogram(samples, length, length // 4)[:, :, : round(length / 2 * LEVEL_TOP)]
            expected = 10 * np.log10(powers.reshape(2, -1) + 10 ** (FLOOR_DB / 10))
            np.testing.assert_allclose(wideband[:, number, :, frame], expected, atol=1e-4)


def test_the_encoder_filters_leave_the_level_of_noise_and_peak_at_their_own_tone():
    filters = encoder_filters()
    assert filters.shape == (ENCODER_BANDS, FFT_LENGTH // 4)
    np.testing.assert_allclose(filters.sum(axis=1), 1, atol=0.15)  # the lowest are as narrow as a band of the spectrum
    np.testing.assert_allclose(filters[50:].sum(axis=1), 1, atol=0.02)
    peaks_hz = (filters.argmax(axis=1) + 1) * RATE_HZ / (FFT_LENGTH / 2)
    assert (np.diff(peaks_hz) >= 0).all() and peaks_hz[26] == pytest.approx(1000, abs=40)
    assert np.diff(peaks_hz)[-1] > 4 * np.diff(peaks_hz)[5]


def test_the_power_of_a_group_is_the_mean_of_its_bands_up_to_7_khz():
    np.testing.assert_allclose(group_powers(np.arange(BANDS)), np.arange(BANDS * 7 // 8).reshape(56, 8).mean(axis=1))


def test_pauses_are_dropped_unless_every_window_is_a_pause():
    sound = np.concatenate([normalize_level(speak(1)), 0.001 * hiss(1)])
    assert has_sound(sound.reshape(2, -1)).tolist() == [True, False]
    assert has_sound(np.zeros((3, RATE_HZ))).all()


def test_the_mel_spectrogram_shows_a_tone_at_its_frequency_for_any_duration():
    picture = mel_spectrogram(normalize_level(tone(1000, 2)))
    assert (
        picture.shape == (MEL_BANDS, 1 + (2 * RATE_HZ - FFT_LENGTH) // FFT_HOP_LENGTH) and picture.dtype == np.float32
    )
    assert abs(int(picture.mean(axis=1).argmax()) - int(mel_filters(MEL_BANDS, 513)[:, 64].argmax())) <= 1
    assert picture.min() >= 0 and 0.9 < picture.max() <= 1
    assert mel_spectrogram(normalize_level(tone(1000, 40))).shape == (MEL_BANDS, MAX_SPECTROGRAM_COLUMNS)
    assert mel_spectrogram(tone(1000, 0.01)).shape == (MEL_BANDS, 0)


def test_a_column_of_the_mel_spectrogram_is_the_mean_power_of_its_frames():
    sound = normalize_level(speak(20))
    powers = filter_powers(power_spectrogram(sound), mel_filters(MEL_BANDS, BANDS + 1)[:, 1:])
    picture = mel_spectrogram(sound)
    for column, frames in enumerate(np.array_split(powers, MAX_SPECTROGRAM_COLUMNS)):
        low, high = SPECTROGRAM_RANGE_DB
        expected = (10 * np.log10(frames.mean(axis=0) + 1e-12) - low) / (high - low)
        np.testing.assert_allclose(picture[:, column], np.clip(expected, 0, 1), atol=1e-4)


@pytest.mark.parametrize("length", [512, 2048])
def test_the_packed_powers_are_those_of_the_spectrum_and_filters_sum_them(length):
    frames = hiss(1)[: 4 * length].reshape(4, length)
    expected = np.square(np.abs(np.fft.rfft(frames)))
    packed = packed_powers(frames)
    np.testing.assert_allclose(packed[:, 0], expected[:, 0], rtol=1e-4)
    np.testing.assert_allclose(packed[:, 1::2], expected[:, 1:], rtol=1e-3, atol=1e-4 * expected.mean())
    filters = np.random.default_rng(0).random((3, length // 2)).astype(np.float32)
    np.testing.assert_allclose(
        filter_powers(packed[None, :, 1::2], filters), (expected[:, 1:] @ filters.T)[None], rtol=1e-3
    )


def test_the_columns_of_the_mel_spectrogram_follow_time():
    picture = mel_spectrogram(normalize_level(np.concatenate([tone(300, 20), tone(4000, 20)])))
    low, high = (picture[:, part].mean(axis=1).argmax() for part in (slice(0, 400), slice(600, 1000)))
    assert low < high


def test_mel_filters_sum_to_one_between_the_first_and_the_last_peak():
    filters = mel_filters(20, 513)
    peaks = filters.argmax(axis=1)
    assert (np.diff(peaks) > 0).all()
    np.testing.assert_allclose(filters.sum(axis=0)[peaks[0] : peaks[-1]], 1, atol=1e-5)
