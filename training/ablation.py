"""Short training runs, each without one part of the training, and the figures that show the effect of each part."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detector.media.degradations import TIERS, UNDEGRADED
from detector.models.spec import FaceInput, ModelSpec, file_sha256
from training.batches import CROP_MARGIN
from training.calibrating import UNCALIBRATED, save_model
from training.exporting import export
from training.fitting import train
from training.manifests import ROOT, Example, read_manifest, split_train_calibration
from training.runs import open_run, replace_file
from training.scoring import load_scoring_detector, score
from training.settings import TrainingSettings, autoencoders_sha256, is_whole_model, weights_settings
from training.tables import (
    SWAPS,
    VISUALIZATIONS,
    EstimateDict,
    Row,
    ScoreTable,
    family_of,
    format_estimate,
    format_header,
    format_row,
)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

GENERATORS_LEFT_OUT = ("face-swap", "stylegan")  # prefixes of their names
ABLATION_EPOCHS, ABLATION_EPOCH_SAMPLES = 2, 12_000
ABLATION_SIZE_PX = 128
# Proportions of the fakes made during training: larger than train.py's own, since few other kinds of fakes are left.
ABLATION_SELF_BLEND, ABLATION_RECONSTRUCT = 0.45, 0.3
# What each run changes in the settings of the first.
ABLATION_RUNS: dict[str, dict[str, Any]] = {
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


@dataclass(frozen=True)
class AblationOptions:
    """The command line of ablate.py.

    Attributes:
        manifest: manifest of labelled pictures
        weights: imagenet, none or a .weights.h5 file of the body
        network: architecture
        only: names of the runs; by default all
        runs: folder of the runs
        out: CSV file of the figures
    """

    manifest: Path
    weights: str
    network: str = "mobilenet"
    only: tuple[str, ...] = tuple(ABLATION_RUNS)
    runs: Path = ROOT / "runs" / "ablation"
    out: Path = VISUALIZATIONS / "ablations.csv"

    def __post_init__(self) -> None:
        check_run_names(self.only, ABLATION_RUNS)
        if is_whole_model(self.weights):
            raise ValueError("--weights: every run leaves something out, and a model.h5 may have learned from it")


def check_run_names(names: tuple[str, ...], runs: Mapping[str, object]) -> None:
    """Check the value of --only.

    Raises:
        ValueError: there is no run of that name.
    """
    if unknown := sorted(set(names) - set(runs)):
        raise ValueError(f"--only: there is no run {unknown[0]!r}; the runs are {', '.join(map(repr, runs))}")


def run_ablations(options: AblationOptions) -> None:
    """Train and measure the requested runs, print their figures and write them after each run."""
    settings = base_settings(options)
    cv2.setNumThreads(1)  # the pools are the parallelism
    figures: dict[str, dict[str, EstimateDict]] = {}
    print(format_header("run", "figure, AUC (95% interval)", "n"))
    for name in options.only:
        changed = replace(settings, **ABLATION_RUNS[name])
        model = train_into(options.runs / name.replace(" ", "_"), changed)
        figures[name] = measure_run(score_calibration_split(model, changed))
        for figure, found in figures[name].items():
            print(format_row(name, f"{figure}: {format_estimate(found)}", found["n"]), flush=True)
        replace_file(options.out, partial(write_figures, figures))


def base_settings(options: AblationOptions) -> TrainingSettings:
    """Return the settings of the first run."""
    start = weights_settings(options.weights)
    return TrainingSettings(
        manifest=str(options.manifest.resolve()),
        manifest_sha256=file_sha256(options.manifest),
        network=options.network,
        weights=start["weights"],
        weights_sha256=start["weights_sha256"],
        input_size_px=ABLATION_SIZE_PX,
        epochs=ABLATION_EPOCHS,
        epoch_samples=ABLATION_EPOCH_SAMPLES,
        batch=32,
        self_blend=ABLATION_SELF_BLEND,
        reconstruct=ABLATION_RECONSTRUCT,
        autoencoders_sha256=autoencoders_sha256(),
        leave_out=GENERATORS_LEFT_OUT,
        seed=1,
    )


def train_into(run: Path, settings: TrainingSettings) -> Path:
    """Train a run, or find the model that an earlier call trained with the same settings.

    Returns:
        Its model.h5, not calibrated.

    Raises:
        SystemExit: the folder holds a run with other settings.
    """
    open_run(run, settings)
    model = run / "model.h5"
    if not model.is_file():
        network, _, account = train(settings, run)
        face = FaceInput(settings.input_size_px, CROP_MARGIN)
        save_model(model, network, ModelSpec(settings.network, face, UNCALIBRATED, account))
    return model


def score_calibration_split(model: Path, settings: TrainingSettings) -> list[Row]:
    """Score the calibration split, or read the scores of an earlier call."""
    _, examples = split_train_calibration(read_manifest(Path(settings.manifest)))
    return score_once(model, examples, Path(settings.manifest).parent)


def score_once(model: Path, examples: list[Example], folder: Path) -> list[Row]:
    """Score pictures as the server would, or read the scores that an earlier call left beside the model.

    Args:
        model: model.h5 of a run.
        examples: the same pictures in every call.
        folder: that the paths in the rows are relative to.
    """
    scores = model.with_name("scores.json")
    if not scores.is_file():
        exported = model.with_name("face.onnx")
        export(model, exported)
        rows = score(load_scoring_detector(exported), examples, folder)
        replace_file(scores, lambda part: part.write_text(json.dumps(rows)))
    kept: list[Row] = json.loads(scores.read_text())
    return kept


def measure_run(rows: list[Row]) -> dict[str, EstimateDict]:
    """Compute AUCs against all reals: of each kind of fakes, and of all fakes after the worst degradation."""
    stored = [row for row in rows if row["delivery"] == UNDEGRADED]
    table = ScoreTable(stored)
    families = np.array([family_of(row["generator"]) for row in stored])
    real, swap, stylegan = table.label == 0, families == SWAPS, families == "StyleGAN"
    figures = {
        "diffusion": table.auc(chosen=real | ~(swap | stylegan)),
        "StyleGAN": table.auc(chosen=real | stylegan),
        "swaps": table.auc(chosen=real | swap),
    }
    tiers = [ScoreTable([row for row in rows if row["delivery"] == tier]).auc() for tier in TIERS]
    figures["all, worst delivery"] = min(filter(None, tiers), key=lambda estimate: estimate["value"], default=None)
    return {name: estimate for name, estimate in figures.items() if estimate}


def write_figures(figures: Mapping[str, Mapping[str, EstimateDict]], path: Path) -> None:
    """Write a row for each run and figure, with ABLATION_COLUMNS."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ABLATION_COLUMNS, lineterminator="\n")
        writer.writeheader()
        for name, measured in figures.items():
            for figure, estimate in measured.items():
                values = {key: estimate[key] for key in ABLATION_COLUMNS[2:]}
                writer.writerow({"name": name, "figure": figure, **values})
