"""The plots of the performance page: what each is called, and which chart is drawn of which figures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.text import translatable
from webapp.drawings import bins, curves, intervals, verdict_counts
from webapp.drawings.charts import Chart
from webapp.performance import is_measured_with, read_json_file, values_at
from webapp.template_filters import DEGRADATION_NAMES

PLOTS_FILE = "plots.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Figures:
    """What plots are drawn of.

    Attributes:
        metrics: of metrics.json.
        unseen: of unseen_metrics.json.
        plots: of plots.json; empty unless it belongs to the same model as the metrics.
    """

    metrics: Mapping[str, Any]
    unseen: Mapping[str, Any]
    plots: Mapping[str, Any]


@dataclass(frozen=True)
class Plot:
    """A plot of the performance page, which scripts/plot.py also draws as a PNG file.

    Attributes:
        name: of the file, without .png.
        title, description: its caption.
        draw: returns the chart; raises LookupError, TypeError or ValueError if figures are missing.
        is_detail: shown under "More plots".
        is_unseen: shows kinds left out of training, and is shown with their figures.
    """

    name: str
    title: str
    description: str
    draw: Callable[[Figures], Chart]
    is_detail: bool = False
    is_unseen: bool = False


@dataclass(frozen=True)
class DrawnPlot:
    """A plot whose figures exist: the plot, its chart, and whether there is a PNG file to download."""

    plot: Plot
    chart: Chart
    has_png: bool


PLOTS = (
    Plot(
        "trade_off",
        translatable("Wrong against inconclusive"),
        translatable(
            "Pictures of kinds left out of training that stay inconclusive, by the proportion of fakes that may be "
            "called real. Each line allows another proportion of real pictures to be called a deepfake. The table "
            "beside it has the same numbers."
        ),
        lambda figures: curves.trade_off(figures.unseen["trade_off"]),
        is_unseen=True,
    ),
    Plot(
        "roc",
        translatable("ROC curve"),
        translatable("The proportion of fakes that are found, by the proportion of false alarms."),
        lambda figures: curves.roc(figures.plots),
    ),
    Plot(
        "auc",
        translatable("AUC per source"),
        translatable("The area under the ROC curve for each source of pictures, with its {level} interval.").format(
            level="95%"
        ),
        lambda figures: intervals.source_auc(figures.metrics),
    ),
    Plot(
        "cm",
        translatable("Confusion matrix"),
        translatable("How many real pictures and fakes got each of the three verdicts."),
        lambda figures: verdict_counts.confusion(figures.metrics),
    ),
    Plot(
        "acc",
        translatable("Accuracy per epoch"),
        translatable("Accuracy after each epoch, on training and on tuning pictures."),
        lambda figures: curves.accuracy(figures.metrics),
    ),
    Plot(
        "calibration",
        translatable("Calibration"),
        translatable(
            "The proportion of fakes among pictures with about the same probability. On the dotted line both agree. "
            "Below, the number of pictures."
        ),
        lambda figures: bins.calibration(figures.plots, figures.metrics),
        is_detail=True,
    ),
    Plot(
        "roc_sources",
        translatable("ROC curve per source"),
        translatable(
            "Each source against all pictures of the other truth. The scale is enlarged where false alarms are few."
        ),
        lambda figures: curves.source_roc(figures.plots),
        is_detail=True,
    ),
    Plot(
        "histogram",
        translatable("Scores"),
        translatable(
            "The probabilities of real pictures and fakes. Between the two thresholds the verdict is inconclusive."
        ),
        lambda figures: bins.score_histogram(figures.plots, figures.metrics),
        is_detail=True,
    ),
    Plot(
        "deliveries",
        translatable("Errors by kind of copy"),
        translatable(
            "Wrong and inconclusive verdicts: as stored, as JPEG of quality 50, halved and doubled, and blurred."
        ),
        lambda figures: intervals.error_rates(
            figures.metrics["deliveries"], translatable("kind of copy"), DEGRADATION_NAMES
        ),
        is_detail=True,
    ),
    Plot(
        "errors_size",
        translatable("Errors by size of the face"),
        translatable(
            "Wrong and inconclusive verdicts from small to large faces. Sources differ in size, so this also compares "
            "sources."
        ),
        lambda figures: intervals.error_rates(figures.plots["size_rates"], translatable("size of the face in pixels")),
        is_detail=True,
    ),
    Plot(
        "errors_quality",
        translatable("Errors by JPEG quality"),
        translatable(
            "Wrong and inconclusive verdicts by the strength of the compression. Sources differ in that, too."
        ),
        lambda figures: intervals.error_rates(figures.plots["quality_rates"], translatable("JPEG quality")),
        is_detail=True,
    ),
    Plot(
        "ablations",
        translatable("What each part of the training adds"),
        translatable("The same short training with one part left out at a time, and with all parts."),
        lambda figures: intervals.ablations(figures.plots),
        is_detail=True,
    ),
)


def draw_plots(folder: Path, metrics: Mapping[str, Any] | None, unseen: Mapping[str, Any] | None) -> list[DrawnPlot]:
    """Return every plot whose figures exist.

    Args:
        folder: with plots.json and the PNG files.
        metrics: from `read_metrics`.
        unseen: from `read_unseen_metrics`.
    """
    values = read_json_file(folder / PLOTS_FILE) or {}
    if not is_measured_with(metrics, values.get("model_sha256") or ""):
        values = {}
    figures = Figures(values_at(metrics), values_at(unseen), values)
    drawn = []
    for plot in PLOTS:
        try:
            chart = plot.draw(figures)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            # No page fails because of a figure that is missing or damaged.
            log.debug("%s is not drawn: %r", plot.name, error)
            continue
        drawn.append(DrawnPlot(plot, chart, (folder / f"{plot.name}.png").is_file()))
    return drawn
