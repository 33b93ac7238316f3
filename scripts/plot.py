"""Draw the plots of visualizations/ from its scores.csv and metrics.json.

    python scripts/plot.py

No network is run: whoever has the two files can draw the plots again.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from manifests import ROOT
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

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


def plot_roc(metrics: dict[str, Any], rows: list[dict[str, Any]]) -> Figure:
    """The ROC curve over everything, and one for each source of fakes against all reals."""
    label, logit, source = (np.array([row[name] for row in rows]) for name in ("label", "logit", "source"))
    figure, axes = plt.subplots(figsize=(7, 6.4))
    for name in sorted(set(source[label == 1])):
        chosen = (label == 0) | (source == name)
        alarms, hits, _ = roc_curve(label[chosen], logit[chosen])
        axes.plot(alarms, hits, linewidth=1.1, alpha=0.8, label=f"{name} (n {np.sum((source == name) & (label == 1))})")
    alarms, hits, _ = roc_curve(label, logit)
    auc = metrics["overall"]["auc"]
    axes.plot(alarms, hits, color=INK, linewidth=2.6, label=f"all (n {np.sum(label == 1)}), AUC {_shown(auc)}")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    called = np.array([row["verdict"] for row in rows])
    for above, colour, name in (
        (called == "deepfake", FAKE, "called deepfake"),
        (called != "real", REAL, "not called real"),
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


def plot_auc(metrics: dict[str, Any]) -> Figure:
    """AUC of each source against every picture of the other kind, with 95 % intervals."""
    rows = sorted((row for row in metrics["sources"] if row["auc"]), key=lambda row: row["auc"]["value"])
    names = [f"{row['source']}, {'fake' if row['label'] else 'real'} (n {row['n']})" for row in rows]
    estimates = [row["auc"] for row in rows] + [metrics["overall"]["auc"]]
    names.append(f"all (n {metrics['overall']['n']})")
    colours = [FAKE if row["label"] else REAL for row in rows] + [INK]
    figure, axes = plt.subplots(figsize=(7, 0.42 * len(names) + 1.4))
    for place, (estimate, colour) in enumerate(zip(estimates, colours, strict=True)):
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
    axes.axvline(0.5, color=GREY, linestyle=":", linewidth=1)
    axes.set(
        title="AUC by source, 95 % intervals",
        xlabel="AUC against all pictures of the other kind",
        yticks=range(len(names)),
        yticklabels=names,
    )
    axes.set_ylim(-0.6, len(names) - 0.2)
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


def read_scores(path: Path, delivery: str) -> list[dict[str, Any]]:
    """Read the rows of one delivery from scores.csv, numbers as numbers."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["delivery"] == delivery]
    return [{**row, "label": int(row["label"]), "logit": float(row["logit"])} for row in rows]


def _shown(estimate: dict[str, Any]) -> str:
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def main(argv: list[str] | None = None) -> None:
    """Draw every plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "visualizations", help="where scores and plots are")
    folder = parser.parse_args(argv).folder
    if not (folder / "metrics.json").is_file() or not (folder / "scores.csv").is_file():
        raise SystemExit(f"There are no scores in {folder}. Make them with: python scripts/evaluate.py")
    metrics = json.loads((folder / "metrics.json").read_text())
    rows = read_scores(folder / "scores.csv", "stored")
    plt.rcParams.update(STYLE)
    figures = {
        "acc": plot_accuracy(metrics),
        "roc": plot_roc(metrics, rows),
        "auc": plot_auc(metrics),
        "cm": plot_confusion(metrics),
    }
    for name, figure in figures.items():
        # Without the writer's name and version the same scores give the same bytes.
        figure.savefig(folder / f"{name}.png", bbox_inches="tight", metadata={"Software": None})
        plt.close(figure)
        print(f"wrote {folder / name}.png")


if __name__ == "__main__":
    main()
