"""Numbers of a face crop that say how it was taken and stored, not whether it is a fake."""

from __future__ import annotations

import cv2
import numpy as np

FINEST_BAND = (0.4, 0.5)  # cycles per pixel
MIN_SPECTRUM_PX = 8  # a smaller crop has too few frequencies in the finest band
POWER_FLOOR = 1e-4  # of a crop without detail; rounding to 8 bits alone leaves 1 / 12
MAD_TO_SIGMA = 1.4826  # of a normal distribution
DETAIL_PROPORTION = 0.95  # of the gradient's power, below the highest frequency that `effective_size` counts


def sharpness(crop: np.ndarray) -> float:
    """Return the natural log of the mean power at .4 to .5 cycles per pixel.

    White noise with a standard deviation of s grey levels has log(s ** 2), whatever the size of the crop.

    Args:
        crop: (H, W, 3) uint8 RGB.

    Raises:
        ValueError: a side is under MIN_SPECTRUM_PX.
    """
    power, radius = _spectrum(_luminance(crop))
    low, high = FINEST_BAND
    return float(np.log(power[(radius >= low) & (radius <= high)].mean() + POWER_FLOOR))


def noise(crop: np.ndarray) -> float:
    """Return the standard deviation of the noise in grey levels, by the median absolute high-pass residual.

    Args:
        crop: (H, W, 3) uint8 RGB.

    Source:
        Immerkaer, "Fast Noise Variance Estimation", 1996, for a mask that responds little to edges; Donoho and
        Johnstone, "Ideal Spatial Adaptation by Wavelet Shrinkage", 1994, for the median instead of the mean.
    """
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32) / 6  # keeps the variance of white noise
    residual = cv2.filter2D(_luminance(crop), cv2.CV_32F, mask)
    return float(np.median(np.abs(residual - np.median(residual)))) * MAD_TO_SIGMA


def contrast(crop: np.ndarray) -> float:
    """Return the standard deviation of the luminance in grey levels; `crop` is (H, W, 3) uint8 RGB."""
    return float(_luminance(crop).std())


def effective_size(crop: np.ndarray) -> float:
    """Return the side in pixels at which a crop would keep nearly all of its detail.

    A crop of 60 pixels enlarged to 192 has about 60; the size a face had before it was scaled shows in nothing else.

    Args:
        crop: (H, W, 3) uint8 RGB.

    Raises:
        ValueError: a side is under MIN_SPECTRUM_PX.
    """
    power, radius = _spectrum(_luminance(crop))
    side = min(power.shape)
    # The gradient's power, since that of the picture itself lies at the lowest frequencies whatever its size.
    gradient = np.cumsum(np.bincount((radius * side).round().astype(int).ravel(), (power * radius**2).ravel()))
    return float(min(2 * np.searchsorted(gradient, DETAIL_PROPORTION * gradient[-1]), side))


def _luminance(crop: np.ndarray) -> np.ndarray:
    """Return the grey levels (H, W) float32 of a crop (H, W, 3) uint8 RGB, not rounded."""
    return cv2.cvtColor(crop.astype(np.float32), cv2.COLOR_RGB2GRAY)


def _spectrum(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the power of a picture (H, W) at each frequency, and the frequencies in cycles per pixel, both (H, W)."""
    if min(grey.shape) < MIN_SPECTRUM_PX:
        raise ValueError(f"A crop of {grey.shape[1]} x {grey.shape[0]} pixels is too small for its spectrum.")
    # The window keeps opposite edges of the crop, which differ, from adding high frequencies.
    window = np.outer(np.hanning(grey.shape[0]), np.hanning(grey.shape[1])).astype(np.float32)
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2 / (window**2).sum()
    return power, np.hypot(np.fft.fftfreq(grey.shape[0])[:, None], np.fft.fftfreq(grey.shape[1]))
