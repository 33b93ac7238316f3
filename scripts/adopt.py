"""Make a Keras network from elsewhere usable here: calibrate it and write it, with a spec, as model.h5.

    python scripts/adopt.py THEIRS.h5 --manifest FACES.csv --pixels 0..1 --positive real

The network must take one RGB picture and give one number, with or without a sigmoid at its end. Name what its file
does not say: the range of its pixels, and whether a large number means fake or real. It means real for networks trained
on folders in the order df, real. Export and evaluate afterwards, as after training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from detector.results import ModelError
from training.adopting import PIXEL_RANGES, adopted_spec, wrap
from training.calibrating import write_calibrated
from training.manifests import read_manifest, split_train_calibration
from training.settings import MODEL, one_of, parse_command


@dataclass(frozen=True)
class AdoptCommand:
    """Options of the command."""

    model: tyro.conf.Positional[Path]
    """Keras .h5 or .keras file."""
    manifest: Path
    """CSV file of labelled pictures, for the calibration."""
    positive: Literal["fake", "real"]
    """What a large output of the network means."""
    pixels: Annotated[str, one_of(tuple(PIXEL_RANGES))] = "0..1"
    """Range of the network's pixels."""
    out: Path = MODEL
    """Model file to write."""


def main(argv: Sequence[str] | None = None) -> None:
    """Load, calibrate and write the network."""
    command = parse_command(AdoptCommand, argv, __doc__)
    if command.model.resolve() == command.out.resolve():
        raise SystemExit(f"The result would overwrite {command.model}; move that file elsewhere first or give --out.")
    try:
        network = wrap(command.model, command.pixels, command.positive)
    except ModelError as error:
        raise SystemExit(str(error)) from error
    _, examples = split_train_calibration(read_manifest(command.manifest))
    write_calibrated(command.out, network, adopted_spec(command.model, network, examples), examples)
    print(f"wrote {command.out}; next: python scripts/export.py")


if __name__ == "__main__":
    main()
