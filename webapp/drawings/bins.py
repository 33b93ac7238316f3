"""Charts of binned probabilities: calibration, and the scores of real pictures and fakes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from detector.text import format_count, format_estimate, translatable
from webapp.drawings.charts import PERCENT, QUARTERS, Area, Chart, Dot, Panel, Span, x_ticks, y_ticks
from webapp.drawings.scales import percent

Values = Mapping[str, Any]

COUNTS_PX = 90
BARS_PX = 130
BAR = 0.86  # of a bin's width
TICK_PROBABILITIES = (0.01, 0.1, 0.5, 0.9, 0.99)
ZONES = (
    ("real", translatable("called real")),
    ("inconclusive", "inconclusive"),
    ("deepfake", translatable("called deepfake")),
)


def calibration(plots: Values, metrics: Values) -> Chart:
    """Return the proportion of fakes by probability with its intervals, and the number of pictures in each bin."""
    bins, counts = plots["calibration"]["bins"], plots["calibration"]["counts"]
    spans, dots = [Span("chance", 0, 100, 100, 0)], []
    for each in bins:
        x, fakes = percent(each["probability"]), each["fakes"]
        low, value, high = (round(100 - percent(fakes[key]), 2) for key in ("low", "value", "high"))
        spans.append(Span("interval ink", x, low, x, high))
        dots.append(
            Dot(
                "ink",
                x,
                value,
                translatable("P(fake) {probability}: {fakes} are fake").format(
                    probability=f"{each['probability']:.0%}", fakes=format_estimate(fakes)
                ),
            )
        )
    ece = metrics["overall"]["ece"]
    shares = Panel(
        label=translatable("Proportion of fakes in {count} bins of the probability; calibration error {ece}.").format(
            count=len(bins), ece=f"{ece['value']:.3f}"
        ),
        x_ticks=x_ticks(QUARTERS, 0, 1, PERCENT),
        y_ticks=y_ticks(QUARTERS, 0, 1, PERCENT),
        x_title=translatable("P(fake), the probability of being a fake"),
        y_title=translatable("proportion of fakes, with {level} intervals").format(level="95%"),
        spans=tuple(spans),
        dots=tuple(dots),
        is_square=True,
    )
    tallest, width = max(*counts, 1), 100 / len(counts)
    numbers = Panel(
        label=translatable("Number of pictures in each of {count} bins, at most {most}.").format(
            count=len(counts), most=format_count(max(counts))
        ),
        height=COUNTS_PX,
        x_ticks=x_ticks(QUARTERS, 0, 1, PERCENT),
        y_ticks=y_ticks([0, tallest], 0, tallest, "{:,.0f}"),
        y_title=translatable("pictures"),
        areas=tuple(
            Area("muted", round(width * place, 2), 100 - percent(count / tallest), round(width * BAR, 2),
                 percent(count / tallest), title=format_count(count))
            for place, count in enumerate(counts)
        ),
    )  # fmt: skip
    rows = tuple(
        (f"{each['probability']:.1%}", format_count(each["fakes"]["n"]), format_estimate(each["fakes"]))
        for each in bins
    )
    legend = (("chance", translatable("perfect calibration")), ("dot ink", translatable("measured")))
    return Chart(
        (shares, numbers),
        legend,
        (translatable("Mean P(fake)"), translatable("Pictures"), translatable("Proportion of fakes")),
        rows,
    )


def score_histogram(plots: Values, metrics: Values) -> Chart:
    """Return the probabilities of real pictures and of fakes in log-odds, over the zones of the three verdicts."""
    edges = plots["histogram"]["edges"]
    low, high = edges[0], edges[-1]
    starts = [0.0, *(percent((_log_odds(metrics["model"][key]) - low) / (high - low))
                     for key in ("threshold_real", "threshold_fake"))]  # fmt: skip
    widths = [end - start for start, end in zip(starts, [*starts[1:], 100], strict=True)]
    tallest = max(max(bars) for bars in plots["histogram"]["bars"].values())
    ticks = tuple(
        tick for p in TICK_PROBABILITIES for tick in x_ticks([_log_odds(p)], low, high, f"{100 * p:g}%")
    )  # fmt: skip
    panels = []
    for kind, colour, words in (
        ("real", "real", translatable("real pictures")),
        ("fake", "deepfake", translatable("fakes")),
    ):
        bars, n = plots["histogram"]["bars"][kind], plots["histogram"]["n"][kind]
        places = (percent((edge - low) / (high - low)) for edge in edges[:-1])
        width = 100 / len(bars)
        zones = tuple(
            Area(f"zone-ground {name}", round(start, 2), 0, round(max(width_, 0), 2), 100, opacity=0.12)
            for (name, _), start, width_ in zip(ZONES, starts, widths, strict=True)
        )
        filled = tuple(
            Area(
                colour,
                x,
                100 - percent(share / tallest),
                round(width * BAR, 2),
                percent(share / tallest),
                title=f"{share:.1%}",
            )
            for x, share in zip(places, bars, strict=True)
            if share
        )
        panels.append(
            Panel(
                label=translatable("Probabilities of {n} {words}.").format(n=format_count(n), words=words),
                height=BARS_PX,
                x_ticks=ticks,
                y_ticks=y_ticks([0, tallest], 0, tallest, PERCENT),
                x_title="P(fake), scale of log-odds" if kind == "fake" else "",
                y_title=translatable("proportion of {n} {words}").format(n=format_count(n), words=words),
                areas=(*zones, *filled),
                spans=tuple(Span("threshold", x, 0, x, 100) for x in starts[1:]),
            )
        )
    legend = (
        *((f"zone-ground {name}", words) for name, words in ZONES),
        ("real", translatable("real pictures")),
        ("deepfake", "fakes"),
    )
    return Chart(tuple(panels), legend)


def _log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))
