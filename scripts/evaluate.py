"""Score the held-out pictures of a manifest exactly as the server would, and write scores and figures.

    python scripts/evaluate.py                                    # data/synthetic_data/manifest.csv
    python scripts/evaluate.py --manifest FACES.csv --split val
    python scripts/evaluate.py --manifest FACES.csv --split tune --out FOLDER    # calibration pictures, for choices

Writes visualizations/scores.csv, a row for each picture and degradation. Writes visualizations/metrics.json, the
figures with their n and 95% intervals (bootstrap over groups). scripts/plot.py draws from these two files and never
runs a network. With the shipped model, on val and into visualizations/, it also writes
models/face.reference_scores.json. It holds the scores that a person's picture is compared with.
"""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from training.scoring import EvaluationOptions, evaluate


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and evaluate."""
    evaluate(tyro.cli(EvaluationOptions, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
