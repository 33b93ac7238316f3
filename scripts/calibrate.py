"""Calibrate a model.h5 in place: fit its probability and choose its two thresholds.

    python scripts/calibrate.py --manifest FACES.csv

train.py ends with this step. On its own it serves a model.h5 that was trained elsewhere or combined from several. The
model is exported and scores every calibration picture as the server would, stored and under every degradation. The
line from logit to probability is fitted on all of them. The thresholds keep the stated error rates under the worst
degradation; the threshold for deepfakes keeps its rate in each source of real pictures too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.results import DetectorError
from training.calibrating import calibrate
from training.manifests import read_manifest, split_train_calibration
from training.settings import DEFAULT_MANIFEST, MODEL, parse_command


@dataclass(frozen=True)
class CalibrateCommand:
    """Options of the command."""

    manifest: Path = DEFAULT_MANIFEST
    """CSV file of labelled pictures."""
    model: Path = MODEL
    """Model file to calibrate."""


def main(argv: Sequence[str] | None = None) -> None:
    """Calibrate the model."""
    command = parse_command(CalibrateCommand, argv, __doc__)
    _, calibration_examples = split_train_calibration(read_manifest(command.manifest))
    try:
        calibrate(command.model, calibration_examples)
    except DetectorError as error:
        raise SystemExit(str(error)) from error
    print(f"wrote {command.model}; next: python scripts/export.py")


if __name__ == "__main__":
    main()
