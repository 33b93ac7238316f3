"""The networks of student projects beside the project's own, trained on the same pictures with the same budget."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import cv2
import numpy as np

from detector.media.degradations import UNDEGRADED
from detector.models.engines import FastEngine
from detector.models.spec import file_sha256
from training.ablation import check_run_names, train_into, write_figures
from training.benchmarks import take_turns
from training.calibrating import calibrate
from training.exporting import export
from training.manifests import ROOT, read_manifest, split_train_calibration
from training.runs import replace_file
from training.scoring import load_scoring_detector, read_split, score
from training.settings import RECONSTRUCT, SELF_BLEND, TrainingSettings, autoencoders_sha256, weights_settings
from training.tables import (
    VISUALIZATIONS,
    EstimateDict,
    format_estimate,
    format_header,
    format_row,
    measure_rows,
)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

COMPARISON_EPOCHS = 2
STUDENTS = {"weight_decay": 0.0, "label_smoothing": 0.0}  # Adam and plain cross-entropy
# The settings of each run, and how many pictures an epoch of about five minutes allows.
COMPARISON_RUNS: dict[str, dict[str, Any]] = {
    "three convolutions": {
        "network": "cnn",
        "input_size_px": 128,
        "epoch_samples": 48_000,
        "dropout": 0.5,
        **STUDENTS,
    },
    "VGG19": {
        "network": "vgg19",
        "input_size_px": 224,
        "epoch_samples": 640,
        "learning_rate": 1e-4,
        **STUDENTS,
    },
    "Xception": {"network": "xception", "input_size_px": 224, "epoch_samples": 2_400, **STUDENTS},
    "ours": {"network": "mobilenet", "input_size_px": 192, "epoch_samples": 13_600},
    "ours, with fakes of its own making": {
        "network": "mobilenet",
        "input_size_px": 192,
        "epoch_samples": 13_600,
        "self_blend": SELF_BLEND,
        "reconstruct": RECONSTRUCT,
    },
}
COMPARED_FIGURES = ("auc", "accuracy_all", "f1", "false_alarms", "misses", "inconclusive")
CALIBRATION_STEP = 3  # every third calibration picture: all of them, in four degradations, take VGG19 half an hour
TIMED_ROUNDS = 50


@dataclass(frozen=True)
class ComparisonOptions:
    """The command line of compare.py.

    Attributes:
        manifest: manifest of labelled pictures
        body: weights that the project's own network starts from: imagenet or a .weights.h5 file
        weights: weights that VGG19 and Xception start from
        only: names of the runs; by default all
        runs: folder of the runs
        out: CSV file of the table
    """

    manifest: Path
    body: str
    weights: Literal["none", "imagenet"] = "none"
    only: tuple[str, ...] = tuple(COMPARISON_RUNS)
    runs: Path = ROOT / "runs" / "comparison"
    out: Path = VISUALIZATIONS / "comparison.csv"

    def __post_init__(self) -> None:
        check_run_names(self.only, COMPARISON_RUNS)


def compare_networks(options: ComparisonOptions) -> None:
    """Train and measure the requested runs, print the table and write it after each run."""
    cv2.setNumThreads(1)  # the pools are the parallelism
    table: dict[str, dict[str, Any]] = {}
    print(format_header("network", "pictures shown", *COMPARED_FIGURES, "network, ms"))
    for name in options.only:
        settings = run_settings(name, options)
        figures = table[name] = score_network(settings, options.runs / name.replace(" ", "_"))
        shown = f"{settings.epochs * settings.epoch_samples:,}"
        cells = [format_estimate(figures[figure]) for figure in COMPARED_FIGURES]
        print(format_row(name, shown, *cells, f"{figures['network_ms']:.1f}"), flush=True)
        replace_file(options.out, partial(write_table, table))


def run_settings(name: str, options: ComparisonOptions) -> TrainingSettings:
    """Return the settings of a run of COMPARISON_RUNS."""
    changes = COMPARISON_RUNS[name]
    start = weights_settings({"cnn": "none", "mobilenet": options.body}.get(changes["network"], options.weights))
    settings = TrainingSettings(
        manifest=str(options.manifest.resolve()),
        manifest_sha256=file_sha256(options.manifest),
        network="",
        weights=start["weights"],
        weights_sha256=start["weights_sha256"],
        input_size_px=0,
        epochs=COMPARISON_EPOCHS,
        epoch_samples=0,
        batch=32,
        self_blend=0.0,
        seed=1,
    )
    settings = replace(settings, **changes)
    return replace(settings, autoencoders_sha256=autoencoders_sha256()) if settings.reconstruct else settings


def score_network(settings: TrainingSettings, run: Path) -> dict[str, Any]:
    """Train, calibrate, export and score one run, or find the figures of an earlier call.

    Returns:
        The estimates of COMPARED_FIGURES, and `network_ms`, which is measured at every call.
    """
    manifest = Path(settings.manifest)
    model, exported, kept = train_into(run, settings), run / "face.onnx", run / "figures.json"
    if not kept.is_file():
        _, examples = split_train_calibration(read_manifest(manifest))
        calibrate(model, examples[::CALIBRATION_STEP])
        export(model, exported)
        detector, held_out = load_scoring_detector(exported), read_split(manifest, "val")
        measured = measure_rows(score(detector, held_out, manifest.parent, degradations=(UNDEGRADED,)))
        figures = {name: measured[name] for name in COMPARED_FIGURES}
        replace_file(kept, lambda path: path.write_text(json.dumps(figures)))
    return {**json.loads(kept.read_text()), "network_ms": time_network_ms(exported)}


def time_network_ms(exported: Path) -> float:
    """Return the median time of the network on one crop, in the fast engine with one thread."""
    engine = FastEngine(exported, threads=1)
    side = engine.spec.face.size_px
    crop = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    return median(take_turns({"network": lambda: engine.run(crop)}, TIMED_ROUNDS)["network"])


def write_table(table: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write a row for each run and figure, its milliseconds last."""
    rows: dict[str, dict[str, EstimateDict]] = {}
    for name, figures in table.items():
        timed = {"value": round(figures["network_ms"], 1), "low": "", "high": "", "n": TIMED_ROUNDS}
        rows[name] = {**{figure: figures[figure] for figure in COMPARED_FIGURES}, "network_ms": timed}
    write_figures(rows, path)
