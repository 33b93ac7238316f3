"""Measure a network on families of fakes and sources of real pictures that it has not seen, fold by fold.

    python scripts/cross_validate.py --manifest FACES.csv --weights BODY.weights.h5 --epochs 4 --epoch-samples 12800
    python scripts/cross_validate.py --only-tables     # the figures again, with the calibration of model.h5

The manifest has a column `fold`; a family of fakes and a source of real pictures lie in one fold each. For each fold a
network learns from the others, with the options of train.py. It scores the fold's pictures as the server would, stored
and under every degradation. The same command resumes: finished folds are kept in their run folders. The manifest's
`val` pictures are not used, so that choices made by these figures leave them unseen.
Writes visualizations/unseen_scores.csv, a row for each picture and degradation, and visualizations/unseen_metrics.json.
That file has the AUC of each family against all real pictures of its fold, and matched by sharpness and face size. It
also has the means, the false alarms of each source, and what stays inconclusive for given error rates. Without
--only-tables the thresholds of the verdicts are those that keep the limits for pictures left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from detector.results import DetectorError
from training.cross_validation import CrossValidationOptions, cross_validate
from training.settings import DEFAULT_SETTINGS, parse_command


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and cross-validate."""
    default = CrossValidationOptions(DEFAULT_SETTINGS)
    try:
        cross_validate(parse_command(CrossValidationOptions, argv, __doc__, default=default))
    except DetectorError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
