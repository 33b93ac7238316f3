"""Judge the held-out pictures of a manifest exactly as the server would, and write scores and figures.

    python scripts/evaluate.py                                    # data/synthetic_data/manifest.csv
    python scripts/evaluate.py --manifest FACES.csv --split val
    python scripts/evaluate.py --manifest FACES.csv --split tune --out FOLDER    # what train.py tunes on: for choices

Writes visualizations/scores.csv, a row a picture and delivery, and visualizations/metrics.json, the figures with
their n and 95 % intervals (bootstrap over groups); scripts/plot.py draws from these two and never runs a network.
With the shipped model, on val and into visualizations/, it also writes models/face.reference_scores.json, the table from
which a person reads how many held-out pictures scored like theirs.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.metrics import brier_score_loss
from tqdm import tqdm

from detector.media.degradations import TIERS
from detector.media.images import read_image
from detector.metrics import auc, bootstrap, calibration_error, equal_error_rate, perfect_calibration_error, proportion
from detector.models.reference_scores import ReferenceScores, read_reference_scores
from detector.models.spec import file_sha256
from detector.pictures.detect import MODEL_FILES, REFERENCE_SCORES_FILE, PictureDetector, load_picture_detector
from detector.pictures.quality import MIN_FACE_PX
from detector.results import DetectorError, Verdict
from training.manifests import ROOT, Example, read_manifest, replace_file, split_train_calibration

SCORE_COLUMNS = (
    "path", "label", "source", "generator", "group", "delivery", "logit", "probability", "verdict", "faces", "reasons",
    "width_px", "height_px", "face_px", "jpeg_quality",
)  # fmt: skip
STORED = "stored"
CALIBRATION_SPLIT = "tune"
OUT = ROOT / "visualizations"
FORCED_CUT = 0.5  # of the probability: where a picture must be called something, as if half of them were fakes
SWAPS, GENERATED = "face swaps", "generated faces"
FAMILIES = {  # how the name of a generator begins, in any case: what it is counted as
    "face-swap": SWAPS,
    "self_blend": SWAPS,  # of generate_synthetic_data.py
    "stylegan": "StyleGAN",  # 1 to 3 and what is only known to be of their type
}


def read_split(manifest: Path, split: str) -> list[Example]:
    """Read the pictures of one split; `tune` is the part of `train` that train.py does not learn from."""
    examples = read_manifest(manifest)
    return (
        split_train_calibration(examples)[1]
        if split == CALIBRATION_SPLIT
        else [example for example in examples if example.split == split]
    )


def jpeg_quality(path: Path) -> int | None:
    """Tell the quality a JPEG file was saved with: the one whose luminance table, by the formula of the Independent
    JPEG Group, is nearest to the file's. None for other formats."""
    with Image.open(path) as image:
        tables = getattr(image, "quantization", None)
    if not tables:
        return None
    return 1 + int(np.abs(_ijg_tables() - tables[min(tables)]).sum(axis=1).argmin())


@cache
def _ijg_tables() -> np.ndarray:
    """Return the luminance tables of the qualities 1 to 100, (100, 64), from the library that has the formula."""
    tables = []
    for quality in range(1, 101):
        buffer = BytesIO()
        Image.new("L", (8, 8)).save(buffer, "JPEG", quality=quality)
        tables.append(Image.open(buffer).quantization[0])
    return np.array(tables)


def score(
    judge: PictureDetector, examples: list[Example], folder: Path, *, deliveries: Sequence[str] = tuple(TIERS)
) -> list[dict[str, Any]]:
    """Judge every example in each of the deliveries; returns rows of COLUMNS."""

    def score_one(example: Example) -> list[dict[str, Any]]:
        image, quality = read_image(example.path), jpeg_quality(example.path)
        rows = []
        for delivery in deliveries:
            deliver = TIERS[delivery]
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
                    "width_px": found.width_px,
                    "height_px": found.height_px,
                    "face_px": found.faces[0].size_px if found.faces else 0,  # of the face the logit is from
                    "jpeg_quality": quality,  # of the stored file
                }
            )
        return rows

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        scored = tqdm(pool.map(score_one, examples), total=len(examples), desc="judging", unit="picture")
        return [row for rows in scored for row in rows]


def write_scores(rows: list[dict[str, Any]], path: Path) -> None:
    """Write the rows as CSV with COLUMNS."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, SCORE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def measure_rows(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Turn the rows of one delivery into its figures, each an Estimate's dictionary or None where it cannot be told.

    `accuracy_decided` counts both kinds alike, over the pictures that got a verdict; `accuracy_all` and `f1` are what
    others report: every picture forced to a side at `FORCED_CUT`. `ece_perfect` is one number: what `ece` would stay
    under 95 times in 100 were every probability perfect.
    """
    table = Table(rows)
    decided, wrong = table.decided, table.wrong
    forced = table.probability >= FORCED_CUT
    return {
        "auc": table.auc(),
        "accuracy_decided": table.estimate(_balanced_accuracy, table.label, wrong, chosen=decided),
        "accuracy_all": table.share(forced == (table.label == 1)),
        "f1": table.estimate(_f1, table.label, forced),
        "false_alarms": table.share(table.verdict == Verdict.DEEPFAKE, chosen=table.label == 0),
        "misses": table.share(table.verdict == Verdict.REAL, chosen=table.label == 1),
        "inconclusive": table.share(~decided),
        "face_found": table.share(table.faces > 0),
        "eer": table.estimate(equal_error_rate, table.label, table.logit),
        "brier": table.estimate(brier_score_loss, table.label, table.probability),
        "ece": table.estimate(calibration_error, table.label, table.probability, pivot=True),
        "ece_perfect": perfect_calibration_error(table.probability),
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


def family_of(generator: str) -> str:
    """Return what a generator is counted as by `FAMILIES`; one that is not listed is a family of its own."""
    return next((family for start, family in FAMILIES.items() if generator.lower().startswith(start)), generator)


def measure_families(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the figures of the swaps, of everything else that was generated, and of each family in it: the AUC
    against every real picture, whatever the source, and what its pictures were called."""
    table = Table(rows)
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
            "misses": table.share(table.verdict == Verdict.REAL, chosen=own),
            "inconclusive": table.share(~table.decided, chosen=own),
        }
        for name, own in chosen.items()
        if own.any()
    ]


class Table:
    """The rows of one delivery as columns (N,), and estimates over a choice of them."""

    def __init__(self, rows: list[dict[str, Any]]):
        self.label, self.faces, self.face_px, self.probability, self.logit = (
            np.array([row[name] for row in rows]) for name in ("label", "faces", "face_px", "probability", "logit")
        )
        self.verdict, self.source, self.generator, self.group = (
            np.array([row[name] for row in rows]) for name in ("verdict", "source", "generator", "group")
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
        return proportion(hits, self.group[chosen]).to_dict() if len(hits) else None


def reference_scores_from(rows: list[dict[str, Any]], split: str, model_sha256: str) -> ReferenceScores:
    """Return what a person's picture is compared with; pictures whose score decides nothing are left out."""
    table = Table(rows)
    return ReferenceScores.from_scores(
        labels=table.label,
        probabilities=table.probability,
        face_px=np.where(table.face_px >= MIN_FACE_PX, table.face_px, 0),
        groups=table.group,
        split=split,
        model_sha256=model_sha256,
    )


def is_poorer(table: ReferenceScores, path: Path) -> bool:
    """Tell whether there is a table of the same model over more pictures already, which a few of one's own must not
    replace."""
    if not path.is_file() or (old := read_reference_scores(path)).model_sha256 != table.model_sha256:
        return False
    sizes = [sum(len(scores.probabilities) for scores in each.sizes) for each in (table, old)]
    return sizes[0] < sizes[1]


def _balanced_accuracy(label: np.ndarray, wrong: np.ndarray) -> float:
    if label.all() or not label.any():
        raise ValueError("accuracy over both labels needs both")
    return 1 - (float(wrong[label == 1].mean()) + float(wrong[label == 0].mean())) / 2


def _f1(label: np.ndarray, called_fake: np.ndarray) -> float:
    if not label.any():
        raise ValueError("F1 needs fakes")
    return 2 * float(np.sum(called_fake & (label == 1)) / (np.sum(called_fake) + np.sum(label)))


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
    for name in ("auc", "accuracy_decided", "inconclusive", "face_found", "accuracy_all", "f1", "eer", "brier", "ece"):
        row(name, shown(overall[name]))
    row("ece of perfect probabilities", f"under {overall['ece_perfect']:.3f} in 95 of 100")
    percent = partial(shown, scale=100, digits=1)
    row("fakes", "n", "AUC against all reals", "called real, %", "inconclusive, %")
    row(*["---"] * 5)
    for figures in metrics["families"]:
        rates = percent(figures["misses"]), percent(figures["inconclusive"])
        row(figures["family"], figures["n"], shown(figures["auc"]), *rates)
    against = "AUC against all of the other kind", "AUC within the source"
    row("source", "kind", "n", *against, "wrong, %", "inconclusive, %")
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
    parser.add_argument("--split", default="val", help="val (default), tune, or another one of the manifest")
    parser.add_argument("--engine", choices=MODEL_FILES, default="onnx")
    parser.add_argument("--model", type=Path, help="model file (default: the engine's own)")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument(
        "--held-out",
        type=Path,
        help=f"where the table for the person goes (default: models/{REFERENCE_SCORES_FILE.name} for the shipped model on val "
        "with the default --out, else nowhere)",
    )
    options = parser.parse_args(argv)
    if options.reference_scores and options.split in ("train", CALIBRATION_SPLIT):
        parser.error(f"the split {options.split!r} is not held out: networks and thresholds have learned from it")
    examples = read_split(options.manifest, options.split)
    if {e.label for e in examples} != {0, 1}:
        raise SystemExit(f"The split {options.split!r} of {options.manifest} needs both real and fake pictures.")
    try:
        judge = load_picture_detector(options.model, engine=options.engine, threads=1)
        rows = score(judge, examples, options.manifest.parent)
    except DetectorError as error:
        raise SystemExit(str(error)) from error

    deliveries = {name: [row for row in rows if row["delivery"] == name] for name in TIERS}
    measured = {name: measure_rows(chosen) for name, chosen in deliveries.items()}
    stored, figures = deliveries[STORED], measured[STORED]
    spec = judge.engine.spec
    used = Path(options.model or MODEL_FILES[options.engine])
    metrics = {
        "model": {
            "name": spec.network,
            "input_size_px": spec.face.size_px,
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
        "families": measure_families(stored),
        "sources": measure_sources(stored),
        "deliveries": measured,
        "training": spec.training,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    replace_file(options.out / "scores.csv", partial(write_scores, rows))
    replace_file(options.out / "metrics.json", lambda part: part.write_text(json.dumps(metrics, indent=1) + "\n"))
    shipped = options.model is None and options.split == "val" and options.out.resolve() == OUT
    if held_out := options.reference_scores or (REFERENCE_SCORES_FILE if shipped else None):
        table = reference_scores_from(stored, options.split, judge.engine.model_sha256)
        if options.reference_scores or not is_poorer(table, held_out):
            replace_file(held_out, table.write)
    print_table(metrics)


if __name__ == "__main__":
    main()
