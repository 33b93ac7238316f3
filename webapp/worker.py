"""The process that judges videos and recordings: started by the server, or by hand with `python -m webapp.worker`."""

from __future__ import annotations

import os
import sys

from webapp import create_app
from webapp.config import StartupError
from webapp.jobs import NICENESS, work


def main() -> None:
    """Judge what waits until nothing is left for a while."""
    os.nice(NICENESS)
    try:
        work(create_app())
    except StartupError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
