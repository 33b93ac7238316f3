"""Fit probability and thresholds to scores of labelled examples."""

from __future__ import annotations

import numpy as np

from detector.models.calibration import sigmoid


def fit_line(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """Fit Platt scaling by logistic regression.

    Args:
        logits: (N,) raw network outputs.
        labels: (N,) 1 = fake.
        weights: (N,) how much each example counts; None counts all the same.

    Returns:
        slope and intercept.

    Source:
        Platt, "Probabilistic outputs for support vector machines", 1999; the targets are his, which keep a
        perfectly separated tuning set from driving the slope to infinity.
    """
    from scipy.optimize import minimize  # only training fits

    labels = np.asarray(labels, bool)
    logits = np.asarray(logits, np.float64)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    centre, spread = logits.mean(), logits.std() or 1.0
    units = (logits - centre) / spread  # or the search ends early for logits far from zero
    fakes, reals = weights[labels].sum(), weights[~labels].sum()
    targets = np.where(labels, (fakes + 1) / (fakes + 2), 1 / (reals + 2))

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        score = line[0] * units + line[1]
        # log(1 + exp(s)) - t s is the cross-entropy of sigmoid(s) against t.
        residual = weights * (sigmoid(score) - targets)
        value = np.sum(weights * (np.logaddexp(0, score) - targets * score))
        return value, np.array([np.sum(residual * units), np.sum(residual)])

    # Never a negative slope: a network that tells nothing must end in "inconclusive", not in verdicts upside down.
    bounds = [(0.0, None), (None, None)]
    slope, intercept = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(slope / spread), float(intercept - slope / spread * centre)


def choose_thresholds(
    tiers: list[tuple[np.ndarray, np.ndarray]], *, max_false_alarms: float, max_misses: float, floor: float = 0.0
) -> tuple[float, float]:
    """Choose the two thresholds for stated error rates on the worst way a picture can arrive.

    Args:
        tiers: for each delivery (as stored, recompressed, rescaled ...) the probabilities (N,) of the same tuning
            pictures and their labels (N,), 1 = fake.
        max_false_alarms: share of real pictures that may be called deepfakes, in the worst tier.
        max_misses: share of fakes that may be called real, in the worst tier.
        floor: what the threshold for fakes must not fall under, whatever the rates allow.

    Returns:
        threshold_real <= threshold_fake. Where the two rates leave no gap both are the point halfway between.
    """
    threshold_fake = max(floor, *(lowest_threshold(p[labels == 0], max_false_alarms) for p, labels in tiers))
    # The mirror image by sign and not by 1 - p, which rounds and may land on the fake it has to stay below.
    threshold_real = min(-lowest_threshold(-p[labels == 1], max_misses) for p, labels in tiers)
    if threshold_real >= threshold_fake:
        threshold_real = threshold_fake = (threshold_real + threshold_fake) / 2
    return float(threshold_real), float(threshold_fake)


def lowest_threshold(values: np.ndarray, share: float) -> float:
    """Return the lowest threshold that at most `share` of the values (N,) reach.

    Raises:
        ValueError: there are no values.
    """
    if len(values) == 0:
        raise ValueError("thresholds need examples of both classes")
    allowed = int(share * len(values))
    strongest_refused = np.sort(values)[::-1][allowed]
    return float(np.nextafter(strongest_refused, np.inf))
