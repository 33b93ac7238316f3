"""Compare the small preview that cameras store in a file with the picture itself."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from detector.media.images import read_image
from detector.media.jpeg import read_jpeg_coding
from detector.results import DetectorError

MAX_PREVIEW_PX = 1024  # longer side; cameras write 160 x 120
COMPARED_PX = 32  # longer side of the compared pictures; small, so that a border off by a pixel does not matter
MIN_CONTRAST = 1.0  # standard deviation in grey levels; pictures below it are not compared


def thumbnail_similarity(preview: bytes, image: np.ndarray) -> float | None:
    """Return the similarity of a preview and its picture: the highest correlation of their brightness.

    Args:
        preview: a JPEG file; it may be rotated, have borders or be cropped to another shape.
        image: (H, W, 3) uint8 RGB.

    Returns:
        In [-1, 1]; None for a preview that is damaged, too large or of uniform grey.
    """
    coding = read_jpeg_coding(preview)
    if coding is None or max(coding.width_px, coding.height_px) > MAX_PREVIEW_PX:
        return None
    try:
        small = cv2.cvtColor(read_image(preview), cv2.COLOR_RGB2GRAY)
    except DetectorError:
        return None
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    pairs = [_shrink(*pair) for turns in range(4) for pair in _align(np.rot90(grey, turns), small)]
    contrasting = [pair for pair in pairs if min(pair[0].std(), pair[1].std()) >= MIN_CONTRAST]
    return max((float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) for one, other in contrasting), default=None)


def _align(picture: np.ndarray, small: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the common parts of both, assuming that the preview was stretched, letterboxed, or cropped."""
    scales = [small.shape[0] / picture.shape[0], small.shape[1] / picture.shape[1]]
    yield picture, small
    yield picture, _crop_centre(small, *(side * min(scales) for side in picture.shape))
    yield _crop_centre(picture, *(side / max(scales) for side in small.shape)), small


def _shrink(whole: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scale both to the shape of the second, COMPARED_PX long."""
    height, width = (max(1, round(side * COMPARED_PX / max(part.shape))) for side in part.shape)
    one, other = (
        cv2.resize(np.ascontiguousarray(picture), (width, height), interpolation=cv2.INTER_AREA)
        for picture in (whole, part)
    )
    return one, other


def _crop_centre(picture: np.ndarray, height: float, width: float) -> np.ndarray:
    height_px, width_px = max(1, round(height)), max(1, round(width))
    top, left = max(0, (picture.shape[0] - height_px) // 2), max(0, (picture.shape[1] - width_px) // 2)
    return picture[top : top + height_px, left : left + width_px]
