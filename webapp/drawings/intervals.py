"""Charts of estimates with their intervals, a named row each: AUC of sources, ablations, error rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detector.text import format_count, format_estimate, translatable
from webapp.drawings.charts import PERCENT, Chart, Dot, Panel, Span, Text, round_steps, x_ticks
from webapp.drawings.scales import percent

Values = Mapping[str, Any]

NAME_PX = 18  # height of the words above a row's first rail
RAIL_PX = 13  # from one rail to the next
GAP_PX = 12  # below a row
CHANCE = 0.5  # AUC of guessing
RATE_KINDS = {  # figure of metrics.json: CSS class, words
    "false_alarms": ("real", translatable("real pictures called a deepfake")),
    "misses": ("deepfake", translatable("fakes called real")),
    "inconclusive": ("muted", translatable("inconclusive, of all")),
}


@dataclass(frozen=True)
class Row:
    """A row: its name, words at its right end, and its estimates with their CSS classes, from top to bottom."""

    name: str
    note: str
    estimates: tuple[tuple[str, Values], ...]


def source_auc(metrics: Values) -> Chart:
    """Return the AUC of each source against all pictures of the other label, the lowest first."""
    found = sorted((row for row in metrics["sources"] if row["auc"]), key=lambda row: float(row["auc"]["value"]))
    rows = [
        Row(
            f"{row['source']}, n {format_count(row['n'])}",
            f"{row['auc']['value']:.3f}",
            (("deepfake" if row["label"] else "real", row["auc"]),),
        )
        for row in found
    ]
    overall = metrics["overall"]["auc"]
    rows.append(
        Row(
            translatable("all, n {n}").format(n=format_count(metrics["overall"]["n"])),
            f"{overall['value']:.3f}",
            (("ink", overall),),
        )
    )
    low = min(CHANCE, math.floor(20 * min(row["auc"]["low"] for row in found)) / 20)
    words = translatable("AUC of {count} sources, from {lowest} to {highest}.").format(
        count=len(found), lowest=f"{found[0]['auc']['value']:.3f}", highest=f"{found[-1]['auc']['value']:.3f}"
    )
    panel = _panel(rows, low, 1, words, translatable("AUC, with {level} intervals").format(level="95%"), mark=CHANCE)
    legend = (
        ("dot real", translatable("real pictures of a source")),
        ("dot deepfake", translatable("fakes of a source")),
        ("dot ink", translatable("all")),
    )
    return Chart((panel,), legend)


def ablations(plots: Values) -> Chart:
    """Return each figure of each run, a panel for each figure; a dotted line marks the first run."""
    figures = list(dict.fromkeys(row["figure"] for row in plots["ablations"]))
    panels, table = [], []
    for figure in figures:
        own = [row for row in plots["ablations"] if row["figure"] == figure]
        rows = [
            Row(row["name"], f"{row['value']:.3f}", (("ink" if place == 0 else "series-1", row),))
            for place, row in enumerate(own)
        ]
        low, high = min(row["low"] for row in own), max(row["high"] for row in own)
        low, high = math.floor(20 * low) / 20, math.ceil(20 * high) / 20
        words = translatable("{figure} of {count} runs: {value} with all parts.").format(
            figure=figure, count=len(own), value=f"{own[0]['value']:.3f}"
        )
        panels.append(_panel(rows, low, high, words, f"{figure}, n {own[0]['n']:,.0f}", mark=own[0]["value"]))
        table += [(figure, row["name"], format_estimate(row, share=False)) for row in own]
    legend = (("dot ink", translatable("all parts")), ("dot series-1", translatable("one part left out")))
    return Chart(
        tuple(panels), legend, (translatable("Figure"), translatable("Run"), translatable("Value")), tuple(table)
    )


def error_rates(rates: Mapping[str, Values], axis: str, names: Mapping[str, str] | None = None) -> Chart:
    """Return the three error rates of several subsets of the pictures.

    Args:
        rates: for each subset the estimates of `RATE_KINDS`.
        axis: what the subsets differ in.
        names: of the subsets; those that are not in it keep their key.
    """
    rows, table, highest = [], [], 0.0
    for key, figures in rates.items():
        name = (names or {}).get(key, key)
        found = [(figure, figures[figure]) for figure in RATE_KINDS if figures.get(figure)]
        highest = max(highest, *(estimate["high"] for _, estimate in found))
        n = sum(figures[figure]["n"] for figure in ("false_alarms", "misses") if figures.get(figure))
        rows.append(
            Row(name, f"n {format_count(n)}", tuple((RATE_KINDS[figure][0], estimate) for figure, estimate in found))
        )
        table.append((name, *(format_estimate(figures[f]) if figures.get(f) else "–" for f in RATE_KINDS)))
    words = translatable("Error rates of {count} subsets by {axis}; the table below has the numbers.").format(
        count=len(rows), axis=axis
    )
    panel = _panel(
        rows,
        0,
        math.ceil(10 * highest) / 10,
        words,
        translatable("proportion of pictures, with {level} intervals").format(level="95%"),
        PERCENT,
    )
    legend = tuple((f"dot {kind}", words) for kind, words in RATE_KINDS.values())
    head = (axis[0].upper() + axis[1:], *(words[0].upper() + words[1:] for _, words in RATE_KINDS.values()))
    return Chart((panel,), legend, head, tuple(table))


def _panel(
    rows: Sequence[Row],
    low: float,
    high: float,
    label: str,
    x_title: str,
    form: str = "{:g}",
    *,
    mark: float | None = None,
) -> Panel:
    """Lay the rows out from the top down: name and note on one line, below it a rail for each estimate."""
    height = sum(NAME_PX + RAIL_PX * len(row.estimates) + GAP_PX for row in rows)
    texts, spans, dots = [], [], []
    top = 0.0
    for row in rows:
        y = 100 * top / height
        texts += [Text(0, y, row.name, "start", 13), Text(100, y, row.note, "end", 13, "value")]
        for number, (kind, estimate) in enumerate(row.estimates):
            y = round(100 * (top + NAME_PX + RAIL_PX * (number + 0.5)) / height, 3)
            start, value, end = (
                percent((min(max(estimate[key], low), high) - low) / (high - low)) for key in ("low", "value", "high")
            )
            spans += [Span("rail", 0, y, 100, y), Span(f"interval {kind}", start, y, end, y)]
            dots.append(Dot(kind, value, y, f"{row.name}: {format_estimate(estimate, share=form == PERCENT)}"))
            if mark is not None:
                x = percent((mark - low) / (high - low))
                reach = 100 * RAIL_PX / 2 / height
                spans.append(Span("chance", x, round(y - reach, 3), x, round(y + reach, 3)))
        top += NAME_PX + RAIL_PX * len(row.estimates) + GAP_PX
    ticks = x_ticks(round_steps(low, high), low, high, form)
    return Panel(
        label, height, x_ticks=ticks, x_title=x_title, spans=tuple(spans), dots=tuple(dots), texts=tuple(texts)
    )
