"""Figures that scikit-learn lacks or is slow at, each with its number of examples and a 95 % interval."""

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
    """A figure with its interval: `value`, `low`, `high`, and `n` examples behind it."""

    value: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def bootstrap(statistic: Callable[..., float], groups: np.ndarray, *columns: np.ndarray, seed: int = 0) -> Estimate:
    """Estimate a statistic with a percentile interval over resampled groups.

    Args:
        statistic: takes the columns, returns a number; resamples on which it raises ValueError (one class missing) are
            drawn again.
        groups: (N,) what belongs together is drawn together.
        columns: arrays (N,).

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, percentile intervals; Field and Welsh, 2007,
        for resampling whole clusters.
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
    return Estimate(value, float(low), float(high), len(groups))


def share(hits: np.ndarray, groups: np.ndarray, *, seed: int = 0) -> Estimate:
    """Estimate how often something holds.

    The interval is a bootstrap over groups. Where every example agrees a bootstrap would claim certainty, so there it
    is Wilson's interval over the number of groups.

    Args:
        hits: (N,) booleans.
        groups: (N,) what belongs together.
    """
    hits = np.asarray(hits, float)
    if len(hits) == 0:
        raise ValueError("a share needs at least one example")
    if 0 < hits.sum() < len(hits):
        return bootstrap(lambda drawn: float(drawn.mean()), groups, hits, seed=seed)
    count, value, z = len(np.unique(groups)), float(hits.mean()), NORMAL_QUANTILE
    centre = (value + z * z / (2 * count)) / (1 + z * z / count)
    reach = z * np.sqrt(value * (1 - value) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return Estimate(value, max(0.0, centre - reach), min(1.0, centre + reach), len(hits))


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve, by ranks: a thousand resamples would take scikit-learn a minute.

    Args:
        labels: (N,) 1 = fake.
        scores: (N,) larger means more suspicious.

    Raises:
        ValueError: one of the classes is missing.
    """
    from scipy.stats import rankdata

    fakes = np.asarray(labels) == 1
    n_fake, n_real = int(fakes.sum()), int((~fakes).sum())
    if not n_fake or not n_real:
        raise ValueError("an ROC curve needs both classes")
    return float((rankdata(scores)[fakes].sum() - n_fake * (n_fake + 1) / 2) / (n_fake * n_real))


def equal_error_rate(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the error rate where as many reals are called fake as fakes are called real.

    Args:
        labels: (N,) 1 = fake.
        scores: (N,) larger means more suspicious.

    Raises:
        ValueError: one of the classes is missing.
    """
    from sklearn.metrics import roc_curve

    if len(np.unique(labels)) < 2:
        raise ValueError("an error rate of both classes needs both")
    false_alarms, hits, _ = roc_curve(labels, scores)
    misses = 1 - hits
    crossing = int(np.argmin(np.abs(false_alarms - misses)))
    return float((false_alarms[crossing] + misses[crossing]) / 2)


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal width.

    Source:
        Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599.
    """
    places = np.minimum((np.asarray(probabilities) * bins).astype(int), bins - 1)
    gaps = [
        abs(float(np.mean(probabilities[places == i])) - float(np.mean(labels[places == i]))) * np.mean(places == i)
        for i in np.unique(places)
    ]
    return float(np.sum(gaps))
