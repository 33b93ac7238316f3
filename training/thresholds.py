"""Fit calibration and thresholds to the scores of labelled examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from detector.media.degradations import TIERS
from detector.models.calibration import sigmoid

# Usable pictures of a source whose rate moves a threshold: 40 with the few whose face cannot be checked. That of a
# smaller source is too uncertain.
MIN_SOURCE = 36


@dataclass(frozen=True)
class ErrorLimits:
    """The error rates that thresholds have to keep under the worst degradation.

    Attributes:
        false_alarms: proportion of real pictures called deepfakes.
        source_false_alarms: the same in each source with MIN_SOURCE real pictures.
        misses: proportion of fakes called real.
    """

    false_alarms: float
    source_false_alarms: float
    misses: float


# On families and sources left out of training.
UNSEEN_LIMITS = ErrorLimits(false_alarms=0.02, source_false_alarms=0.06, misses=0.12)


def fit_line(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """Fit Platt scaling by logistic regression.

    Args:
        logits: (N,) raw network outputs.
        labels: (N,) 1 = fake.
        weights: (N,) weight of each example; None weighs all the same.

    Returns:
        slope and intercept.

    Source:
        Platt, "Probabilistic outputs for support vector machines", 1999, with his targets: they keep the slope finite
        on a perfectly separated calibration set.
    """
    from scipy.optimize import minimize  # a server never fits

    labels = np.asarray(labels, bool)
    logits = np.asarray(logits, np.float64)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    centre, spread = logits.mean(), logits.std() or 1.0
    units = (logits - centre) / spread  # otherwise the search ends early for logits far from zero
    fakes, reals = weights[labels].sum(), weights[~labels].sum()
    targets = np.where(labels, (fakes + 1) / (fakes + 2), 1 / (reals + 2))

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        score = line[0] * units + line[1]
        # log(1 + exp(s)) - t s is the cross-entropy of sigmoid(s) against t.
        residual = weights * (sigmoid(score) - targets)
        value = np.sum(weights * (np.logaddexp(0, score) - targets * score))
        return value, np.array([np.sum(residual * units), np.sum(residual)])

    # No negative slope: a network without skill must give "inconclusive", not inverted verdicts.
    bounds = [(0.0, None), (None, None)]
    slope, intercept = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(slope / spread), float(intercept - slope / spread * centre)


def choose_thresholds(
    tiers: list[tuple[np.ndarray, np.ndarray]], *, max_false_alarms: float, max_misses: float, floor: float = 0.0
) -> tuple[float, float]:
    """Choose the two thresholds for stated error rates under the worst degradation.

    Each rate alone sets a limit: the lowest threshold for fakes, and the highest for reals. Usually the limit for fakes
    is the higher one, and scores between the two are inconclusive. Where the classes are separated so well that the
    limits cross, any single threshold between them would keep both rates and decide every picture. The limits are then
    exchanged instead, which keeps the scores between them inconclusive. That is the safer side: both error rates fall
    below what is allowed, no more of either class than its own rate goes undecided, and a new picture that scores where
    nearly no calibration picture did gets no verdict. A single threshold would spend all of that room on an answer.

    Args:
        tiers: for each degradation (as stored, recompressed, rescaled ...) the probabilities (N,) of the same
            calibration pictures and their labels (N,), 1 = fake.
        max_false_alarms: allowed proportion of real pictures called deepfakes, in the worst tier.
        max_misses: allowed proportion of fakes called real, in the worst tier.
        floor: lower bound of the threshold for fakes, whatever the rates allow.

    Returns:
        threshold_real <= threshold_fake.
    """
    threshold_fake = max(floor, *(lowest_threshold(p[labels == 0], max_false_alarms) for p, labels in tiers))
    # Negated instead of 1 - p, which rounds and could reach the fake that must stay above the threshold.
    threshold_real = min(-lowest_threshold(-p[labels == 1], max_misses) for p, labels in tiers)
    return float(min(threshold_real, threshold_fake)), float(max(threshold_real, threshold_fake))


def thresholds_within(
    limits: ErrorLimits, rows: Sequence[Mapping[str, Any]], probabilities: np.ndarray
) -> tuple[float, float]:
    """Choose the two thresholds that keep limits under the worst degradation, and in each source of real pictures.

    Args:
        limits: the error rates to keep; every picture counts the same in them.
        rows: of `training.scoring.score`, without pictures that no verdict is given for.
        probabilities: (N,) of the rows.

    Returns:
        threshold_real <= threshold_fake.
    """
    labels, sources, tiers = (np.array([row[name] for row in rows]) for name in ("label", "source", "delivery"))
    real = labels == 0
    return choose_thresholds(
        [(probabilities[tiers == tier], labels[tiers == tier]) for tier in TIERS],
        max_false_alarms=limits.false_alarms,
        max_misses=limits.misses,
        floor=source_floor(probabilities[real], sources[real], tiers[real], limits.source_false_alarms),
    )


def source_floor(probabilities: np.ndarray, sources: np.ndarray, tiers: np.ndarray, max_false_alarms: float) -> float:
    """Return the lowest threshold for fakes that keeps a rate of false alarms in every source, in its worst tier.

    Args:
        probabilities: (N,) of real pictures.
        sources, tiers: (N,) source and degradation of each; a source with fewer than MIN_SOURCE pictures has no limit.
        max_false_alarms: allowed proportion of a source's real pictures called deepfakes.

    Returns:
        0 if no source is large enough.
    """
    floor = 0.0
    for source, tier in product(sorted(set(sources.tolist())), sorted(set(tiers.tolist()))):
        reals = probabilities[(sources == source) & (tiers == tier)]
        if len(reals) >= MIN_SOURCE:
            floor = max(floor, lowest_threshold(reals, max_false_alarms))
    return floor


def lowest_threshold(values: np.ndarray, proportion: float) -> float:
    """Return the lowest threshold that at most a proportion of the values (N,) reach.

    Raises:
        ValueError: there are no values.
    """
    if len(values) == 0:
        raise ValueError("thresholds need examples of both classes")
    allowed = int(proportion * len(values))
    highest_excluded = np.sort(values)[::-1][allowed]
    return float(np.nextafter(highest_excluded, np.inf))
