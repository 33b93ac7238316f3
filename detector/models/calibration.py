"""From a logit to a calibrated probability, and the thresholds that go with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import numpy as np


@dataclass(frozen=True)
class Calibration:
    """Platt scaling of the logits, and two thresholds on the probability.

    Attributes:
        slope, intercept: P(fake) = sigmoid(slope * logit + intercept).
        threshold_real: at or below this probability a picture is classified as real.
        threshold_fake: at or above this probability a picture is classified as a deepfake; between the two thresholds
            it is `inconclusive`.
    """

    slope: float
    intercept: float
    threshold_real: float
    threshold_fake: float

    @overload
    def probability(self, logit: float) -> float: ...

    @overload
    def probability(self, logit: np.ndarray) -> np.ndarray: ...

    def probability(self, logit: np.ndarray | float) -> np.ndarray | float:
        """Return P(fake) in [0, 1] for one logit or an array of logits."""
        probability = sigmoid(self.slope * np.asarray(logit, np.float64) + self.intercept)
        return probability if np.ndim(logit) else float(probability)


def sigmoid(values: np.ndarray | float) -> np.ndarray:
    """Return 1 / (1 + exp(-values)) without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(values)))
