"""Draw the plots of visualizations/ from its scores.csv and metrics.json.

    python scripts/plot.py

No network is run: whoever has the two files can draw the plots again. Where ablations.csv lies beside them (columns
name, figure, value, low, high, n; the first name is what the others are compared with) it is drawn too.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.stats import rankdata
from sklearn.metrics import roc_curve

from detector.metrics import proportion
from training.manifests import ROOT

STYLE = {
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
INK, REAL, FAKE, GREY = "#1f2430", "#1f7a5c", "#b3372f", "#8a91a0"
VERDICTS = ("real", "inconclusive", "deepfake")
KINDS = {"face swaps": "#c9772b", "generated faces": "#2f5d9b"}  # the two families of metrics.json that hold all fakes
PALETTE = ("#2f5d9b", "#c9772b", "#1f7a5c", "#b3372f", "#7a5ba6", "#8a91a0", "#b59a1d", "#3f9fae")
RATES = {  # figure of metrics.json: colour of what it is a share of, words
    "false_alarms": (REAL, "reals called deepfake"),
    "misses": (FAKE, "fakes called real"),
    "inconclusive": (GREY, "inconclusive, of all"),
}
NUMBERS = ("label", "logit", "probability", "face_px", "jpeg_quality")
CALIBRATION_BINS = 15  # as the ECE
RATE_BINS = 6  # of about as many pictures each
EXTREME = 0.001  # probabilities under it, and over 1 minus it, share the outermost bars
HISTOGRAM_BARS = 41
SHOWN_PROBABILITIES = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)

Scores = dict[str, np.ndarray]


def plot_accuracy(metrics: dict[str, Any]) -> Figure:
    """Accuracy after each epoch, on what the network learns from and on the tuning pictures."""
    curve = metrics["training"].get("curve", [])
    figure, axes = plt.subplots(figsize=(7, 4.6))
    epochs = [row["epoch"] for row in curve]
    axes.plot(
        epochs,
        [row["train_accuracy"] for row in curve],
        "o-",
        color=GREY,
        label=f"fit, n {metrics['training'].get('fit')} (damaged pictures, running weights)",
    )
    axes.plot(
        epochs,
        [row["tune_accuracy"] for row in curve],
        "o-",
        color=INK,
        label=f"tune, n {metrics['training'].get('tune')} (undamaged, averaged weights)",
    )
    axes.set(title="Accuracy per epoch, uncalibrated", xlabel="epoch", ylabel="accuracy", xticks=epochs)
    axes.legend(loc="lower right")
    return figure


def plot_roc(metrics: dict[str, Any], scores: Scores) -> Figure:
    """The ROC curve over everything, and one for swaps and for generated faces, each against all reals."""
    label, logit = scores["label"], scores["logit"]
    figure, axes = plt.subplots(figsize=(7, 6.4))
    for family in metrics["families"]:
        if colour := KINDS.get(family["family"]):
            own = (label == 1) & np.isin(scores["generator"], family["generators"])
            alarms, hits, _ = roc_curve(label[own | (label == 0)], logit[own | (label == 0)])
            words = f"{family['family']} (n {family['n']:,}), AUC {_shown(family['auc'])}"
            axes.plot(alarms, hits, color=colour, linewidth=1.6, label=words)
    alarms, hits, _ = roc_curve(label, logit)
    auc = metrics["overall"]["auc"]
    axes.plot(alarms, hits, color=INK, linewidth=2.6, label=f"all fakes (n {np.sum(label == 1):,}), AUC {_shown(auc)}")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    for above, colour, name in (
        (scores["verdict"] == "deepfake", FAKE, "called deepfake"),
        (scores["verdict"] != "real", REAL, "not called real"),
    ):
        point = np.mean(above[label == 0]), np.mean(above[label == 1])
        axes.plot(*point, "o", color=colour, markersize=9, label=name)
    axes.set(
        title="ROC curve on held-out pictures",
        xlabel="share of reals above the threshold",
        ylabel="share of fakes above the threshold",
    )
    axes.set_aspect("equal")
    axes.legend(loc="lower right", fontsize=9)
    return figure


def plot_source_roc(metrics: dict[str, Any], scores: Scores) -> Figure:
    """The ROC curve of each source against every picture of the other kind; few false alarms are drawn wide."""
    label, logit, source = scores["label"], scores["logit"], scores["source"]
    figure, (above, below) = plt.subplots(2, figsize=(7, 9), sharex=True, sharey=True, layout="constrained")
    fewest = 0.5 / max(1, np.sum(label == 0))  # half a picture stands for none, which a logarithm cannot show
    for axes, kind, words in ((above, 1, "ROC: fakes of each source, against all reals"),
                              (below, 0, "ROC: reals of each source, against all fakes")):  # fmt: skip
        rows = [row for row in metrics["sources"] if row["label"] == kind and row["auc"]]
        for place, row in enumerate(sorted(rows, key=lambda row: row["auc"]["value"])):
            chosen = (label != kind) | (source == row["source"])
            alarms, hits, _ = roc_curve(label[chosen], logit[chosen])
            axes.plot(
                np.maximum(alarms, fewest),
                hits,
                color=PALETTE[place % len(PALETTE)],
                linewidth=1.6,
                label=f"{row['source']} (n {row['n']:,}), AUC {row['auc']['value']:.3f}",
            )
        axes.set(title=words, ylabel="share of fakes above the threshold", xscale="log", xlim=(fewest, 1))
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        axes.legend(loc="lower right", fontsize=9)
    below.set_xlabel("share of reals above the threshold")
    return figure


def plot_auc(metrics: dict[str, Any]) -> Figure:
    """AUC of each source against every picture of the other kind, with 95 % intervals."""
    rows = sorted((row for row in metrics["sources"] if row["auc"]), key=lambda row: row["auc"]["value"])
    names = [f"{row['source']}, {'fake' if row['label'] else 'real'} (n {row['n']:,})" for row in rows]
    estimates = [row["auc"] for row in rows] + [metrics["overall"]["auc"]]
    names.append(f"all (n {metrics['overall']['n']:,})")
    colours = [FAKE if row["label"] else REAL for row in rows] + [INK]
    figure, axes = plt.subplots(figsize=(7, 0.42 * len(names) + 1.4))
    _draw_dots(axes, names, estimates, colours)
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1)
    axes.set(title="AUC by source, 95 % intervals", xlabel="AUC against all pictures of the other kind")
    axes.set_xlim(min(0.5, *(estimate["low"] for estimate in estimates)) - 0.02, 1.02)
    return figure


def plot_confusion(metrics: dict[str, Any]) -> Figure:
    """What real and fake pictures were called, as counts and shares of their row."""
    counts = np.array([[metrics["confusion"][kind][verdict] for verdict in VERDICTS] for kind in ("real", "fake")])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(7, 4))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(*counts.shape):
        colour = "white" if shares[row, column] > 0.55 else INK
        axes.text(
            column, row, f"{counts[row, column]}\n{shares[row, column]:.1%}", ha="center", va="center", color=colour
        )
    axes.set(title="What the pictures were called", xlabel="verdict", ylabel="truth",
             xticks=range(3), xticklabels=VERDICTS, yticks=range(2), yticklabels=["real", "fake"])  # fmt: skip
    axes.grid(False)
    return figure


def plot_calibration(metrics: dict[str, Any], scores: Scores) -> Figure:
    """How many were fakes among the pictures that got about the same probability, with 95 % intervals and counts."""
    probability, fake, group = scores["probability"], scores["label"] == 1, scores["group"]
    figure, (axes, counts) = plt.subplots(
        2, figsize=(7, 7.4), sharex=True, layout="constrained", gridspec_kw={"height_ratios": (3, 1)}
    )
    places = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="perfect")
    for place in np.unique(places):
        chosen = places == place
        _draw_interval(axes, probability[chosen].mean(), proportion(fake[chosen], group[chosen]).to_dict(), INK)
    numbers = np.bincount(places, minlength=CALIBRATION_BINS)
    bars = counts.bar(
        (np.arange(CALIBRATION_BINS) + 0.5) / CALIBRATION_BINS, numbers, 0.9 / CALIBRATION_BINS, color=GREY
    )
    counts.bar_label(bars, fontsize=9, padding=2)
    counts.margins(y=0.2)
    counts.set(xlabel="probability of being a fake", ylabel="pictures", xlim=(-0.01, 1.01))
    axes.set(title="Calibration, 95 % intervals", ylabel="share that were fakes", ylim=(-0.02, 1.02))
    words = f"calibration error {_shown(metrics['overall']['ece'])}\n"
    words += f"a perfect one stays under {metrics['overall']['ece_perfect']:.3f} in 95 of 100"
    axes.text(0.03, 0.97, words, transform=axes.transAxes, va="top", fontsize=9)
    return figure


def plot_histogram(metrics: dict[str, Any], scores: Scores) -> Figure:
    """The probabilities that real and fake pictures got, on the scale of log-odds, with the two thresholds."""
    figure, panels = plt.subplots(2, figsize=(7, 6), sharex=True, sharey=True, layout="constrained")
    edges = np.linspace(*_log_odds([EXTREME, 1 - EXTREME]), HISTOGRAM_BARS + 1)
    low, high = _log_odds([metrics["model"]["threshold_real"], metrics["model"]["threshold_fake"]])
    zones = ((edges[0], low, "called real"), (low, high, "inconclusive"), (high, edges[-1], "called deepfake"))
    # Reals lie on the left and fakes on the right, so that their names are out of the way on the other side.
    kinds = ((0, "real", REAL, "right", 0.98), (1, "fake", FAKE, "left", 0.02))
    for axes, (label, name, colour, side, x) in zip(panels, kinds, strict=True):
        own = _log_odds(scores["probability"][scores["label"] == label])
        axes.hist(own, edges, weights=np.full(len(own), 1 / len(own)), color=colour)
        axes.axvspan(low, high, color=GREY, alpha=0.18, linewidth=0, zorder=0)
        axes.set_ylabel(f"share of the {name} pictures")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        words = f"{name}, n {len(own):,}"
        axes.text(x, 0.86, words, transform=axes.transAxes, color=colour, weight="bold", ha=side)
    for start, stop, words in zones:
        panels[0].annotate(words, ((start + stop) / 2, 1), (0, 3), xycoords=("data", "axes fraction"),
                           textcoords="offset points", ha="center", fontsize=9, color=INK)  # fmt: skip
    panels[0].set_title("Probabilities of real and fake pictures", pad=20)
    panels[1].set(
        xlabel="probability of being a fake, scale of log-odds",
        xticks=_log_odds(SHOWN_PROBABILITIES),
        xticklabels=[f"{probability:g}" for probability in SHOWN_PROBABILITIES],
        xlim=(edges[0], edges[-1]),
    )
    return figure


def plot_size_errors(scores: Scores) -> Figure:
    """Error rates by the size of the face that decided."""
    size_px = np.where(scores["face_px"] > 0, scores["face_px"], np.nan)
    rates = {name: _rates(scores, chosen) for name, chosen in _bins(size_px).items()}
    missing = np.sum(np.isnan(size_px))
    without = f"; {missing:,} pictures without a face left out" if missing else ""
    return _draw_rates(rates, "Errors by size of the face", f"longer side of the face in pixels{without}")


def plot_quality_errors(scores: Scores) -> Figure:
    """Error rates by the JPEG quality of the stored file."""
    groups = _bins(scores["jpeg_quality"])
    if np.any(other := np.isnan(scores["jpeg_quality"])):
        groups["not JPEG"] = other
    rates = {name: _rates(scores, chosen) for name, chosen in groups.items()}
    return _draw_rates(rates, "Errors by JPEG quality", "quality of the stored file, from its quantisation table")


def plot_deliveries(metrics: dict[str, Any]) -> Figure:
    """Error rates of the same pictures after each delivery."""
    return _draw_rates(metrics["deliveries"], "Errors by delivery", "how the pictures arrived")


def plot_ablations(rows: list[dict[str, str]]) -> Figure:
    """Each figure of each run, with its 95 % interval, beside the first run's."""
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
    figure.suptitle("What each part is worth, 95 % intervals", x=0.01, ha="left", weight="bold", size="large")
    return figure


def read_scores(path: Path, delivery: str) -> Scores:
    """Read the rows of one delivery from scores.csv as columns (N,); an empty number is NaN."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["delivery"] == delivery]
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return columns | {name: np.array([float(row[name] or "nan") for row in rows]) for name in NUMBERS}


def _bins(values: np.ndarray) -> dict[str, np.ndarray]:
    """Cut numbers into about equally full bins without parting equal ones; a few different numbers each get their own.

    Returns:
        For the range of each bin, such as "81 to 120", its members as (N,) booleans; NaN is in none.
    """
    known = np.flatnonzero(np.isfinite(values))
    distinct, places = np.unique(values[known], return_inverse=True)
    if len(distinct) > RATE_BINS:
        places = (RATE_BINS * (rankdata(values[known]) - 0.5) / len(known)).astype(int)
    bins = {}
    for place in np.unique(places):
        members = known[places == place]
        low, high = values[members].min(), values[members].max()
        bins[f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"] = np.isin(np.arange(len(values)), members)
    return bins


def _rates(scores: Scores, chosen: np.ndarray) -> dict[str, dict[str, Any] | None]:
    """Estimate the RATES of some pictures; None where there is no picture of the kind."""
    label, verdict = scores["label"], scores["verdict"]
    return {
        figure: proportion(hits[own], scores["group"][own]).to_dict() if np.any(own) else None
        for figure, hits, own in (
            ("false_alarms", verdict == "deepfake", chosen & (label == 0)),
            ("misses", verdict == "real", chosen & (label == 1)),
            ("inconclusive", verdict == "inconclusive", chosen),
        )
    }


def _draw_rates(rates: Mapping[str, Mapping[str, Any]], title: str, xlabel: str) -> Figure:
    """Draw the RATES of each of several lots of pictures side by side, with their intervals and n."""
    figure, axes = plt.subplots(figsize=(7, 4.8))
    for (name, (colour, words)), shift in zip(RATES.items(), (-0.14, 0, 0.14), strict=True):
        axes.plot([], [], "o", color=colour, label=words)
        for place, figures in enumerate(rates.values()):
            if figures[name]:
                _draw_interval(axes, place + shift, figures[name], colour)
    lots = [
        f"{name}\n" + "\n".join(f"{figures[key]['n'] if figures[key] else 0:,} {kind}" for key, kind in
                                 (("false_alarms", "real"), ("misses", "fake")))
        for name, figures in rates.items()
    ]  # fmt: skip
    axes.set(xlabel=xlabel, ylabel="share", xticks=range(len(lots)), xticklabels=lots)
    axes.set_title(f"{title}, 95 % intervals", pad=26)
    axes.tick_params(axis="x", labelsize=9)
    axes.grid(False, axis="x")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlim(-0.5, len(lots) - 0.5)
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=9, borderaxespad=0.2)
    return figure


def _draw_interval(axes: Axes, x: float, estimate: Mapping[str, float], colour: str) -> None:
    """Draw an estimate upright: a dot and its interval."""
    axes.plot([x, x], [estimate["low"], estimate["high"]], color=colour, linewidth=2)
    axes.plot(x, estimate["value"], "o", color=colour, clip_on=False)


def _draw_dots(axes: Axes, names: list[str], estimates: list[Mapping[str, float] | None], colours: list[str]) -> None:
    """Draw a named row for each estimate, from the bottom up: a dot, its interval and its value."""
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


def _log_odds(probabilities) -> np.ndarray:
    clipped = np.clip(probabilities, EXTREME, 1 - EXTREME)
    return np.log(clipped / (1 - clipped))


def _shown(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def main(argv: list[str] | None = None) -> None:
    """Draw every plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "visualizations", help="where scores and plots are")
    folder = parser.parse_args(argv).folder
    if not (folder / "metrics.json").is_file() or not (folder / "scores.csv").is_file():
        raise SystemExit(f"There are no scores in {folder}. Make them with: python scripts/evaluate.py")
    metrics = json.loads((folder / "metrics.json").read_text())
    if "families" not in metrics:
        raise SystemExit(
            f"The scores in {folder} are of an older kind. Make them again with: python scripts/evaluate.py"
        )
    scores = read_scores(folder / "scores.csv", "stored")
    plt.rcParams.update(STYLE)
    figures = {
        "acc": plot_accuracy(metrics),
        "roc": plot_roc(metrics, scores),
        "auc": plot_auc(metrics),
        "cm": plot_confusion(metrics),
        "roc_sources": plot_source_roc(metrics, scores),
        "calibration": plot_calibration(metrics, scores),
        "histogram": plot_histogram(metrics, scores),
        "errors_size": plot_size_errors(scores),
        "errors_quality": plot_quality_errors(scores),
        "deliveries": plot_deliveries(metrics),
    }
    if (folder / "ablations.csv").is_file():
        with open(folder / "ablations.csv", newline="", encoding="utf-8") as file:
            figures["ablations"] = plot_ablations(list(csv.DictReader(file)))
    for name, figure in figures.items():
        # Without the writer's name and version the same scores give the same bytes.
        figure.savefig(folder / f"{name}.png", bbox_inches="tight", metadata={"Software": None})
        plt.close(figure)
        print(f"wrote {folder / name}.png")


if __name__ == "__main__":
    main()
