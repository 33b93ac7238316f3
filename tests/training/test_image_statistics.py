"""The numbers of a crop that a network could lean on: noise, contrast, size."""

import cv2
import numpy as np
import pytest

from training.image_statistics import contrast, effective_size, noise


def _noisy(size_px: int, sigma: float) -> np.ndarray:
    grey = np.random.default_rng(0).normal(128, sigma, (size_px, size_px, 1))
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8).repeat(3, axis=2)


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
