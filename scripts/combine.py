"""Combine several trained models into one whose logit is the mean of theirs, and calibrate it.

    python scripts/combine.py ONE.h5 OTHER.h5 --manifest FACES.csv

The models must take crops of the same margin. Export and evaluate afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from detector.results import DetectorError
from training.calibrating import write_calibrated, write_calibrated_on_scores
from training.combining import combine
from training.manifests import read_manifest, split_train_calibration
from training.settings import DEFAULT_MANIFEST, MODEL, WholeNumber, parse_command
from training.unseen_scores import read_unseen_scores


@dataclass(frozen=True)
class CombineCommand:
    """Options of the command."""

    models: tyro.conf.Positional[tuple[Path, ...]]
    """Model files that train.py wrote."""
    members: tuple[WholeNumber, ...] = ()
    """Numbers of the networks to combine, counted from 0 over all models; by default all."""
    sharpness_offset: float = 0.0
    """Added to the logit of the sharpest crops, and proportionally less to softer ones."""
    manifest: Path = DEFAULT_MANIFEST
    """CSV file of labelled pictures, for the calibration."""
    scores: Path | None = None
    """CSV file of scores of kinds left out, to calibrate on instead."""
    out: Path = MODEL
    """Model file to write."""

    def __post_init__(self) -> None:
        if not self.models:
            raise ValueError("at least one model file is needed")


def main(argv: Sequence[str] | None = None) -> None:
    """Combine, calibrate and write the models."""
    command = parse_command(CombineCommand, argv, __doc__)
    try:
        rows = read_unseen_scores(command.scores) if command.scores else None
        combined = combine(list(command.models), command.members, command.sharpness_offset)
        if rows:
            write_calibrated_on_scores(command.out, *combined, rows)
        else:
            write_calibrated(command.out, *combined, split_train_calibration(read_manifest(command.manifest))[1])
    except DetectorError as error:
        raise SystemExit(str(error)) from error
    print(f"wrote {command.out}; next: python scripts/export.py")


if __name__ == "__main__":
    main()
