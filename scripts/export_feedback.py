"""Export the feedback of visitors, which they agreed to, as files with manifests for training and evaluation.

    python scripts/export_feedback.py --out FOLDER

It reads the database and the files of the server, by the same settings. It writes the manifests image.csv, video.csv
and audio.csv, as far as there are cases. All cases are of split=val, because nobody has checked what visitors say.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from webapp import create_app
from webapp.config import StartupError
from webapp.feedback.export import export_cases


def main() -> None:
    purpose, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(description=purpose, epilog=more, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new or empty folder")
    arguments = parser.parse_args()
    try:
        with create_app({"JOBS": "off"}).app_context():
            exported = export_cases(arguments.out)
    except (StartupError, OSError) as error:
        sys.exit(str(error))
    for media, count in sorted(exported.counts.items()):
        print(f"{arguments.out / media}.csv: {count} file{'s' * (count != 1)}")
    print(f"Left out: with contradicting feedback {exported.contradicted}, gone {exported.missing}.")


if __name__ == "__main__":
    main()
