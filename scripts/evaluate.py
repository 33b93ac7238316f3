"""Judge the held-out pictures of a manifest exactly as the server would, and write scores and figures.

    python scripts/evaluate.py                                    # data/synthetic_data/manifest.csv
    python scripts/evaluate.py --manifest FACES.csv --split val

Writes visualizations/scores.csv, a row a picture and delivery, and visualizations/metrics.json, the figures with
their n and 95 % intervals (bootstrap over groups); scripts/plot.py draws from these two and never runs a network.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from manifests import ROOT, Example, read_manifest, replace_file
from sklearn.metrics import brier_score_loss
from tqdm import tqdm

from detector.media import read_image
from detector.metrics import auc, bootstrap, calibration_error, equal_error_rate, share
from detector.pipeline import MODEL_FILES, Detector, load_detector
from detector.results import DetectorError, Verdict
from detector.spec import file_sha256
from detector.synthesis import TIERS

COLUMNS = (
    "path", "label", "source", "generator", "group", "delivery", "logit", "probability", "verdict", "faces", "reasons",
)  # fmt: skip
STORED = "stored"


def score(judge: Detector, examples: list[Example], folder: Path) -> list[dict[str, Any]]:
    """Judge every example in every delivery; returns rows of COLUMNS."""

    def score_one(example: Example) -> list[dict[str, Any]]:
        image = read_image(example.path)
        rows = []
        for delivery, deliver in TIERS.items():
            found = judge.detect(deliver(image) if deliver else image)
            rows.append(
                {
                    "path": Path(os.path.relpath(example.path, folder)).as_posix(),
                    "label": example.label,
                    "source": example.source,
                    "generator": example.generator,
                    "group": example.group,
                    "delivery": delivery,
                    "logit": round(found.logit, 5),
                    "probability": round(found.probability, 6),
                    "verdict": str(found.verdict),
                    "faces": len(found.faces),
                    "reasons": ";".join(found.reasons),
                }
            )
        return rows

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scored = tqdm(pool.map(score_one, examples), total=len(examples), desc="judging", unit="picture")
        return [row for rows in scored for row in rows]


def write_scores(rows: list[dict[str, Any]], path: Path) -> None:
    """Write the rows as CSV with COLUMNS."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def measure(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Turn the rows of one delivery into its figures, each an Estimate's dictionary or None where it cannot be told."""
    table = Table(rows)
    decided, wrong = table.decided, table.wrong
    return {
        "auc": table.auc(),
        "accuracy_decided": table.estimate(_balanced_accuracy, table.label, wrong, chosen=decided),
        "false_alarms": table.share(table.verdict == Verdict.DEEPFAKE, chosen=table.label == 0),
        "misses": table.share(table.verdict == Verdict.REAL, chosen=table.label == 1),
        "inconclusive": table.share(~decided),
        "face_found": table.share(table.faces > 0),
        "eer": table.estimate(equal_error_rate, table.label, table.logit),
        "brier": table.estimate(brier_score_loss, table.label, table.probability),
        "ece": table.estimate(calibration_error, table.label, table.probability, pivot=True),
    }


def measure_sources(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the figures of each source and label: its AUC against every picture of the other label, whatever the
    source, its AUC against the other label of the same source, and what its pictures were called."""
    table = Table(rows)
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
                "wrong": table.share(table.wrong, chosen=own),
                "inconclusive": table.share(~table.decided, chosen=own),
            }
        )
    return figures


class Table:
    """The rows of one delivery as columns (N,), and estimates over a choice of them."""

    def __init__(self, rows: list[dict[str, Any]]):
        self.label, self.faces, self.probability, self.logit, self.verdict, self.source, self.group = (
            np.array([row[name] for row in rows])
            for name in ("label", "faces", "probability", "logit", "verdict", "source", "group")
        )
        self.decided = self.verdict != Verdict.INCONCLUSIVE
        self.wrong = self.decided & ((self.verdict == Verdict.DEEPFAKE) != (self.label == 1))

    def auc(self, *, chosen: np.ndarray | slice = slice(None)) -> dict | None:
        """Estimate the area under the ROC curve; None where a label is missing."""
        if len(np.unique(self.label[chosen])) < 2:
            return None
        return auc(self.label[chosen], self.logit[chosen], self.group[chosen]).to_dict()

    def estimate(
        self, statistic, *columns: np.ndarray, chosen: np.ndarray | slice = slice(None), pivot: bool = False
    ) -> dict | None:
        """Estimate a statistic that needs both labels; the first column is the labels."""
        columns = tuple(column[chosen] for column in columns)
        if len(np.unique(columns[0])) < 2:
            return None
        return bootstrap(statistic, self.group[chosen], *columns, pivot=pivot).to_dict()

    def share(self, hits: np.ndarray, *, chosen: np.ndarray | slice = slice(None)) -> dict | None:
        """Estimate how often something holds."""
        hits = hits[chosen]
        return share(hits, self.group[chosen]).to_dict() if len(hits) else None


def _balanced_accuracy(label: np.ndarray, wrong: np.ndarray) -> float:
    if label.all() or not label.any():
        raise ValueError("accuracy over both labels needs both")
    return 1 - (float(wrong[label == 1].mean()) + float(wrong[label == 0].mean())) / 2


def print_table(metrics: dict[str, Any]) -> None:
    """Print what the README and the model card quote."""

    def shown(estimate: dict[str, Any] | None, scale: float = 1, digits: int = 3) -> str:
        if estimate is None:
            return "-"
        low, high = estimate["low"] * scale, estimate["high"] * scale
        return f"{estimate['value'] * scale:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

    def row(*cells: object) -> None:
        print("| " + " | ".join(str(cell) for cell in cells) + " |")

    model, overall = metrics["model"], metrics["overall"]
    print(f"model {model['name']} {model['sha256_h5'][:12]}, split {metrics['split']}, n {overall['n']}")
    row("figure", "value (95 % interval)")
    row("---", "---")
    for name in ("auc", "accuracy_decided", "inconclusive", "face_found", "eer", "brier", "ece"):
        row(name, shown(overall[name]))
    percent = partial(shown, scale=100, digits=1)
    row(
        "source",
        "kind",
        "n",
        "AUC against all of the other kind",
        "AUC within the source",
        "wrong, %",
        "inconclusive, %",
    )
    row(*["---"] * 7)
    for figures in metrics["sources"]:
        aucs = shown(figures["auc"]), shown(figures["auc_within_source"])
        kind = "fake" if figures["label"] else "real"
        row(figures["source"], kind, figures["n"], *aucs, percent(figures["wrong"]), percent(figures["inconclusive"]))
    row("delivery", "AUC", "reals called deepfake, %", "fakes called real, %", "inconclusive, %")
    row(*["---"] * 5)
    for name, figures in metrics["deliveries"].items():
        row(name, shown(figures["auc"]), *(percent(figures[key]) for key in ("false_alarms", "misses", "inconclusive")))


def main(argv: list[str] | None = None) -> None:
    """Judge, measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, default=ROOT / "data" / "synthetic_data" / "manifest.csv")
    parser.add_argument("--split", default="val")
    parser.add_argument("--engine", choices=MODEL_FILES, default="onnx")
    parser.add_argument("--model", type=Path, help="model file (default: the engine's own)")
    parser.add_argument("--out", type=Path, default=ROOT / "visualizations")
    options = parser.parse_args(argv)
    examples = [e for e in read_manifest(options.manifest) if e.split == options.split]
    if {e.label for e in examples} != {0, 1}:
        raise SystemExit(f"The split {options.split!r} of {options.manifest} needs both real and fake pictures.")
    try:
        judge = load_detector(options.model, engine=options.engine, threads=1)
        rows = score(judge, examples, options.manifest.parent)
    except DetectorError as error:
        raise SystemExit(str(error)) from error

    deliveries = {name: [row for row in rows if row["delivery"] == name] for name in TIERS}
    measured = {name: measure(chosen) for name, chosen in deliveries.items()}
    stored, figures = deliveries[STORED], measured[STORED]
    spec = judge.engine.spec
    used = Path(options.model or MODEL_FILES[options.engine])
    metrics = {
        "model": {
            "name": spec.network,
            "input_size_px": spec.input_size_px,
            "threshold_real": spec.calibration.threshold_real,
            "threshold_fake": spec.calibration.threshold_fake,
            "sha256_h5": judge.engine.model_sha256,
            "sha256_file": file_sha256(used),
            "engine": options.engine,
        },
        "split": options.split,
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
        "sources": measure_sources(stored),
        "deliveries": measured,
        "training": spec.training,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    replace_file(options.out / "scores.csv", partial(write_scores, rows))
    replace_file(options.out / "metrics.json", lambda part: part.write_text(json.dumps(metrics, indent=1) + "\n"))
    print_table(metrics)


if __name__ == "__main__":
    main()
