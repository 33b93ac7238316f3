"""Charts of stored results: how many by day, verdict, score and processing time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import pairwise

from detector.media import MEDIA
from detector.text import format_count, format_percent, translatable
from webapp.drawings.charts import HALVES, PERCENT, QUARTERS, Area, Chart, Panel, x_ticks, y_ticks
from webapp.drawings.scales import Tick, percent
from webapp.media_pages import MEDIUM_PAGES
from webapp.outcomes import OUTCOME_NAMES, Outcome
from webapp.template_filters import format_duration

DAYS_PX = 220
SCORES_PX = 180
DURATIONS_PX = 110
MEDIUM_PX = 52  # a row of the chart of shares
FILLED = 0.82  # of a bar's room
WIDEST_DAY = 8.0  # percent of the width, so that a single day is no wall
NO_RESULT = "no-result"
# By CSS class: the outcomes that a bar counts, and their words; from the bottom of a bar, or from its left.
GROUPS: Mapping[str, tuple[tuple[Outcome, ...], str]] = {
    "deepfake": ((Outcome.DEEPFAKE,), OUTCOME_NAMES[Outcome.DEEPFAKE]),
    "inconclusive": ((Outcome.INCONCLUSIVE,), OUTCOME_NAMES[Outcome.INCONCLUSIVE]),
    "real": ((Outcome.REAL,), OUTCOME_NAMES[Outcome.REAL]),
    "muted": ((Outcome.UNCHECKED,), OUTCOME_NAMES[Outcome.UNCHECKED]),
    NO_RESULT: (
        (Outcome.FAILED, Outcome.CANCELLED, Outcome.RUNNING, Outcome.WAITING),
        translatable("No result"),
    ),
}
LEGEND = tuple((f"filled {kind}", words) for kind, (_, words) in GROUPS.items())
MEDIUM_NAMES = {medium: page.several for medium, page in MEDIUM_PAGES.items()}


def results_by_day(days: Sequence[date], days_per_step: int, counts: Mapping[tuple[int, str], int]) -> Chart:
    """Return the number of results over time, as bars that are divided by verdict.

    Args:
        days: first day of each step of time.
        days_per_step: length of a step.
        counts: number by step, counted from 0, and outcome.
    """
    bars = [_by_group({key: n for (place, key), n in counts.items() if place == step}) for step in range(len(days))]
    most, room = max(sum(bar.values()) for bar in bars), 100 / len(bars)
    width = min(room * FILLED, WIDEST_DAY)
    areas = []
    for step, bar in enumerate(bars):
        below = 0
        for kind, count in bar.items():
            below += count
            title = f"{GROUPS[kind][1]}, {days[step].isoformat()}: {format_count(count)}"
            x = round(room * (step + 0.5) - width / 2, 2)
            if count:
                y, height = 100 - percent(below / most), percent(count / most)
                areas.append(Area(f"{kind} stacked", x, round(y, 2), round(width, 2), height, title=title))
    total = sum(sum(bar.values()) for bar in bars)
    label = translatable("{count} results from {first} to {last}, at most {most} in one step of time.").format(
        count=format_count(total), first=days[0].isoformat(), last=days[-1].isoformat(), most=format_count(most)
    )
    ticks = [Tick(0, days[0].isoformat(), "start"), Tick(100, days[-1].isoformat(), "end")]
    if len(days) == 1:
        ticks = [Tick(50, days[0].isoformat(), "middle")]
    step_words = (
        translatable("day, in UTC")
        if days_per_step == 1
        else translatable("first day of {count} days, in UTC").format(count=days_per_step)
    )
    panel = Panel(
        label=label,
        height=DAYS_PX,
        x_ticks=tuple(ticks),
        y_ticks=_count_ticks(most),
        x_title=step_words,
        y_title=translatable("number of results"),
        areas=tuple(areas),
    )
    head = (translatable("Day"), *(words for _, words in GROUPS.values()))
    rows = tuple(
        (day.isoformat(), *(format_count(count) for count in bar.values()))
        for day, bar in zip(days, bars, strict=True)
        if sum(bar.values())
    )
    return Chart((panel,), LEGEND, head, rows)


def verdict_shares(counts: Mapping[tuple[str, str], int]) -> Chart:
    """Return the proportion of each verdict, one bar for each medium.

    Args:
        counts: number by medium and outcome.
    """
    bars = {medium: _by_group({key: n for (media, key), n in counts.items() if media == medium}) for medium in MEDIA}
    shown = {medium: bar for medium, bar in bars.items() if sum(bar.values())}
    row = 100 / len(shown)
    areas, ticks = [], []
    for place, (medium, bar) in enumerate(shown.items()):
        before, n = 0.0, sum(bar.values())
        for kind, count in bar.items():
            if count:
                top, height = round(row * (place + (1 - FILLED) / 2), 2), round(row * FILLED, 2)
                title = f"{GROUPS[kind][1]}, {format_percent(count / n)}"
                areas.append(Area(f"{kind} stacked", percent(before), top, percent(count / n), height, title=title))
            before += count / n
        ticks.append(Tick(round(row * (place + 0.5), 2), MEDIUM_NAMES[medium], "end"))
    names = ", ".join(MEDIUM_NAMES[medium] for medium in shown)
    panel = Panel(
        label=translatable("Proportion of each verdict, for each kind of file: {media}.").format(media=names),
        height=MEDIUM_PX * len(shown),
        x_ticks=x_ticks(HALVES, 0, 1, PERCENT),
        y_ticks=tuple(ticks),
        x_title=translatable("proportion of the files"),
        areas=tuple(areas),
    )
    head = (translatable("Kind of file"), *(words for _, words in GROUPS.values()))
    rows = tuple(
        (MEDIUM_NAMES[medium], *(f"{format_count(n)} ({format_percent(n / sum(bar.values()))})" for n in bar.values()))
        for medium, bar in shown.items()
    )
    return Chart((panel,), LEGEND, head, rows)


def own_scores(counts: Sequence[int]) -> Chart:
    """Return a histogram of probabilities.

    Args:
        counts: number of scores in each of as many bins of equal width.
    """
    most, width = max(*counts, 1), 100 / len(counts)
    ranges = [
        f"{start:.0%} to {end:.0%}" for start, end in pairwise(place / len(counts) for place in range(len(counts) + 1))
    ]
    areas = tuple(
        Area("series-1", round(width * (place + (1 - FILLED) / 2), 2), round(100 - percent(count / most), 2),
             round(width * FILLED, 2), percent(count / most), title=f"{words}: {format_count(count)}")
        for place, (count, words) in enumerate(zip(counts, ranges, strict=True))
        if count
    )  # fmt: skip
    panel = Panel(
        label=translatable("Number of results by P(fake): {count} results in {bins} bins, at most {most}.").format(
            count=format_count(sum(counts)), bins=len(counts), most=format_count(max(counts))
        ),
        height=SCORES_PX,
        x_ticks=x_ticks(QUARTERS, 0, 1, PERCENT),
        y_ticks=_count_ticks(most),
        x_title=translatable("P(fake), the probability of being a fake"),
        y_title=translatable("number of results"),
        areas=areas,
    )
    rows = tuple((words, format_count(count)) for words, count in zip(ranges, counts, strict=True))
    return Chart((panel,), (), (translatable("P(fake)"), translatable("Results")), rows)


def processing_times(edges_ms: Sequence[float], counts: Mapping[tuple[str, int], int]) -> Chart:
    """Return how long the analyses took, a panel for each medium.

    Args:
        edges_ms: of the bins, in milliseconds; the last one is infinite.
        counts: number by medium and bin.
    """
    n_bins = len(edges_ms) - 1
    ranges = [_range_words(start, end) for start, end in pairwise(edges_ms)]
    bars = {medium: [counts.get((medium, place), 0) for place in range(n_bins)] for medium in MEDIUM_NAMES}
    shown = {medium: bar for medium, bar in bars.items() if sum(bar)}
    width = 100 / n_bins
    ticks = tuple(
        Tick(round(width * place, 2), _short_duration(edge) if edge else "0", "middle" if edge else "start")
        for place, edge in enumerate(edges_ms[:-1])
        if edge in (0, 100, 1_000, 10_000, 60_000)
    )
    panels = []
    for medium, bar in shown.items():
        most, n = max(bar), sum(bar)
        half = next(place for place in range(n_bins) if 2 * sum(bar[: place + 1]) >= n)
        sentence = (
            translatable("{media}: half of {count} took under {duration}.").format(
                media=MEDIUM_NAMES[medium], count=format_count(n), duration=_short_duration(edges_ms[half + 1])
            )
            if math.isfinite(edges_ms[half + 1])
            else translatable("{media}: half of {count} took over {duration}.").format(
                media=MEDIUM_NAMES[medium], count=format_count(n), duration=_short_duration(edges_ms[half])
            )
        )
        areas = tuple(
            Area("series-1", round(width * (place + (1 - FILLED) / 2), 2), round(100 - percent(count / most), 2),
                 round(width * FILLED, 2), percent(count / most), title=f"{words}: {format_count(count)}")
            for place, (count, words) in enumerate(zip(bar, ranges, strict=True))
            if count
        )  # fmt: skip
        panels.append(
            Panel(
                label=sentence,
                height=DURATIONS_PX,
                x_ticks=ticks,
                y_ticks=_count_ticks(most),
                y_title=sentence,
                x_title=translatable("processing time"),
                areas=areas,
            )
        )
    head = (translatable("Processing time"), *(MEDIUM_NAMES[medium] for medium in shown))
    rows = tuple((ranges[place], *(format_count(bar[place]) for bar in shown.values())) for place in range(n_bins))
    return Chart(tuple(panels), (), head, rows)


def _by_group(counts: Mapping[str, int]) -> dict[str, int]:
    return {kind: sum(counts.get(outcome, 0) for outcome in outcomes) for kind, (outcomes, _) in GROUPS.items()}


def _count_ticks(most: int) -> tuple[Tick, ...]:
    return y_ticks([0, most], 0, most, "{:,.0f}")


def _range_words(start_ms: float, end_ms: float) -> str:
    if math.isinf(end_ms):
        return translatable("{start} or more").format(start=_short_duration(start_ms))
    return f"{_short_duration(start_ms)} to {_short_duration(end_ms)}"


def _short_duration(milliseconds: float) -> str:
    return format_duration(milliseconds).replace(".0 s", " s")
