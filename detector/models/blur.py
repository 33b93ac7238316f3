"""The sharpness of a face crop, and what blur adds to a network's logit."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

FINEST_BAND = (0.4, 0.5)  # cycles per pixel
SPECTRUM_PX = 192  # side of the crop whose blur shifts a logit; a larger one is mostly enlarged and has no finer detail
MIN_SPECTRUM_PX = 8  # a smaller crop has too few frequencies in the finest band
MOST_BLURRED = -3.5  # sharpness
POWER_FLOOR = 1e-4  # of a crop without detail; rounding to 8 bits alone leaves 1 / 12


def sharpness(crop: np.ndarray) -> float:
    """Return the natural log of the mean power at .4 to .5 cycles per pixel.

    White noise with a standard deviation of s grey levels has log(s ** 2), whatever the size of the crop.

    Args:
        crop: (H, W, 3) uint8 RGB.

    Raises:
        ValueError: a side is under MIN_SPECTRUM_PX.
    """
    grey = luminance(crop)
    window, weights = _finest_band(grey.shape)
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2
    return float(np.log((power * weights).sum() + POWER_FLOOR))


def blur_shift(crops: np.ndarray, slope: float) -> np.ndarray:
    """Return what blur adds to the logits of a network, whether its pictures are real or fake.

    Slopes are measured down to MOST_BLURRED; beyond, more blur adds no more.

    Args:
        crops: (N, S, S, 3) uint8 RGB, as the network is fed; reduced to SPECTRUM_PX if they are larger.
        slope: logit by unit of sharpness below 0, `FaceInput.blur_slope`.

    Returns:
        (N,) float32; 0 for a crop with a sharpness of at least 0.
    """
    measured = [_reduce(crop) for crop in crops]
    return np.array([-slope * np.clip(sharpness(crop), MOST_BLURRED, 0) for crop in measured], np.float32)


def luminance(crop: np.ndarray) -> np.ndarray:
    """Return the grey levels (H, W) float32 of a crop (H, W, 3) uint8 RGB, not rounded."""
    return cv2.cvtColor(crop.astype(np.float32), cv2.COLOR_RGB2GRAY)


def _reduce(crop: np.ndarray) -> np.ndarray:
    """Return a square crop with a side of at most SPECTRUM_PX."""
    if len(crop) <= SPECTRUM_PX:
        return crop
    return cv2.resize(crop, (SPECTRUM_PX, SPECTRUM_PX), interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=8)
def _finest_band(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a window (H, W), and weights (H, W // 2 + 1) that take the mean power of the band from half a spectrum."""
    height, width = shape
    if min(shape) < MIN_SPECTRUM_PX:
        raise ValueError(f"A crop of {width} x {height} pixels is too small for its spectrum.")
    # The window keeps opposite edges of the crop, which differ, from leaking into the finest band.
    window = np.outer(np.hanning(height), np.hanning(width))
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    low, high = FINEST_BAND
    weights = ((radius >= low) & (radius <= high)).astype(float)
    weights[:, 1 : (width + 1) // 2] *= 2  # the other half of the spectrum mirrors these columns
    return window.astype(np.float32), (weights / weights.sum() / (window**2).sum()).astype(np.float32)
