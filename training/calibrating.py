"""Calibrate a model on pictures it has not learned from: fit its probability and choose its two thresholds."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detector.media.degradations import TIERS
from detector.models.calibration import Calibration
from detector.models.spec import ModelSpec, file_sha256, read_spec, write_spec
from detector.pictures.detect import REFERENCE_SCORES_FILE
from detector.results import Verdict
from training.compact_files import compress_hdf5
from training.exporting import export
from training.manifests import Example
from training.runs import replace_file
from training.scoring import load_scoring_detector, score
from training.settings import MODEL
from training.tables import decide_row, exclusion_reasons
from training.thresholds import MIN_SOURCE, UNSEEN_LIMITS, ErrorLimits, fit_line, thresholds_within
from training.unseen_scores import unseen_reference_scores

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

UNCALIBRATED = Calibration(1.0, 0.0, 0.0, 1.0)  # every verdict is inconclusive
MAX_FALSE_ALARMS = 0.03  # proportion of real calibration pictures called deepfakes, under the worst degradation
MAX_SOURCE_FALSE_ALARMS = 0.05  # the same for each source of real pictures
MAX_MISSES = 0.07  # proportion of fake calibration pictures called real, under the worst degradation
CALIBRATED_ON = "calibrated_on"  # key in the training account of a spec
KNOWN, UNSEEN = "known", "unseen"  # pictures of the sources that were learned from; of families and sources left out

KNOWN_LIMITS = ErrorLimits(MAX_FALSE_ALARMS, MAX_SOURCE_FALSE_ALARMS, MAX_MISSES)


def calibrate(path: Path, examples: list[Example]) -> Calibration:
    """Calibrate a model.h5 in place and print the result.

    The model is exported, and every picture is scored as the server would, stored and under every degradation.

    Args:
        path: model.h5 with a spec.
        examples: calibration pictures, which the model has not learned from.

    Returns:
        The calibration, as written into the model's spec.

    Raises:
        SystemExit: heads in the model learned from the calibration split too, or under some degradation no real
            picture or no fake shows a usable face; nothing is written.
        ModelError: the file is missing or carries no spec.
    """
    account = read_spec(path).training
    if any("kinds" in learned for learned in [account, *account.get("members", [])]):
        raise SystemExit(
            f"The heads in {path.name} learned from the calibration pictures too, which would flatter it. "
            "Calibrate it on the scores of cross_validate.py: --scores SCORES.csv"
        )
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        exported = Path(folder) / "face.onnx"
        export(path, exported)
        rows = score(load_scoring_detector(exported), examples, path.parent)
    rows = _usable_rows(rows, len(examples))
    calibration = fit_calibration(rows, KNOWN_LIMITS)
    print_calibration(calibration, rows)
    _write_calibration(path, calibration, KNOWN)
    return calibration


def calibrate_from_scores(
    path: Path, rows: list[dict[str, Any]], *, reference_scores: Path | None = None
) -> Calibration:
    """Calibrate a model.h5 in place on scores of families and sources left out, and print the result.

    The scores come from the networks of a cross-validation. Each stands for this model on kinds that it has not seen,
    so the model is to be trained as they were, on all folds.

    Args:
        path: model.h5 with a spec; no network is run.
        rows: of `training.unseen_scores.read_unseen_scores`.
        reference_scores: file for the scores that a new picture is compared with; None writes none.

    Returns:
        The calibration, as written into the model's spec.

    Raises:
        SystemExit: under some degradation no real picture or no fake shows a usable face; nothing is written.
        ModelError: the file is missing or carries no spec.
    """
    read_spec(path)  # before the fit
    usable = _usable_rows(rows, len({row["path"] for row in rows}))
    calibration = fit_calibration(usable, UNSEEN_LIMITS)
    print(
        "Each score comes from a network that had not learned from the picture's family or source. "
        f"{path.name} is taken to have learned from all of them, so the rates are estimates for kinds new to it."
    )
    print_calibration(calibration, usable)
    _write_calibration(path, calibration, UNSEEN)
    if reference_scores:
        table = unseen_reference_scores(usable, calibration, file_sha256(path))
        replace_file(reference_scores, table.write)
    return calibration


def _usable_rows(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Return the rows of pictures that a verdict is given for, and print how many of the `count` pictures those are."""
    rows = [row for row in rows if not exclusion_reasons(row)]
    if len({(row["delivery"], row["label"]) for row in rows}) < 2 * len(TIERS):
        raise SystemExit(
            f"The {count} calibration pictures cannot calibrate the model. Real ones and fakes are needed in which "
            "a face is large enough to analyse, also after recompression, scaling and blur. Nothing was written."
        )
    usable = len({row["path"] for row in rows})
    print(f"{usable} of {count} calibration pictures show a face large enough to analyse")
    return rows


def _write_calibration(path: Path, calibration: Calibration, calibrated_on: str) -> None:
    spec = read_spec(path)
    spec = replace(spec, calibration=calibration, training={**spec.training, CALIBRATED_ON: calibrated_on})

    def write(part: Path) -> None:
        shutil.copyfile(path, part)
        write_spec(part, spec)

    replace_file(path, write)


def fit_calibration(rows: list[dict[str, Any]], limits: ErrorLimits = KNOWN_LIMITS) -> Calibration:
    """Fit the line from logit to probability, and choose the thresholds.

    The line is fitted on all degradations at once. The thresholds keep the stated error rates under the worst
    degradation; the one for deepfakes keeps its rate in each source of real pictures too.

    Args:
        rows: of `training.scoring.score`, without pictures that no verdict is given for.
        limits: the error rates to keep; every picture counts the same in them.
    """
    labels, logits = (np.array([row[name] for row in rows]) for name in ("label", "logit"))
    # A source weighs as the square root of its pictures, both classes weigh the same, and all degradations of a
    # picture together count as one picture.
    counts = Counter((row["source"], row["label"]) for row in rows)
    weights = np.array([counts[row["source"], row["label"]] ** -0.5 for row in rows])
    for label in (0, 1):
        weights[labels == label] *= len(rows) / len(TIERS) / 2 / weights[labels == label].sum()
    slope, intercept = fit_line(logits, labels, weights)
    line = replace(UNCALIBRATED, slope=slope, intercept=intercept)

    low, high = thresholds_within(limits, rows, np.asarray(line.probability(logits)))
    return Calibration(slope, intercept, low, high)


def print_calibration(calibration: Calibration, rows: list[dict[str, Any]]) -> None:
    """Print the line, the thresholds, and the error rates under each degradation."""
    print(
        f"P(fake) = sigmoid({calibration.slope:.4f} * logit {calibration.intercept:+.4f}); "
        f"real up to {calibration.threshold_real:.4f}, deepfake from {calibration.threshold_fake:.4f}"
    )
    for tier in TIERS:
        chosen = [row for row in rows if row["delivery"] == tier]
        verdict = np.array([decide_row(row, calibration)["verdict"] for row in chosen])
        label, source = (np.array([row[name] for row in chosen]) for name in ("label", "source"))
        alarm, missed, undecided = (verdict == v for v in (Verdict.DEEPFAKE, Verdict.REAL, Verdict.INCONCLUSIVE))
        counts = Counter(source[label == 0].tolist())
        large = [name for name, count in counts.items() if count >= MIN_SOURCE] or list(counts)
        sources = {name: float(alarm[(label == 0) & (source == name)].mean()) for name in large}
        worst = max(sources, key=lambda name: sources[name])
        print(
            f"  {tier:8s} n {len(chosen)}: reals called deepfake {alarm[label == 0].mean():.3f} "
            f"({sources[worst]:.3f} of {worst}), fakes called real {missed[label == 1].mean():.3f}, "
            f"inconclusive {undecided.mean():.3f}"
        )


def save_model(path: Path, network: Any, spec: ModelSpec) -> None:
    """Write a network and its spec as one .h5 file, atomically."""

    def write(part: Path) -> None:
        logging.getLogger("absl").setLevel(logging.ERROR)  # Keras warns on every save that .h5 is a legacy format
        network.save(part, include_optimizer=False)
        compress_hdf5(part)
        write_spec(part, spec)

    replace_file(path, write)


def write_calibrated(path: Path, network: Any, spec: ModelSpec, examples: list[Example]) -> None:
    """Calibrate a network and write it with its spec; an earlier file stays until that has succeeded."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        save_model(part, network, spec)
        calibrate(part, examples)
        part.replace(path)


def write_calibrated_on_scores(path: Path, network: Any, spec: ModelSpec, rows: list[dict[str, Any]]) -> None:
    """Do the same on scores of families and sources left out."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        save_model(part, network, spec)
        calibrate_from_scores(part, rows, reference_scores=reference_scores_file(path))
        part.replace(path)


def reference_scores_file(model: Path) -> Path | None:
    """Return the file of the reference scores that belongs to the project's own model; other models have none."""
    return REFERENCE_SCORES_FILE if model.resolve() == MODEL else None
