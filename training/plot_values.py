"""The numbers behind the plots: curves, bins and rates of scores.csv, for `training.figures` and for the pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.metrics import roc_curve

from detector.metrics import at_proportion, proportion
from training.tables import GENERATED, SWAPS, EstimateDict

ROC_FAMILIES = (SWAPS, GENERATED)  # together these families hold all fakes
CALIBRATION_BINS = 15  # as in the ECE
RATE_BINS = 6  # about equally full
EXTREME = 0.001  # probabilities below it, and above 1 minus it, count in the outermost bars
HISTOGRAM_BARS = 41
CURVE_DIGITS = 4
SMALLEST_STEP = 0.003  # of a curve: a third of a pixel on a plot of 100 pixels

Scores = dict[str, np.ndarray]  # columns (N,) of scores.csv
Curve = tuple[np.ndarray, np.ndarray]  # proportions of reals, and of fakes, above each threshold


def roc_curves(metrics: dict[str, Any], scores: Scores) -> list[dict[str, Any]]:
    """Return the ROC curves of two families of fakes and of all fakes, each against all reals.

    Returns:
        For each its `name`, number of fakes `n`, estimate `auc` and `curve`; all fakes come last.
    """
    label, logit = scores["label"], scores["logit"]
    found = []
    for family in metrics["families"]:
        if family["family"] in ROC_FAMILIES:
            own = (label == 1) & np.isin(scores["generator"], family["generators"]) | (label == 0)
            row = {"name": family["family"], "n": family["n"], "auc": family["auc"]}
            found.append(row | {"curve": _roc_curve(label[own], logit[own])})
    overall = {"name": "all fakes", "n": int(np.sum(label == 1)), "auc": metrics["overall"]["auc"]}
    return [*found, overall | {"curve": _roc_curve(label, logit)}]


def roc_points(scores: Scores) -> dict[str, tuple[float, float]]:
    """Return where the two thresholds lie on the ROC curve: "called deepfake" and "not called real"."""
    label, verdict = scores["label"], scores["verdict"]
    above = {"called deepfake": verdict == "deepfake", "not called real": verdict != "real"}
    return {name: (float(np.mean(is_[label == 0])), float(np.mean(is_[label == 1]))) for name, is_ in above.items()}


def source_roc_curves(metrics: dict[str, Any], scores: Scores, kind: int) -> list[dict[str, Any]]:
    """Return the ROC curve of each source of one label against all pictures of the other, the lowest AUC first."""
    label, logit, source = scores["label"], scores["logit"], scores["source"]
    rows = [row for row in metrics["sources"] if row["label"] == kind and row["auc"]]
    found = []
    for row in sorted(rows, key=lambda row: float(row["auc"]["value"])):
        chosen = (label != kind) | (source == row["source"])
        named = {"name": row["source"], "n": row["n"], "auc": row["auc"]}
        found.append(named | {"curve": _roc_curve(label[chosen], logit[chosen])})
    return found


def calibration_bins(scores: Scores) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the bins of the probability, and the number of pictures in each of the CALIBRATION_BINS.

    Returns:
        For each bin that is not empty its mean `probability`, where the pictures' own proportion are fakes, and the
        estimate `fakes` of the proportion of fakes.
    """
    fake, group = scores["label"] == 1, scores["group"]
    probability = at_proportion(scores["probability"], float(fake.mean()))
    places = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    bins = [
        {
            "probability": float(probability[places == place].mean()),
            "fakes": asdict(proportion(fake[places == place], group[places == place])),
        }
        for place in np.unique(places)
    ]
    return bins, np.bincount(places, minlength=CALIBRATION_BINS).tolist()


def histogram_bars(scores: Scores) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Return edges in log-odds (HISTOGRAM_BARS + 1,), and for each label the proportion of its pictures in each bar."""
    low, high = clipped_log_odds([EXTREME, 1 - EXTREME]).tolist()
    edges = np.linspace(low, high, HISTOGRAM_BARS + 1)
    bars = {}
    for label in (0, 1):
        own = clipped_log_odds(scores["probability"][scores["label"] == label])
        bars[label] = np.histogram(own, edges)[0] / max(1, len(own))
    return edges, bars


def size_rates(scores: Scores) -> dict[str, dict[str, EstimateDict | None]]:
    """Return the error rates by size of the face that gave the logit; pictures without a face are left out."""
    size_px = np.where(scores["face_px"] > 0, scores["face_px"], np.nan)
    return {name: estimate_rates(scores, chosen) for name, chosen in bin_members(size_px).items()}


def quality_rates(scores: Scores) -> dict[str, dict[str, EstimateDict | None]]:
    """Return the error rates by JPEG quality of the stored file, and of files that are no JPEG."""
    groups = bin_members(scores["jpeg_quality"])
    if np.any(other := np.isnan(scores["jpeg_quality"])):
        groups["not JPEG"] = other
    return {name: estimate_rates(scores, chosen) for name, chosen in groups.items()}


def bin_members(values: np.ndarray) -> dict[str, np.ndarray]:
    """Split numbers into about equally full bins; equal numbers share a bin, and few distinct ones get a bin each.

    Returns:
        For the range of each bin, such as "81 to 120", its members as (N,) booleans; NaN is in no bin.
    """
    known = np.flatnonzero(np.isfinite(values))
    distinct, places = np.unique(values[known], return_inverse=True)
    if len(distinct) > RATE_BINS:
        places = (RATE_BINS * (rankdata(values[known]) - 0.5) / len(known)).astype(int)
    bins = {}
    for place in np.unique(places):
        members = known[places == place]
        low, high = values[members].min(), values[members].max()
        bins[f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"] = np.isin(np.arange(len(values)), members)
    return bins


def estimate_rates(scores: Scores, chosen: np.ndarray) -> dict[str, EstimateDict | None]:
    """Estimate false alarms, misses and inconclusive verdicts of some pictures; None where no picture counts."""
    label, verdict = scores["label"], scores["verdict"]
    return {
        figure: asdict(proportion(hits[own], scores["group"][own])) if np.any(own) else None
        for figure, hits, own in (
            ("false_alarms", verdict == "deepfake", chosen & (label == 0)),
            ("misses", verdict == "real", chosen & (label == 1)),
            ("inconclusive", verdict == "inconclusive", chosen),
        )
    }


def clipped_log_odds(probabilities: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the log-odds of probabilities, clipped to EXTREME on both ends."""
    clipped = np.clip(np.asarray(probabilities, float), EXTREME, 1 - EXTREME)
    return np.asarray(np.log(clipped / (1 - clipped)))


def page_values(metrics: dict[str, Any], scores: Scores, ablations: list[dict[str, str]]) -> dict[str, Any]:
    """Return as JSON values what the pages draw and metrics.json lacks; curves keep the corners that can be seen.

    Args:
        metrics: of the same evaluation; its model's hash is kept, so that no page mixes two models.
        scores: as stored.
        ablations: rows of ablations.csv.
    """
    bins, counts = calibration_bins(scores)
    edges, bars = histogram_bars(scores)
    return {
        "model_sha256": metrics["model"].get("sha256_h5"),
        "roc": [_thinned(row) for row in roc_curves(metrics, scores)],
        "roc_points": roc_points(scores),
        "roc_sources": {
            kind: [_thinned(row) for row in source_roc_curves(metrics, scores, label)]
            for label, kind in enumerate(("real", "fake"))
        },
        "calibration": {"bins": bins, "counts": counts},
        "histogram": {
            "edges": edges.tolist(),
            "n": {kind: int(np.sum(scores["label"] == label)) for label, kind in enumerate(("real", "fake"))},
            "bars": {kind: bars[label].tolist() for label, kind in enumerate(("real", "fake"))},
        },
        "size_rates": size_rates(scores),
        "quality_rates": quality_rates(scores),
        "ablations": [
            {name: float(text) if name in {"value", "low", "high", "n"} else text for name, text in row.items()}
            for row in ablations
        ],
    }


def _roc_curve(labels: np.ndarray, logits: np.ndarray) -> Curve:
    alarms, hits, _ = roc_curve(labels, logits)
    return alarms, hits


def _thinned(row: dict[str, Any]) -> dict[str, Any]:
    """Replace a curve by a list of the points that lie SMALLEST_STEP apart; few false alarms are kept in full."""
    kept: list[list[float]] = []
    points = list(zip(*(column.tolist() for column in row["curve"]), strict=True))
    for number, (alarms, hits) in enumerate(points):
        is_end = number in (0, len(points) - 1)
        is_far = (
            not kept
            or hits - kept[-1][1] >= SMALLEST_STEP
            or alarms - kept[-1][0] >= SMALLEST_STEP * min(1, 10 * alarms)
        )
        if is_end or is_far:
            kept.append([round(alarms, CURVE_DIGITS), round(hits, CURVE_DIGITS)])
    return row | {"curve": kept}
