"""Train the same small run once whole and once without each of its parts, and report the effect of each part.

    python scripts/ablate.py --manifest FACES.csv --weights BODY.weights.h5     # about six minutes a run on two cores

Face swaps and StyleGAN pictures are left out of these runs but scored. So the effect is measured on kinds of fakes that
the network never saw. The last two runs train on one of the two, which leaves out one generator as other work does.
All runs are scored on the calibration split. Writes visualizations/ablations.csv, which scripts/plot.py draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from training.ablation import AblationOptions, run_ablations


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and run."""
    run_ablations(tyro.cli(AblationOptions, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
