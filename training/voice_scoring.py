"""Make figures of what the voice network's folds answered, and with --val of the shipped network's false alarms.

    python scripts/evaluate_audio.py --run runs/voice-1234abcd
    python scripts/evaluate_audio.py --run runs/voice-1234abcd --val SPEECH.csv     # also reads the split val

Writes visualizations/voice_scores.csv, a row an answer, and visualizations/voice_metrics.json, the figures with their n
and 95 % intervals (bootstrap over speakers). An answer is of a network that had learned from neither its speaker nor
its generator (or its family of generators); see scripts/train_audio.py. Verdicts and probabilities are those of a line
and thresholds fitted to the answers in the other parts of the speakers. With the shipped model it also writes
models/voice.reference_scores.json, from which a person reads how many held-out recordings scored like theirs.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from detector.metrics import bootstrap, calibration_error, perfect_calibration_error, proportion
from detector.models.reference_scores import ReferenceScores
from detector.results import DetectorError, Verdict
from detector.verdicts import classify
from detector.voices.detect import REFERENCE_SIZE_PX, VOICE_REFERENCE_SCORES_FILE, VoiceDetector, load_voice_detector
from training.manifests import ROOT, replace_file
from training.vocoders import WAVEFORM_DEGRADATIONS
from training.voice_fitting import (
    FAMILY,
    GENERATOR,
    STORED_VOICE,
    Sounds,
    fit_calibration,
    read_fold_predictions,
    read_speech,
    to_float,
)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

VOICE_SCORE_COLUMNS = (
    "recording", "label", "source", "generator", "group", "held", "left_out", "part", "delivery", "logit",
    "probability", "verdict", "reasons",
)  # fmt: skip
OUT = ROOT / "visualizations"
DEGRADED = "damaged"  # every delivery but the stored one, together
MIN_FAKES = 5  # of a generator, or its AUC is listed but does not count in the mean


def score_recordings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add probability and verdict to answers, by a calibration that has not seen their part of the speakers."""
    judged = []
    for part in sorted({row["part"] for row in rows}):
        calibration = fit_calibration([row for row in rows if row["held"] == FAMILY and row["part"] != part])
        for row in (row for row in rows if row["part"] == part):
            probability = calibration.probability(row["logit"])
            verdict = Verdict.INCONCLUSIVE if row["reasons"] else classify(probability, calibration)
            judged.append({**row, "probability": round(probability, 6), "verdict": str(verdict)})
    return judged


def draw_predictions(rows: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    """Keep the answers of one network for each recording: a real is asked of many, which makes it no more reals."""
    rng, drawn = np.random.default_rng(seed), {}
    for recording in sorted({row["recording"] for row in rows}):
        folds = sorted({(row["left_out"], row["part"]) for row in rows if row["recording"] == recording})
        drawn[recording] = folds[rng.integers(len(folds))]
    return [row for row in rows if drawn[row["recording"]] == (row["left_out"], row["part"])]


def mean_auc(label: np.ndarray, logit: np.ndarray, unit: np.ndarray) -> float:
    """Return the mean over units, a generator in a delivery each, of the AUC of the answers in it.

    All units are ranked at once, since a hundred of them are resampled a thousand times; ties count against the fakes.

    Args:
        label: (N,) 1 = fake.
        logit: (N,) larger means more suspicious.
        unit: (N,) numbers from 0.

    Raises:
        ValueError: no unit has both fakes and reals.
    """
    order = np.lexsort((-label, logit, unit))
    fake, unit = label[order] == 1, unit[order]
    n_fake, n_real = np.bincount(unit, fake), np.bincount(unit, ~fake)
    reals_in_units_before = np.cumsum(n_real) - n_real
    wins = np.bincount(unit, fake * (np.cumsum(~fake) - reals_in_units_before[unit]))
    both = (n_fake > 0) & (n_real > 0)
    if not both.any():
        raise ValueError("no unit has both fakes and reals")
    return float(np.mean(wins[both] / (n_fake * n_real)[both]))


def measure_folds(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of the answers of one kind of fold in some deliveries; the interval is over speakers.

    `auc` is the mean over generators, or families, with MIN_FAKES fakes; `auc_within_source` the same against the reals
    of the fakes' own sources alone. The rates are over one drawn answer a recording and delivery.
    """
    label, logit, group, left_out, source, recording = _columns(
        rows, "label", "logit", "group", "left_out", "source", "recording"
    )
    _, unit = np.unique([f"{row['left_out']} {row['delivery']}" for row in rows], return_inverse=True)
    names = np.unique(left_out)
    fakes = {name: len(np.unique(recording[(left_out == name) & (label == 1)])) for name in names}
    counted = np.isin(left_out, [name for name in names if fakes[name] >= MIN_FAKES])
    sources = {name: np.unique(source[(left_out == name) & (label == 1)]) for name in names}
    within = counted & np.array([s in sources[name] for s, name in zip(source, left_out, strict=True)])

    def area(chosen: np.ndarray) -> dict[str, Any] | None:
        try:
            return bootstrap(mean_auc, group[chosen], label[chosen], logit[chosen], unit[chosen]).to_dict()
        except ValueError:
            return None

    one = draw_predictions(rows)
    truth, verdict, speaker, probability = _columns(one, "label", "verdict", "group", "probability")
    in_scope = np.array([not row["reasons"] for row in one])
    real, fake = truth == 0, truth == 1
    return {
        "n_generators": int(sum(count >= MIN_FAKES for count in fakes.values())),
        "n_real": len(np.unique(recording[label == 0])),
        "n_fake": len(np.unique(recording[label == 1])),
        "n_speakers": len(np.unique(group)),
        "auc": area(counted),
        "auc_within_source": area(within),
        "false_alarms": proportion(verdict[real] == Verdict.DEEPFAKE, speaker[real]).to_dict(),
        "misses": proportion(verdict[fake] == Verdict.REAL, speaker[fake]).to_dict(),
        "fakes_found": proportion(verdict[fake] == Verdict.DEEPFAKE, speaker[fake]).to_dict(),
        "inconclusive": proportion(verdict == Verdict.INCONCLUSIVE, speaker).to_dict(),
        "ece": bootstrap(
            calibration_error, speaker[in_scope], truth[in_scope], probability[in_scope], pivot=True
        ).to_dict(),
        "ece_perfect": perfect_calibration_error(probability[in_scope]),
        "generators": [
            {
                "name": str(name),
                "n": fakes[name],
                "n_speakers": len(np.unique(group[(left_out == name) & (label == 1)])),
                "auc": area(left_out == name),
            }
            for name in sorted(names)
        ],
    }


def _columns(rows: list[dict[str, Any]], *names: str) -> list[np.ndarray]:
    return [np.array([row[name] for row in rows]) for name in names]


def false_alarms(detector: VoiceDetector, manifest: Path) -> dict[str, Any]:
    """Judge the real recordings of the split val, which neither network nor thresholds have learned from.

    Returns:
        For each delivery how many are called deepfakes, and how many get no verdict.
    """
    examples = [example for example in read_speech(manifest) if example.split == "val" and not example.label]
    if not examples:
        raise SystemExit(f"The manifest {manifest} has no real recordings in its split val.")
    sounds, verdicts = Sounds(), {name: [] for name in WAVEFORM_DEGRADATIONS}
    for example in tqdm(examples, desc="judging val", unit="recording"):
        for name in WAVEFORM_DEGRADATIONS:
            waveform = to_float(sounds.read(example, delivery=name))
            verdicts[name].append(detector.detect(waveform).verdict)
    groups = np.array([example.group for example in examples])
    return {
        name: {
            "n_speakers": len(set(groups)),
            "false_alarms": proportion(np.array([v == Verdict.DEEPFAKE for v in found]), groups).to_dict(),
            "inconclusive": proportion(np.array([v == Verdict.INCONCLUSIVE for v in found]), groups).to_dict(),
        }
        for name, found in verdicts.items()
    }


def voice_reference_scores(rows: list[dict[str, Any]], detector: VoiceDetector) -> ReferenceScores:
    """Return what a person's recording is compared with: one answer a stored recording whose family was left out."""
    chosen = [row for row in rows if row["held"] == FAMILY and row["delivery"] == STORED_VOICE and not row["reasons"]]
    label, logit, group = _columns(draw_predictions(chosen), "label", "logit", "group")
    return ReferenceScores.from_scores(
        labels=label,
        probabilities=detector.engine.spec.calibration.probability(logit),
        face_px=np.full(len(label), REFERENCE_SIZE_PX),
        groups=group,
        split="folds",
        model_sha256=detector.engine.model_sha256,
    )


def write_scores(rows: list[dict[str, Any]], path: Path) -> None:
    """Write the judged answers as CSV with COLUMNS."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, VOICE_SCORE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def print_tables(metrics: dict[str, Any]) -> None:
    """Print what the README and the model card quote."""

    def shown(estimate: dict[str, Any] | None, scale: float = 1, digits: int = 3) -> str:
        if estimate is None:
            return "-"
        value, low, high = (estimate[name] * scale for name in ("value", "low", "high"))
        return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"

    def row(*cells: object) -> None:
        print("| " + " | ".join(str(cell) for cell in cells) + " |")

    percent = partial(shown, scale=100, digits=1)
    stored = metrics["folds"][GENERATOR][STORED_VOICE]
    print(
        f"model {metrics['model']['sha256_h5'][:12]}; {stored['n_real']} real and {stored['n_fake']} fake recordings, "
        f"{stored['n_speakers']} speakers, {stored['n_generators']} generators with {MIN_FAKES} fakes or more"
    )
    heads = ("mean AUC", "within the source", "reals called deepfake, %", "fakes called deepfake, %")
    row("left out", "delivery", *heads, "fakes called real, %", "inconclusive, %", "ECE (perfect stays under)")
    row(*["---"] * 9)
    for held, deliveries in metrics["folds"].items():
        for name, figures in deliveries.items():
            rates = (percent(figures[key]) for key in ("false_alarms", "fakes_found", "misses", "inconclusive"))
            ece = f"{shown(figures['ece'])} ({figures['ece_perfect']:.3f})"
            row(held, name, shown(figures["auc"]), shown(figures["auc_within_source"]), *rates, ece)
    row("left out", "fakes", "speakers", "AUC stored", "AUC damaged")
    row(*["---"] * 5)
    for deliveries in metrics["folds"].values():
        for one, other in zip(deliveries[STORED_VOICE]["generators"], deliveries[DEGRADED]["generators"], strict=True):
            row(one["name"], one["n"], one["n_speakers"], shown(one["auc"]), shown(other["auc"]))
    if metrics["val"]:
        row("val, delivery", "n", "speakers", "reals called deepfake, %", "inconclusive, %")
        row(*["---"] * 5)
        for name, figures in metrics["val"].items():
            rates = percent(figures["false_alarms"]), percent(figures["inconclusive"])
            row(name, figures["false_alarms"]["n"], figures["n_speakers"], *rates)


def main(argv: list[str] | None = None) -> None:
    """Judge, measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run of train_audio.py")
    parser.add_argument("--val", type=Path, metavar="MANIFEST", help="also judge the real recordings of its split val")
    parser.add_argument("--model", type=Path, help="model file (default: models/voice.onnx)")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(argv)
    try:
        detector = load_voice_detector(options.model, threads=1)
        rows = score_recordings(read_fold_predictions(options.run / "fold_predictions.csv"))
        val = false_alarms(detector, options.val) if options.val else {}
    except DetectorError as error:
        raise SystemExit(str(error)) from error
    folds = {}
    for held in (GENERATOR, FAMILY):
        own = [row for row in rows if row["held"] == held]
        folds[held] = {
            STORED_VOICE: measure_folds([row for row in own if row["delivery"] == STORED_VOICE]),
            DEGRADED: measure_folds([row for row in own if row["delivery"] != STORED_VOICE]),
        }
    spec = detector.engine.spec
    metrics = {
        "model": {
            "name": spec.network,
            "threshold_real": spec.calibration.threshold_real,
            "threshold_fake": spec.calibration.threshold_fake,
            "sha256_h5": detector.engine.model_sha256,
        },
        "created": date.today().isoformat(),
        "folds": folds,
        "val": val,
        "training": spec.training,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    replace_file(options.out / "voice_scores.csv", partial(write_scores, rows))
    replace_file(options.out / "voice_metrics.json", lambda part: part.write_text(json.dumps(metrics, indent=1) + "\n"))
    if options.model is None and options.out.resolve() == OUT:
        replace_file(VOICE_REFERENCE_SCORES_FILE, voice_reference_scores(rows, detector).write)
    print_tables(metrics)


if __name__ == "__main__":
    main()
