"""Evaluate the cross-validated voice networks, and the false alarms of the shipped network.

A prediction comes from a network that was trained on neither its page, nor its speaker, nor the generators of its page
(or their families); see `training.voice_fitting`. Verdicts and probabilities use a line and thresholds that were fitted
to the predictions in the other parts of the pages.
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
from training.voice_manifest import FAMILY, GENERATOR, kind_of, read_speech_manifest
from training.voice_predictions import fit_voice_calibration, read_fold_predictions

VOICE_SCORE_COLUMNS = (
    "recording", "label", "source", "page", "generator", "group", "held", "left_out", "part", "delivery", "logit",
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
    """Add probability and verdict to predictions, by a calibration that has not seen their part of the pages."""
    scored = []
    for part in sorted({row["part"] for row in rows}):
        calibration = fit_voice_calibration([row for row in rows if row["held"] == FAMILY and row["part"] != part])
        for row in (row for row in rows if row["part"] == part):
            reasons = tuple(Reason(name) for name in row["reasons"].split(";") if name)
            decision = decide(row["logit"], reasons, calibration)
            scored.append({**row, "probability": round(decision.probability, 6), "verdict": str(decision.verdict)})
    return scored


def win_rates(label: np.ndarray, logit: np.ndarray, stratum: np.ndarray) -> np.ndarray:
    """Return the proportion of reals that each fake scores above; ties count against the fakes.

    Args:
        label: (N,) 1 = fake.
        logit: (N,) larger means more suspicious.
        stratum: (N,) number of the stratum; fakes are compared with the reals of their own, such as a degradation.

    Returns:
        (N,) in [0, 1]; NaN for a real recording, and for a fake whose stratum has no reals.
    """
    wins = np.full(len(label), np.nan)
    for number in np.unique(stratum[label == 1]):
        own = stratum == number
        reals = np.sort(logit[own & (label == 0)])
        if len(reals):
            fakes = own & (label == 1)
            wins[fakes] = np.searchsorted(reals, logit[fakes], "left") / len(reals)
    return wins


def mean_auc(label: np.ndarray, logit: np.ndarray, unit: np.ndarray, stratum: np.ndarray) -> float:
    """Return the mean AUC over the units of the fakes, such as their generators.

    Args:
        label, logit, stratum: see `win_rates`.
        unit: (N,) number of a fake's unit, from 0; that of a real recording is not used.

    Raises:
        ValueError: no stratum has both fakes and reals.
    """
    wins = win_rates(label, logit, stratum)
    known = ~np.isnan(wins)
    if not known.any():
        raise ValueError("no stratum has both fakes and reals")
    counts = np.bincount(unit[known])
    sums = np.bincount(unit[known], wins[known])
    return float(np.mean(sums[counts > 0] / counts[counts > 0]))


def measure_degradations(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the metrics of scored predictions for stored recordings, and for all degradations together."""
    return {
        STORED_VOICE: measure_folds([row for row in rows if row["delivery"] == STORED_VOICE]),
        DEGRADED: measure_folds([row for row in rows if row["delivery"] != STORED_VOICE]),
    }


def measure_folds(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the metrics of scored predictions for one kind of fold; the intervals are over speakers.

    Every fake is compared with all reals in its degradation. `auc` is the mean over generators, or families, with
    MIN_FAKES fakes; `auc_pages` and `auc_kinds` are means over pages and kinds with as many. `auc_within_page` compares
    the fakes of a page with the reals of the same page, where it has MIN_FAKES of both. Single generators, pages and
    kinds are listed below the means.
    """
    label, logit, group, recording, page = _columns(rows, "label", "logit", "group", "recording", "page")
    real, fake = label == 0, label == 1
    _, degradation = np.unique([row["delivery"] for row in rows], return_inverse=True)
    _, within = np.unique([f"{row['page']} {row['delivery']}" for row in rows], return_inverse=True)
    kind = np.array([kind_of(row["generator"]) for row in rows])
    (left_out,) = _columns(rows, "left_out")

    def measure(unit: np.ndarray, chosen: np.ndarray, stratum: np.ndarray = degradation) -> dict[str, Any] | None:
        """Return the mean AUC of the chosen fakes over units, with its interval; None where a class is missing."""
        rows_chosen = real | (fake & chosen)
        columns = (group, label, logit, np.unique(unit, return_inverse=True)[1], stratum)
        try:
            return bootstrap(mean_auc, *(column[rows_chosen] for column in columns)).to_dict()
        except ValueError:
            return None

    def counted(unit: np.ndarray, of_class: np.ndarray = fake) -> np.ndarray:
        """Return which rows belong to a unit with MIN_FAKES recordings of a class, (N,) booleans."""
        counts = {name: len(np.unique(recording[of_class & (unit == name)])) for name in np.unique(unit)}
        return np.isin(unit, [name for name, count in counts.items() if count >= MIN_FAKES])

    wins = win_rates(label, logit, degradation)

    def list_units(unit: np.ndarray) -> list[dict[str, Any]]:
        """Return the AUC of each unit against all reals, which are not resampled for the intervals."""
        return [
            {
                "name": str(name),
                "n": len(np.unique(recording[fake & (unit == name)])),
                "n_speakers": len(np.unique(group[fake & (unit == name)])),
                "auc": _estimate_mean(wins[fake & (unit == name)], group[fake & (unit == name)]),
            }
            for name in np.unique(unit[fake])
        ]

    return {
        "n_generators": len(np.unique(left_out[fake & counted(left_out)])),
        "n_pages": len(np.unique(page)),
        "n_real": len(np.unique(recording[real])),
        "n_fake": len(np.unique(recording[fake])),
        "n_speakers": len(np.unique(group)),
        "auc": measure(left_out, counted(left_out)),
        "auc_pages": measure(page, counted(page)),
        "auc_kinds": measure(kind, counted(kind)),
        "auc_within_page": measure(page, counted(page) & counted(page, real), within),
        **_measure_rates(rows),
        "generators": list_units(left_out),
        "pages": list_units(page),
        "kinds": list_units(kind),
    }


def _estimate_mean(values: np.ndarray, group: np.ndarray) -> dict[str, Any] | None:
    """Return the mean of values (N,) with its interval over groups; None where a value is not known."""
    return None if np.isnan(values).any() else bootstrap(lambda drawn: float(drawn.mean()), group, values).to_dict()


def _measure_rates(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the error rates and the calibration error of scored predictions; the intervals are over speakers."""
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
        "ece_perfect": perfect_calibration_error(label[has_verdict], probability[has_verdict]),
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

    They have one prediction for each stored recording that passes the quality gate, by a network that was trained on
    nothing of its page, its speaker and its generator's family.
    """
    chosen = [row for row in rows if row["held"] == FAMILY and row["delivery"] == STORED_VOICE and not row["reasons"]]
    label, logit, group = _columns(chosen, "label", "logit", "group")
    return ReferenceScores.from_scores(
        labels=label,
        probabilities=np.asarray(detector.engine.spec.calibration.probability(logit)),
        face_px=np.full(len(label), REFERENCE_SIZE_PX),
        groups=group,
        split="folds",
        model_sha256=detector.engine.model_sha256,
        unseen=True,
    )


def write_voice_scores(rows: list[dict[str, Any]], path: Path) -> None:
    """Write scored predictions as CSV with VOICE_SCORE_COLUMNS."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, VOICE_SCORE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
