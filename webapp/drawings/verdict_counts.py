"""The confusion matrix: how many real pictures and fakes got each verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detector.text import format_count, translatable
from webapp.drawings.charts import Area, Chart, Panel, Text
from webapp.drawings.scales import Tick

CELL_PX = 84
DARKEST = 0.45  # of a cell's colour, so that its numbers stay readable
COLUMNS = (
    ("real", translatable("called real")),
    ("inconclusive", "inconclusive"),
    ("deepfake", translatable("called deepfake")),
)
TRUTHS = (("real", "real"), ("fake", "fake"))


def confusion(metrics: Mapping[str, Any]) -> Chart:
    """Return the verdicts by true label as counts and proportions of their row, from metrics.json."""
    areas, texts, sentences = [], [], []
    for row, (kind, name) in enumerate(TRUTHS):
        counts = [metrics["confusion"][kind].get(verdict, 0) for verdict, _ in COLUMNS]
        for column, count in enumerate(counts):
            share = count / max(sum(counts), 1)
            x, y = 100 * column / len(COLUMNS), 100 * row / len(TRUTHS)
            areas.append(
                Area("cell", round(x, 2), y, round(100 / len(COLUMNS), 2), 50, opacity=round(DARKEST * share, 3))
            )
            middle = round(x + 50 / len(COLUMNS), 2)
            texts.append(Text(middle, y, format_count(count), "middle", CELL_PX / 2 - 4, "count"))
            texts.append(Text(middle, y, f"{share:.1%}", "middle", CELL_PX / 2 + 18))
        words = ", ".join(
            f"{format_count(count)} {verdict}" for count, (_, verdict) in zip(counts, COLUMNS, strict=True)
        )
        sentences.append(
            translatable("{count} {name} pictures: {words}.").format(
                count=format_count(sum(counts)), name=name, words=words
            )
        )
    panel = Panel(
        label=" ".join(sentences),
        height=CELL_PX * len(TRUTHS),
        x_ticks=tuple(Tick(round(100 * (i + 0.5) / 3, 2), verdict, "middle") for i, (verdict, _) in enumerate(COLUMNS)),
        x_title=translatable("verdict"),
        y_title=translatable("truth"),
        y_ticks=tuple(Tick(25 + 50 * row, name, "end") for row, (_, name) in enumerate(TRUTHS)),
        areas=tuple(areas),
        texts=tuple(texts),
    )
    return Chart((panel,))
