"""Fit a model's probability and choose its two thresholds on the tuning pictures, and say how they came about.

    python scripts/calibrate.py --manifest FACES.csv

train.py ends with this step; alone it serves a model.h5 that was trained elsewhere or joined from several. The model is
exported and every tuning picture judged as the server would judge it, in every delivery. The line from logit to
probability is fitted on all deliveries at once; the thresholds keep the stated error rates in the worst delivery, and
the one for deepfakes in each source of real pictures too.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from detector.media.degradations import TIERS
from detector.models.calibration import Calibration
from detector.models.spec import ModelSpec, read_spec, write_spec
from detector.pictures.detect import load_picture_detector
from detector.results import DetectorError, Reason, Verdict
from detector.verdicts import decide
from training.exporting import export
from training.manifests import ROOT, Example, read_manifest, replace_file, split_train_calibration
from training.scoring import score
from training.thresholds import choose_thresholds, fit_line, lowest_threshold

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

UNCALIBRATED = Calibration(1.0, 0.0, 0.0, 1.0)  # every verdict inconclusive, until this script has run
MAX_FALSE_ALARMS = 0.03  # share of real tuning pictures called deepfakes, in the worst delivery
MAX_SOURCE_FALSE_ALARMS = 0.05  # the same for each source of real pictures
MIN_SOURCE = 40  # pictures of a source below which its share is too uncertain to move a threshold
MAX_MISSES = 0.07  # share of fake tuning pictures called real, in the worst delivery
EXCLUSION_REASONS = set(Reason) - {Reason.BETWEEN_THRESHOLDS}  # reasons that withhold a verdict whatever the score


def calibrate(path: Path, examples: list[Example]) -> Calibration:
    """Calibrate a model.h5 on pictures it has not learned from, in place, and print how.

    Args:
        path: model.h5 with a spec.
        examples: the tuning pictures.

    Returns:
        What was written into its spec.

    Raises:
        SystemExit: in some delivery not both kinds show a face; nothing is written.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        exported = Path(folder) / "face.onnx"
        export(path, exported)
        rows = score(load_picture_detector(exported, threads=1), examples, path.parent)
    rows = [row for row in rows if not EXCLUSION_REASONS & set(row["reasons"].split(";"))]
    if len({(row["delivery"], row["label"]) for row in rows}) < 2 * len(TIERS):
        raise SystemExit(
            f"The {len(examples)} tuning pictures cannot calibrate the model: real ones and fakes are needed that show "
            "a face large enough to judge, also after recompression, scaling and blur. Nothing was written."
        )
    print(f"{len({row['path'] for row in rows})} of {len(examples)} tuning pictures show a face large enough to judge")
    calibration = fit_calibration(rows)
    print_calibration(calibration, rows)

    def write(part: Path) -> None:
        shutil.copyfile(path, part)
        write_spec(part, replace(read_spec(path), calibration=calibration))

    replace_file(path, write)
    return calibration


def fit_calibration(rows: list[dict[str, Any]]) -> Calibration:
    """Fit line and thresholds to the rows of `evaluate.score` that have a verdict coming."""
    labels, logits = (np.array([row[name] for row in rows]) for name in ("label", "logit"))
    # Each source and label weighs as the square root of its pictures, both classes the same; a picture's deliveries
    # count as one picture.
    counts = Counter((row["source"], row["label"]) for row in rows)
    weights = np.array([counts[row["source"], row["label"]] ** -0.5 for row in rows])
    for label in (0, 1):
        weights[labels == label] *= len(rows) / len(TIERS) / 2 / weights[labels == label].sum()
    slope, intercept = fit_line(logits, labels, weights)
    line = replace(UNCALIBRATED, slope=slope, intercept=intercept)

    probabilities = line.probability(logits)
    tier, source = (np.array([row[name] for row in rows]) for name in ("delivery", "source"))
    tiers = [(probabilities[tier == name], labels[tier == name]) for name in TIERS]
    floor = 0.0
    for name, delivery in product(sorted(set(source)), TIERS):
        reals = probabilities[(source == name) & (tier == delivery) & (labels == 0)]
        if len(reals) >= MIN_SOURCE:
            floor = max(floor, lowest_threshold(reals, MAX_SOURCE_FALSE_ALARMS))
    low, high = choose_thresholds(tiers, max_false_alarms=MAX_FALSE_ALARMS, max_misses=MAX_MISSES, floor=floor)
    return Calibration(slope, intercept, low, high)


def print_calibration(calibration: Calibration, rows: list[dict[str, Any]]) -> None:
    """Print the line, the thresholds and what they do to the tuning pictures in each delivery."""
    print(
        f"P(fake) = sigmoid({calibration.slope:.4f} * logit {calibration.intercept:+.4f}); "
        f"real up to {calibration.threshold_real:.4f}, deepfake from {calibration.threshold_fake:.4f}"
    )
    for tier in TIERS:
        chosen = [row for row in rows if row["delivery"] == tier]
        verdict = np.array([decide(row["logit"], (), calibration).verdict for row in chosen])
        label, source = (np.array([row[name] for row in chosen]) for name in ("label", "source"))
        alarm, missed, undecided = (verdict == v for v in (Verdict.DEEPFAKE, Verdict.REAL, Verdict.INCONCLUSIVE))
        sources = {name: alarm[(label == 0) & (source == name)].mean() for name in set(source[label == 0])}
        worst = max(sources, key=sources.get)
        print(
            f"  {tier:8s} n {len(chosen)}: reals called deepfake {alarm[label == 0].mean():.3f} "
            f"({sources[worst]:.3f} of {worst}), fakes called real {missed[label == 1].mean():.3f}, "
            f"inconclusive {undecided.mean():.3f}"
        )


def save_model(path: Path, network: Any, spec: ModelSpec) -> None:
    """Write a network and its spec as one .h5 file, in one go."""

    def write(part: Path) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)  # Keras calls .h5 legacy on every save; it is asked for here
        network.save(part, include_optimizer=False)
        write_spec(part, spec)

    replace_file(path, write)


def write_calibrated(path: Path, network: Any, spec: ModelSpec, examples: list[Example]) -> None:
    """Calibrate a network and write it, with its spec, where it belongs; until then the old file stays."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        save_model(part, network, spec)
        calibrate(part, examples)
        part.replace(path)


def main(argv: list[str] | None = None) -> None:
    """Calibrate a model in place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, default=ROOT / "data" / "synthetic_data" / "manifest.csv")
    parser.add_argument("--model", type=Path, default=ROOT / "model.h5")
    options = parser.parse_args(argv)
    _, tune = split_train_calibration(read_manifest(options.manifest))
    try:
        calibrate(options.model, tune)
    except DetectorError as error:
        raise SystemExit(str(error)) from error
    print(f"wrote {options.model}; next: python scripts/export.py")


if __name__ == "__main__":
    main()
