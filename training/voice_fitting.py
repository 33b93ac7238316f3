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
from detector.voices.features import VOICE_INPUT, cut_windows, network_input, normalize_level
from training.calibrating import save_model
from training.exporting import can_export, export
from training.manifests import ROOT, Example
from training.runs import open_run
from training.vocoders import WAVEFORM_DEGRADATIONS
from training.voice_features import (
    STORED_VOICE,
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
from training.voice_networks import (
    CENTRES,
    KERNELS,
    STATISTICS_SIZES,
    TEXTURES_PER_GROUP,
    VOICE_GROUPS,
    HeadWeights,
    build_voice_network,
    compress,
    project,
    radial_basis,
    set_head_weights,
    standardize,
)
from training.voice_predictions import PREDICTION_COLUMNS, fit_voice_calibration, write_fold_predictions

PAGE_PARTS = 5  # of the calibration
COPY_PROPORTION = 0.0  # of vocoder copies among the fakes; they help against classic synthesis only
COPY_MIX = {"world": 0.2, "griffin_lim": 0.8}  # proportions among the copies
WEIGHT_DECAY = 3e-4  # of radial basis functions and linear weights; the windows' weights sum to 1
# The negative exponent of a kernel's radial basis function at one deviation in every statistic of the kernel.
KERNEL_WIDTHS = (0.4, 0.3, 0.3, 0.3)
LINEAR_SHARE = 0.3  # of the linear weights' prior variance, that of the radial basis functions being 1
DEGRADED_WEIGHT = 0.06  # of a random degradation of a recording, that of the stored recording being 1
CENTRE_SEED = 0
DEGRADED_CENTRES = CENTRES // 4  # centres that are windows of degraded recordings
SMALLEST_TYPICAL = 1e-6  # of a statistic; one that is always 0 stays 0
KERNEL_JITTER = 1e-6  # added to the diagonal of the kernel matrix of the centres
# Kinds of statistics that weigh the same in a distance; texture and harmonics are one.
DISTANCE_KINDS = (0, 0, 1, 2, 3, 4, 5, 6)
TOP_HZ = 7000  # bands above are not used: their resampling separates collections better than fakes from reals
VOICE_CHECK_S, VOICE_TOLERANCE = 4, 2.5e-4  # of noise, on which the engines' logits may differ by so much


@dataclass(frozen=True)
class VoiceTrainingSettings:
    """The options of scripts/train_audio.py.

    Attributes:
        manifest: CSV file of the recordings.
        versions: random degradations of each recording.
        tests: named degradations in which each recording is tested, chosen by its content; None takes all.
        copies: proportion of vocoder copies among the fakes; none are made where it is 0.
        decay: weight decay of the head.
        threads: that create the variants of recordings; None uses all cores.
        run: folder of the run; None derives it from the settings, in runs.
        out: the model file to write; its .onnx file goes beside it.
    """

    manifest: Path
    versions: int = 3
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
    degraded_weight: float = DEGRADED_WEIGHT
    kernel_widths: tuple[float, ...] = KERNEL_WIDTHS
    centres: int = CENTRES
    degraded_centres: int = DEGRADED_CENTRES


@dataclass(frozen=True, eq=False)
class _TrainingWindows:
    """The windows of all training variants; each array has one entry per window.

    Attributes:
        statistics: (N, S) float32.
        labels: (N,) 1 = fake.
        classes: (N,) "real", "fake" or the vocoder of a copy.
        weights: (N,) float64.
        are_stored: (N,) booleans: whether the window is of a stored recording, not of a copy or a degradation.
    """

    statistics: np.ndarray
    labels: np.ndarray
    classes: np.ndarray
    weights: np.ndarray
    are_stored: np.ndarray


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
    weights = fit_head_weights(examples, features, copies=settings.copies, decay=settings.decay)
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


def write_voice_model(path: Path, weights: HeadWeights, calibration: Calibration, training: dict[str, Any]) -> None:
    """Write a voice network as .h5 and, where the backend can export, as .onnx beside it; print both."""
    network = build_voice_network()
    set_head_weights(network, weights)
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
    networks: dict[tuple[int, ...], HeadWeights] = {}
    for fold in tqdm(list_folds(recordings, PAGE_PARTS), desc="folds", unit="network"):
        train, test = split_fold(recordings, fold)
        if {recordings[i].label for i in train} != {0, 1}:
            continue
        if (key := tuple(train)) not in networks:
            networks[key] = fit_head_weights(
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


def fit_head_weights(
    examples: Sequence[Example], features: list[RecordingFeatures], *, copies: float, decay: float
) -> HeadWeights:
    """Fit the head of the voice network by regularised least squares, with the targets -1 (real) and 1 (fake).

    The centres of the radial basis functions are CENTRES windows drawn at random, DEGRADED_CENTRES of them of degraded
    recordings. Their amplitudes have the covariance of a Gaussian process with that kernel, the linear weights an
    independent one. Distances are measured in the principal components of each kernel's statistics.

    Args:
        examples: the training recordings.
        features: of each recording.
        copies: proportion of vocoder copies among the fakes.
        decay: weight decay, for windows whose weights sum to 1.

    Source:
        Williams and Seeger, "Using the Nyström method to speed up kernel machines", 2000.
    """
    windows = _collect_windows(examples, features, copies)
    statistics, weights = windows.statistics.astype(np.float32), windows.weights
    weights_f32 = weights.astype(np.float32)  # a product of two types would copy all statistics
    typical = np.maximum(weights_f32 @ np.abs(statistics), SMALLEST_TYPICAL)
    compressed = compress(statistics, typical)
    mean = weights_f32 @ compressed
    variance = weights_f32 @ np.square(compressed - mean)
    standardized = standardize(compressed, mean, variance)
    components = _find_components(standardized, weights_f32)
    points = project(standardized, components)
    drawn = _draw_centres(windows)
    centres = tuple(own[drawn] for own in points)
    linear = np.flatnonzero(_linear_statistics())
    linear_scale = np.sqrt(LINEAR_SHARE / len(linear))
    inputs = np.concatenate([radial_basis(points, centres), standardized[:, linear] * linear_scale], axis=1)
    targets = 2.0 * windows.labels - 1
    input_mean = weights @ inputs
    centred = (inputs - input_mean) * np.sqrt(weights)[:, None]
    slopes = (weights * targets) @ inputs - input_mean * (weights @ targets)
    precision = np.eye(inputs.shape[1])
    precision[: len(drawn), : len(drawn)] = radial_basis(centres, centres) + KERNEL_JITTER * np.eye(len(drawn))
    solution = np.linalg.solve(centred.T @ centred + decay * precision, slopes)
    linear_weights = np.zeros(len(mean))
    linear_weights[linear] = solution[len(drawn) :] * linear_scale
    amplitudes = np.zeros(CENTRES)
    amplitudes[: len(drawn)] = solution[: len(drawn)]
    padded = tuple(np.pad(own, ((0, CENTRES - len(drawn)), (0, 0))) for own in centres)
    bias = float(weights @ targets - input_mean @ solution)
    return HeadWeights(typical, mean, variance, linear_weights, components, padded, amplitudes, bias)


def _draw_centres(windows: _TrainingWindows) -> np.ndarray:
    """Return the places of the windows that become centres: of recordings, not of copies; all if they are few."""
    rng = np.random.default_rng(CENTRE_SEED)
    is_own = np.isin(windows.classes, ("real", "fake")) & (windows.weights > 0)
    stored = rng.permutation(np.flatnonzero(is_own & windows.are_stored))
    degraded = rng.permutation(np.flatnonzero(is_own & ~windows.are_stored))
    degraded = degraded[: CENTRES - min(len(stored), CENTRES - DEGRADED_CENTRES)]
    return np.concatenate([stored[: CENTRES - len(degraded)], degraded])


def _find_components(standardized: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return, for each of KERNELS, the matrix of its scaled principal components (statistics, components)."""
    matrices = []
    for kernel, scales in zip(KERNELS, _distance_scales(), strict=True):
        scaled = standardized[:, kernel.first : kernel.last] * (scales * np.sqrt(weights)[:, None])
        _, vectors = np.linalg.eigh(scaled.T @ scaled)
        matrices.append(scales[:, None] * vectors[:, ::-1][:, : kernel.components])
    return tuple(matrices)


def _distance_scales() -> list[np.ndarray]:
    """Return, for each of KERNELS, the factors of its statistics in distances; 0 for unused bands.

    Each kind of statistics weighs the same in a kernel.
    """
    active = _active_statistics(sum(STATISTICS_SIZES))
    kinds = np.repeat(DISTANCE_KINDS, STATISTICS_SIZES)
    counts = np.bincount(kinds, active)
    factors = []
    for kernel, width in zip(KERNELS, KERNEL_WIDTHS, strict=True):
        own = slice(kernel.first, kernel.last)
        kind_count = len(np.unique(kinds[own]))
        scales = active[own] * np.sqrt(2 * width / kind_count / counts[kinds[own]])
        factors.append(scales.astype(np.float32))
    return factors


def _linear_statistics() -> np.ndarray:
    """Return which statistics have a linear weight, as booleans: texture and harmonics of the bands in use."""
    active = _active_statistics(sum(STATISTICS_SIZES))
    active[sum(STATISTICS_SIZES[:2]) :] = False
    return active


def _collect_windows(examples: Sequence[Example], features: list[RecordingFeatures], copies: float) -> _TrainingWindows:
    """Return the windows of the training variants, with weights that sum to 1.

    Real and fake weigh the same. Within each class every recording weighs the same, and so do the windows of a variant.
    Degraded variants weigh less than the stored one. Copies are a fixed proportion of the fakes.
    """
    statistics, labels, weights, classes, are_stored = [], [], [], [], []
    for example, variants in zip(examples, features, strict=True):
        for variant, measured in variants.items():
            window_count = len(measured.statistics)
            if variant.is_for_training and window_count:
                statistics.append(measured.statistics)
                are_stored += [variant == Variant()] * window_count
                labels += [1 if variant.vocoder else example.label] * window_count
                classes += [variant.vocoder or ("fake" if example.label else "real")] * window_count
                weights += [
                    (1 if variant.degradation == STORED_VOICE else DEGRADED_WEIGHT) / window_count
                ] * window_count
    proportions = {"real": 1.0, "fake": 1 - copies}
    proportions |= {vocoder: copies * proportion for vocoder, proportion in COPY_MIX.items()}
    class_array, weight_array = np.array(classes), np.array(weights)
    for name, proportion in proportions.items():
        chosen = class_array == name
        weight_array[chosen] *= proportion / 2 / max(weight_array[chosen].sum(), 1e-9)
    return _TrainingWindows(
        np.concatenate(statistics), np.array(labels), class_array, weight_array, np.array(are_stored)
    )


def _active_statistics(size: int) -> np.ndarray:
    """Return which of the `size` statistics are used, as booleans: all but those of groups of bands above TOP_HZ.

    The statistics of each group of bands come in turn, then those of no group.
    """
    group = np.arange(size) // TEXTURES_PER_GROUP
    top_group = np.ceil(TOP_HZ / (VOICE_INPUT.sample_rate_hz / 2) * VOICE_GROUPS)
    active: np.ndarray = (group < top_group) | (group >= VOICE_GROUPS)
    return active


def export_voice(source: Path, target: Path) -> float:
    """Write the .onnx file of a voice model, and compare the engines on noise.

    Returns:
        The largest difference of logits between the two engines.

    Raises:
        ModelError: the source has no spec, or the engines differ by more than VOICE_TOLERANCE.
    """
    noise = np.random.default_rng(0).standard_normal(VOICE_CHECK_S * VOICE_INPUT.sample_rate_hz).astype(np.float32)
    windows, _ = cut_windows(normalize_level(noise))
    return export(source, target, batch=network_input(windows), tolerance=VOICE_TOLERANCE)
