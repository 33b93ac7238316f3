"""Is this a picture the detector has learned to judge? Asked before any score is believed.

The thresholds come from scripts/measure_evidence.py, which prints what share of fine pictures they refuse and what the
network still tells beyond each.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from detector.pictures.faces import crop_faces, crop_square
from detector.results import Face, Reason

MIN_FACE_PX = 40  # longer side of a face box: the smallest face in training (81 px) after the halving of TIERS
MEASURED_PX = 144  # side to which the face box is brought, so that every measure means the same for every picture
# Beyond each the network has less to tell: on damaged tuning pictures the AUC is .94 just below this blur and .89 above
# it, .83 just above this brightness and .63 below. In the four TIERS none of 796 is as blurred, one is as dark.
MAX_BLUR = 0.85
MIN_BRIGHTNESS = 32
MAX_EDGE_RATIO = 8.0  # no photograph in 796 is above; eight in ten posters and cartoons, one in seven pencil drawings
MAX_ANALYSED_FACES = 22  # at 3 % false alarms a face, of 23 real ones at least one is more likely than not called fake
BLUR_KERNEL = 11  # length of the second blur


def picture_exclusion_reasons(faces: Sequence[Face]) -> tuple[Reason, ...]:
    """Tell why a picture cannot be judged; empty when it can.

    It can when at least one of its faces can, since the others need not be heeded.

    Args:
        faces: what was found in it, with what is wrong with each.

    Returns:
        NO_FACE, TOO_MANY_FACES, or everything that is wrong with its faces.
    """
    if not faces:
        return (Reason.NO_FACE,)
    if sum(Reason.TOO_SMALL not in face.reasons for face in faces) > MAX_ANALYSED_FACES:
        return (Reason.TOO_MANY_FACES,)
    if not all(face.reasons for face in faces):
        return ()
    return tuple(reason for reason in Reason if any(reason in face.reasons for face in faces))


def face_exclusion_reasons(image: np.ndarray, box: Sequence[float]) -> tuple[Reason, ...]:
    """Tell why one face cannot be judged; empty when it can.

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


def grey_face(image: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Return what the measures are taken on: the face without its surroundings, (MEASURED_PX, MEASURED_PX) float32."""
    height, width = image.shape[:2]
    square = crop_square(np.asarray(box), 1.0, width, height)
    face = crop_faces(image, [square], MEASURED_PX)[0]
    return cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)


def measure_blur(grey: np.ndarray) -> float:
    """Return how little a picture has to lose when it is blurred once more: 0 for the sharpest, 1 for none at all.

    Args:
        grey: (H, W) float32 in [0, 255].

    Source:
        Crete, Dolmiere, Ladret and Nicolas, "The Blur Effect: Perception and Estimation with a New No-reference
        Perceptual Blur Metric", 2007. The figures are those of skimage.measure.blur_effect, which takes half a second
        to import. The variance of the Laplacian, which is more common, tells blurred from sharp faces less well.
    """
    border = {"borderType": cv2.BORDER_REFLECT}
    left = []
    for dx, dy in ((1, 0), (0, 1)):
        kernel = (BLUR_KERNEL, 1) if dx else (1, BLUR_KERNEL)
        steps, blurred_steps = (
            np.abs(cv2.Sobel(picture, cv2.CV_32F, dx, dy, **border))[2:-1, 2:-1]
            for picture in (grey, cv2.blur(grey, kernel, **border))
        )
        lost = np.maximum(0, steps - blurred_steps).sum()
        left.append(1 - lost / max(steps.sum(), 1.0))
    return float(max(left))


def measure_brightness(grey: np.ndarray) -> float:
    """Return the level that all but the brightest 5 % of a picture stay under, in [0, 255]."""
    return float(np.percentile(grey, 95))


def measure_edge_ratio(grey: np.ndarray) -> float:
    """Return how much steeper the steepest tenth of a picture is than its middling place.

    Paint and ink change abruptly or not at all, skin everywhere a little.

    Args:
        grey: (H, W) float32 in [0, 255].

    Source:
        Athitsos, Swain and Frankel, "Distinguishing Photographs and Graphics on the World Wide Web", 1997, for the
        idea that the steps between neighbours tell the two apart.
    """
    steps = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)) / 4
    median, steep = np.percentile(steps, [50, 90])
    return float(steep / (median + 0.25))  # a quarter of a level: what rounding alone leaves
