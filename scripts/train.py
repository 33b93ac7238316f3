"""Train a network on a manifest of pictures, calibrate it, and write model.h5.

    python scripts/train.py                       # data/synthetic_data/manifest.csv, from model.h5, small defaults
    python scripts/train.py --manifest FACES.csv --weights BODY.weights.h5 --epochs 14 --epoch-samples 12800

The manifest's `val` pictures are not used. The network learns from most groups of its `train` pictures; the others,
the calibration split, select the epoch, the calibration and the thresholds. The same command resumes a stopped run. Its
folder holds settings, curves and commits. KERAS_BACKEND=torch trains with PyTorch, on a GPU if there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.results import ModelError
from training.fitting import train_and_write
from training.manifests import ROOT
from training.runs import open_run, settings_digest
from training.settings import DEFAULT_SETTINGS, MODEL, SettingsOptions, parse_command


@dataclass(frozen=True)
class TrainCommand(SettingsOptions):
    """Options of the command."""

    run: Path | None = None
    """Folder of the run. Left out: one in runs/ named after the settings."""
    out: Path = MODEL
    """Model file to write."""


def main(argv: Sequence[str] | None = None) -> None:
    """Train, calibrate and write the model."""
    command = parse_command(TrainCommand, argv, __doc__, default=TrainCommand(DEFAULT_SETTINGS))
    settings = command.complete()
    print(f"starting from {settings.weights}")
    run = command.run or ROOT / "runs" / f"{settings.network}-{settings_digest(settings)}"
    open_run(run, settings)
    try:
        is_calibrated = train_and_write(settings, run, command.out)
    except ModelError as error:
        raise SystemExit(str(error)) from error
    if is_calibrated:
        print(f"wrote {command.out}; next: python scripts/export.py")
    else:
        calibrate = f"python scripts/calibrate.py --model {command.out}"
        if settings.head:
            print(f"wrote {command.out}, not calibrated; next: cross_validate.py, then {calibrate} --scores SCORES.csv")
        else:
            next_step = f"{calibrate} --manifest {settings.manifest}"
            print(f"wrote {command.out}, not calibrated; next, where TensorFlow runs Keras: {next_step}")


if __name__ == "__main__":
    main()
