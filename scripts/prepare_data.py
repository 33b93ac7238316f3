"""Turn folders, manifests and videos into face crops and the manifest that train.py reads.

    python scripts/prepare_data.py PHOTOS                              # PHOTOS/real and PHOTOS/fake (or df)
    python scripts/prepare_data.py --real MINE --fake THEIRS --out data/theirs
    python scripts/prepare_data.py FACES.csv CLIPS --frames 8          # 8 frames of each video instead of one a second
    python scripts/prepare_data.py FACES.csv --no-crops                # only merge near duplicates and split

The largest face of each picture, and of frames of each video, is cut out with all the surroundings that training may
show. The frames of a video, and pictures that are nearly the same, share a `group` and so stay in one split; the
leakage of other splits is measured and printed. Splits that a manifest gives are kept. Crops are PNG.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from detector.results import DetectorError
from training.manifests import ROOT
from training.preparing import VAL_PROPORTION, Inputs, Preparation, format_counts, list_inputs, prepare
from training.settings import PositiveNumber, Proportion, WholeNumber, parse_command


@dataclass(frozen=True)
class PrepareCommand:
    """Options of the command."""

    inputs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Folders that hold folders named real, fake or df, and manifests (.csv)."""
    real: tuple[Path, ...] = ()
    """Folders of real pictures."""
    fake: tuple[Path, ...] = ()
    """Folders of fakes."""
    out: Path = ROOT / "data" / "prepared"
    """Folder to write."""
    frames: PositiveNumber | None = None
    """Frames of each video, instead of one per second."""
    no_crops: bool = False
    """Leave pictures as they are; only merge near duplicates and split."""
    val_share: Proportion = VAL_PROPORTION
    """Proportion of the groups held out."""
    seed: WholeNumber = 0
    """Seed of that split."""
    resplit: bool = False
    """Drop the splits that a manifest gives."""
    threads: PositiveNumber = field(default_factory=lambda: os.cpu_count() or 1)
    """Files processed at once."""

    def __post_init__(self) -> None:
        if not (self.inputs or self.real or self.fake):
            raise ValueError("name folders or manifests, or give --real and --fake")


def main(argv: Sequence[str] | None = None) -> None:
    """Prepare the files."""
    command = parse_command(PrepareCommand, argv, __doc__)
    preparation = Preparation(
        command.out, not command.no_crops, command.frames, command.threads, command.val_share, command.seed
    )
    files, others = list_inputs(Inputs(command.inputs, command.real, command.fake, command.resplit), preparation)
    try:
        skipped = prepare(files, preparation)
    except KeyboardInterrupt:
        raise SystemExit("Stopped. The same command resumes from here.") from None
    except OSError as error:
        raise SystemExit(f"The result cannot be written: {error}") from error
    except DetectorError as error:
        raise SystemExit(str(error)) from error
    skipped["neither picture nor video by name"] = others
    print(f"skipped: {format_counts(skipped)}")
    manifest = command.out / "manifest.csv"
    print(f"wrote {manifest}; next: python scripts/train.py --manifest {manifest}")


if __name__ == "__main__":
    main()
