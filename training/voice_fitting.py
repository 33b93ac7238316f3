"""Train the voice network: logistic regression on statistics, cross-validation, calibration and export.

The statistics are measured once. One network then takes seconds, so that every fold of the cross-validation can have
its own. The shipped network is calibrated on the folds, since the next voice and the next generator will be new to it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from detector.models.calibration import Calibration
from detector.models.spec import ModelSpec, file_sha256
from detector.voices.detect import VOICE_MODEL_FILES, VOICE_NETWORK
from detector.voices.features import BANDS, VOICE_INPUT, cut_windows, log_spectrogram, normalize_level
from training.calibrating import save_model
from training.exporting import can_export, export
from training.manifests import ROOT, Example
from training.runs import open_run
from training.vocoders import WAVEFORM_DEGRADATIONS
from training.voice_features import (
    RecordingFeatures,
    Variant,
    VariantCache,
    VariantChoice,
    compute_features,
    filters_sha256,
)
from training.voice_manifest import (
    FAMILY,
    GENERATOR,
    Recording,
    family_of,
    list_folds,
    read_training_recordings,
    split_fold,
)
from training.voice_networks import VOICE_EPSILON, VOICE_GROUPS, VOICE_LIMIT, build_voice_network, set_linear_weights
from training.voice_predictions import PREDICTION_COLUMNS, fit_voice_calibration, write_fold_predictions

PAGE_PARTS = 5  # of the calibration
COPY_PROPORTION = 0.05  # of vocoder copies among the fakes
COPY_MIX = {"world": 0.2, "griffin_lim": 0.8}  # proportions among the copies
WEIGHT_DECAY = 0.02  # strong, because a few hundred voices are few
TOP_HZ = 7000  # bands above are not used: their resampling separates collections better than fakes from reals
VOICE_CHECK_S, VOICE_TOLERANCE = 4, 1e-4  # of noise, on which the engines' logits may differ by so much


@dataclass(frozen=True)
class VoiceTrainingSettings:
    """The options of scripts/train_audio.py.

    Attributes:
        manifest: CSV file of the recordings.
        versions: random degradations of each recording.
        tests: named degradations in which each recording is tested, chosen by its content; None takes all.
        copies: proportion of vocoder copies among the fakes; none are made where it is 0.
        decay: weight decay of the logistic regression.
        threads: that create the variants of recordings; None uses all cores.
        run: folder of the run; None derives it from the settings, in runs.
        out: the model file to write; its .onnx file goes beside it.
    """

    manifest: Path
    versions: int = 4
    tests: int | None = None
    copies: float = COPY_PROPORTION
    decay: float = WEIGHT_DECAY
    threads: int | None = None
    run: Path | None = None
    out: Path = VOICE_MODEL_FILES["keras"]

    def __post_init__(self) -> None:
        if self.versions < 0:
            raise ValueError(f"--versions must be a whole number from 0 up, not {self.versions}")
        if self.tests is not None and self.tests < 1:
            raise ValueError(f"--tests must be a whole number from 1 up, not {self.tests}")
        if not 0 <= self.copies <= 1:
            raise ValueError(f"--copies must be a proportion from 0 to 1, not {self.copies}")
        if not self.decay > 0:
            raise ValueError(f"--decay must be above 0, not {self.decay}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"--threads must be a whole number from 1 up, not {self.threads}")


@dataclass(frozen=True)
class VoiceRunSettings:
    """What decides the result of a run, stored in its folder.

    `filters_sha256` identifies the computation of the statistics, so that a run never uses those of other code.
    """

    manifest: str
    manifest_sha256: str
    filters_sha256: str
    versions: int
    copies: float
    decay: float
    tests: int | None = None
    parts: int = PAGE_PARTS
    top_hz: int = TOP_HZ


@dataclass(frozen=True, eq=False)
class LinearWeights:
    """The trained part of the voice network; see `set_linear_weights`.

    Attributes:
        mean, variance, weights: (S,) float64.
        bias: of the logit.
    """

    mean: np.ndarray
    variance: np.ndarray
    weights: np.ndarray
    bias: float

    def logits(self, statistics: np.ndarray) -> np.ndarray:
        """Return the logits (N,) of windows with these statistics (N, S), as the network computes them."""
        logits: np.ndarray = _standardize(statistics, self.mean, self.variance) @ self.weights + self.bias
        return logits


@dataclass(frozen=True, eq=False)
class _TrainingWindows:
    """The windows of all training variants; each array has one entry per window.

    Attributes:
        statistics: (N, S) float32.
        labels: (N,) 1 = fake.
        classes: (N,) "real", "fake" or the vocoder of a copy.
        weights: (N,) float64.
    """

    statistics: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    weights: np.ndarray


def train_voice_network(settings: VoiceTrainingSettings) -> Path:
    """Measure, cross-validate, calibrate, train on everything, and write the model with its .onnx file.

    Returns:
        The folder of the run.

    Raises:
        SystemExit: the manifest cannot be used, or the run's folder holds a run with other settings.
        DetectorError: a recording cannot be read, or the exported network differs from the original.
    """
    examples = read_training_recordings(settings.manifest)
    run_settings = VoiceRunSettings(
        manifest=str(settings.manifest.resolve()),
        manifest_sha256=file_sha256(settings.manifest),
        filters_sha256=filters_sha256(),
        versions=settings.versions,
        copies=settings.copies,
        decay=settings.decay,
        tests=settings.tests,
    )
    digest = hashlib.sha256(json.dumps(asdict(run_settings)).encode()).hexdigest()
    run = settings.run or ROOT / "runs" / f"{VOICE_NETWORK}-{digest[:8]}"
    open_run(run, run_settings)

    threads = settings.threads or os.cpu_count() or 1
    choice = VariantChoice(settings.versions, tests=settings.tests, copies=settings.copies > 0)
    features = compute_features(examples, VariantCache(), choice, run=run, threads=threads)
    predictions = cross_validate(examples, features, copies=settings.copies, decay=settings.decay)
    write_fold_predictions(predictions, run)
    calibration = fit_voice_calibration([row for row in predictions if row["held"] == FAMILY])
    weights = fit_linear_weights(examples, features, copies=settings.copies, decay=settings.decay)
    stored_settings = {**asdict(run_settings), "manifest": settings.manifest.name}
    training = {**summarize_recordings(examples), "date": date.today().isoformat(), "settings": stored_settings}
    write_voice_model(settings.out, weights, calibration, training)
    return run


def summarize_recordings(examples: Sequence[Example]) -> dict[str, Any]:
    """Return the counts of sources, recordings and speakers for a model's spec."""
    sources = Counter(f"{e.source} {'fake' if e.label else 'real'}" for e in examples)
    return {
        "sources": dict(sorted(sources.items())),
        "recordings": len(examples),
        "speakers": len({e.group for e in examples}),
    }


def write_voice_model(path: Path, weights: LinearWeights, calibration: Calibration, training: dict[str, Any]) -> None:
    """Write a voice network as .h5 and, where the backend can export, as .onnx beside it; print both."""
    network = build_voice_network(BANDS)
    set_linear_weights(network, weights.mean, weights.variance, weights.weights, weights.bias)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_model(path, network, ModelSpec(VOICE_NETWORK, VOICE_INPUT, calibration, training))
    print(
        f"P(fake) = sigmoid({calibration.slope:.4f} * logit {calibration.intercept:+.4f}); "
        f"real up to {calibration.threshold_real:.4f}, deepfake from {calibration.threshold_fake:.4f}"
    )
    if can_export():
        difference = export_voice(path, path.with_suffix(".onnx"))
        print(f"wrote {path} and {path.with_suffix('.onnx').name}; logits differ by {difference:.2g}")


def cross_validate(
    recordings: list[Recording], features: list[RecordingFeatures], *, copies: float, decay: float
) -> list[dict[str, Any]]:
    """Train a network for each fold and predict the fold's test recordings in every degradation.

    A fold whose training recordings lack a class is left out. Folds with the same training recordings share a network.

    Returns:
        Rows of PREDICTION_COLUMNS. The logit is the mean over the windows, as in `VoiceDetector`.
    """
    rows = []
    networks: dict[tuple[int, ...], LinearWeights] = {}
    for fold in tqdm(list_folds(recordings, PAGE_PARTS), desc="folds", unit="network"):
        train, test = split_fold(recordings, fold)
        if {recordings[i].label for i in train} != {0, 1}:
            continue
        if (key := tuple(train)) not in networks:
            networks[key] = fit_linear_weights(
                [recordings[i] for i in train], [features[i] for i in train], copies=copies, decay=decay
            )
        for index in test:
            recording = recordings[index]
            of_name = str if fold.held == GENERATOR else family_of
            left_out = of_name(recording.generator) if recording.label else ""
            for degradation in WAVEFORM_DEGRADATIONS:
                measured = features[index].get(Variant("", degradation))
                if measured is not None and len(measured.statistics):
                    logit = round(float(networks[key].logits(measured.statistics).mean()), 5)
                    row = [index, recording.label, recording.source, recording.page, recording.generator]
                    row += [recording.group, fold.held, left_out, fold.part, degradation, logit, measured.reasons]
                    rows.append(dict(zip(PREDICTION_COLUMNS, row, strict=True)))
    return rows


def fit_linear_weights(
    examples: Sequence[Example], features: list[RecordingFeatures], *, copies: float, decay: float
) -> LinearWeights:
    """Fit a logistic regression that separates the windows of fakes from those of reals.

    Args:
        examples: the training recordings.
        features: of each recording.
        copies: proportion of vocoder copies among the fakes.
        decay: weight decay, as the inverse of scikit-learn's C for weights that sum to 1.
    """
    from sklearn.linear_model import LogisticRegression

    windows = _collect_windows(examples, features, copies)
    statistics, weights = windows.statistics, windows.weights
    mean = np.average(statistics, axis=0, weights=weights)
    variance = np.average(np.square(statistics - mean), axis=0, weights=weights)
    # The weights sum to 1, so that the decay does not depend on the number of windows.
    regression = LogisticRegression(C=1 / decay, max_iter=1000)
    active = _active_statistics(statistics.shape[1])
    regression.fit(_standardize(statistics, mean, variance)[:, active], windows.labels, sample_weight=weights)
    coefficients = np.zeros(len(mean))
    coefficients[active] = regression.coef_[0]
    return LinearWeights(mean, variance, coefficients, float(regression.intercept_[0]))


def _collect_windows(examples: Sequence[Example], features: list[RecordingFeatures], copies: float) -> _TrainingWindows:
    """Return the windows of the training variants, with weights that sum to 1.

    Real and fake weigh the same. Within each class the weight of a recording falls with the root of the number of
    recordings of its source and generator, and of its speaker, so that a frequent voice does not dominate. The variants
    of a recording weigh the same, and so do the windows of a variant. Copies are a fixed proportion of the fakes.
    """
    kind_counts = Counter((e.source, e.generator) for e in examples)
    speaker_counts = Counter((e.group, e.label) for e in examples)
    statistics, labels, weights, classes = [], [], [], []
    for example, variants in zip(examples, features, strict=True):
        count = kind_counts[example.source, example.generator] * speaker_counts[example.group, example.label]
        for variant, measured in variants.items():
            window_count = len(measured.statistics)
            if variant.is_for_training and window_count:
                statistics.append(measured.statistics)
                labels += [1 if variant.vocoder else example.label] * window_count
                classes += [variant.vocoder or ("fake" if example.label else "real")] * window_count
                weights += [count**-0.5 / window_count] * window_count
    proportions = {"real": 1.0, "fake": 1 - copies}
    proportions |= {vocoder: copies * proportion for vocoder, proportion in COPY_MIX.items()}
    class_array, weight_array = np.array(classes), np.array(weights)
    for name, proportion in proportions.items():
        chosen = class_array == name
        weight_array[chosen] *= proportion / 2 / max(weight_array[chosen].sum(), 1e-9)
    return _TrainingWindows(np.concatenate(statistics), np.array(labels), class_array, weight_array)


def _active_statistics(size: int) -> np.ndarray:
    """Return which of the `size` statistics are used, as booleans: harmonics, and groups of bands up to TOP_HZ.

    The statistics of each group of bands come in turn, then the harmonics.
    """
    per_group = size // VOICE_GROUPS - 1  # a group has one harmonic as well
    group = np.arange(size) // per_group
    top_group = np.ceil(TOP_HZ / (VOICE_INPUT.sample_rate_hz / 2) * VOICE_GROUPS)
    active: np.ndarray = (group < top_group) | (group >= VOICE_GROUPS)
    return active


def _standardize(statistics: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    deviations = (statistics - mean) / np.sqrt(variance + VOICE_EPSILON)
    standardized: np.ndarray = np.clip(deviations, -VOICE_LIMIT, VOICE_LIMIT)
    return standardized


def export_voice(source: Path, target: Path) -> float:
    """Write the .onnx file of a voice model, and compare the engines on noise.

    Returns:
        The largest difference of logits between the two engines.

    Raises:
        ModelError: the source has no spec, or the engines differ by more than VOICE_TOLERANCE.
    """
    noise = np.random.default_rng(0).standard_normal(VOICE_CHECK_S * VOICE_INPUT.sample_rate_hz).astype(np.float32)
    windows, _ = cut_windows(normalize_level(noise))
    return export(source, target, batch=log_spectrogram(windows)[..., None], tolerance=VOICE_TOLERANCE)
