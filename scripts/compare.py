"""Train the networks of student projects beside the project's own, on the same pictures with the same small budget.

    python scripts/compare.py --manifest FACES.csv --body BODY.weights.h5     # about ten minutes a run on two cores

The budget is time: each run trains on as many pictures as about ten minutes on two cores allow. The first three runs
have such projects' networks, input sizes, optimizer and loss. They start from random weights unless --weights imagenet
is given; the project's own network starts from --body. Sampling, degradations, schedule and weight averaging are the
project's in all runs. Each run is calibrated on a third of the calibration split and scored on the held-out pictures
by the code behind scripts/evaluate.py. An interrupted call resumes where it stopped.
Writes visualizations/comparison.csv.
"""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from training.comparison import ComparisonOptions, compare_networks


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and compare."""
    compare_networks(tyro.cli(ComparisonOptions, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
