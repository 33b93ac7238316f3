"""Train the same small run once whole and once without each of its parts, and say what each part is worth.

    python scripts/ablate.py --manifest FACES.csv --weights BODY.weights.h5     # about six minutes a run on two cores

Face swaps and StyleGAN pictures are left out of these runs and judged all the same: what a part is worth is what it
does to fakes of a kind that was never seen. The last two runs are shown one of the two, which leaves one generator out
as others do. Everything is judged on the tuning pictures. Writes visualizations/ablations.csv, which scripts/plot.py
draws.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detector.media.degradations import TIERS
from detector.models.spec import FaceInput, ModelSpec, file_sha256
from detector.pictures.detect import load_picture_detector
from training.batches import CROP_MARGIN
from training.calibrating import UNCALIBRATED, save_model
from training.exporting import export
from training.fitting import train
from training.manifests import ROOT, read_manifest, replace_file, split_train_calibration
from training.runs import open_run
from training.scoring import SWAPS, Table, family_of, score
from training.settings import TrainingSettings, autoencoders_sha256, weights_settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

LEFT_OUT = ("face-swap", "stylegan")  # generators that begin so
EPOCHS, EPOCH_SAMPLES = 2, 12_000
SIZE_PX = 128
# Shares of the fakes made on line: more than train.py's own, since so few kinds of fakes are left beside them.
SELF_BLEND, RECONSTRUCT = 0.45, 0.3
# What each run changes in the settings of the first.
RUNS: dict[str, dict[str, Any]] = {
    "whole": {},
    "without self-blends": {"self_blend": 0.0},
    "without reconstructions": {"reconstruct": 0.0},
    "without damage": {"damaged": False},
    "without balanced sources": {"balanced": False},
    "at 96 pixels": {"input_size_px": 96},
    "at 160 pixels": {"input_size_px": 160},
    "with StyleGAN shown": {"leave_out": ("face-swap",)},
    "with swaps shown": {"leave_out": ("stylegan",)},
}
ABLATION_COLUMNS = ("name", "figure", "value", "low", "high", "n")


def train_into(run: Path, settings: TrainingSettings) -> Path:
    """Train a run, or find what an earlier call trained with the same settings; returns its model.h5, not calibrated.

    Raises:
        SystemExit: the folder holds a run with other settings.
    """
    open_run(run, settings)
    model = run / "model.h5"
    if not model.is_file():
        network, _, account = train(settings, run)
        save_model(
            model,
            network,
            ModelSpec(settings.network, FaceInput(settings.input_size_px, CROP_MARGIN), UNCALIBRATED, account),
        )
    return model


def score_calibration_split(model: Path, settings: TrainingSettings) -> list[dict[str, Any]]:
    """Score the tuning pictures with a model as the server would, or read the scores of an earlier call."""
    scores = model.with_name("scores.json")
    if not scores.is_file():
        export(model, model.with_name("face.onnx"))
        _, tune = split_train_calibration(read_manifest(Path(settings.manifest)))
        judge = load_picture_detector(model.with_name("face.onnx"), threads=1)
        rows = score(judge, tune, Path(settings.manifest).parent)
        replace_file(scores, lambda part: part.write_text(json.dumps(rows)))
    return json.loads(scores.read_text())


def measure_run(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return AUCs against all reals: of each kind of fakes, and of all in the delivery that costs most."""
    stored = [row for row in rows if row["delivery"] == "stored"]
    table = Table(stored)
    families = np.array([family_of(row["generator"]) for row in stored])
    real, swap, stylegan = table.label == 0, families == SWAPS, families == "StyleGAN"
    figures = {
        "diffusion": table.auc(chosen=real | ~(swap | stylegan)),
        "StyleGAN": table.auc(chosen=real | stylegan),
        "swaps": table.auc(chosen=real | swap),
    }
    tiers = [Table([row for row in rows if row["delivery"] == tier]).auc() for tier in TIERS]
    figures["all, worst delivery"] = min(filter(None, tiers), key=lambda estimate: estimate["value"], default=None)
    return {name: estimate for name, estimate in figures.items() if estimate}


def write_figures(figures: dict[str, dict[str, dict[str, Any]]], path: Path) -> None:
    """Write a row for each run and figure."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ABLATION_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for name, measured in figures.items():
            for figure, estimate in measured.items():
                writer.writerow(
                    {"name": name, "figure": figure, **{key: estimate[key] for key in ABLATION_COLUMNS[2:]}}
                )


def main(argv: list[str] | None = None) -> None:
    """Run what is asked for, print and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--weights", required=True, help="imagenet, none or a .weights.h5 file of the body")
    parser.add_argument("--network", default="mobilenet")
    parser.add_argument("--only", nargs="*", choices=RUNS, default=list(RUNS), help="some of the runs")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "ablation")
    parser.add_argument("--out", type=Path, default=ROOT / "visualizations" / "ablations.csv")
    options = parser.parse_args(argv)
    settings = TrainingSettings(
        manifest=str(options.manifest.resolve()),
        manifest_sha256=file_sha256(options.manifest),
        network=options.network,
        **weights_settings(options.weights),
        input_size_px=SIZE_PX,
        epochs=EPOCHS,
        epoch_samples=EPOCH_SAMPLES,
        batch=32,
        self_blend=SELF_BLEND,
        reconstruct=RECONSTRUCT,
        autoencoders_sha256=autoencoders_sha256(),
        leave_out=LEFT_OUT,
        seed=1,
    )
    cv2.setNumThreads(1)  # the pools are the parallelism
    figures = {}
    print("| run | " + " | ".join(["figure, AUC (95 % interval)", "n"]) + " |\n| --- | --- | --- |")
    for name in options.only:
        chosen = replace(settings, **RUNS[name])
        figures[name] = measure_run(
            score_calibration_split(train_into(options.runs / name.replace(" ", "_"), chosen), chosen)
        )
        for figure, found in figures[name].items():
            shown = f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
            print(f"| {name} | {figure}: {shown} | {found['n']} |", flush=True)
        replace_file(options.out, partial(write_figures, figures))


if __name__ == "__main__":
    main()
