"""Let 50 clients upload pictures at once to gunicorn behind nginx, and compare with the bare detector.

    python scripts/loadtest.py
    python scripts/loadtest.py --seconds 1200                # endurance: the memory should stay flat
    python scripts/loadtest.py --slow 120                    # beside 120 half-sent requests
    python scripts/loadtest.py --direct                      # gunicorn alone

Starts the server and nginx as they ship (gunicorn.conf.py, deploy/nginx.conf) on free ports of 127.0.0.1, in a
temporary instance folder. Locust's clients upload a 1-megapixel JPEG with one face and open the result, again and
again. The detector alone is timed before and after, on the same bytes, in as many processes as the server has workers.
Clients and nginx run on the same cores, so they take from the server's share. Needs nginx (Debian: nginx-light) and
requirements-dev.txt. Exits with status 1 if a request failed.
"""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from training.load_testing import LoadOptions, load_test


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and test."""
    load_test(tyro.cli(LoadOptions, args=arguments, description=__doc__, config=(tyro.conf.FlagCreatePairsOff,)))


if __name__ == "__main__":
    main()
