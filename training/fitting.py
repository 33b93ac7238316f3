"""Train a network on a manifest of pictures: epochs, checkpoints, and the weights of the best epoch."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from detector.metrics import roc_auc
from detector.models.spec import FaceInput, ModelSpec, read_spec
from training.batches import CROP_MARGIN, BatchGenerator, cut_faces
from training.calibrating import UNCALIBRATED, save_model, write_calibrated
from training.exporting import can_export
from training.frozen_features import FeatureBatches, FeatureStore, compiled, run_session
from training.kind_heads import build_kind_network, build_pooled, fit_kind_heads
from training.manifests import Example, LocatedFace, locate_faces, read_manifest, split_train_calibration, without_fold
from training.networks import build_network, split_network
from training.runs import CurveRow, RunFolder, commit, replace_file
from training.settings import TrainingSettings, describe_settings, is_whole_model

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

WARM_UP_PROPORTION = 0.04  # of all steps
AVERAGE_MOMENTUM = 0.998  # exponential moving average of the weights, per step; less in a short run
MAX_CALIBRATION = 1600  # calibration pictures scored after each epoch
MIXED_SAMPLES = 1280  # calibration pictures in training batches, on which the best epoch is selected


@dataclass(frozen=True)
class LabelledCrops:
    """Crops (N, S, S, 3) uint8 RGB, or their features (N, h, w, C), and their labels (N,), 1 = fake."""

    crops: np.ndarray
    labels: np.ndarray

    def score(self, model: Any) -> np.ndarray:
        """Return the model's logits (N,)."""
        batches = [self.crops[i : i + 32].astype(np.float32) for i in range(0, len(self.crops), 32)]
        return np.concatenate([model.predict_on_batch(batch)[:, 0] for batch in batches])


@dataclass(frozen=True)
class TrainingData:
    """The two parts of a manifest's train split, with their faces, ready for a run.

    Attributes:
        training: pictures the network learns from.
        calibration: pictures for selecting the epoch, and later the calibration and the thresholds.
        batches: training batches.
        plain: faces of calibration pictures, cut out as the detector does.
        mixed: calibration pictures in batches as in training, with made fakes and degradations.
    """

    training: list[Example]
    calibration: list[Example]
    batches: BatchGenerator | FeatureBatches
    plain: LabelledCrops
    mixed: LabelledCrops


def load_training_data(settings: TrainingSettings, lower: Any = None) -> TrainingData:
    """Read the manifest, find the faces, and prepare what each epoch is scored on.

    Args:
        settings: of the run.
        lower: the frozen part of the network, whose features are shown instead of crops; None trains the whole.

    Raises:
        SystemExit: the manifest lacks something that the settings name.
    """
    training, calibration = _split_examples(settings)
    calibration_faces = locate_faces(calibration)
    chosen = np.random.default_rng(settings.seed).permutation(len(calibration))[:MAX_CALIBRATION]
    plain = [calibration[i] for i in chosen]
    crops = LabelledCrops(
        cut_faces(plain, [calibration_faces[i] for i in chosen], settings.input_size_px),
        np.array([example.label for example in plain]),
    )
    mixed = _mix(calibration, calibration_faces, settings)
    if lower is None:
        generator = BatchGenerator(training, locate_faces(training), settings)
        return TrainingData(training, calibration, generator, crops, mixed)
    with compiled(lower) as session:
        crops, mixed = (replace(part, crops=run_session(session, part.crops)) for part in (crops, mixed))
    everything, _ = split_train_calibration(read_manifest(Path(settings.manifest)))
    batches = FeatureBatches(*_load_features(everything, training, settings, lower), settings)
    return TrainingData(training, calibration, batches, crops, mixed)


def train(settings: TrainingSettings, run: Path) -> tuple[Any, list[Example], dict[str, Any]]:
    """Train a network, or fit its heads for kinds of fakes in one step.

    Training keeps a checkpoint, the curves and the best averaged weights in `run`.

    Args:
        settings: of the run, completed by `complete_settings`.
        run: folder of the run, opened by `open_run`; a stopped run resumes after its last checkpoint.

    Returns:
        The Keras network with its best weights, the calibration examples, none for heads, and the account of the run
        that goes into the model's spec.
    """
    import keras

    keras.utils.set_random_seed(settings.seed)
    network = build_network(
        settings.network, settings.input_size_px, weights=settings.weights, dropout=settings.dropout
    )
    if settings.head:
        return _fit_heads(settings, network)
    lower, trained = split_network(network, settings.last_frozen) if settings.last_frozen else (None, network)
    data, folder = load_training_data(settings, lower), RunFolder(run)
    steps = max(1, settings.epoch_samples // settings.batch)
    resumes = folder.checkpoint.is_file()
    model = keras.models.load_model(folder.checkpoint) if resumes else compile_model(trained, settings, steps)
    # The checkpoint is written last and counts the finished steps; the curves may be one epoch ahead of it.
    rows = folder.read_history()[: int(model.optimizer.iterations) // steps]
    progress = tqdm(total=steps * settings.epochs, initial=len(rows) * steps, unit="batch")
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress:
        for epoch in range(len(rows), settings.epochs):
            row = _train_epoch(model, data.batches, range(epoch * steps, (epoch + 1) * steps), pool, progress)
            _finish_epoch(model, data, folder, rows, row)
            progress.write(", ".join(f"{name} {value:.4g}" for name, value in rows[-1].items()))
    model.load_weights(folder.best_weights)
    trained.set_weights(model.get_weights())  # a checkpoint's model is a copy
    return network, data.calibration, _describe_run(settings, data.training, data.calibration, rows)


def train_and_write(settings: TrainingSettings, run: Path, out: Path) -> bool:
    """Train a network, calibrate it where this backend can export it, and write the model.

    Heads for kinds of fakes are not calibrated, since they learn from all pictures; `calibrate_from_scores` does that.

    Returns:
        Whether the model is calibrated.

    Raises:
        ModelError: the starting weights cannot be used, or the model cannot be exported.
        SystemExit: the manifest cannot be used.
    """
    cv2.setNumThreads(1)  # the thread pool is the parallelism
    network, calibration, account = train(settings, run)
    spec = ModelSpec(settings.network, FaceInput(settings.input_size_px, CROP_MARGIN), UNCALIBRATED, account)
    if can_export() and not settings.head:
        write_calibrated(out, network, spec, calibration)
        return True
    save_model(out, network, spec)
    return False


def leave_out(examples: list[Example], beginnings: tuple[str, ...]) -> list[Example]:
    """Return the examples whose generator begins with none of these, ignoring case.

    Raises:
        SystemExit: a beginning matches no generator.
    """
    for beginning in beginnings:
        if not any(example.generator.lower().startswith(beginning.lower()) for example in examples):
            raise SystemExit(f"No generator begins with {beginning!r}, so there is nothing to leave out.")
    lower = tuple(beginning.lower() for beginning in beginnings)
    return [example for example in examples if not example.generator.lower().startswith(lower)]


def compile_model(network: Any, settings: TrainingSettings, steps: int) -> Any:
    """Return a network with its logit as the only output, ready to train.

    Args:
        network: of `build_network`, or the upper part of one.
        settings: of the run.
        steps: batches in each of the epochs.
    """
    import keras

    total = steps * settings.epochs
    warm_up = max(1, int(total * WARM_UP_PROPORTION))
    rate = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate / 25,
        max(1, total - warm_up),
        warmup_target=settings.learning_rate,
        warmup_steps=warm_up,
    )
    # An average over more than a tenth of the run would still be dominated by the initial weights.
    momentum = min(AVERAGE_MOMENTUM, total / (total + 10))
    model = keras.Model(network.input, network.output["logit"])
    model.compile(
        keras.optimizers.AdamW(
            rate, weight_decay=settings.weight_decay, clipnorm=1.0, use_ema=True, ema_momentum=momentum
        ),
        loss=keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=settings.label_smoothing),
        metrics=[keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)],
    )
    return model


def dropout_generators(model: Any) -> list[Any]:
    """Return the seed generators of a network's dropout layers, including those inside its body."""
    found = []
    for layer in model.layers:
        found += dropout_generators(layer) if hasattr(layer, "layers") else []
        found += [layer.seed_generator] if hasattr(layer, "seed_generator") else []
    return found


@contextmanager
def averaged_weights(model: Any) -> Iterator[None]:
    """Put the moving average of the weights into the network for the duration of the context."""
    current = model.get_weights()
    model.optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        model.set_weights(current)


def _mix(examples: list[Example], faces: list[LocatedFace], settings: TrainingSettings) -> LabelledCrops:
    """Draw training batches of calibration pictures."""
    count = max(1, min(MIXED_SAMPLES, 2 * len(examples)) // settings.batch)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        batches = list(BatchGenerator(examples, faces, settings).batches(0, count, pool))
    crops, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return LabelledCrops(crops, labels[:, 0])


def _train_epoch(
    model: Any, batches: BatchGenerator | FeatureBatches, steps: range, pool: ThreadPoolExecutor, progress: tqdm[Any]
) -> CurveRow:
    """Train on the batches of one epoch; returns the first columns of its row in the curves."""
    epoch = steps.start // len(steps)
    # Dropout draws from the seed and the step as well: no checkpoint holds the state of a generator.
    for place, generator in enumerate(dropout_generators(model)):
        generator.state.assign([batches.settings.seed + place, steps.start])
    sums: defaultdict[str, float] = defaultdict(float)
    for pixels, targets in batches.batches(steps.start, steps.stop, pool):
        result = model.train_on_batch(pixels.astype(np.float32), targets, return_dict=True)
        for name, value in result.items():
            sums[name] += float(value)
        progress.update()
        progress.set_postfix(epoch=epoch + 1, loss=f"{result['loss']:.3f}")
    return {
        "epoch": epoch + 1,
        "samples": steps.stop * batches.settings.batch,
        "train_loss": sums["loss"] / len(steps),
        "train_accuracy": sums["accuracy"] / len(steps),
    }


def _finish_epoch(model: Any, data: TrainingData, folder: RunFolder, rows: list[CurveRow], row: CurveRow) -> None:
    """Score the averaged weights, keep them if they are the best so far, and write curves and checkpoint."""
    with averaged_weights(model):
        logits = data.plain.score(model)
        row["tune_accuracy"] = float(np.mean((logits > 0) == data.plain.labels))
        row["tune_auc"] = roc_auc(data.plain.labels, logits)
        # AUC on collected fakes saturates early, so epochs are selected on the mixed set.
        row["mixed_auc"] = roc_auc(data.mixed.labels, data.mixed.score(model))
        if row["mixed_auc"] >= max((earlier["mixed_auc"] for earlier in rows), default=0):
            replace_file(folder.best_weights, model.save_weights)
    rows.append(row)
    folder.write_history(rows)
    replace_file(folder.checkpoint, model.save)


def _split_examples(settings: TrainingSettings) -> tuple[list[Example], list[Example]]:
    """Return the pictures to learn from and those to calibrate on, without what the settings leave out.

    Heads learn from both, as no epoch is selected for them.

    Raises:
        SystemExit: the manifest lacks something that the settings name.
    """
    examples = without_fold(
        leave_out(read_manifest(Path(settings.manifest)), settings.leave_out), settings.leave_out_fold
    )
    training, calibration = split_train_calibration(examples)
    if settings.head:
        training, calibration = [example for example in examples if example.split == "train"], []
    if unknown := set(settings.emphasis) - {example.source for example in training}:
        raise SystemExit(f"There are no pictures of the source {', '.join(sorted(unknown))} to show more often.")
    return training, calibration


def _fit_heads(settings: TrainingSettings, network: Any) -> tuple[Any, list[Example], dict[str, Any]]:
    """Fit the heads for kinds of fakes; returns the same as `train`."""
    assert settings.last_frozen is not None  # the settings check it
    training, calibration = _split_examples(settings)
    everything = [example for example in read_manifest(Path(settings.manifest)) if example.split == "train"]
    pooled = build_pooled(network, settings.last_frozen)
    store, chosen = _load_features(everything, training, settings, pooled, as_detected=True)
    heads = fit_kind_heads(store, chosen, settings)
    account = _describe_run(settings, training, calibration, []) | {"kinds": list(heads.kinds)}
    return build_kind_network(network, settings.last_frozen, heads), calibration, account


def _load_features(
    everything: list[Example],
    training: list[Example],
    settings: TrainingSettings,
    lower: Any,
    *,
    as_detected: bool = False,
) -> tuple[FeatureStore, np.ndarray]:
    """Return the features of `everything`, which all folds share, and whether each example is in `training`."""
    store = FeatureStore(everything, locate_faces(everything), settings, lower, as_detected=as_detected)
    shown = {example.path for example in training}
    return store, np.array([example.path in shown for example in everything])


def _describe_run(
    settings: TrainingSettings, training: list[Example], calibration: list[Example], rows: list[CurveRow]
) -> dict[str, Any]:
    """Return the account of a run for the model's spec."""
    sources = Counter(f"{e.source} {'fake' if e.label else 'real'}" for e in training)
    return {
        "sources": dict(sorted(sources.items())),
        "fit": len(training),
        "tune": len(calibration),
        "curve": [{name: round(value, 4) for name, value in row.items()} for row in rows],
        "date": date.today().isoformat(),
        "commit": commit(),
        "settings": describe_settings(settings),
        "before": _earlier_training(settings.weights),
    }


def _earlier_training(weights: str) -> dict[str, Any] | None:
    """Return the account of the model a run started from, or None if it started from less than a model."""
    return read_spec(weights).training if is_whole_model(weights) else None
