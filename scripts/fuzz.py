"""Break files of every medium at random, and check that each one gets a verdict or a sentence.

    python scripts/fuzz.py
    python scripts/fuzz.py --files 100 --media image --seed 7
    python scripts/fuzz.py --keep build/broken           # keeps the files that failed

The files are the shipped samples, copied to every format that is read. Bits are flipped, ends are cut off, headers are
spliced from other files, lengths are falsified, parts are dropped or repeated. A process of its own analyses them, as
the server's does, and reads the provenance of pictures. A traceback, a crash of that process, and a file over the time
or memory limit are failures. They are printed, and the script exits with status 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from training.fuzzing import FuzzOptions, fuzz


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, break the files and print the answers."""
    fuzz(tyro.cli(FuzzOptions, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
