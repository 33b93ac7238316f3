"""The numbers of a crop that a network could lean on: sharpness, noise, contrast, size."""

import cv2
import numpy as np
import pytest

from training.image_statistics import contrast, effective_size, noise, sharpness


def _noisy(size_px: int, sigma: float) -> np.ndarray:
    grey = np.random.default_rng(0).normal(128, sigma, (size_px, size_px, 1))
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8).repeat(3, axis=2)


@pytest.mark.parametrize("size_px", [48, 200])
def test_white_noise_has_the_power_of_its_variance_at_any_size(size_px: int) -> None:
    assert sharpness(_noisy(size_px, 10)) == pytest.approx(np.log(100), abs=0.15)


def test_enlarging_removes_the_finest_band_and_sharpening_adds_to_it() -> None:
    crop = _noisy(100, 10)
    enlarged = cv2.resize(crop, (200, 200), interpolation=cv2.INTER_CUBIC)
    sharpened = cv2.addWeighted(crop, 1.5, cv2.GaussianBlur(crop, (0, 0), 1), -0.5, 0)
    assert sharpness(enlarged) < sharpness(crop) - 2 < sharpness(sharpened) - 2


def test_a_slope_across_the_crop_is_not_sharpness() -> None:
    slope = np.tile(np.linspace(0, 255, 128).astype(np.uint8)[None, :, None], (128, 1, 3))
    assert sharpness(slope) < np.log(1)


def test_a_flat_crop_is_finite_and_one_too_small_is_refused() -> None:
    assert np.isfinite(sharpness(np.full((20, 30, 3), 7, np.uint8)))
    with pytest.raises(ValueError, match="5 x 9"):
        sharpness(np.zeros((9, 5, 3), np.uint8))


def test_sharpness_is_the_mean_power_of_the_finest_band_of_the_whole_spectrum() -> None:
    crop = np.random.default_rng(1).integers(0, 256, (31, 44, 3), np.uint8)
    grey = cv2.cvtColor(crop.astype(np.float32), cv2.COLOR_RGB2GRAY)
    window = np.outer(np.hanning(31), np.hanning(44))
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2 / (window**2).sum()
    radius = np.hypot(np.fft.fftfreq(31)[:, None], np.fft.fftfreq(44))
    band = power[(radius >= 0.4) & (radius <= 0.5)].mean()
    assert sharpness(crop) == pytest.approx(np.log(band), abs=1e-4)


def test_noise_is_the_standard_deviation_and_ignores_edges() -> None:
    crop = _noisy(200, 6)
    crop[:, :100] //= 2  # an edge, and half the noise on one side of it
    assert noise(_noisy(200, 6)) == pytest.approx(6, abs=0.3)
    assert noise(crop) < 6


def test_contrast_is_of_the_luminance() -> None:
    halves = np.zeros((10, 10, 3), np.uint8)
    halves[:, 5:] = 200
    assert contrast(halves) == pytest.approx(100)
    assert contrast(np.full((10, 10, 3), (255, 0, 0), np.uint8)) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("size_px", [48, 96])
def test_the_effective_size_of_an_enlarged_face_is_about_its_own(size_px: int, portrait: np.ndarray) -> None:
    face = cv2.resize(portrait[0:256, 100:356], (size_px, size_px), interpolation=cv2.INTER_AREA)
    enlarged = cv2.resize(face, (192, 192), interpolation=cv2.INTER_CUBIC)
    assert effective_size(enlarged) == pytest.approx(size_px, rel=0.25)
    assert effective_size(np.zeros((20, 30, 3), np.uint8)) == 0
