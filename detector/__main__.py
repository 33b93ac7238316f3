"""`python -m detector`: the command line of detector/cli.py."""

import sys

from detector.cli import main

if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may know fewer letters than a file name holds
    sys.exit(main())
