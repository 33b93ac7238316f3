"""Train the small autoencoders whose reconstructions of real faces serve as fakes: models/reconstruct_*.onnx.

    python scripts/train_autoencoders.py --manifest FACES.csv          # about five minutes each on two cores

They learn from the real pictures that a detector learns from, and from no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from training.autoencoders import train_autoencoders
from training.networks import DECODERS
from training.settings import DEFAULT_MANIFEST, MODELS, one_of, parse_command


@dataclass(frozen=True)
class TrainAutoencodersCommand:
    """Options of the command."""

    manifest: Path = DEFAULT_MANIFEST
    """CSV file of labelled pictures."""
    decoders: tuple[Annotated[str, one_of(tuple(DECODERS))], ...] = tuple(DECODERS)
    """Kinds of decoder to train."""
    steps: int = 2000
    """Batches of 16 patches for each."""
    seed: int = 1
    """Seed of patches and initial weights."""
    out: Path = MODELS
    """Folder of the files to write."""


def main(argv: Sequence[str] | None = None) -> None:
    """Train and export the autoencoders."""
    command = parse_command(TrainAutoencodersCommand, argv, __doc__)
    train_autoencoders(command.manifest, command.decoders, command.out, steps=command.steps, seed=command.seed)


if __name__ == "__main__":
    main()
