"""Charts of curves: ROC, the trade-off between errors and missing answers, and accuracy per epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from detector.text import format_count, format_estimate, format_percent, translatable
from webapp.drawings.charts import (
    PERCENT,
    QUARTERS,
    Chart,
    Dot,
    Line,
    Panel,
    Span,
    polyline,
    round_steps,
    series_kind,
    x_ticks,
    y_ticks,
)
from webapp.drawings.scales import percent

Values = Mapping[str, Any]

POINT_KINDS = {translatable("called deepfake"): "deepfake", translatable("not called real"): "real"}
ROC_AXES = (
    translatable("proportion of real pictures above the threshold"),
    translatable("proportion of fakes above the threshold"),
)
FEWEST_ALARMS = 0.0005  # left end of the logarithmic axis
ALARM_DECADES = (0.001, 0.01, 0.1, 1)


def roc(plots: Values) -> Chart:
    """Return the ROC curves of all fakes and of two families, with the two thresholds, from plots.json."""
    curves = plots["roc"]
    lines = [
        polyline("ink" if place == len(curves) - 1 else series_kind(place), *zip(*row["curve"], strict=True))
        for place, row in enumerate(curves)
    ]
    dots = tuple(
        Dot(
            POINT_KINDS[name],
            percent(x),
            100 - percent(y),
            translatable("{name}: {x} of real pictures, {y} of fakes").format(name=name, x=f"{x:.1%}", y=f"{y:.1%}"),
        )
        for name, (x, y) in plots["roc_points"].items()
    )
    words = "; ".join(f"{row['name']} AUC {row['auc']['value']:.3f}" for row in curves)
    panel = Panel(
        label=translatable("ROC curves: {words}.").format(words=words),
        x_ticks=x_ticks(QUARTERS, 0, 1, PERCENT),
        y_ticks=y_ticks(QUARTERS, 0, 1, PERCENT),
        x_title=ROC_AXES[0],
        y_title=ROC_AXES[1],
        lines=tuple(lines),
        spans=(Span("chance", 0, 100, 100, 0),),
        dots=dots,
        is_square=True,
    )
    legend = [(line.kind, row["name"]) for line, row in zip(lines, curves, strict=True)]
    legend += [
        (f"dot {POINT_KINDS[name]}", translatable("threshold: {name}").format(name=name))
        for name in plots["roc_points"]
    ]
    return Chart((panel,), tuple(legend), (translatable("Fakes"), "n", "AUC"), _auc_rows(curves))


def source_roc(plots: Values) -> Chart:
    """Return the ROC curve of each source on a logarithmic axis of false alarms, from plots.json."""
    panels, legend = [], []
    rows: list[tuple[str, ...]] = []
    place = 0
    for kind, words in (("fake", translatable("Fakes of each source, against all real pictures")),
                        ("real", translatable("Real pictures of each source, against all fakes"))):  # fmt: skip
        lines: list[Line] = []
        for row in plots["roc_sources"][kind]:
            alarms, hits = zip(*row["curve"], strict=True)
            places = [
                max(0.0, math.log(max(x, FEWEST_ALARMS) / FEWEST_ALARMS) / math.log(1 / FEWEST_ALARMS)) for x in alarms
            ]
            lines.append(polyline(series_kind(place), places, hits))
            legend.append((series_kind(place), f"{row['name']}, {kind}"))
            place += 1
        rows += _auc_rows([row | {"name": f"{row['name']}, {kind}"} for row in plots["roc_sources"][kind]])
        decades = tuple(
            tick
            for alarm in ALARM_DECADES
            for tick in x_ticks([math.log(alarm)], math.log(FEWEST_ALARMS), 0, f"{100 * alarm:g}%")
        )
        panels.append(
            Panel(
                label=translatable("ROC curves.") + f" {words}. " + ". ".join(
                    f"{row['name']} AUC {row['auc']['value']:.3f}" for row in plots["roc_sources"][kind]
                ) + ".",
                x_ticks=decades,
                y_ticks=y_ticks(QUARTERS, 0, 1, PERCENT),
                x_title=translatable("{axis}, logarithmic").format(axis=ROC_AXES[0]),
                y_title=words,
                lines=tuple(lines),
            )
        )  # fmt: skip
    return Chart(tuple(panels), tuple(legend), ("Source", "n", "AUC"), tuple(rows))


def trade_off(points: Sequence[Values]) -> Chart:
    """Return what stays inconclusive by the proportion of fakes that may be called real, from unseen_metrics.json.

    Args:
        points: `trade_off`; a line for each limit of false alarms.
    """
    limits = sorted({point["false_alarms"] for point in points})
    high = max(point["called_real"] for point in points)
    right = math.ceil(high * 50) / 50
    lines, dots = [], []
    for place, limit in enumerate(limits):
        own = sorted((p for p in points if p["false_alarms"] == limit), key=lambda p: float(p["called_real"]))
        kind = series_kind(place)
        lines.append(polyline(kind, [p["called_real"] / right for p in own], [p["inconclusive"] for p in own]))
        dots += [
            Dot(
                kind,
                percent(p["called_real"] / right),
                round(100 - percent(p["inconclusive"]), 2),
                translatable("{called_real} called real: {inconclusive} inconclusive").format(
                    called_real=f"{p['called_real']:.0%}", inconclusive=f"{p['inconclusive']:.1%}"
                ),
            )
            for p in own
        ]
    least = min(points, key=lambda point: float(point["inconclusive"]))
    panel = Panel(
        label=translatable(
            "The more fakes may be called real, the fewer pictures stay inconclusive: {inconclusive} at {called_real}."
        ).format(inconclusive=f"{least['inconclusive']:.0%}", called_real=f"{least['called_real']:.0%}"),
        x_ticks=x_ticks(round_steps(0, right), 0, right, PERCENT),
        y_ticks=y_ticks(QUARTERS, 0, 1, PERCENT),
        x_title=translatable("fakes called real, at most"),
        y_title=translatable("pictures left inconclusive"),
        lines=tuple(lines),
        dots=tuple(dots),
    )
    legend = tuple(
        (
            series_kind(place),
            translatable("at most {limit} of real pictures called a deepfake").format(limit=f"{limit:.1%}"),
        )
        for place, limit in enumerate(limits)
    )
    return Chart((panel,), legend)


def accuracy(metrics: Values) -> Chart:
    """Return the accuracy after each epoch on training and on calibration pictures, from metrics.json."""
    epochs = metrics["training"]["curve"]
    numbers = [row["epoch"] for row in epochs]
    first, last = numbers[0], max(numbers[-1], numbers[0] + 1)
    low = math.floor(10 * min(min(row["train_accuracy"], row["tune_accuracy"]) for row in epochs)) / 10
    lines, dots = [], []
    for kind, key in (("muted", "train_accuracy"), ("series-1", "tune_accuracy")):
        xs = [(number - first) / (last - first) for number in numbers]
        ys = [(row[key] - low) / (1 - low) for row in epochs]
        lines.append(polyline(kind, xs, ys))
        dots += [
            Dot(
                kind,
                percent(x),
                round(100 - percent(y), 2),
                translatable("epoch {epoch}: {accuracy}").format(epoch=row["epoch"], accuracy=f"{row[key]:.1%}"),
            )
            for x, y, row in zip(xs, ys, epochs, strict=True)
        ]
    panel = Panel(
        label=translatable(
            "Accuracy after {count} epochs: {train_accuracy} on training pictures, {tune_accuracy} on "
            "calibration pictures."
        ).format(
            count=len(epochs),
            train_accuracy=f"{epochs[-1]['train_accuracy']:.1%}",
            tune_accuracy=f"{epochs[-1]['tune_accuracy']:.1%}",
        ),
        x_ticks=x_ticks(numbers[:: 1 + len(numbers) // 10], first, last, "{:.0f}"),
        y_ticks=y_ticks(round_steps(low, 1), low, 1, PERCENT),
        x_title=translatable("epoch"),
        y_title=translatable("accuracy"),
        lines=tuple(lines),
        dots=tuple(dots),
    )
    rows = tuple(
        (str(row["epoch"]), format_percent(row["train_accuracy"]), format_percent(row["tune_accuracy"]))
        for row in epochs
    )
    legend = (("muted", translatable("training, augmented")), ("series-1", translatable("calibration, as stored")))
    return Chart((panel,), legend, (translatable("Epoch"), translatable("Training"), "Calibration"), rows)


def _auc_rows(curves: Sequence[Values]) -> tuple[tuple[str, ...], ...]:
    return tuple((row["name"], format_count(row["n"]), format_estimate(row["auc"], share=False)) for row in curves)
