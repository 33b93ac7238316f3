"""Draw the plots of visualizations/ from its scores.csv and metrics.json.

    python scripts/plot.py

No network is run: the two files suffice to draw the plots again. An ablations.csv beside them is drawn too. Its columns
are name, figure, value, low, high and n. The other runs are compared with the first. An unseen_metrics.json
gives the trade-off between errors and missing answers on kinds left out of training.
"""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from training.figures import PlotOptions, draw_plots


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and draw."""
    draw_plots(tyro.cli(PlotOptions, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
