"""From logit to probability, and from probability to one of three verdicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Calibration:
    """A line through the logits and two thresholds on the probability it gives.

    Attributes:
        slope, intercept: P(fake) = sigmoid(slope * logit + intercept), Platt scaling.
        threshold_real: at or below this probability a picture is called real.
        threshold_fake: at or above this probability it is called a deepfake; between the two lies `inconclusive`.
    """

    slope: float
    intercept: float
    threshold_real: float
    threshold_fake: float

    def probability(self, logit: np.ndarray | float) -> np.ndarray | float:
        """Return P(fake) in [0, 1] for one logit or an array of them."""
        probability = sigmoid(self.slope * np.asarray(logit, np.float64) + self.intercept)
        return probability if np.ndim(logit) else float(probability)


def sigmoid(values: np.ndarray | float) -> np.ndarray:
    """Return 1 / (1 + exp(-values)) without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(values)))
