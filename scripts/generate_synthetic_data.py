"""Make augmented copies of your own pictures and the manifest that train.py reads.

    python scripts/generate_synthetic_data.py                    # data/sample_data/{df,real} -> data/synthetic_data
    python scripts/generate_synthetic_data.py --copies 10 --seed 2 --self-blend

About a fifth of the pictures are held out for evaluate.py (`split` val). They are neither copied nor
blended, since no one uploads a warped or home-made picture. The others (`split` train) are there as they are and in
augmented copies. With --self-blend each real one with a face is there also as deepfakes made from it. Everything made
of one picture shares its `group`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detector.results import DetectorError
from training.augmentation import COPIES_PER_PICTURE, Augmentation, generate
from training.manifests import ROOT
from training.settings import WholeNumber, parse_command


@dataclass(frozen=True)
class GenerateCommand:
    """Options of the command."""

    source: Path = ROOT / "data" / "sample_data"
    """Folder that holds the folders df and real."""
    out: Path = ROOT / "data" / "synthetic_data"
    """Folder to write."""
    copies: WholeNumber = COPIES_PER_PICTURE
    """Copies of each picture."""
    seed: WholeNumber = 1
    """Seed of all random draws."""
    self_blend: bool = False
    """Also make deepfakes out of the real pictures."""


def main(argv: Sequence[str] | None = None) -> None:
    """Make the copies."""
    command = parse_command(GenerateCommand, argv, __doc__)
    if command.out.resolve().is_relative_to(command.source.resolve()):
        raise SystemExit(f"--out {command.out} lies in --source {command.source}: the next run would copy the copies.")
    try:
        augmentation = Augmentation(command.copies, command.seed, command.self_blend)
        unreadable = generate(command.source, command.out, augmentation)
    except KeyboardInterrupt:
        raise SystemExit("Stopped; nothing is half-written. Run the same command again to start over.") from None
    except OSError as error:
        raise SystemExit(f"The pictures cannot be written: {error}") from error
    except DetectorError as error:
        raise SystemExit(str(error)) from error
    print(f"wrote {command.out / 'manifest.csv'}; next: python scripts/train.py")
    if unreadable:
        raise SystemExit(f"Files left out because they cannot be read: {unreadable}. The others are done.")


if __name__ == "__main__":
    main()
