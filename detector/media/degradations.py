"""Degrade pictures: recompression, scaling, blur and changes of light."""

from __future__ import annotations

import cv2
import numpy as np

INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_NEAREST)


def recompress(image: np.ndarray, quality: int, extension: str = ".jpg") -> np.ndarray:
    """Return the picture after one lossy save, with a quality of 1 to 100 and extension .jpg or .webp."""
    flag = cv2.IMWRITE_WEBP_QUALITY if extension == ".webp" else cv2.IMWRITE_JPEG_QUALITY
    # JPEG and WebP treat the channels differently, hence BGR, OpenCV's order.
    encoded = cv2.imencode(extension, image[..., ::-1], [flag, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None  # only a damaged file gives None
    return np.ascontiguousarray(decoded[..., ::-1])


def rescale(image: np.ndarray, factor: float, interpolation: int = cv2.INTER_AREA) -> np.ndarray:
    """Return the picture shrunk by `factor` in (0, 1] and scaled back to its size."""
    height, width = image.shape[:2]
    small = cv2.resize(
        image, (max(2, round(width * factor)), max(2, round(height * factor))), interpolation=interpolation
    )
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def blur(image: np.ndarray, sigma_px: float) -> np.ndarray:
    """Return the picture after a Gaussian blur."""
    return cv2.GaussianBlur(image, (0, 0), sigma_px)


def adjust_light(image: np.ndarray, *, gain: float, offset: float, saturation: float) -> np.ndarray:
    """Return the picture with contrast `gain`, brightness `offset` (levels) and colour `saturation` (1 = unchanged)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32)
    coloured = grey + (image - grey) * np.float32(saturation)
    return np.clip((coloured - 127.5) * np.float32(gain) + np.float32(127.5 + offset), 0, 255).astype(np.uint8)


UNDEGRADED = "stored"
# The degradations on which thresholds and error rates are chosen and measured; None: as stored.
TIERS = {
    UNDEGRADED: None,
    "jpeg50": lambda image: recompress(image, 50),
    "half": lambda image: rescale(image, 0.5),
    "blur1": lambda image: blur(image, 1.0),
}
