"""Export model.h5 to models/face.onnx, which the server runs, and check that both give the same logits.

    python scripts/export.py

The exported file carries the model's spec and the SHA-256 of the model.h5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.models.spec import file_sha256, read_spec
from detector.results import ModelError
from training.exporting import CHECK_CROPS, export
from training.settings import MODEL, MODELS, parse_command


@dataclass(frozen=True)
class ExportCommand:
    """Options of the command."""

    model: Path = MODEL
    """Model file to export."""
    out: Path = MODELS / "face.onnx"
    """File to write."""


def main(argv: Sequence[str] | None = None) -> None:
    """Export and check the model."""
    command = parse_command(ExportCommand, argv, __doc__)
    try:
        difference = export(command.model, command.out)
    except ModelError as error:
        raise SystemExit(str(error)) from error
    print(f"wrote {command.out} ({command.out.stat().st_size / 1e6:.1f} MB), sha256 {file_sha256(command.out)}")
    print(f"made from {command.model.name} {file_sha256(command.model)}, network {read_spec(command.model).network}")
    print(f"largest difference of logits between the engines on {CHECK_CROPS} random pictures: {difference:.2g}")


if __name__ == "__main__":
    main()
