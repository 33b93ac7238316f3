"""The charts of the statistics page, with their captions."""

from __future__ import annotations

from dataclasses import dataclass

from detector.text import translatable
from webapp.drawings import activity
from webapp.drawings.charts import Chart
from webapp.statistics.counts import TIME_EDGES_MS, Counts


@dataclass(frozen=True)
class Caption:
    """The name, the title and the description of a chart."""

    name: str
    title: str
    description: str


@dataclass(frozen=True)
class CaptionedChart:
    """A chart with its caption, as the template of plots takes it; there is no PNG file of it."""

    plot: Caption
    chart: Chart
    has_png: bool = False


def draw_counts(counts: Counts) -> list[CaptionedChart]:
    """Return the charts of which there is anything to show."""
    found = []
    if counts.n:
        caption = Caption(
            "days", translatable("Results over time"), translatable("How many files were checked, by their verdict.")
        )
        chart = activity.results_by_day(counts.days, counts.days_per_step, counts.by_day)
        found.append(CaptionedChart(caption, chart))
        caption = Caption(
            "verdicts", translatable("Verdicts"), translatable("The proportion of each verdict, by kind of file.")
        )
        found.append(CaptionedChart(caption, activity.verdict_shares(counts.by_medium)))
    if any(counts.scores):
        caption = Caption(
            "scores", translatable("Scores"), translatable("How often P(fake) lies in each range. High means fake.")
        )
        found.append(CaptionedChart(caption, activity.own_scores(counts.scores)))
    if counts.durations:
        caption = Caption(
            "speed", translatable("Processing times"), translatable("How long the checks took, without waiting.")
        )
        found.append(CaptionedChart(caption, activity.processing_times(TIME_EDGES_MS, counts.durations)))
    return found
