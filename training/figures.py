"""Plots of visualizations/, drawn from its scores.csv, metrics.json, unseen_metrics.json and ablations.csv alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from detector.media.degradations import UNDEGRADED
from training.plot_values import (
    CALIBRATION_BINS,
    Scores,
    calibration_bins,
    clipped_log_odds,
    histogram_bars,
    page_values,
    quality_rates,
    roc_curves,
    roc_points,
    size_rates,
    source_roc_curves,
)
from training.scoring import FRACTIONS, SCORE_COLUMNS, WHOLE_NUMBERS, read_scores
from training.tables import GENERATED, SWAPS, VISUALIZATIONS, EstimateDict, format_estimate
from training.thresholds import UNSEEN_LIMITS

STYLE: dict[str, Any] = {
    "figure.dpi": 110,
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e8ee",
    "axes.axisbelow": True,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
}
INK, REAL_COLOUR, FAKE_COLOUR, GREY = "#1f2430", "#1f7a5c", "#b3372f", "#8a91a0"
VERDICTS = ("real", "inconclusive", "deepfake")
FAMILY_COLOURS = {
    SWAPS: "#c9772b",
    GENERATED: "#2f5d9b",
}  # together these families hold all fakes
PALETTE = ("#2f5d9b", "#c9772b", "#1f7a5c", "#b3372f", "#7a5ba6", "#8a91a0", "#b59a1d", "#3f9fae")
RATES = {  # figure of metrics.json: colour of the pictures it counts, words
    "false_alarms": (REAL_COLOUR, "reals called deepfake"),
    "misses": (FAKE_COLOUR, "fakes called real"),
    "inconclusive": (GREY, "inconclusive, of all"),
}
PLOT_VALUES = "plots.json"
SHOWN_PROBABILITIES = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)


def plot_accuracy(metrics: dict[str, Any]) -> Figure:
    """Plot the accuracy after each epoch on the training and the calibration pictures."""
    curve = metrics["training"].get("curve", [])
    figure, axes = plt.subplots(figsize=(7, 4.6))
    epochs = [row["epoch"] for row in curve]
    axes.plot(
        epochs,
        [row["train_accuracy"] for row in curve],
        "o-",
        color=GREY,
        label=f"training, n {metrics['training'].get('fit')} (augmented, running weights)",
    )
    axes.plot(
        epochs,
        [row["tune_accuracy"] for row in curve],
        "o-",
        color=INK,
        label=f"calibration, n {metrics['training'].get('tune')} (as stored, averaged weights)",
    )
    axes.set(title="Accuracy per epoch, uncalibrated", xlabel="epoch", ylabel="accuracy", xticks=epochs)
    axes.legend(loc="lower right")
    return figure


def plot_roc(metrics: dict[str, Any], scores: Scores) -> Figure:
    """Plot the ROC curves of all fakes, of face swaps and of generated faces, each against all reals."""
    figure, axes = plt.subplots(figsize=(7, 6.4))
    *families, overall = roc_curves(metrics, scores)
    for row in families:
        words = f"{row['name']} (n {row['n']:,}), AUC {format_estimate(row['auc'])}"
        axes.plot(*row["curve"], color=FAMILY_COLOURS[row["name"]], linewidth=1.6, label=words)
    words = f"{overall['name']} (n {overall['n']:,}), AUC {format_estimate(overall['auc'])}"
    axes.plot(*overall["curve"], color=INK, linewidth=2.6, label=words)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    for (name, point), colour in zip(roc_points(scores).items(), (FAKE_COLOUR, REAL_COLOUR), strict=True):
        axes.plot(*point, "o", color=colour, markersize=9, label=name)
    axes.set(
        title="ROC curve on held-out pictures",
        xlabel="proportion of reals above the threshold",
        ylabel="proportion of fakes above the threshold",
    )
    axes.set_aspect("equal")
    axes.legend(loc="lower right", fontsize=9)
    return figure


def plot_source_roc(metrics: dict[str, Any], scores: Scores) -> Figure:
    """Plot the ROC curve of each source against all pictures of the other label, with logarithmic false alarms."""
    figure, (above, below) = plt.subplots(2, figsize=(7, 9), sharex=True, sharey=True, layout="constrained")
    fewest = 0.5 / max(1, np.sum(scores["label"] == 0))  # half a picture stands for none: a logarithm has no 0
    for axes, kind, words in ((above, 1, "ROC: fakes of each source, against all reals"),
                              (below, 0, "ROC: reals of each source, against all fakes")):  # fmt: skip
        for place, row in enumerate(source_roc_curves(metrics, scores, kind)):
            alarms, hits = row["curve"]
            axes.plot(
                np.maximum(alarms, fewest),
                hits,
                color=PALETTE[place % len(PALETTE)],
                linewidth=1.6,
                label=f"{row['name']} (n {row['n']:,}), AUC {row['auc']['value']:.3f}",
            )
        axes.set(title=words, ylabel="proportion of fakes above the threshold", xscale="log", xlim=(fewest, 1))
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        axes.legend(loc="lower right", fontsize=9)
    below.set_xlabel("proportion of reals above the threshold")
    return figure


def plot_auc(metrics: dict[str, Any]) -> Figure:
    """Plot the AUC of each source against all pictures of the other label, with 95% intervals."""
    rows = sorted((row for row in metrics["sources"] if row["auc"]), key=lambda row: row["auc"]["value"])
    names = [f"{row['source']}, {'fake' if row['label'] else 'real'} (n {row['n']:,})" for row in rows]
    estimates = [row["auc"] for row in rows] + [metrics["overall"]["auc"]]
    names.append(f"all (n {metrics['overall']['n']:,})")
    colours = [FAKE_COLOUR if row["label"] else REAL_COLOUR for row in rows] + [INK]
    figure, axes = plt.subplots(figsize=(7, 0.42 * len(names) + 1.4))
    _draw_dots(axes, names, estimates, colours)
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1)
    axes.set(title="AUC by source, 95% intervals", xlabel="AUC against all pictures of the other kind")
    axes.set_xlim(min(0.5, *(estimate["low"] for estimate in estimates)) - 0.02, 1.02)
    return figure


def plot_confusion(metrics: dict[str, Any]) -> Figure:
    """Plot the verdicts of real and fake pictures as counts and percentages of their row."""
    counts = np.array([[metrics["confusion"][kind][verdict] for verdict in VERDICTS] for kind in ("real", "fake")])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if shares[row, column] > 0.55 else INK
        axes.text(
            column, row, f"{counts[row, column]}\n{shares[row, column]:.1%}", ha="center", va="center", color=colour
        )
    axes.set(title="Verdicts by true label", xlabel="verdict", ylabel="label",
             xticks=range(3), xticklabels=VERDICTS, yticks=range(2), yticklabels=["real", "fake"])  # fmt: skip
    axes.grid(False)
    return figure


def plot_calibration(metrics: dict[str, Any], scores: Scores) -> Figure:
    """Plot the proportion of fakes in each bin of the probability, with 95% intervals and counts."""
    bins, numbers = calibration_bins(scores)
    figure, (axes, counts) = plt.subplots(
        2, figsize=(7, 7.4), sharex=True, layout="constrained", gridspec_kw={"height_ratios": (3, 1)}
    )
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="perfect")
    for each in bins:
        _draw_interval(axes, each["probability"], each["fakes"], INK)
    bars = counts.bar(
        (np.arange(CALIBRATION_BINS) + 0.5) / CALIBRATION_BINS, numbers, 0.9 / CALIBRATION_BINS, color=GREY
    )
    counts.bar_label(bars, fontsize=9, padding=2)
    counts.margins(y=0.2)
    counts.set(xlabel="probability of being a fake", ylabel="pictures", xlim=(-0.01, 1.01))
    axes.set(title="Calibration, 95% intervals", ylabel="proportion of fakes", ylim=(-0.02, 1.02))
    words = f"calibration error {format_estimate(metrics['overall']['ece'])}\n"
    words += f"under {metrics['overall']['ece_perfect']:.3f} in 95 of 100 for perfect probabilities"
    axes.text(0.03, 0.97, words, transform=axes.transAxes, va="top", fontsize=9)
    return figure


def plot_histogram(metrics: dict[str, Any], scores: Scores) -> Figure:
    """Plot histograms of the probabilities of real and fake pictures in log-odds, with the two thresholds."""
    figure, panels = plt.subplots(2, figsize=(7, 6), sharex=True, sharey=True, layout="constrained")
    edges, bars = histogram_bars(scores)
    low, high = clipped_log_odds([metrics["model"]["threshold_real"], metrics["model"]["threshold_fake"]])
    zones = ((edges[0], low, "called real"), (low, high, "inconclusive"), (high, edges[-1], "called deepfake"))
    # Reals lie on the left and fakes on the right; their names are written on the other side.
    kinds = ((0, "real", REAL_COLOUR, "right", 0.98), (1, "fake", FAKE_COLOUR, "left", 0.02))
    for axes, (label, name, colour, side, x) in zip(panels, kinds, strict=True):
        axes.hist(edges[:-1], edges, weights=bars[label], color=colour)
        axes.axvspan(low, high, color=GREY, alpha=0.18, linewidth=0, zorder=0)
        axes.set_ylabel(f"proportion of {name} pictures")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        words = f"{name}, n {np.sum(scores['label'] == label):,}"
        axes.text(x, 0.86, words, transform=axes.transAxes, color=colour, weight="bold", ha=side)
    for start, stop, words in zones:
        panels[0].annotate(words, ((start + stop) / 2, 1), (0, 3), xycoords=("data", "axes fraction"),
                           textcoords="offset points", ha="center", fontsize=9, color=INK)  # fmt: skip
    panels[0].set_title("Probabilities of real and fake pictures", pad=20)
    panels[1].set(
        xlabel="probability of being a fake, scale of log-odds",
        xticks=clipped_log_odds(SHOWN_PROBABILITIES),
        xticklabels=[f"{probability:g}" for probability in SHOWN_PROBABILITIES],
        xlim=(edges[0], edges[-1]),
    )
    return figure


def plot_size_errors(scores: Scores) -> Figure:
    """Plot the error rates by size of the face that gave the logit."""
    missing = np.sum(~(scores["face_px"] > 0))
    without = f"; {missing:,} pictures without a face left out" if missing else ""
    return _draw_rates(size_rates(scores), "Errors by size of the face", f"longer side of the face in pixels{without}")


def plot_quality_errors(scores: Scores) -> Figure:
    """Plot the error rates by JPEG quality of the stored file."""
    return _draw_rates(
        quality_rates(scores), "Errors by JPEG quality", "quality of the stored file, from its quantisation table"
    )


def plot_degradations(metrics: dict[str, Any]) -> Figure:
    """Plot the error rates of the same pictures after each degradation."""
    return _draw_rates(metrics["deliveries"], "Errors by degradation", "degradation of the pictures")


def plot_ablations(rows: list[dict[str, str]]) -> Figure:
    """Plot each figure of each run with its 95% interval; a dotted line marks the first run."""
    kinds, runs = (list(dict.fromkeys(row[column] for row in rows)) for column in ("figure", "name"))
    size = max(7, 3.4 * len(kinds)), 0.42 * len(runs) + 1.8
    figure, panels = plt.subplots(1, len(kinds), figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axes, kind in zip(panels[0], kinds, strict=True):
        found = {
            row["name"]: {column: float(row[column]) for column in ("value", "low", "high", "n")}
            for row in rows
            if row["figure"] == kind
        }
        if base := found.get(runs[0]):
            axes.axvline(base["value"], color=GREY, linestyle=":", linewidth=1)
        _draw_dots(axes, runs[::-1], [found.get(run) for run in runs[::-1]], [*[PALETTE[0]] * (len(runs) - 1), INK])
        counts = sorted({f"{estimate['n']:,.0f}" for estimate in found.values()})
        axes.set_xlabel(f"{kind}\nn {' or '.join(counts)}")
        axes.margins(x=0.15)
    figure.suptitle("Effect of each part, 95% intervals", x=0.01, ha="left", weight="bold", size="large")
    return figure


def plot_trade_off(points: list[dict[str, float]]) -> Figure:
    """Plot how many pictures of kinds left out stay inconclusive under each pair of limits on the error rates.

    Args:
        points: `trade_off` of unseen_metrics.json: the allowed proportions `called_real` of fakes and `false_alarms` of
            reals, and the proportion `inconclusive` that they leave.
    """
    figure, axes = plt.subplots(figsize=(7, 5))
    limits = sorted({point["false_alarms"] for point in points})
    for place, limit in enumerate(limits):
        own = sorted((point for point in points if point["false_alarms"] == limit), key=lambda p: p["called_real"])
        axes.plot(
            [point["called_real"] for point in own],
            [point["inconclusive"] for point in own],
            "o-",
            color=PALETTE[place % len(PALETTE)],
            label=f"at most {limit:.1%} of reals called deepfake",
        )
    for point in points:
        if (point["called_real"], point["false_alarms"]) == (UNSEEN_LIMITS.misses, UNSEEN_LIMITS.false_alarms):
            axes.plot(
                point["called_real"],
                point["inconclusive"],
                "o",
                color=INK,
                markersize=13,
                fillstyle="none",
                label=f"limits of the shipped thresholds: {point['inconclusive']:.1%}",
            )
    axes.set(
        title="Errors against missing answers, kinds left out",
        xlabel="proportion of fakes called real, at most",
        ylabel="proportion of pictures left inconclusive",
    )
    axes.set_xlim(left=0)
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))  # with the decimals that its ticks need
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.legend(loc="upper right", fontsize=9)
    return figure


def read_columns(path: Path, degradation: str) -> Scores:
    """Read the rows of one degradation from scores.csv as columns (N,); a missing number becomes NaN."""
    rows = [row for row in read_scores(path) if row["delivery"] == degradation]
    types = dict.fromkeys(WHOLE_NUMBERS | FRACTIONS, float)
    return {name: np.array([row[name] for row in rows], types.get(name)) for name in SCORE_COLUMNS}


def _draw_rates(rates: Mapping[str, Mapping[str, Any]], title: str, xlabel: str) -> Figure:
    """Draw the RATES of several subsets of the pictures side by side, with their intervals and n."""
    figure, axes = plt.subplots(figsize=(7, 4.8))
    for (name, (colour, words)), shift in zip(RATES.items(), (-0.14, 0, 0.14), strict=True):
        axes.plot([], [], "o", color=colour, label=words)
        for place, figures in enumerate(rates.values()):
            if figures[name]:
                _draw_interval(axes, place + shift, figures[name], colour)
    subsets = [
        f"{name}\n" + "\n".join(f"{figures[key]['n'] if figures[key] else 0:,} {kind}" for key, kind in
                                 (("false_alarms", "real"), ("misses", "fake")))
        for name, figures in rates.items()
    ]  # fmt: skip
    axes.set(xlabel=xlabel, ylabel="proportion", xticks=range(len(subsets)), xticklabels=subsets)
    axes.set_title(f"{title}, 95% intervals", pad=26)
    axes.tick_params(axis="x", labelsize=9)
    axes.grid(False, axis="x")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlim(-0.5, len(subsets) - 0.5)
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=9, borderaxespad=0.2)
    return figure


def _draw_interval(axes: Axes, x: float, estimate: Mapping[str, float], colour: str) -> None:
    """Draw an estimate as a dot on a vertical interval."""
    axes.plot([x, x], [estimate["low"], estimate["high"]], color=colour, linewidth=2)
    axes.plot(x, estimate["value"], "o", color=colour, clip_on=False)


def _draw_dots(axes: Axes, names: list[str], estimates: Sequence[EstimateDict | None], colours: list[str]) -> None:
    """Draw a named row for each estimate, from the bottom up: a dot with its value on a horizontal interval."""
    for place, (estimate, colour) in enumerate(zip(estimates, colours, strict=True)):
        if estimate is None:
            continue
        axes.plot([estimate["low"], estimate["high"]], [place, place], color=colour, linewidth=2)
        axes.plot(estimate["value"], place, "o", color=colour)
        axes.annotate(
            f"{estimate['value']:.3f}",
            (estimate["value"], place),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
    axes.set(yticks=range(len(names)), yticklabels=names)
    axes.set_ylim(-0.6, len(names) - 0.2)


@dataclass(frozen=True)
class PlotOptions:
    """The command line of plot.py.

    Attributes:
        folder: folder of scores.csv and metrics.json, and of the plots
    """

    folder: Path = VISUALIZATIONS


def draw_plots(options: PlotOptions) -> None:
    """Draw every plot as a PNG file, and write what the pages need to draw the same plots.

    Raises:
        SystemExit: the files with the scores are missing or have an older format.
    """
    folder = options.folder
    if not (folder / "metrics.json").is_file() or not (folder / "scores.csv").is_file():
        raise SystemExit(f"There are no scores in {folder}. Write them with: python scripts/evaluate.py")
    metrics = json.loads((folder / "metrics.json").read_text())
    if "families" not in metrics:
        raise SystemExit(
            f"The scores in {folder} have an older format. Write them again with: python scripts/evaluate.py"
        )
    plt.style.use(STYLE)
    scores, ablations = read_columns(folder / "scores.csv", UNDEGRADED), []
    figures = plot_all(metrics, scores)
    if (folder / "ablations.csv").is_file():
        with open(folder / "ablations.csv", newline="", encoding="utf-8") as file:
            ablations = list(csv.DictReader(file))
        figures["ablations"] = plot_ablations(ablations)
    unseen = folder / "unseen_metrics.json"
    if unseen.is_file() and (points := json.loads(unseen.read_text()).get("trade_off")):
        figures["trade_off"] = plot_trade_off(points)
    for name, figure in figures.items():
        # Without the writer's name and version the same scores give the same bytes.
        figure.savefig(folder / f"{name}.png", bbox_inches="tight", metadata={"Software": None})
        plt.close(figure)
        print(f"wrote {folder / name}.png")
    (folder / PLOT_VALUES).write_text(json.dumps(page_values(metrics, scores, ablations)) + "\n")
    print(f"wrote {folder / PLOT_VALUES}")


def plot_all(metrics: dict[str, Any], scores: Scores) -> dict[str, Figure]:
    """Return every plot of an evaluation by the name of its file."""
    return {
        "acc": plot_accuracy(metrics),
        "roc": plot_roc(metrics, scores),
        "auc": plot_auc(metrics),
        "cm": plot_confusion(metrics),
        "roc_sources": plot_source_roc(metrics, scores),
        "calibration": plot_calibration(metrics, scores),
        "histogram": plot_histogram(metrics, scores),
        "errors_size": plot_size_errors(scores),
        "errors_quality": plot_quality_errors(scores),
        "deliveries": plot_degradations(metrics),
    }
