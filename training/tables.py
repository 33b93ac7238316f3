"""Figures from scored pictures: overall, by family of generators, by source and by degradation; metrics.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import date
from functools import partial
from typing import Any

import numpy as np
from sklearn.metrics import brier_score_loss

from detector.media.degradations import TIERS, UNDEGRADED
from detector.metrics import (
    Estimate,
    auc,
    bootstrap,
    calibration_error,
    equal_error_rate,
    perfect_calibration_error,
    proportion,
)
from detector.models.calibration import Calibration
from detector.models.reference_scores import ReferenceScores
from detector.models.spec import ModelSpec
from detector.pictures.quality import MIN_FACE_PX
from detector.results import Reason, Verdict
from detector.verdicts import decide
from training.manifests import ROOT

VISUALIZATIONS = ROOT / "visualizations"
FORCED_CUT = 0.5  # probability from which a forced decision is "fake", for a prior of one half
SWAPS, GENERATED = "face swaps", "generated faces"
FAMILY_BY_PREFIX = {  # lower-case prefix of a generator's name: its family
    "face-swap": SWAPS,
    "self_blend": SWAPS,  # of generate_synthetic_data.py
    "stylegan": "StyleGAN",  # 1 to 3, and what is only known to be of their type
}
EVERY_ROW = slice(None)

Row = dict[str, Any]  # one picture after one degradation, with the columns of scores.csv
EstimateDict = dict[str, Any]  # value, low, high and n of an Estimate


class ScoreTable:
    """The rows of one degradation as columns (N,), and estimates over subsets of them."""

    def __init__(self, rows: list[Row]):
        self.label, self.faces, self.face_px, self.probability, self.logit = (
            np.array([row[name] for row in rows]) for name in ("label", "faces", "face_px", "probability", "logit")
        )
        self.verdict, self.source, self.generator, self.group = (
            np.array([row[name] for row in rows]) for name in ("verdict", "source", "generator", "group")
        )
        self.decided = self.verdict != Verdict.INCONCLUSIVE
        self.wrong = self.decided & ((self.verdict == Verdict.DEEPFAKE) != (self.label == 1))

    def auc(self, *, chosen: np.ndarray | slice = EVERY_ROW) -> EstimateDict | None:
        """Estimate the area under the ROC curve; None where a label is missing."""
        if len(np.unique(self.label[chosen])) < 2:
            return None
        return asdict(auc(self.label[chosen], self.logit[chosen], self.group[chosen]))

    def estimate(
        self,
        statistic: Callable[..., float],
        *columns: np.ndarray,
        chosen: np.ndarray | slice = EVERY_ROW,
        pivot: bool = False,
    ) -> EstimateDict | None:
        """Estimate a statistic whose first column is the labels; None where a label is missing."""
        columns = tuple(column[chosen] for column in columns)
        if len(np.unique(columns[0])) < 2:
            return None
        return asdict(bootstrap(statistic, self.group[chosen], *columns, pivot=pivot))

    def proportion(self, hits: np.ndarray, *, chosen: np.ndarray | slice = EVERY_ROW) -> EstimateDict | None:
        """Estimate the proportion of true values in `hits` (N,); None where no row is chosen."""
        hits = hits[chosen]
        return asdict(proportion(hits, self.group[chosen])) if len(hits) else None


def exclusion_reasons(row: Row) -> tuple[Reason, ...]:
    """Return the reasons of a row that withhold a verdict whatever the score."""
    reasons = (Reason(name) for name in row["reasons"].split(";") if name)
    return tuple(reason for reason in reasons if reason is not Reason.BETWEEN_THRESHOLDS)


def decide_row(row: Row, calibration: Calibration) -> Row:
    """Return a row with the probability, the verdict and the reasons that a calibration gives its logit."""
    decision = decide(row["logit"], exclusion_reasons(row), calibration)
    return row | {
        "probability": round(decision.probability, 6),
        "verdict": str(decision.verdict),
        "reasons": ";".join(decision.reasons),
    }


def measure_rows(rows: list[Row]) -> dict[str, Any]:
    """Compute the figures of one degradation.

    Returns:
        Each figure as the dictionary of an Estimate, None where it is undefined. `accuracy_decided` weighs both labels
        equally and counts the pictures that got a verdict. `accuracy_all` and `f1` follow the usual reports: every
        picture is decided at `FORCED_CUT`. `ece_perfect` is a single number: the 95% bound of the `ece` that perfect
        probabilities would show.
    """
    table = ScoreTable(rows)
    decided, wrong = table.decided, table.wrong
    forced = table.probability >= FORCED_CUT
    return {
        "auc": table.auc(),
        "accuracy_decided": table.estimate(_balanced_accuracy, table.label, wrong, chosen=decided),
        "accuracy_all": table.proportion(forced == (table.label == 1)),
        "f1": table.estimate(_f1, table.label, forced),
        "false_alarms": table.proportion(table.verdict == Verdict.DEEPFAKE, chosen=table.label == 0),
        "misses": table.proportion(table.verdict == Verdict.REAL, chosen=table.label == 1),
        "inconclusive": table.proportion(~decided),
        "face_found": table.proportion(table.faces > 0),
        "eer": table.estimate(equal_error_rate, table.label, table.logit),
        "brier": table.estimate(brier_score_loss, table.label, table.probability),
        "ece": table.estimate(calibration_error, table.label, table.probability, pivot=True),
        "ece_perfect": perfect_calibration_error(table.label, table.probability),
    }


def measure_sources(rows: list[Row]) -> list[dict[str, Any]]:
    """Compute the figures of each source and label.

    Returns:
        For each pair the AUC against all pictures of the other label, the AUC against the other label of the same
        source, and the rates of wrong and of inconclusive verdicts.
    """
    table = ScoreTable(rows)
    figures = []
    for source, label in sorted(set(zip(table.source.tolist(), table.label.tolist(), strict=True))):
        own = (table.source == source) & (table.label == label)
        others = table.label != label
        figures.append(
            {
                "source": source,
                "label": label,
                "n": int(own.sum()),
                "auc": table.auc(chosen=own | others),
                "auc_within_source": table.auc(chosen=table.source == source),
                "wrong": table.proportion(table.wrong, chosen=own),
                "inconclusive": table.proportion(~table.decided, chosen=own),
            }
        )
    return figures


def family_of(generator: str) -> str:
    """Return the family of a generator by `FAMILY_BY_PREFIX`; an unlisted generator is a family of its own."""
    return next((name for start, name in FAMILY_BY_PREFIX.items() if generator.lower().startswith(start)), generator)


def measure_families(rows: list[Row]) -> list[dict[str, Any]]:
    """Compute the figures of face swaps, of all generated faces, and of each family of generated faces.

    Returns:
        For each family the AUC against all real pictures, and the rates of misses and of inconclusive verdicts.
    """
    table = ScoreTable(rows)
    fake = table.label == 1
    family = np.array([family_of(generator) for generator in table.generator])
    generated = fake & (family != SWAPS)
    chosen = {SWAPS: fake & (family == SWAPS), GENERATED: generated}
    chosen |= {name: generated & (family == name) for name in sorted(set(family[generated]))}
    return [
        {
            "family": name,
            "generators": sorted(set(table.generator[own].tolist())),
            "n": int(own.sum()),
            "auc": table.auc(chosen=own | ~fake),
            "misses": table.proportion(table.verdict == Verdict.REAL, chosen=own),
            "inconclusive": table.proportion(~table.decided, chosen=own),
        }
        for name, own in chosen.items()
        if own.any()
    ]


def collect_metrics(rows: list[Row], spec: ModelSpec, *, model: Mapping[str, str], split: str) -> dict[str, Any]:
    """Collect the content of metrics.json.

    Args:
        rows: the scores of all degradations.
        spec: of the network that gave them.
        model: further values that identify the network.
        split: of the manifest.
    """
    by_degradation = {name: [row for row in rows if row["delivery"] == name] for name in TIERS}
    measured = {name: measure_rows(chosen) for name, chosen in by_degradation.items()}
    stored, figures = by_degradation[UNDEGRADED], measured[UNDEGRADED]
    return {
        "model": {
            "name": spec.network,
            "input_size_px": spec.face.size_px,
            "threshold_real": spec.calibration.threshold_real,
            "threshold_fake": spec.calibration.threshold_fake,
            **model,
        },
        "split": split,
        "created": date.today().isoformat(),
        "overall": {
            "n": len(stored),
            "n_real": sum(row["label"] == 0 for row in stored),
            "n_fake": sum(row["label"] == 1 for row in stored),
            **figures,
        },
        "verdicts": {"deepfake": {"wrong": figures["false_alarms"]}, "real": {"wrong": figures["misses"]}},
        "confusion": {
            name: {str(v): sum(row["label"] == label and row["verdict"] == v for row in stored) for v in Verdict}
            for name, label in (("real", 0), ("fake", 1))
        },
        "families": measure_families(stored),
        "sources": measure_sources(stored),
        "deliveries": measured,
        "training": training_account(spec),
    }


def training_account(spec: ModelSpec) -> dict[str, Any]:
    """Return the account of a model's training, with the epochs of its last network that was trained in epochs."""
    trained = [member for member in spec.training.get("members", []) if member.get("curve")]
    if spec.training.get("curve") or not trained:
        return spec.training
    return {**spec.training, **{name: trained[-1][name] for name in ("curve", "fit", "tune")}}


def reference_scores_from(rows: list[Row], split: str, model_sha256: str) -> ReferenceScores:
    """Build the reference scores; pictures whose score decides nothing are left out."""
    table = ScoreTable(rows)
    return ReferenceScores.from_scores(
        labels=table.label,
        probabilities=table.probability,
        face_px=np.where(table.face_px >= MIN_FACE_PX, table.face_px, 0),
        groups=table.group,
        split=split,
        model_sha256=model_sha256,
    )


def format_estimate(estimate: Estimate | Mapping[str, Any] | None, *, scale: float = 1, digits: int = 3) -> str:
    """Format a figure with its interval, such as "0.912 (0.890 to 0.931)"; "-" for None."""
    if estimate is None:
        return "-"
    figure = asdict(estimate) if isinstance(estimate, Estimate) else estimate
    value, low, high = (f"{figure[name] * scale:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


format_percent = partial(format_estimate, scale=100, digits=1)


def format_row(*cells: object) -> str:
    """Format a row of a Markdown table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def format_header(*cells: object) -> str:
    """Format the first two rows of a Markdown table."""
    return f"{format_row(*cells)}\n{format_row(*['---'] * len(cells))}"


def print_metrics(metrics: dict[str, Any]) -> None:
    """Print the tables that docs/figures.md and the model card quote."""
    model, overall = metrics["model"], metrics["overall"]
    print(f"model {model['name']} {model['sha256_h5'][:12]}, split {metrics['split']}, n {overall['n']}")
    print(format_header("figure", "value (95% interval)"))
    for name in ("auc", "accuracy_decided", "inconclusive", "face_found", "accuracy_all", "f1", "eer", "brier", "ece"):
        print(format_row(name, format_estimate(overall[name])))
    print(format_row("ece of perfect probabilities", f"under {overall['ece_perfect']:.3f} in 95 of 100"))

    print(format_header("fakes", "n", "AUC against all reals", "called real, %", "inconclusive, %"))
    for figures in metrics["families"]:
        rates = format_percent(figures["misses"]), format_percent(figures["inconclusive"])
        print(format_row(figures["family"], figures["n"], format_estimate(figures["auc"]), *rates))

    against = "AUC against all of the other kind", "AUC within the source"
    print(format_header("source", "kind", "n", *against, "wrong, %", "inconclusive, %"))
    for figures in metrics["sources"]:
        kind = "fake" if figures["label"] else "real"
        aucs = format_estimate(figures["auc"]), format_estimate(figures["auc_within_source"])
        rates = format_percent(figures["wrong"]), format_percent(figures["inconclusive"])
        print(format_row(figures["source"], kind, figures["n"], *aucs, *rates))

    print(format_header("degradation", "AUC", "reals called deepfake, %", "fakes called real, %", "inconclusive, %"))
    for name, figures in metrics["deliveries"].items():
        errors = (format_percent(figures[key]) for key in ("false_alarms", "misses", "inconclusive"))
        print(format_row(name, format_estimate(figures["auc"]), *errors))


def _balanced_accuracy(label: np.ndarray, wrong: np.ndarray) -> float:
    if label.all() or not label.any():
        raise ValueError("accuracy over both labels needs both")
    return 1 - (float(wrong[label == 1].mean()) + float(wrong[label == 0].mean())) / 2


def _f1(label: np.ndarray, called_fake: np.ndarray) -> float:
    if not label.any():
        raise ValueError("F1 needs fakes")
    return 2 * float(np.sum(called_fake & (label == 1)) / (np.sum(called_fake) + np.sum(label)))
