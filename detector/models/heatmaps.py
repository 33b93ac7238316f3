"""Class activation maps as heat on one fixed scale, and heat as colours."""

from __future__ import annotations

import cv2
import numpy as np

from detector.models.calibration import Calibration, sigmoid

NEUTRAL = 0.5  # heat that speaks for neither side
MAP_TEMPERATURE = 4.0  # a single place speaks that much louder than the mean of all; without it most faces are all red
# Heat from neutral to full: transparent, then amber, then red, as (heat, R, G, B, alpha).
COLOURS = np.array([[0.5, 255, 200, 60, 0], [0.7, 255, 160, 40, 120], [1.0, 214, 32, 32, 215]], np.float32)


def activation_heatmap(class_map: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Turn a class activation map into heat.

    The scale is fixed, the calibrated logit of each place over MAP_TEMPERATURE, so that two pictures' maps can be
    compared; a map is never stretched to its own maximum.

    Args:
        class_map: (h, w) float32, logit by place; its mean is the logit.

    Returns:
        (h, w) float32 in [0, 1], .5 = neutral, 1 = speaks for a fake.

    Source:
        Zhou et al., "Learning Deep Features for Discriminative Localization", arXiv 1512.04150.
    """
    logits = calibration.slope * class_map + calibration.intercept
    return sigmoid(logits / MAP_TEMPERATURE).astype(np.float32)


def colour_heatmap(heatmap: np.ndarray, size_px: int | tuple[int, int] = 256) -> np.ndarray:
    """Paint heat so that it can lie over the face: transparent up to neutral, then amber to red.

    Args:
        heatmap: (h, w) float32 in [0, 1].
        size_px: side of the square, or width and height.

    Returns:
        (size_px, size_px, 4) uint8 RGBA.
    """
    sides = (size_px, size_px) if isinstance(size_px, int) else size_px
    smooth = cv2.resize(heatmap, sides, interpolation=cv2.INTER_CUBIC)
    channels = [np.interp(smooth, COLOURS[:, 0], COLOURS[:, channel]) for channel in range(1, 5)]
    return np.stack(channels, axis=-1).astype(np.uint8)
