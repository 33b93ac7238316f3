"""The outcomes of many files as bars."""

from __future__ import annotations

from collections.abc import Mapping

from detector.text import format_count, translatable
from webapp.drawings.charts import Area, Chart, Panel, Text
from webapp.drawings.scales import Tick
from webapp.outcomes import OUTCOME_NAMES, Outcome

OUTCOME_PX = 34
BAR_THICKNESS = 0.56  # of a row
WIDEST = 88.0  # percent of the panel; the longest bar leaves room for its number
COLOURS = {Outcome.DEEPFAKE: "deepfake", Outcome.INCONCLUSIVE: "inconclusive", Outcome.REAL: "real"}


def outcome_bars(counts: Mapping[Outcome, int]) -> Chart:
    """Return a bar for each outcome with the number of its files, the three verdicts first.

    Args:
        counts: from `count_outcomes`; the verdicts are shown even without files.
    """
    shown = [outcome for outcome in Outcome if outcome in COLOURS or counts.get(outcome)]
    most, row = max(*counts.values(), 1), 100 / len(shown)
    areas, texts, ticks = [], [], []
    for place, outcome in enumerate(shown):
        count, y = counts.get(outcome, 0), row * place
        width = round(WIDEST * count / most, 2)
        top = round(y + row * (1 - BAR_THICKNESS) / 2, 2)
        areas.append(Area(COLOURS.get(outcome, "muted"), 0, top, width, round(row * BAR_THICKNESS, 2)))
        texts.append(Text(width, round(y + row / 2, 2), f"\N{NO-BREAK SPACE}{format_count(count)}", dy=4.5))
        ticks.append(Tick(round(y + row / 2, 2), OUTCOME_NAMES[outcome], "end"))
    label = "; ".join(f"{OUTCOME_NAMES[outcome]}: {format_count(counts.get(outcome, 0))}" for outcome in shown)
    panel = Panel(
        label=label,
        height=OUTCOME_PX * len(shown),
        x_title=translatable("number of files"),
        y_ticks=tuple(ticks),
        areas=tuple(areas),
        texts=tuple(texts),
    )
    return Chart((panel,))
