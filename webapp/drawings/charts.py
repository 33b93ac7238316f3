"""The parts that all charts of the performance page are put together from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from webapp.drawings.scales import Tick, percent

PLOT_PX = 300  # height of a panel with curves
SERIES = 6  # distinguishable line colours of the style sheet; further lines are dashed
QUARTERS = (0, 0.25, 0.5, 0.75, 1)
HALVES = (0, 0.5, 1)
PERCENT = "{:.0%}"
TICK_STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Line:
    """A polyline in a square of 100 x 100: its CSS classes and its `points` attribute."""

    kind: str
    points: str


@dataclass(frozen=True)
class Span:
    """A straight line between two points in percent of the panel, such as an interval."""

    kind: str
    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True)
class Dot:
    """A dot at a point in percent of the panel; `title` is shown under the pointer."""

    kind: str
    x: float
    y: float
    title: str = ""


@dataclass(frozen=True)
class Area:
    """A rectangle in percent of the panel; `opacity` is that of its fill."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    opacity: float = 1
    title: str = ""


@dataclass(frozen=True)
class Text:
    """A text at a point in percent of the panel, moved down by `dy` pixels."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    dy: float = 0
    kind: str = "words"


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        label: the drawing in words, with its most important numbers.
        height: in pixels.
        x_ticks, y_ticks: labels under and left of the panel; positions in percent, y from the top.
        x_title, y_title: names of the axes, with units; "" for none.
        areas, lines, spans, dots, texts: what is drawn, the hindmost first.
        is_square: as wide as high, where both axes have the same unit.
    """

    label: str
    height: int = PLOT_PX
    x_ticks: tuple[Tick, ...] = ()
    y_ticks: tuple[Tick, ...] = ()
    x_title: str = ""
    y_title: str = ""
    areas: tuple[Area, ...] = ()
    lines: tuple[Line, ...] = ()
    spans: tuple[Span, ...] = ()
    dots: tuple[Dot, ...] = ()
    texts: tuple[Text, ...] = ()
    is_square: bool = False


@dataclass(frozen=True)
class Chart:
    """One or more panels with a common legend, and the same numbers as a table.

    Attributes:
        panels: from top to bottom.
        legend: CSS classes and words.
        head, rows: of the table.
    """

    panels: tuple[Panel, ...]
    legend: tuple[tuple[str, str], ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = field(default=())


def series_kind(place: int) -> str:
    """Return the CSS classes of the line at a place, counted from 0."""
    return f"series-{place % SERIES + 1}" + (" dashed" if place >= SERIES else "")


def polyline(kind: str, xs: Sequence[float], ys: Sequence[float]) -> Line:
    """Return a line through points whose coordinates are fractions in [0, 1], y upward."""
    places = (f"{percent(x)},{round(100 - percent(y), 2)}" for x, y in zip(xs, ys, strict=True))
    return Line(kind, " ".join(places))


def x_ticks(values: Sequence[float], low: float, high: float, form: str = "{:g}") -> tuple[Tick, ...]:
    """Return labels of values on a horizontal axis from `low` to `high`; the outermost stay inside its ends."""
    ticks = []
    for value in values:
        x = percent((value - low) / (high - low))
        ticks.append(Tick(x, form.format(value), "start" if x < 2 else "end" if x > 98 else "middle"))
    return tuple(ticks)


def y_ticks(values: Sequence[float], low: float, high: float, form: str = "{:g}") -> tuple[Tick, ...]:
    """Return labels of values on a vertical axis from `low` at the bottom to `high`."""
    return tuple(
        Tick(round(100 - percent((value - low) / (high - low)), 2), form.format(value), "end") for value in values
    )


def round_steps(low: float, high: float, most: int = 5) -> list[float]:
    """Return round values from `low` to `high`, at most `most` + 1 of them."""
    raw = (high - low) / most
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in TICK_STEPS if size * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]
