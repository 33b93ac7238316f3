"""Train the networks of student projects beside ours, on the same pictures with the same small budget, and compare.

    python scripts/compare.py --manifest FACES.csv --body BODY.weights.h5     # about ten minutes a run on two cores

The budget is time: each run shows its network what about ten minutes on two cores allow. The first three have such
projects' networks, input sizes, optimizer and loss, and start from nothing unless --weights imagenet is given; ours
starts from --body. Sampling, damage, schedule and averaging of the weights are ours in all of them.
Each is calibrated on a third of the tuning pictures and judged on the held-out ones by the code behind
scripts/evaluate.py. A call that was stopped goes on where it was.
Writes visualizations/comparison.csv.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from detector.models.engines import FastEngine
from detector.models.spec import file_sha256
from detector.pictures.detect import load_picture_detector
from training.ablation import train_into, write_figures
from training.benchmarks import take_turns
from training.calibrating import calibrate
from training.exporting import export
from training.manifests import ROOT, read_manifest, replace_file, split_train_calibration
from training.scoring import STORED, measure_rows, read_split, score
from training.settings import RECONSTRUCT, SELF_BLEND, TrainingSettings, autoencoders_sha256, weights_settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

EPOCHS = 2
STUDENTS = {"weight_decay": 0.0, "label_smoothing": 0.0}  # Adam and plain cross-entropy
# What each run is, and how many pictures an epoch about five minutes allow.
RUNS: dict[str, dict[str, Any]] = {
    "three convolutions": {"network": "cnn", "input_size_px": 128, "epoch_samples": 48_000, "dropout": 0.5, **STUDENTS},
    "VGG19": {"network": "vgg19", "input_size_px": 224, "epoch_samples": 640, "learning_rate": 1e-4, **STUDENTS},
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
FIGURES = ("auc", "accuracy_all", "f1", "false_alarms", "misses", "inconclusive")
TUNE_STEP = 3  # every third tuning picture calibrates: all of them, in four deliveries, take VGG19 half an hour
TIMED_ROUNDS = 50


def network_ms(exported: Path) -> float:
    """Return the median time of the network on one crop, in the fast engine with one thread."""
    engine = FastEngine(exported, threads=1)
    side = engine.spec.face.size_px
    crop = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), dtype=np.uint8)
    return median(take_turns({"network": lambda: engine.run(crop)}, TIMED_ROUNDS)["network"])


def score_network(settings: TrainingSettings, run: Path) -> dict[str, Any]:
    """Train, calibrate, export and judge one run, or find what an earlier call has judged.

    Returns:
        Its figures, and its milliseconds, which are taken at every call.
    """
    manifest = Path(settings.manifest)
    model, exported, judged = train_into(run, settings), run / "face.onnx", run / "figures.json"
    if not judged.is_file():
        _, tune = split_train_calibration(read_manifest(manifest))
        calibrate(model, tune[::TUNE_STEP])
        export(model, exported)
        network, held_out = load_picture_detector(exported, threads=1), read_split(manifest, "val")
        measured = measure_rows(score(network, held_out, manifest.parent, deliveries=(STORED,)))
        replace_file(judged, lambda path: path.write_text(json.dumps({name: measured[name] for name in FIGURES})))
    return {**json.loads(judged.read_text()), "network_ms": network_ms(exported)}


def write_table(table: dict[str, dict[str, Any]], path: Path) -> None:
    """Write a row for each run and figure, its milliseconds last."""
    rows = {}
    for name, figures in table.items():
        timed = {"value": round(figures["network_ms"], 1), "low": "", "high": "", "n": TIMED_ROUNDS}
        rows[name] = {**{figure: figures[figure] for figure in FIGURES}, "network_ms": timed}
    write_figures(rows, path)


def main(argv: list[str] | None = None) -> None:
    """Run what is asked for, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--weights", choices=("none", "imagenet"), default="none", help="of VGG19 and Xception")
    parser.add_argument("--body", required=True, help="where ours starts: imagenet or a .weights.h5 file")
    parser.add_argument("--only", nargs="*", choices=RUNS, default=list(RUNS), help="some of the runs")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "comparison")
    parser.add_argument("--out", type=Path, default=ROOT / "visualizations" / "comparison.csv")
    options = parser.parse_args(argv)
    base = TrainingSettings(
        manifest=str(options.manifest.resolve()),
        manifest_sha256=file_sha256(options.manifest),
        network="",
        weights="none",
        weights_sha256="",
        input_size_px=0,
        epochs=EPOCHS,
        epoch_samples=0,
        batch=32,
        self_blend=0.0,
        seed=1,
    )
    starts = {"cnn": "none", "mobilenet": options.body}
    cv2.setNumThreads(1)  # the pools are the parallelism
    table = {}
    print("| network | pictures shown | " + " | ".join(FIGURES) + " | network, ms |")
    print("| --- " * (len(FIGURES) + 3) + "|")
    for name in options.only:
        settings = replace(base, **RUNS[name])
        settings = replace(settings, **weights_settings(starts.get(settings.network, options.weights)))
        if settings.reconstruct:
            settings = replace(settings, autoencoders_sha256=autoencoders_sha256())
        figures = table[name] = score_network(settings, options.runs / name.replace(" ", "_"))
        shown = [f"{e['value']:.3f} ({e['low']:.3f} to {e['high']:.3f})" for e in map(figures.get, FIGURES)]
        seen = settings.epochs * settings.epoch_samples
        print(f"| {name} | {seen:,} | " + " | ".join(shown) + f" | {figures['network_ms']:.1f} |", flush=True)
        replace_file(options.out, partial(write_table, table))


if __name__ == "__main__":
    main()
