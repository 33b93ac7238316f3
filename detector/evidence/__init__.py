"""What a verdict rests on: explanations, checks of explanations, robustness."""

from detector.evidence.explanation_checks import DELETION_CHECK_FACES, DeletionCheck, run_deletion_check
from detector.evidence.explanations import EXPLANATION_METHODS, LIME_SAMPLES, Explanation, explain_face, face_crop
from detector.evidence.regions import Region
from detector.evidence.robustness import (
    DEGRADATION_LABELS,
    DegradedScore,
    RobustnessResult,
    measure_face_robustness,
    robustness_sentence,
)
from detector.models.heatmaps import colour_heatmap

__all__ = [
    "DEGRADATION_LABELS",
    "DELETION_CHECK_FACES",
    "DegradedScore",
    "DeletionCheck",
    "EXPLANATION_METHODS",
    "Explanation",
    "LIME_SAMPLES",
    "Region",
    "RobustnessResult",
    "colour_heatmap",
    "explain_face",
    "face_crop",
    "measure_face_robustness",
    "robustness_sentence",
    "run_deletion_check",
]
