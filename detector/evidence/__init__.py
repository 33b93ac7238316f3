"""What a verdict rests on: explanations, checks of explanations, robustness."""

from detector.evidence.explanation_checks import (
    DEGRADATION_LABELS,
    explain_face,
    face_crop,
    measure_face_robustness,
    robustness_sentence,
)
from detector.evidence.explanations import (
    EXPLANATION_METHODS,
    DeletionCheck,
    Explanation,
    Region,
    run_deletion_check,
)
from detector.evidence.robustness import DegradedScore, RobustnessResult
from detector.models.heatmaps import colour_heatmap

__all__ = [
    "DEGRADATION_LABELS",
    "DegradedScore",
    "DeletionCheck",
    "EXPLANATION_METHODS",
    "Explanation",
    "Region",
    "colour_heatmap",
    "RobustnessResult",
    "explain_face",
    "face_crop",
    "measure_face_robustness",
    "robustness_sentence",
    "run_deletion_check",
]
