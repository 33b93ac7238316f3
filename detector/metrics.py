"""Metrics that scikit-learn lacks or computes slowly, each with its number of examples and a 95% interval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 1000
NORMAL_QUANTILE = 1.959964  # of (1 + CONFIDENCE) / 2


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval: `value`, `low`, `high`, from `n` examples."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def bootstrap(
    statistic: Callable[..., float], groups: np.ndarray, *columns: np.ndarray, seed: int = 0, pivot: bool = False
) -> Estimate:
    """Estimate a statistic with an interval over resampled groups.

    Args:
        statistic: a function of the columns that returns a number; resamples on which it raises ValueError (one class
            missing) are drawn again.
        groups: (N,) dependent examples share a group and are drawn together.
        columns: arrays (N,).
        seed: of the resampling.
        pivot: mirror the percentiles at the value, for a statistic that is biased upward on resamples; where the bias
            is larger than its spread, the interval is widened to include the value.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993; Field and Welsh, 2007, for resampling whole
        clusters.
    """
    rng = np.random.default_rng(seed)
    _, places = np.unique(groups, return_inverse=True)
    order = np.argsort(places, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(places))[:-1])
    values: list[float] = []
    for _ in range(2 * RESAMPLES):
        drawn = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        try:
            values.append(statistic(*(column[drawn] for column in columns)))
        except ValueError:
            continue
        if len(values) == RESAMPLES:
            break
    value = float(statistic(*columns))
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) if values else (value, value)
    if pivot:
        low, high = max(0.0, 2 * value - high), max(value, 2 * value - low)
    return Estimate(value, float(low), float(high), len(groups))


def proportion(hits: np.ndarray, groups: np.ndarray) -> Estimate:
    """Estimate a proportion with Wilson's interval, which has a positive width for 0 of n as well.

    The interval's n is the number of examples over their design effect, and at most the number of groups.

    Args:
        hits: (N,) booleans.
        groups: (N,) dependent examples share a group.

    Raises:
        ValueError: there is no example.

    Source:
        Wilson, 1927; Korn and Graubard, 1998, for the effective n of clustered examples.
    """
    hits = np.asarray(hits, float)
    if len(hits) == 0:
        raise ValueError("a proportion needs at least one example")
    value, (_, places) = float(hits.mean()), np.unique(groups, return_inverse=True)
    group_count = int(places.max()) + 1
    independent = float(group_count)
    if 0 < value < 1:
        # Variance of the mean of grouped examples over the variance for independent examples.
        residuals = np.bincount(places, hits - value)
        design_effect = np.sum(residuals**2) / (len(hits) * value * (1 - value))
        independent = min(independent, len(hits) / max(1.0, design_effect))
    return Estimate(value, *wilson_interval(value, independent), len(hits))


def auc(labels: np.ndarray, scores: np.ndarray, groups: np.ndarray) -> Estimate:
    """Estimate the area under the ROC curve by a bootstrap over groups.

    Where the classes are perfectly separated, every resample gives the same value and a bootstrap would claim
    certainty. The interval is then Wilson's, over the groups of the smaller class.

    Args:
        labels: (N,) 1 = fake.
        scores: (N,) larger means more suspicious.
        groups: (N,) dependent examples share a group.

    Raises:
        ValueError: one of the classes is missing.
    """
    estimate = bootstrap(roc_auc, groups, labels, scores)
    if 0 < estimate.value < 1:
        return estimate
    smaller = min(len(np.unique(groups[labels == label])) for label in (0, 1))
    return Estimate(estimate.value, *wilson_interval(estimate.value, smaller), estimate.n)


def wilson_interval(value: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95% interval of a proportion of `n` independent examples, within [0, 1]."""
    z = NORMAL_QUANTILE
    centre = (value + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * np.sqrt(value * (1 - value) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, float(centre - reach)), min(1.0, float(centre + reach))


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve, by ranks, since a thousand resamples take scikit-learn a minute.

    Args:
        labels: (N,) 1 = fake.
        scores: (N,) larger means more suspicious.

    Raises:
        ValueError: one of the classes is missing.
    """
    from scipy.stats import rankdata  # slow to import, and the server never needs it

    fakes = np.asarray(labels) == 1
    n_fake, n_real = int(fakes.sum()), int((~fakes).sum())
    if not n_fake or not n_real:
        raise ValueError("an ROC curve needs both classes")
    return float((rankdata(scores)[fakes].sum() - n_fake * (n_fake + 1) / 2) / (n_fake * n_real))


def equal_error_rate(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the error rate at the threshold where false alarm rate and miss rate are equal.

    Args:
        labels: (N,) 1 = fake.
        scores: (N,) larger means more suspicious.

    Raises:
        ValueError: one of the classes is missing.
    """
    from sklearn.metrics import roc_curve

    if len(np.unique(labels)) < 2:
        raise ValueError("an equal error rate needs both classes")
    false_alarms, hits, _ = roc_curve(labels, scores)
    misses = 1 - hits
    crossing = int(np.argmin(np.abs(false_alarms - misses)))
    return float((false_alarms[crossing] + misses[crossing]) / 2)


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal width.

    Args:
        labels: (N,) 1 = fake.
        probabilities: (N,) of being fake where half of all examples are; see `at_proportion`.
        bins: number of bins.

    Source:
        Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599.
    """
    probabilities = at_proportion(probabilities, float(np.mean(labels)))
    places = np.minimum((probabilities * bins).astype(int), bins - 1)
    gaps = [
        abs(float(np.mean(probabilities[places == i])) - float(np.mean(labels[places == i]))) * np.mean(places == i)
        for i in np.unique(places)
    ]
    return float(np.sum(gaps))


def at_proportion(probabilities: np.ndarray, fakes: float) -> np.ndarray:
    """Return the probabilities of the same scores where another proportion of the examples are fakes.

    Args:
        probabilities: (N,) of being fake where half of all examples are.
        fakes: proportion of fakes; 0 and 1, which say nothing about probabilities, leave them as they are.

    Source:
        Saerens, Latinne and Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori Probabilities", 2002.
    """
    probabilities = np.asarray(probabilities, float)
    if fakes in (0, 1):
        return probabilities
    fake, real = fakes * probabilities, (1 - fakes) * (1 - probabilities)
    return fake / (fake + real)


def perfect_calibration_error(labels: np.ndarray, probabilities: np.ndarray, *, seed: int = 0) -> float:
    """Return the 95th percentile of the calibration error that perfect probabilities of these values would have.

    Even perfect probabilities show an error on few examples. A smaller error than this bound is not distinguishable
    from theirs. Each label is drawn from its own probability: a parametric bootstrap.

    Args:
        labels: (N,) 1 = fake; only their mean counts.
        probabilities: (N,) of being fake where half of all examples are; see `at_proportion`.

    Source:
        Broecker and Smith, "Increasing the Reliability of Reliability Diagrams", 2007: consistency resampling.
    """
    rng = np.random.default_rng(seed)
    adjusted = at_proportion(probabilities, float(np.mean(labels)))
    drawn = (rng.random(len(adjusted)) < adjusted for _ in range(RESAMPLES))
    return float(np.quantile([calibration_error(labels, probabilities) for labels in drawn], CONFIDENCE))
