"""Calibrate a model.h5 in place: fit its probability and choose its two thresholds.

    python scripts/calibrate.py --manifest FACES.csv
    python scripts/calibrate.py --scores visualizations/unseen_scores.csv    # of scripts/cross_validate.py

train.py ends with the first form. On its own it serves a model.h5 that was trained elsewhere or combined from several.
The model is exported and scores every calibration picture as the server would, stored and under every degradation. The
line from logit to probability is fitted on all of them. The thresholds keep the stated error rates under the worst
degradation; the threshold for deepfakes keeps its rate in each source of real pictures too.

The second form runs no network. It takes scores of families and sources left out, by networks that had not learned
from them, for a model that has learned from all. For the project's model.h5 it also writes
models/face.reference_scores.json, from which a person learns how many such pictures scored alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.results import DetectorError
from training.calibrating import calibrate, calibrate_from_scores, reference_scores_file
from training.manifests import read_manifest, split_train_calibration
from training.settings import DEFAULT_MANIFEST, MODEL, parse_command
from training.unseen_scores import read_unseen_scores


@dataclass(frozen=True)
class CalibrateCommand:
    """Options of the command."""

    manifest: Path = DEFAULT_MANIFEST
    """CSV file of labelled pictures."""
    scores: Path | None = None
    """CSV file of scores of kinds left out, to be used instead of a manifest."""
    model: Path = MODEL
    """Model file to calibrate."""


def main(argv: Sequence[str] | None = None) -> None:
    """Calibrate the model."""
    command = parse_command(CalibrateCommand, argv, __doc__)
    try:
        if command.scores:
            rows = read_unseen_scores(command.scores)
            calibrate_from_scores(command.model, rows, reference_scores=reference_scores_file(command.model))
        else:
            calibrate(command.model, split_train_calibration(read_manifest(command.manifest))[1])
    except DetectorError as error:
        raise SystemExit(str(error)) from error
    print(f"wrote {command.model}; next: python scripts/export.py, then python scripts/evaluate.py")


if __name__ == "__main__":
    main()
