"""What a verdict on a picture is asked once it is there: what does it rest on, and does it last?"""

from __future__ import annotations

from collections import Counter

import numpy as np

from detector.evidence.explanations import Explanation, explain, landmarks_in_crop, read_heatmap
from detector.evidence.robustness import STORED, TIGHT_CROP, RobustnessResult, measure_robustness
from detector.models.engines import Engine
from detector.pictures.faces import crop_faces
from detector.results import PictureDetection, Reason, Verdict

DEGRADATION_LABELS = {
    STORED: "As it is",
    "jpeg90": "JPEG 90",
    "jpeg70": "JPEG 70",
    "jpeg50": "JPEG 50",
    "jpeg30": "JPEG 30",
    "webp80": "WebP 80",
    "half": "Half size",
    "quarter": "Quarter size",
    "blur1": "Blurred",
    TIGHT_CROP: "Cropped",
}


def face_crop(detection: PictureDetection, engine: Engine, *, face: int = 0) -> np.ndarray:
    """Return a face as the network saw it, (S, S, 3) uint8 RGB; faces are counted from 0."""
    return crop_faces(detection.image, [detection.faces[face].crop_box], engine.spec.face.size_px)[0]


def explain_face(
    detection: PictureDetection, engine: Engine, *, face: int = 0, method: str = "class_map"
) -> Explanation:
    """Show and say where a face speaks for a fake, by any method of `explain`; its class map came with the score.

    Raises:
        ModelError: there is no such method, or it does not go with this engine or network.
    """
    judged, size_px = detection.faces[face], engine.spec.face.size_px
    landmarks = judged.landmarks
    if landmarks is not None:
        landmarks = landmarks_in_crop(landmarks, judged.crop_box, size_px)
    if method == "class_map" and judged.heatmap is not None:
        return read_heatmap(judged.heatmap, size_px, method=method, landmarks=landmarks)
    return explain(face_crop(detection, engine, face=face), engine, method=method, landmarks=landmarks)


def measure_face_robustness(detection: PictureDetection, engine: Engine) -> RobustnessResult | None:
    """Put the face that a verdict is of to the delivery test; None where no face was fit to be judged.

    The other faces are left out, so that it costs ten crops however many there are.
    """
    if not set(detection.reasons) <= {Reason.BETWEEN_THRESHOLDS}:
        return None
    # A box of the finder is rounded once it is a result, and a crop that moves by a pixel has another score: this
    # square comes to the very crop that was judged.
    x, y, side, _ = detection.faces[0].crop_box
    inner = side / engine.spec.face.crop_margin
    box = np.array([x + (side - inner) / 2, y + (side - inner) / 2, inner, inner])
    return measure_robustness(detection.image, [box], engine)


def robustness_sentence(stability: RobustnessResult) -> str:
    """Say what became of a verdict on the way."""
    verdicts = Counter(delivery.verdict for delivery in stability.scores)
    total, undecided = len(stability.scores), verdicts[Verdict.INCONCLUSIVE]
    decided = total - undecided
    if not stability.is_robust:
        return (
            f"The verdict flips on the way: of {total} deliveries {verdicts[Verdict.REAL]} are called real, "
            f"{verdicts[Verdict.DEEPFAKE]} a deepfake and {undecided} inconclusive."
        )
    if len(verdicts) == 1:
        return f"The verdict is the same in all {total} deliveries."
    if stability.scores[0].verdict is Verdict.INCONCLUSIVE:
        side = "real" if verdicts[Verdict.REAL] else "a deepfake"
        return f"It stays inconclusive in {undecided} of {total} deliveries and is called {side} in {decided}."
    return f"The verdict is lost, to inconclusive, in {undecided} of {total} deliveries; it never becomes the opposite."
