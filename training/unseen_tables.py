"""Figures of pictures that networks had not seen the family or the source of; unseen_metrics.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from detector.media.degradations import TIERS, UNDEGRADED
from detector.metrics import CONFIDENCE, wilson_interval
from detector.models.calibration import Calibration
from detector.results import Verdict
from training.calibrating import UNCALIBRATED
from training.tables import (
    EstimateDict,
    Row,
    ScoreTable,
    decide_row,
    exclusion_reasons,
    format_estimate,
    format_header,
    format_percent,
    format_row,
)
from training.thresholds import UNSEEN_LIMITS, ErrorLimits, thresholds_within

MIN_FAMILY = 10  # fakes; the AUC of a smaller family is too uncertain to weigh as much as the others in a mean
CELLS = 3  # parts of equal size by sharpness, and by the size of the face
UNSEEN_RESAMPLES = 500
CALLED_REAL_PROPORTIONS = (0.01, 0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.20, 0.25, 0.30)  # of the trade-off

FamilyDraws = dict[tuple[str, str, int], np.ndarray]  # values in every resample, by kind, family and fold


@dataclass(frozen=True)
class UnseenAccount:
    """Where the scores and the calibration come from.

    Attributes:
        settings: of the runs, files named without their folders.
        calibration: decides the verdicts.
        model_sha256: of the model whose calibration it is; None if it was fitted to the scores themselves.
    """

    settings: Mapping[str, Any]
    calibration: Calibration
    model_sha256: str | None = None


class GroupResamples:
    """Groups drawn with replacement within each fold: how often each draw of a bootstrap contains a group.

    Args:
        groups: (N,) groups of the rows.
        folds: (N,) fold of each row; a group lies in one fold.
        seed: of the draws.
    """

    def __init__(self, groups: np.ndarray, folds: np.ndarray, seed: int = 0):
        rng = np.random.default_rng(seed)
        self._groups, first = np.unique(groups, return_index=True)
        # Column 0 contains every group once: it gives the values themselves.
        self._counts = np.ones((len(self._groups), 1 + UNSEEN_RESAMPLES), np.float32)
        for fold in np.unique(folds):
            members = np.flatnonzero(folds[first] == fold)
            even = np.full(len(members), 1 / len(members))
            self._counts[members, 1:] = rng.multinomial(len(members), even, size=UNSEEN_RESAMPLES).T

    def weights(self, groups: np.ndarray) -> np.ndarray:
        """Return how often each draw contains the rows of these groups, (N, 1 + UNSEEN_RESAMPLES)."""
        return self._counts[np.searchsorted(self._groups, groups)]


class UnseenTable(ScoreTable):
    """The rows of one degradation as columns (N,), decided by a calibration."""

    def __init__(self, rows: list[Row], resamples: GroupResamples):
        super().__init__(rows)
        self.kind, self.family, self.fold = (
            np.array([row[name] for row in rows]) for name in ("kind", "family", "fold")
        )
        # A face too small for a spectrum has no sharpness.
        self.sharpness = np.array([np.nan if row["sharpness"] is None else row["sharpness"] for row in rows])
        self.weights = resamples.weights(self.group)

    def draw_aucs(self, *, matched: bool = False) -> FamilyDraws:
        """Return the AUC of each family of fakes against the real pictures of its fold, in every resample.

        Args:
            matched: compare within cells of equal sharpness and face size.

        Returns:
            (1 + UNSEEN_RESAMPLES,) by kind, family and fold, the first value that of the rows themselves; NaN where
            there is no pair.
        """
        fake = self.label == 1
        columns = (column[fake].tolist() for column in (self.kind, self.family, self.fold))
        count = self.count_matched_pairs if matched else self.count_pairs
        return {key: _divide(*count(*self.split_fold(*key[1:]))) for key in sorted(set(zip(*columns, strict=True)))}

    def keep_counted(self, aucs: FamilyDraws) -> FamilyDraws:
        """Return the AUCs of the families that count in means: defined, and of at least MIN_FAMILY fakes."""
        large = {key for key in aucs if len(self.split_fold(*key[1:])[0]) >= MIN_FAMILY}
        return {key: values for key, values in aucs.items() if key in large and not np.isnan(values[0])}

    def split_fold(self, family: str, fold: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of a family's fakes and of all real pictures of its fold."""
        inside = self.fold == fold
        fakes = inside & (self.label == 1) & (self.family == family)
        return np.flatnonzero(fakes), np.flatnonzero(inside & (self.label == 0))

    def count_pairs(self, fakes: np.ndarray, reals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Count pairs of a fake and a real, in every resample.

        Args:
            fakes, reals: indices of rows.

        Returns:
            Pairs in which the fake has the higher logit, equal logits counting half, and all pairs: (resamples,) each.
        """
        order = reals[np.argsort(self.logit[reals])]
        below = np.zeros((len(order) + 1, self.weights.shape[1]))
        np.cumsum(self.weights[order], axis=0, out=below[1:])
        left, right = (np.searchsorted(self.logit[order], self.logit[fakes], side) for side in ("left", "right"))
        won = np.einsum("ij,ij->j", self.weights[fakes], (below[left] + below[right]) / 2)
        return won, self.weights[fakes].sum(0, dtype=float) * below[-1]

    def count_matched_pairs(self, fakes: np.ndarray, reals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Count, as `count_pairs`, the pairs within cells of equal sharpness and face size.

        The cells divide these fakes and reals by terciles. A tercile still holds different sharpnesses, so what
        sharpness explains becomes less, not nothing.
        """
        chosen = np.concatenate([fakes, reals])
        cells = CELLS * _terciles(self.sharpness[chosen]) + _terciles(self.face_px[chosen])
        won, pairs = (np.zeros(self.weights.shape[1]) for _ in range(2))
        for cell in range(CELLS**2):
            inside = cells == cell
            counts = self.count_pairs(fakes[inside[: len(fakes)]], reals[inside[len(fakes) :]])
            won, pairs = won + counts[0], pairs + counts[1]
        return won, pairs


def calibration_within_limits(rows: list[Row], limits: ErrorLimits = UNSEEN_LIMITS) -> Calibration:
    """Choose thresholds within the limits for pictures left out, under the worst degradation.

    Pictures that get no verdict whatever their score have no part. The probabilities order the logits and mean nothing
    else.

    Args:
        rows: scores of all degradations.
        limits: the error rates to keep.

    Returns:
        A calibration under which every verdict is inconclusive if a degradation lacks one of the labels.
    """
    rows = [row for row in rows if not exclusion_reasons(row)]
    if len({(row["delivery"], row["label"]) for row in rows}) < 2 * len(TIERS):
        return UNCALIBRATED
    logits = np.array([row["logit"] for row in rows])
    spread = float(logits.std()) or 1.0
    line = Calibration(1 / spread, -float(logits.mean()) / spread, 0.0, 1.0)  # keeps sigmoid() away from 0 and 1
    low, high = thresholds_within(limits, rows, np.asarray(line.probability(logits)))
    return Calibration(line.slope, line.intercept, low, high)


def measure_unseen(rows: list[Row], account: UnseenAccount) -> dict[str, Any]:
    """Compute the content of unseen_metrics.json.

    Args:
        rows: of unseen_scores.csv, all degradations.
        account: the settings of the runs, and the calibration that decides the verdicts.

    Returns:
        AUCs are of fakes against all real pictures of the same fold, `matched` within cells of equal sharpness and
        face size. A mean weighs its families equally and omits those with fewer than MIN_FAMILY fakes. Intervals of
        AUCs are from a bootstrap over groups within folds; those of rates are Wilson's, as in metrics.json.
    """
    decided = [decide_row(row, account.calibration) for row in rows]
    groups, folds = (np.array([row[name] for row in rows]) for name in ("group", "fold"))
    resamples = GroupResamples(groups, folds)
    tables = {
        tier: UnseenTable(chosen, resamples)
        for tier in TIERS
        if (chosen := [row for row in decided if row["delivery"] == tier])
    }
    table = tables[UNDEGRADED]
    aucs = {"auc": table.draw_aucs(), "auc_matched": table.draw_aucs(matched=True)}
    counted = {name: table.keep_counted(found) for name, found in aucs.items()}
    return {
        "created": date.today().isoformat(),
        "settings": dict(account.settings),
        "model_sha256": account.model_sha256,
        "calibration": asdict(account.calibration),
        "n": len(table.label),
        **measure_means(counted),
        "kinds": measure_kinds(counted),
        "families": measure_unseen_families(table, aucs),
        "real_sources": measure_real_sources(table),
        "tiers": {tier: _measure_tier(own) for tier, own in tables.items()},
        "trade_off": measure_trade_off(rows),
    }


def measure_unseen_families(table: UnseenTable, aucs: Mapping[str, FamilyDraws]) -> list[dict[str, Any]]:
    """Compute the figures of each family of fakes; without real pictures in its fold it has no AUC.

    Args:
        table: rows of one degradation.
        aucs: by the name of the figure, what `draw_aucs` returns.
    """
    figures = []
    for kind, family, fold in aucs["auc"]:
        fakes, reals = table.split_fold(family, fold)
        own = np.isin(np.arange(len(table.label)), fakes)
        smaller = min(len(np.unique(table.group[part])) for part in (fakes, reals))
        n = len(fakes) + len(reals)
        figures.append(
            {
                "family": family,
                "kind": kind,
                "fold": fold,
                "n": len(fakes),
                **{name: _estimate(found[kind, family, fold], n, independent=smaller) for name, found in aucs.items()},
                "called_real": table.proportion(table.verdict == Verdict.REAL, chosen=own),
                "inconclusive": table.proportion(~table.decided, chosen=own),
            }
        )
    return figures


def measure_kinds(aucs: Mapping[str, FamilyDraws]) -> list[dict[str, Any]]:
    """Compute the mean AUC of each kind of fakes over its families; `aucs` holds only the families that count."""
    figures = []
    for kind in sorted({key[0] for key in aucs["auc"]}):
        own = {name: [found[key] for key in found if key[0] == kind] for name, found in aucs.items()}
        means = {name: _estimate(_mean(found), len(found)) for name, found in own.items()}
        figures.append({"kind": kind, "families": len(own["auc"]), **means})
    return figures


def measure_means(aucs: Mapping[str, FamilyDraws]) -> dict[str, EstimateDict | None]:
    """Compute the mean AUC over families and over kinds; `aucs` holds only the families that count."""
    means = {}
    for name, found in aucs.items():
        kinds = sorted({key[0] for key in found})
        over_kinds = [_mean([found[key] for key in found if key[0] == kind]) for kind in kinds]
        suffix = name.removeprefix("auc")
        means[f"macro_family{suffix}"] = _estimate(_mean(list(found.values())), len(found))
        means[f"macro_kind{suffix}"] = _estimate(_mean(over_kinds), len(kinds))
    return means


def measure_real_sources(table: UnseenTable) -> list[dict[str, Any]]:
    """Compute the rates of false alarms and of inconclusive verdicts of each source of real pictures."""
    figures = []
    real = table.label == 0
    for source in sorted(set(table.source[real].tolist())):
        own = real & (table.source == source)
        figures.append(
            {
                "source": source,
                "kind": str(table.kind[own][0]),
                "fold": int(table.fold[own][0]),
                "n": int(own.sum()),
                "false_alarms": table.proportion(table.verdict == Verdict.DEEPFAKE, chosen=own),
                "inconclusive": table.proportion(~table.decided, chosen=own),
            }
        )
    return figures


def measure_trade_off(rows: list[Row]) -> list[dict[str, float]]:
    """Compute the proportion of stored pictures left inconclusive for each allowed proportion of fakes called real."""
    stored = [row for row in rows if row["delivery"] == UNDEGRADED]
    figures = []
    for called_real in CALLED_REAL_PROPORTIONS:
        limits = replace(UNSEEN_LIMITS, misses=called_real)
        calibration = calibration_within_limits(rows, limits)
        verdicts = [decide_row(row, calibration)["verdict"] for row in stored]
        inconclusive = verdicts.count(Verdict.INCONCLUSIVE) / len(verdicts)
        figures.append({"called_real": called_real, "false_alarms": limits.false_alarms, "inconclusive": inconclusive})
    return figures


def print_unseen(metrics: Mapping[str, Any]) -> None:
    """Print the tables of unseen_metrics.json."""
    print(f"{metrics['n']} pictures, each scored by a network that did not learn from its fold")
    print(format_header("mean AUC", "value (95% interval)", "matched by sharpness and face size", "n"))
    for name, words in (("macro_family", "over families left out"), ("macro_kind", "over kinds")):
        found, matched = metrics[name], metrics[f"{name}_matched"]
        print(format_row(words, format_estimate(found), format_estimate(matched), found["n"] if found else 0))
    print(format_header("kind", "families", "AUC", "AUC, matched"))
    for figures in metrics["kinds"]:
        aucs = format_estimate(figures["auc"]), format_estimate(figures["auc_matched"])
        print(format_row(figures["kind"], figures["families"], *aucs))
    print(format_header("family", "kind", "fold", "n", "AUC", "AUC, matched", "called real, %", "inconclusive, %"))
    for figures in metrics["families"]:
        aucs = format_estimate(figures["auc"]), format_estimate(figures["auc_matched"])
        rates = format_percent(figures["called_real"]), format_percent(figures["inconclusive"])
        print(format_row(*(figures[name] for name in ("family", "kind", "fold", "n")), *aucs, *rates))
    print(format_header("real source", "kind", "fold", "n", "called deepfake, %", "inconclusive, %"))
    for figures in metrics["real_sources"]:
        rates = format_percent(figures["false_alarms"]), format_percent(figures["inconclusive"])
        print(format_row(*(figures[name] for name in ("source", "kind", "fold", "n")), *rates))
    mean = "mean AUC over families"
    called = ("reals called deepfake, %", "fakes called real, %", "fakes called deepfake, %")
    print(format_header("degradation", mean, *called, "inconclusive, %"))
    for tier, figures in metrics["tiers"].items():
        shares = (format_percent(figures[name]) for name in ("false_alarms", "called_real", "found", "inconclusive"))
        print(format_row(tier, format_estimate(figures["macro_family"]), *shares))
    print(format_header("fakes called real, % allowed", "reals called deepfake, % allowed", "inconclusive, %"))
    for figures in metrics["trade_off"]:
        cells = (f"{100 * figures[name]:.1f}" for name in ("called_real", "false_alarms", "inconclusive"))
        print(format_row(*cells))


def _measure_tier(table: UnseenTable) -> dict[str, EstimateDict | None]:
    """Compute the mean AUC over families, and the rates over all pictures, of one degradation."""
    return {
        "macro_family": measure_means({"auc": table.keep_counted(table.draw_aucs())})["macro_family"],
        "false_alarms": table.proportion(table.verdict == Verdict.DEEPFAKE, chosen=table.label == 0),
        "called_real": table.proportion(table.verdict == Verdict.REAL, chosen=table.label == 1),
        "found": table.proportion(table.verdict == Verdict.DEEPFAKE, chosen=table.label == 1),
        "inconclusive": table.proportion(~table.decided),
    }


def _terciles(values: np.ndarray) -> np.ndarray:
    """Return the part of equal size, 0 to CELLS - 1, in which each value (N,) lies; equal values share one."""
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return np.zeros(len(values), int)
    return np.searchsorted(np.quantile(known, np.arange(1, CELLS) / CELLS), values, side="left")


def _divide(won: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Return the proportion of pairs won; NaN where a draw has no pair."""
    return np.divide(won, pairs, out=np.full(len(won), np.nan), where=pairs > 0)


def _mean(values: list[np.ndarray]) -> np.ndarray:
    """Return the mean in each draw, of those that are defined in it; NaN where none is."""
    if not values:
        return np.full(1, np.nan)
    stacked = np.stack(values)
    known = ~np.isnan(stacked)
    return _divide(np.where(known, stacked, 0).sum(0), known.sum(0))


def _estimate(values: np.ndarray, n: int, *, independent: int | None = None) -> EstimateDict | None:
    """Return the first value with the interval of the others; None if it is not defined.

    Args:
        values: (1 + resamples,).
        n: number of examples.
        independent: groups of the smaller class. Where the classes are perfectly separated, every draw has the same
            value and the interval is Wilson's over these groups, as in `detector.metrics.auc`.
    """
    value = float(values[0])
    if np.isnan(value):
        return None
    if independent and value in (0.0, 1.0):
        low, high = wilson_interval(value, independent)
    else:
        drawn = values[1:][~np.isnan(values[1:])]
        low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]) if len(drawn) else (value, value)
    return {"value": value, "low": float(low), "high": float(high), "n": n}
