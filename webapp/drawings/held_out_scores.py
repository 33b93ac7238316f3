"""Histograms of held-out scores, and where the score of one file lies among them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detector.results import HISTOGRAM_BIN_EDGES
from webapp.drawings.scales import Tick

Record = Mapping[str, Any]

HISTOGRAM_PX = 46
HISTOGRAM_STEP_PX = 72  # from one histogram to the next
HISTOGRAM_BAR = 0.86  # width of a bar; a bin is 1 wide
AXIS_PROBABILITIES = (0.01, 0.1, 0.5, 0.9, 0.99)  # labelled under the histograms


@dataclass(frozen=True)
class HistogramBar:
    """A bar of a histogram; `counted` is the (x, width) of its part in full colour, None for no part."""

    x: int
    y: float
    height: float
    counted: tuple[float, float] | None


@dataclass(frozen=True)
class Histogram:
    """The scores of one class of held-out files."""

    kind: str
    n: int
    top: int
    bars: tuple[HistogramBar, ...]


@dataclass(frozen=True)
class Histograms:
    """Two histograms above one axis.

    Attributes:
        bins: number of bins, which is the width of the viewBox.
        marker: where the file's score lies, in percent of the width.
        label_x, label_anchor: where the histograms' names stand.
        histograms: from top to bottom.
        ticks: labels of the axis.
    """

    bins: int
    marker: float
    label_x: str
    label_anchor: str
    histograms: tuple[Histogram, ...]
    ticks: tuple[Tick, ...]


def histogram_position(probability: float) -> float:
    """Return where a probability lies among the bins of HISTOGRAM_BIN_EDGES, from 0 to their number."""
    bin_index = min(bisect_right(HISTOGRAM_BIN_EDGES, probability), len(HISTOGRAM_BIN_EDGES) - 1) - 1
    low, high = HISTOGRAM_BIN_EDGES[bin_index : bin_index + 2]
    return bin_index + (probability - low) / (high - low)


def histograms(rates: Sequence[Record], probability: float, counted_kinds: Sequence[str]) -> Histograms:
    """Return the held-out scores of both classes, with the position of a file's score among them.

    Args:
        rates: two error rates of a record.
        probability: of the file.
        counted_kinds: the classes whose bars as wrong as this file are in full colour.
    """
    bins = len(rates[0]["histogram"])
    tallest = max(max(rate["histogram"]) / rate["n"] for rate in rates)
    position = histogram_position(probability)
    marker = 100 * position / bins
    is_right = marker > 50
    found = []
    for number, rate in enumerate(rates):
        is_counted = rate["kind"] in counted_kinds
        bars = tuple(
            _histogram_bar(index, count / rate["n"] / tallest, _counted_part(rate["kind"], index, position, is_counted))
            for index, count in enumerate(rate["histogram"])
            if count
        )
        found.append(Histogram(rate["kind"], rate["n"], HISTOGRAM_STEP_PX * number, bars))
    ticks = tuple(
        Tick(100 * histogram_position(share) / bins, f"{100 * share:g}%", "middle") for share in AXIS_PROBABILITIES
    )
    return Histograms(
        bins,
        round(marker, 2),
        label_x="0" if is_right else "100%",
        label_anchor="start" if is_right else "end",
        histograms=tuple(found),
        ticks=ticks,
    )


def _histogram_bar(index: int, height: float, counted: tuple[float, float] | None) -> HistogramBar:
    height_px = round(HISTOGRAM_PX * height, 2)
    return HistogramBar(index, round(HISTOGRAM_PX - height_px, 2), height_px, counted)


def _counted_part(kind: str, index: int, position: float, is_counted: bool) -> tuple[float, float] | None:
    """Return the part of a bar that is at least as wrong as the position: above it for reals, below it for fakes."""
    start = max(index, position) if kind == "real" else index
    end = index + HISTOGRAM_BAR if kind == "real" else min(index + HISTOGRAM_BAR, position)
    return (start, end - start) if is_counted and end > start else None
