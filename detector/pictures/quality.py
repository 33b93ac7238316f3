"""The quality gate: which faces and pictures are unlike those the detector was trained on.

The thresholds come from scripts/measure_evidence.py, which prints the proportion of good pictures they exclude and the
network's AUC beyond each.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from detector.pictures.faces import crop_face, crop_square
from detector.results import Face, Reason

MIN_FACE_PX = 40  # longer side of a face box: the smallest face in training (81 px) after the halving of TIERS
MEASURED_PX = 144  # side to which the face box is scaled, so that a measure is comparable between pictures
# Beyond each the network is less accurate: on degraded tuning pictures the AUC is .94 just below this blur, .89 above,
# .83 just above this brightness and .63 below. In the four TIERS none of 796 is as blurred, one is as dark.
MAX_BLUR = 0.85
MIN_BRIGHTNESS = 32
MAX_EDGE_RATIO = 8.0  # 0 of 796 photographs are above, 8 of 10 posters and cartoons, 1 of 7 pencil drawings
MAX_ANALYSED_FACES = 22  # at 3% false alarms a face, one of 23 real faces is more likely than not classified as fake
BLUR_KERNEL = 11  # length of the second blur


def picture_exclusion_reasons(faces: Sequence[Face]) -> tuple[Reason, ...]:
    """Return why a picture gets no verdict; empty when it gets one.

    A picture gets a verdict when at least one of its faces passes, since the others can be left out.

    Args:
        faces: all faces of the picture, each with its own reasons.

    Returns:
        NO_FACE, TOO_MANY_FACES, or all reasons of its faces.
    """
    if not faces:
        return (Reason.NO_FACE,)
    if sum(Reason.TOO_SMALL not in face.reasons for face in faces) > MAX_ANALYSED_FACES:
        return (Reason.TOO_MANY_FACES,)
    if not all(face.reasons for face in faces):
        return ()
    return tuple(reason for reason in Reason if any(reason in face.reasons for face in faces))


def face_exclusion_reasons(image: np.ndarray, box: np.ndarray | Sequence[float]) -> tuple[Reason, ...]:
    """Return why one face is excluded from the verdict; empty when it passes.

    Args:
        image: (H, W, 3) uint8 RGB.
        box: x, y, w, h in pixels.

    Returns:
        TOO_SMALL alone, since nothing can be measured on so few pixels, or any of TOO_BLURRED, TOO_DARK and DRAWING.
    """
    if max(box[2:]) < MIN_FACE_PX:
        return (Reason.TOO_SMALL,)
    grey = grey_face(image, box)
    reasons = []
    if measure_brightness(grey) < MIN_BRIGHTNESS:
        reasons.append(Reason.TOO_DARK)
    if measure_blur(grey) > MAX_BLUR:
        reasons.append(Reason.TOO_BLURRED)
    if measure_edge_ratio(grey) > MAX_EDGE_RATIO:
        reasons.append(Reason.DRAWING)
    return tuple(reasons)


def grey_face(image: np.ndarray, box: np.ndarray | Sequence[float]) -> np.ndarray:
    """Return the face without its surroundings, (MEASURED_PX, MEASURED_PX) float32 in [0, 255], for the measures."""
    height, width = image.shape[:2]
    square = crop_square(np.asarray(box), 1.0, width, height)
    face = crop_face(image, square, MEASURED_PX)
    return np.asarray(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY), np.float32)


def measure_blur(grey: np.ndarray) -> float:
    """Return the proportion of a picture's contrast that a second blur keeps: 0 if sharp, 1 if blurred.

    Args:
        grey: (H, W) float32 in [0, 255].

    Source:
        Crete, Dolmiere, Ladret and Nicolas, "The Blur Effect: Perception and Estimation with a New No-reference
        Perceptual Blur Metric", 2007. The values are those of skimage.measure.blur_effect, which takes half a second
        to import. The variance of the Laplacian, which is more common, separates blurred from sharp faces less well.
    """
    kept = []
    for dx, dy in ((1, 0), (0, 1)):
        kernel = (BLUR_KERNEL, 1) if dx else (1, BLUR_KERNEL)
        steps, blurred_steps = (
            np.abs(cv2.Sobel(picture, cv2.CV_32F, dx, dy, borderType=cv2.BORDER_REFLECT))[2:-1, 2:-1]
            for picture in (grey, cv2.blur(grey, kernel, borderType=cv2.BORDER_REFLECT))
        )
        lost = np.maximum(0, steps - blurred_steps).sum()
        kept.append(1 - lost / max(steps.sum(), 1.0))
    return float(max(kept))


def measure_brightness(grey: np.ndarray) -> float:
    """Return the 95th percentile of the levels of a grey picture, in [0, 255]."""
    return float(np.percentile(grey, 95))


def measure_edge_ratio(grey: np.ndarray) -> float:
    """Return the 90th percentile of a picture's gradient over its median.

    Paint and ink change abruptly or not at all, skin changes a little everywhere.

    Args:
        grey: (H, W) float32 in [0, 255].

    Source:
        Athitsos, Swain and Frankel, "Distinguishing Photographs and Graphics on the World Wide Web", 1997, for the
        idea that the differences between neighbours separate the two.
    """
    steps = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)) / 4
    median, steep = np.percentile(steps, [50, 90])
    return float(steep / (median + 0.25))  # a quarter of a level is the rounding error
