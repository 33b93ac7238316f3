"""The decision rule: from a fused logit to one of three verdicts, the same for every medium."""

from __future__ import annotations

from dataclasses import dataclass

from detector.models.calibration import Calibration
from detector.results import Reason, Verdict


@dataclass(frozen=True)
class Decision:
    """The result for one logit.

    Attributes:
        probability: calibrated P(fake) in [0, 1].
        verdict: real, deepfake or inconclusive.
        reasons: why the verdict is inconclusive; empty otherwise.
    """

    probability: float
    verdict: Verdict
    reasons: tuple[Reason, ...]


def decide(logit: float, reasons: tuple[Reason, ...], calibration: Calibration) -> Decision:
    """Decide on a verdict.

    Args:
        logit: fused network output, positive means fake.
        reasons: why the file gets no verdict, whatever its score; any reason makes the verdict inconclusive.
        calibration: maps the logit to a probability and holds the two thresholds.
    """
    probability = calibration.probability(logit)
    verdict = Verdict.INCONCLUSIVE if reasons else classify(probability, calibration)
    if verdict is Verdict.INCONCLUSIVE and not reasons:
        reasons = (Reason.BETWEEN_THRESHOLDS,)
    return Decision(probability, verdict, reasons)


def classify(probability: float, calibration: Calibration) -> Verdict:
    """Compare a calibrated P(fake) with the two thresholds; a value on a threshold gets that threshold's verdict."""
    if probability >= calibration.threshold_fake:
        return Verdict.DEEPFAKE
    if probability <= calibration.threshold_real:
        return Verdict.REAL
    return Verdict.INCONCLUSIVE
