"""Turn folders, manifests and videos into face crops and the manifest that train.py reads.

    python scripts/prepare_data.py PHOTOS                              # PHOTOS/real and PHOTOS/fake (or df)
    python scripts/prepare_data.py --real MINE --fake THEIRS --out data/theirs
    python scripts/prepare_data.py FACES.csv CLIPS --frames 8          # 8 frames of each video instead of one a second
    python scripts/prepare_data.py FACES.csv --no-crops                # only merge near duplicates and split

The largest face of each picture, and of frames of each video, is cut out with all the surroundings that training may
show. The frames of a video, and pictures that are nearly the same, share a `group` and so stay in one split. The
leakage of other splits is measured and printed. Splits that a manifest gives are kept. Crops are PNG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detector.results import DetectorError
from training.preparing import Inputs, Preparation, format_counts, list_inputs, prepare
from training.settings import parse_command


@dataclass(frozen=True)
class PrepareCommand:
    """Options of the command."""

    files: Inputs
    """Files to prepare."""
    preparation: Preparation
    """What is made of them."""


def main(argv: Sequence[str] | None = None) -> None:
    """Prepare the files."""
    command = parse_command(PrepareCommand, argv, __doc__)
    files, others = list_inputs(command.files, command.preparation)
    try:
        skipped = prepare(files, command.preparation)
    except KeyboardInterrupt:
        raise SystemExit("Stopped. The same command resumes from here.") from None
    except OSError as error:
        raise SystemExit(f"The result cannot be written: {error}") from error
    except DetectorError as error:
        raise SystemExit(str(error)) from error
    skipped["neither picture nor video by name"] = others
    print(f"skipped: {format_counts(skipped)}")
    manifest = command.preparation.out / "manifest.csv"
    print(f"wrote {manifest}; next: python scripts/train.py --manifest {manifest}")


if __name__ == "__main__":
    main()
