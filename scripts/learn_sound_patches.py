"""Find typical patches of speech in the recordings of a manifest and write models/sound_patches.npz.

    python scripts/learn_sound_patches.py --manifest SPEECH.csv

The manifest is that of scripts/train_audio.py, which reads the patches and leaves them as they are. Labels are not
used. This takes a minute.
"""

from __future__ import annotations

from pathlib import Path

import tyro

from detector import DetectorError
from training.sound_patches import PATCHES_FILE, learn_patch_filters
from training.voice_manifest import read_training_recordings


def main(argv: list[str] | None = None) -> None:
    """Find the patches."""

    def learn(manifest: Path, out: Path = PATCHES_FILE) -> None:
        """Find the patches.

        Args:
            manifest: CSV file of the recordings.
            out: the file to write.
        """
        try:
            learn_patch_filters(read_training_recordings(manifest), out)
        except DetectorError as error:
            raise SystemExit(str(error)) from error
        print(f"wrote {out}")

    tyro.cli(learn, description=__doc__, args=argv)


if __name__ == "__main__":
    main()
