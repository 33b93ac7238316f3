import cv2
import numpy as np
import pytest

from detector.models.blur import MOST_BLURRED, SPECTRUM_PX, blur_shift, sharpness


def noisy(size_px, sigma):
    grey = np.random.default_rng(0).normal(128, sigma, (size_px, size_px, 1))
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8).repeat(3, axis=2)


@pytest.mark.parametrize("size_px", [48, 200])
def test_white_noise_has_the_power_of_its_variance_at_any_size(size_px):
    assert sharpness(noisy(size_px, 10)) == pytest.approx(np.log(100), abs=0.15)


def test_enlarging_removes_the_finest_band_and_sharpening_adds_to_it():
    crop = noisy(100, 10)
    enlarged = cv2.resize(crop, (200, 200), interpolation=cv2.INTER_CUBIC)
    sharpened = cv2.addWeighted(crop, 1.5, cv2.GaussianBlur(crop, (0, 0), 1), -0.5, 0)
    assert sharpness(enlarged) < sharpness(crop) - 2 < sharpness(sharpened) - 2


def test_a_slope_across_the_crop_is_not_sharpness():
    slope = np.tile(np.linspace(0, 255, 128).astype(np.uint8)[None, :, None], (128, 1, 3))
    assert sharpness(slope) < np.log(1)


def test_a_flat_crop_is_finite_and_one_too_small_is_refused():
    assert np.isfinite(sharpness(np.full((20, 30, 3), 7, np.uint8)))
    with pytest.raises(ValueError, match="5 x 9"):
        sharpness(np.zeros((9, 5, 3), np.uint8))


def test_sharpness_is_the_mean_power_of_the_finest_band_of_the_whole_spectrum():
    crop = np.random.default_rng(1).integers(0, 256, (31, 44, 3), np.uint8)
    grey = cv2.cvtColor(crop.astype(np.float32), cv2.COLOR_RGB2GRAY)
    window = np.outer(np.hanning(31), np.hanning(44))
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2 / (window**2).sum()
    radius = np.hypot(np.fft.fftfreq(31)[:, None], np.fft.fftfreq(44))
    band = power[(radius >= 0.4) & (radius <= 0.5)].mean()
    assert sharpness(crop) == pytest.approx(np.log(band), abs=1e-4)


def test_blur_shifts_the_logit_of_blurred_crops_alone():
    sharp, soft, flat = noisy(64, 10), noisy(64, 0.6), np.full((64, 64, 3), 128, np.uint8)
    assert sharpness(soft) < 0 < sharpness(sharp)
    shifts = blur_shift(np.stack([sharp, soft, flat]), 2.0)
    np.testing.assert_allclose(shifts, [0, -2 * sharpness(soft), -2 * MOST_BLURRED], rtol=1e-5)
    assert shifts.dtype == np.float32


def test_a_crop_that_was_enlarged_is_measured_reduced():
    crop = cv2.GaussianBlur(noisy(SPECTRUM_PX, 20), (0, 0), 1.2)
    enlarged = cv2.resize(crop, (256, 256), interpolation=cv2.INTER_LINEAR)
    reduced = cv2.resize(enlarged, (SPECTRUM_PX, SPECTRUM_PX), interpolation=cv2.INTER_AREA)
    assert sharpness(enlarged) < sharpness(reduced) - 0.5 < 0
    assert blur_shift(enlarged[None], 1.0) == blur_shift(reduced[None], 1.0) > 0
