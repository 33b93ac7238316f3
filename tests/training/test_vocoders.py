import numpy as np
import pytest
from voices import RATE_HZ, hiss, speak

from detector.voices.features import mel_spectrogram, normalize_level
from training.vocoders import (
    CODECS,
    VOCODERS,
    WAVEFORM_DEGRADATIONS,
    add_noise,
    degrade_waveform,
    equalize,
    griffin_lim_copy,
    recode,
    reverberate,
)

SPEECH = speak(1.5)


def similarity(one, other):
    pictures = [mel_spectrogram(normalize_level(sound)) for sound in (one, other)]
    columns = min(picture.shape[1] for picture in pictures)
    return np.corrcoef(*(picture[:, :columns].ravel() for picture in pictures))[0, 1]


def level_db(sound):
    return 10 * np.log10(np.mean(np.square(sound, dtype=float)))


@pytest.mark.parametrize("name", VOCODERS)
def test_a_copy_has_the_spectrogram_of_the_original_with_other_samples(name):
    copy, again, other = (VOCODERS[name](SPEECH, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert copy.shape == SPEECH.shape and copy.dtype == np.float32
    assert similarity(copy, SPEECH) > 0.9 > abs(np.corrcoef(copy, SPEECH)[0, 1])
    assert (copy == again).all() and not np.allclose(copy, other)


def test_more_iterations_find_a_phase_that_fits_the_spectrum_better(monkeypatch):
    def distance(iterations):
        monkeypatch.setattr("training.vocoders.GRIFFIN_LIM_ITERATIONS", (iterations,))
        monkeypatch.setattr("training.vocoders.GRIFFIN_LIM_FRAMES", (1024,))
        copy = griffin_lim_copy(SPEECH, np.random.default_rng(3))
        return np.abs(mel_spectrogram(normalize_level(copy)) - mel_spectrogram(normalize_level(SPEECH))).mean()

    assert distance(30) < 0.7 * distance(0)


@pytest.mark.parametrize("name", CODECS)
def test_a_codec_does_not_shift_the_sound(name):
    coded = recode(SPEECH, name, kbps=CODECS[name].kbps and CODECS[name].kbps[1])
    assert len(SPEECH) - 2048 <= len(coded) <= len(SPEECH)
    assert similarity(coded, SPEECH) > 0.85 and not np.array_equal(coded, SPEECH[: len(coded)])
    shifts = [np.corrcoef(coded[500 + lag : 8500 + lag], SPEECH[500:8500])[0, 1] for lag in range(-500, 501)]
    assert abs(int(np.argmax(shifts)) - 500) <= 40  # 2.5 ms


def test_a_lower_bit_rate_changes_the_sound_more():
    few, many = (np.abs(recode(SPEECH, "mp3", kbps=kbps) - SPEECH).mean() for kbps in (32, 128))
    assert few > 2 * many


def test_a_telephone_has_nothing_above_four_kilohertz():
    spectrum = np.abs(np.fft.rfft(WAVEFORM_DEGRADATIONS["telephone"](hiss(1))))
    hz = np.linspace(0, RATE_HZ / 2, len(spectrum))
    assert spectrum[hz > 4200].mean() < 0.02 * spectrum[hz < 3500].mean()


@pytest.mark.parametrize("name", [name for name, degrade in WAVEFORM_DEGRADATIONS.items() if degrade])
def test_a_named_degradation_is_deterministic(name):
    found = WAVEFORM_DEGRADATIONS[name](SPEECH)
    assert np.array_equal(found, WAVEFORM_DEGRADATIONS[name](SPEECH)) and 0 < len(found) <= len(SPEECH)


@pytest.mark.parametrize("seed", range(8))
def test_a_random_degradation_depends_on_the_seed_and_fits_a_sound_file(seed):
    one, again = (degrade_waveform(SPEECH, np.random.default_rng(seed)) for _ in range(2))
    assert one.shape == SPEECH.shape and one.dtype == np.float32 and np.isfinite(one).all()
    assert np.array_equal(one, again) and not np.allclose(
        one, degrade_waveform(SPEECH, np.random.default_rng(seed + 100))
    )
    assert np.abs(one).max() <= 1.3  # a codec may overshoot


@pytest.mark.parametrize("snr_db", [0, 20])
def test_noise_has_the_requested_level_and_slope(snr_db):
    noises = [add_noise(SPEECH, snr_db, slope, np.random.default_rng(0)) - SPEECH for slope in (0, 2)]
    for noise in noises:
        assert level_db(SPEECH) - level_db(noise) == pytest.approx(snr_db, abs=0.1)
    tilts = []
    for noise in noises:
        power = np.square(np.abs(np.fft.rfft(noise)))
        tilts.append(10 * np.log10(power[2000:2400].mean() / power[8000:9600].mean()))
    assert tilts == pytest.approx([0, 12], abs=1.5)  # two octaves


def test_reverberation_follows_the_sound_and_decays():
    click = np.zeros(RATE_HZ, np.float32)
    click[1000] = 1
    reverberated = reverberate(click, 0.3, np.random.default_rng(0))
    assert np.abs(reverberated[:1000]).max() < 1e-6 and reverberated[1000] == pytest.approx(1)
    early, late = (np.square(reverberated[start : start + 800]).mean() for start in (1100, 4200))
    assert early > 100 * late > 0
    assert np.abs(reverberated[1000 + 4800 :]).max() < 1e-6


def test_equalizing_changes_the_spectrum_but_not_the_timing():
    equalized = equalize(SPEECH, np.random.default_rng(1))
    assert equalized.shape == SPEECH.shape and similarity(equalized, SPEECH) > 0.6
    assert level_db(equalized - SPEECH) > level_db(SPEECH) - 25
