"""Evaluate the cross-validated voice networks, and the false alarms of the shipped network.

A prediction comes from a network that was trained on neither its speaker nor its generator (or its family of
generators); see `training.voice_fitting`. Verdicts and probabilities use a line and thresholds that were fitted to the
predictions in the other parts of the speakers.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from detector.metrics import bootstrap, calibration_error, perfect_calibration_error, proportion
from detector.models.reference_scores import ReferenceScores
from detector.results import Reason, Verdict
from detector.verdicts import decide
from detector.voices.detect import REFERENCE_SIZE_PX, VOICE_REFERENCE_SCORES_FILE, VoiceDetector, load_voice_detector
from training.manifests import ROOT
from training.runs import replace_file
from training.vocoders import WAVEFORM_DEGRADATIONS
from training.voice_features import STORED_VOICE, Variant, VariantCache, decode_int16
from training.voice_manifest import FAMILY, GENERATOR, read_speech_manifest
from training.voice_predictions import fit_voice_calibration, read_fold_predictions

VOICE_SCORE_COLUMNS = (
    "recording", "label", "source", "generator", "group", "held", "left_out", "part", "delivery", "logit",
    "probability", "verdict", "reasons",
)  # fmt: skip
VOICE_RESULTS_FOLDER = ROOT / "visualizations"
DEGRADED = "damaged"  # key in the metrics file: every degradation but the stored recording, together
MIN_FAKES = 5  # of a generator; its AUC is listed below that number but does not count in the mean


@dataclass(frozen=True)
class VoiceEvaluationSettings:
    """The options of scripts/evaluate_audio.py.

    Attributes:
        run: folder of the run of train_audio.py.
        val: manifest whose real recordings of the split val are analysed too.
        model: model file; None takes models/voice.onnx.
        out: folder of the results.
    """

    run: Path
    val: Path | None = None
    model: Path | None = None
    out: Path = VOICE_RESULTS_FOLDER


def evaluate_voices(settings: VoiceEvaluationSettings) -> dict[str, Any]:
    """Score the predictions of a run, measure them, and write scores, metrics and reference scores.

    Returns:
        The metrics.

    Raises:
        SystemExit: the run has no predictions, or the manifest cannot be used.
        DetectorError: the model or a recording cannot be read.
    """
    detector = load_voice_detector(settings.model, threads=1)
    rows = score_predictions(read_fold_predictions(settings.run))
    val = measure_false_alarms(detector, settings.val) if settings.val else {}
    spec = detector.engine.spec
    metrics = {
        "model": {
            "name": spec.network,
            "threshold_real": spec.calibration.threshold_real,
            "threshold_fake": spec.calibration.threshold_fake,
            "sha256_h5": detector.engine.model_sha256,
        },
        "created": date.today().isoformat(),
        "folds": {
            held: measure_degradations([row for row in rows if row["held"] == held]) for held in (GENERATOR, FAMILY)
        },
        "val": val,
        "training": spec.training,
    }
    settings.out.mkdir(parents=True, exist_ok=True)
    replace_file(settings.out / "voice_scores.csv", partial(write_voice_scores, rows))
    text = json.dumps(metrics, indent=1) + "\n"
    replace_file(settings.out / "voice_metrics.json", lambda part: part.write_text(text))
    if settings.model is None and settings.out.resolve() == VOICE_RESULTS_FOLDER:
        replace_file(VOICE_REFERENCE_SCORES_FILE, voice_reference_scores(rows, detector).write)
    return metrics


def score_predictions(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add probability and verdict to predictions, by a calibration that has not seen their part of the speakers."""
    scored = []
    for part in sorted({row["part"] for row in rows}):
        calibration = fit_voice_calibration([row for row in rows if row["held"] == FAMILY and row["part"] != part])
        for row in (row for row in rows if row["part"] == part):
            reasons = tuple(Reason(name) for name in row["reasons"].split(";") if name)
            decision = decide(row["logit"], reasons, calibration)
            scored.append({**row, "probability": round(decision.probability, 6), "verdict": str(decision.verdict)})
    return scored


def draw_predictions(rows: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    """Keep the predictions of one network for each recording.

    Many networks predict the same real recording, which adds predictions but no recordings.
    """
    rng, drawn = np.random.default_rng(seed), {}
    for recording in sorted({row["recording"] for row in rows}):
        folds = sorted({(row["left_out"], row["part"]) for row in rows if row["recording"] == recording})
        drawn[recording] = folds[rng.integers(len(folds))]
    return [row for row in rows if drawn[row["recording"]] == (row["left_out"], row["part"])]


def mean_auc(label: np.ndarray, logit: np.ndarray, unit: np.ndarray) -> float:
    """Return the mean AUC over units; a unit is a generator in one degradation.

    All units are ranked at once, since a hundred of them are resampled a thousand times; ties count against the fakes.

    Args:
        label: (N,) 1 = fake.
        logit: (N,) larger means more suspicious.
        unit: (N,) number of the unit, from 0.

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


def measure_degradations(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the metrics of scored predictions for stored recordings, and for all degradations together."""
    return {
        STORED_VOICE: measure_folds([row for row in rows if row["delivery"] == STORED_VOICE]),
        DEGRADED: measure_folds([row for row in rows if row["delivery"] != STORED_VOICE]),
    }


def measure_folds(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the metrics of scored predictions for one kind of fold; the intervals are over speakers.

    `auc` is the mean over generators, or families, with MIN_FAKES fakes. `auc_within_source` is the same against the
    reals of the fakes' own sources alone. The rates use one drawn prediction per recording and degradation.
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
    columns = (group, label, logit, unit)
    return {
        "n_generators": int(sum(count >= MIN_FAKES for count in fakes.values())),
        "n_real": len(np.unique(recording[label == 0])),
        "n_fake": len(np.unique(recording[label == 1])),
        "n_speakers": len(np.unique(group)),
        "auc": _estimate_mean_auc(counted, *columns),
        "auc_within_source": _estimate_mean_auc(within, *columns),
        **_measure_rates(draw_predictions(rows)),
        "generators": [
            {
                "name": str(name),
                "n": fakes[name],
                "n_speakers": len(np.unique(group[(left_out == name) & (label == 1)])),
                "auc": _estimate_mean_auc(left_out == name, *columns),
            }
            for name in sorted(names)
        ],
    }


def _estimate_mean_auc(chosen: np.ndarray, group: np.ndarray, *columns: np.ndarray) -> dict[str, Any] | None:
    """Return the mean AUC of the chosen rows with its interval; None where no unit has both classes.

    Args:
        chosen: (N,) booleans.
        group: (N,) speakers.
        columns: the arguments of `mean_auc`.
    """
    try:
        return bootstrap(mean_auc, group[chosen], *(column[chosen] for column in columns)).to_dict()
    except ValueError:
        return None


def _measure_rates(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the error rates and the calibration error of drawn predictions; the intervals are over speakers."""
    label, verdict, speaker, probability = _columns(rows, "label", "verdict", "group", "probability")
    has_verdict = np.array([not row["reasons"] for row in rows])
    real, fake = label == 0, label == 1
    ece = bootstrap(calibration_error, speaker[has_verdict], label[has_verdict], probability[has_verdict], pivot=True)
    return {
        "false_alarms": proportion(verdict[real] == Verdict.DEEPFAKE, speaker[real]).to_dict(),
        "misses": proportion(verdict[fake] == Verdict.REAL, speaker[fake]).to_dict(),
        "fakes_found": proportion(verdict[fake] == Verdict.DEEPFAKE, speaker[fake]).to_dict(),
        "inconclusive": proportion(verdict == Verdict.INCONCLUSIVE, speaker).to_dict(),
        "ece": ece.to_dict(),
        "ece_perfect": perfect_calibration_error(probability[has_verdict]),
    }


def _columns(rows: list[dict[str, Any]], *names: str) -> list[np.ndarray]:
    return [np.array([row[name] for row in rows]) for name in names]


def measure_false_alarms(detector: VoiceDetector, manifest: Path) -> dict[str, Any]:
    """Analyse the real recordings of the split val, on which neither network nor thresholds were fitted.

    Returns:
        By degradation, the rates of deepfake and of inconclusive verdicts.

    Raises:
        SystemExit: the split has no real recordings.
    """
    examples = [example for example in read_speech_manifest(manifest) if example.split == "val" and not example.label]
    if not examples:
        raise SystemExit(f"The manifest {manifest} has no real recordings in its split val.")
    cache = VariantCache()
    verdicts: dict[str, list[Verdict]] = {name: [] for name in WAVEFORM_DEGRADATIONS}
    for example in tqdm(examples, desc="analysing val", unit="recording"):
        for name in WAVEFORM_DEGRADATIONS:
            waveform = decode_int16(cache.read(example, Variant("", name)))
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
    """Return the scores that a new recording is compared with.

    They have one prediction for each stored recording that passes the quality gate, by a network without its family.
    """
    chosen = [row for row in rows if row["held"] == FAMILY and row["delivery"] == STORED_VOICE and not row["reasons"]]
    label, logit, group = _columns(draw_predictions(chosen), "label", "logit", "group")
    return ReferenceScores.from_scores(
        labels=label,
        probabilities=np.asarray(detector.engine.spec.calibration.probability(logit)),
        face_px=np.full(len(label), REFERENCE_SIZE_PX),
        groups=group,
        split="folds",
        model_sha256=detector.engine.model_sha256,
    )


def write_voice_scores(rows: list[dict[str, Any]], path: Path) -> None:
    """Write scored predictions as CSV with VOICE_SCORE_COLUMNS."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, VOICE_SCORE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
