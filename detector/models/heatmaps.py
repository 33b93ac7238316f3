"""Class activation maps as heat on one fixed scale, and heat as colours."""

from __future__ import annotations

import cv2
import numpy as np

from detector.models.calibration import Calibration, sigmoid

NEUTRAL = 0.5  # heat that is evidence for neither class
MAP_TEMPERATURE = 4.0  # logits of single places vary that much more than their mean; without it most faces are all red
# Heat from neutral to full: transparent, then amber, then red, as (heat, R, G, B, alpha).
HEAT_COLOURS = np.array([[0.5, 255, 200, 60, 0], [0.7, 255, 160, 40, 120], [1.0, 214, 32, 32, 215]], np.float32)


def activation_heatmap(class_map: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Convert a class activation map to heat.

    The scale is fixed, the calibrated logit of each place over MAP_TEMPERATURE, so that the maps of two pictures can be
    compared. A map is never scaled to its own maximum.

    Args:
        class_map: (h, w) float32, logit by place; its mean is the logit.

    Returns:
        (h, w) float32 in [0, 1], .5 = neutral, 1 = evidence of a fake.

    Source:
        Zhou et al., "Learning Deep Features for Discriminative Localization", arXiv 1512.04150.
    """
    logits = calibration.slope * class_map + calibration.intercept
    return sigmoid(logits / MAP_TEMPERATURE).astype(np.float32)


def resize_heatmap(heatmap: np.ndarray, side_px: int) -> np.ndarray:
    """Return a square heat map scaled to (side_px, side_px) float32."""
    shrinks = side_px < heatmap.shape[0]
    return cv2.resize(heatmap, (side_px, side_px), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def colour_heatmap(heatmap: np.ndarray, size_px: int | tuple[int, int] = 256) -> np.ndarray:
    """Return heat as an overlay for the face: transparent up to neutral, then amber to red.

    Args:
        heatmap: (h, w) float32 in [0, 1].
        size_px: side of the square, or width and height.

    Returns:
        (size_px, size_px, 4) uint8 RGBA.
    """
    sides_px = (size_px, size_px) if isinstance(size_px, int) else size_px
    smooth = cv2.resize(heatmap, sides_px, interpolation=cv2.INTER_CUBIC)
    channels = [np.interp(smooth, HEAT_COLOURS[:, 0], HEAT_COLOURS[:, channel]) for channel in range(1, 5)]
    return np.stack(channels, axis=-1).astype(np.uint8)
