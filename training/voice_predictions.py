"""The predictions of a cross-validation for voices: their file, and the calibration that is fitted to them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detector.models.calibration import Calibration
from training.calibrating import MAX_FALSE_ALARMS, UNCALIBRATED
from training.runs import replace_file
from training.thresholds import choose_thresholds, fit_line
from training.vocoders import WAVEFORM_DEGRADATIONS

PREDICTIONS_FILE = "fold_predictions.csv"
OLD_PREDICTIONS_FILE = "answers.csv"  # of runs before the file got its present name; the columns are the same
PREDICTION_COLUMNS = (
    "recording", "label", "source", "page", "generator", "group", "held", "left_out", "part", "delivery", "logit",
    "reasons",
)  # fmt: skip
MAX_VOICE_MISSES = 0.08  # proportion of fakes called real, under the worst degradation
COLUMN_TYPES: dict[str, Callable[[str], Any]] = {"recording": int, "label": int, "part": int, "logit": float}


def write_fold_predictions(rows: list[dict[str, Any]], run: Path) -> None:
    """Write rows of PREDICTION_COLUMNS into the folder of a run, as CSV."""

    def write(part: Path) -> None:
        with open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, PREDICTION_COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)

    replace_file(run / PREDICTIONS_FILE, write)


def read_fold_predictions(run: Path) -> list[dict[str, Any]]:
    """Read the predictions in the folder of a run.

    Raises:
        SystemExit: the folder has no predictions.
    """
    files = [run / name for name in (PREDICTIONS_FILE, OLD_PREDICTIONS_FILE) if (run / name).is_file()]
    if not files:
        raise SystemExit(f"There is no {run / PREDICTIONS_FILE}; create it with: python scripts/train_audio.py")
    with open(files[0], newline="", encoding="utf-8") as file:
        return [{name: COLUMN_TYPES.get(name, str)(text) for name, text in row.items()} for row in csv.DictReader(file)]


def fit_voice_calibration(rows: list[dict[str, Any]]) -> Calibration:
    """Fit line and thresholds to the predictions for recordings that pass the quality gate.

    Real and fake weigh the same. The thresholds keep the stated error rates in the worst degradation.

    Args:
        rows: predictions with label, logit, degradation and reasons; see PREDICTION_COLUMNS.

    Raises:
        SystemExit: a degradation lacks real or fake recordings.
    """
    rows = [row for row in rows if not row["reasons"]]
    labels, logits, degradation = (np.array([row[name] for row in rows]) for name in ("label", "logit", "delivery"))
    if any(set(labels[degradation == name]) != {0, 1} for name in WAVEFORM_DEGRADATIONS):
        raise SystemExit(
            "The voice network cannot be calibrated: real and fake recordings are needed in every degradation."
        )
    weights = np.where(labels == 1, 1 / labels.sum(), 1 / (1 - labels).sum())
    weights = weights * len(rows) / len(WAVEFORM_DEGRADATIONS) / 2
    slope, intercept = fit_line(logits, labels, weights)
    probabilities = np.asarray(replace(UNCALIBRATED, slope=slope, intercept=intercept).probability(logits))
    tiers = [(probabilities[degradation == name], labels[degradation == name]) for name in WAVEFORM_DEGRADATIONS]
    low, high = choose_thresholds(tiers, max_false_alarms=MAX_FALSE_ALARMS, max_misses=MAX_VOICE_MISSES)
    return Calibration(slope, intercept, low, high)
