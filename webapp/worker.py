"""Analyse videos, recordings and batches: started by the server, or by hand with `python -m webapp.worker`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from webapp import create_app
from webapp.config import StartupError
from webapp.jobs import NICENESS, exclusive_lock, work


def main(argv: list[str] | None = None) -> None:
    """Run the waiting analyses, for the server whose process id is given, or by hand until a signal arrives."""
    arguments = sys.argv[1:] if argv is None else argv
    os.nice(NICENESS)
    try:
        app = create_app()
        if arguments:
            work(app, server_pid=int(arguments[0]))
        else:
            with exclusive_lock(Path(app.instance_path), wait=False):
                work(app)
    except StartupError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
