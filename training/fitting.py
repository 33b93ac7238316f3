"""Train a network on a manifest of pictures, calibrate it, and write model.h5.

    python scripts/train.py                       # data/synthetic_data/manifest.csv, from model.h5, small defaults
    python scripts/train.py --manifest FACES.csv --weights BODY.weights.h5 --epochs 14 --epoch-samples 12800

The manifest's `val` pictures are never looked at. Its `train` pictures are cut by group into fit (what the network
learns from) and tune (which epoch to keep, calibration, thresholds). A run that was stopped goes on where its last
checkpoint is when the same command is given again; its folder holds the settings, the curves, and when it was started
from which commit. KERAS_BACKEND=torch trains with PyTorch, on a GPU where there is one.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from detector.media.images import read_image
from detector.metrics import roc_auc
from detector.models.spec import FaceInput, ModelSpec, file_sha256, read_spec
from detector.pictures.faces import crop_faces, cut_square, resize
from detector.results import ModelError
from training.arguments import at_least, proportion_argument
from training.calibrating import UNCALIBRATED, save_model, write_calibrated
from training.exporting import can_export
from training.manifests import (
    ROOT,
    Example,
    LocatedFace,
    face_square,
    locate_faces,
    read_manifest,
    replace_file,
    split_train_calibration,
)
from training.networks import NETWORKS, build_network
from training.synthesis import RECONSTRUCTION_PX, Reconstructor, degrade, graft, self_blend

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

MODEL = ROOT / "model.h5"
MODELS = ROOT / "models"
CROP_MARGIN = 1.3  # side of the crop over the longer side of the face box
CROP_PX = RECONSTRUCTION_PX  # larger crops are shrunk to this side first, so that all damage acts at one scale
MARGIN_JITTER = (0.85, 1.2)  # times CROP_MARGIN, so that framing says nothing
SIDE_JITTER = (0.4, 1.25)  # times the network's input: the side at which a crop is damaged
SHIFT_JITTER = 0.04  # of the crop's side
CUTOUT_CHANCE = 0.15  # of hiding a random rectangle
LEARNING_RATE = 1e-3  # peak by default, AdamW
WARM_UP = 0.04  # share of all steps
SELF_BLEND = 0.35  # share of the fakes
RECONSTRUCT = 0.08  # share of the fakes
GRAFT_CHANCE = 0.3  # of the blends, made with another person's face instead of the face's own
AVERAGE_MOMENTUM = 0.998  # exponential moving average of the weights, a step; less in a short run
LOOKAHEAD = 4  # batches made ahead of the network
MAX_TUNE = 1600  # pictures scored after each epoch
MIXED_SAMPLES = 1280  # tuning pictures mixed, made and damaged as in training, on which the best epoch is chosen


@dataclass(frozen=True)
class TrainingSettings:
    """What a run is asked for; with the constants above it decides what is computed."""

    manifest: str
    manifest_sha256: str
    network: str
    weights: str
    weights_sha256: str
    input_size_px: int
    epochs: int
    epoch_samples: int
    batch: int
    self_blend: float
    seed: int
    reconstruct: float = 0.0
    autoencoders_sha256: str = ""
    damaged: bool = True
    balanced: bool = True
    leave_out: tuple[str, ...] = ()
    emphasis: dict[str, float] = field(default_factory=dict)
    learning_rate: float = LEARNING_RATE
    weight_decay: float = 1e-4
    label_smoothing: float = 0.05
    dropout: float = 0.2


@dataclass(frozen=True)
class SamplePlan:
    """One place of a batch.

    Attributes:
        index: of the example.
        seed: of its framing and damage; a real and the fake made of it share it, so that the fake's traces are all
            that tells them apart.
        fake: what is made of a real example: "" nothing, "blend", "graft" or "reconstruction".
        donor: index of the example a graft takes its face from.
    """

    index: int
    seed: tuple[int, ...]
    fake: str = ""
    donor: int = 0


class BatchGenerator:
    """Training batches, each a function of the settings and its number alone, so that a run can go on anywhere.

    Half of a batch is real, half fake. Sources weigh as the square root of their pictures within each half, times the
    emphasis they are given, so that a large one does not drown a small one. A share of the fakes are made of reals of
    the same batch, cut and damaged alike.
    """

    def __init__(self, examples: list[Example], faces: list[LocatedFace], settings: TrainingSettings):
        self.examples, self.faces, self.settings = examples, faces, settings
        self._pools = [self._weighted(label) for label in (0, 1)]
        self._reconstructor = Reconstructor(MODELS) if settings.reconstruct else None

    def _weighted(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        indices = np.array([i for i, example in enumerate(self.examples) if example.label == label])
        counts = Counter(self.examples[i].source for i in indices)
        power = -0.5 if self.settings.balanced else 0.0
        sources = [self.examples[i].source for i in indices]
        weights = np.array([self.settings.emphasis.get(source, 1.0) * counts[source] ** power for source in sources])
        return indices, weights / weights.sum()

    def batches(self, start: int, stop: int, pool: ThreadPoolExecutor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield (N, S, S, 3) uint8 pictures and (N, 1) float32 labels, made ahead in threads."""
        waiting: dict[int, list[Future]] = {}
        for step in range(start, stop):
            for ahead in range(step, min(step + LOOKAHEAD, stop)):
                if ahead not in waiting:
                    waiting[ahead] = [pool.submit(self._show, view) for view in self._views(ahead)]
            shown = [future.result() for future in waiting.pop(step)]
            yield np.stack([crop for crop, _ in shown]), np.array([[label] for _, label in shown], np.float32)

    def _views(self, step: int) -> list[SamplePlan]:
        """Return what stands at each place of a batch."""
        seed = self.settings.seed
        rng = np.random.default_rng([seed, step])
        half = self.settings.batch // 2
        reals, fakes = (rng.choice(indices, half, p=weights) for indices, weights in self._pools)
        seeds = [(seed, step, place) for place in range(2 * half)]
        views = [SamplePlan(int(index), seeds[place]) for place, index in enumerate(reals)]

        kinds = rng.choice(
            ["blend", "reconstruction", ""],
            half,
            p=[
                self.settings.self_blend,
                self.settings.reconstruct,
                1 - self.settings.self_blend - self.settings.reconstruct,
            ],
        )
        for place, kind in enumerate(kinds):
            parent, donor = int(reals[place]), int(rng.choice(reals))
            if kind == "blend" and self.faces[parent].landmarks is None:
                kind = ""
            if kind == "blend" and rng.random() < GRAFT_CHANCE and self._may_give(donor, parent):
                kind = "graft"
            if kind:
                views.append(SamplePlan(parent, seeds[place], str(kind), donor))
            else:
                views.append(SamplePlan(int(fakes[place]), seeds[half + place]))
        return views

    def _may_give(self, donor: int, parent: int) -> bool:
        return self.faces[donor].landmarks is not None and self.examples[donor].group != self.examples[parent].group

    def _show(self, view: SamplePlan) -> tuple[np.ndarray, int]:
        image, face = read_image(self.examples[view.index].path), self.faces[view.index]
        rng = np.random.default_rng(view.seed)
        square = face_square(face, CROP_MARGIN * rng.uniform(*MARGIN_JITTER), image.shape[1], image.shape[0])
        shift = np.rint(rng.uniform(-SHIFT_JITTER, SHIFT_JITTER, 2) * square[2]).astype(int)
        square = (square[0] + int(shift[0]), square[1] + int(shift[1]), square[2], square[3])
        crop, scale = cut_square(image, square), min(1.0, CROP_PX / square[2])
        if scale < 1:
            crop = resize(crop, CROP_PX, CROP_PX)
        if view.fake:
            marks = None if face.landmarks is None else (face.landmarks - np.array(square[:2])) * scale
            # A generator of its own, so that the damage below is the same for the real and its fake.
            crop = self._make_fake(view, crop, marks, np.random.default_rng([*view.seed, 1]))
        if rng.random() < 0.5:
            crop = np.ascontiguousarray(crop[:, ::-1])
        size_px = self.settings.input_size_px
        # A compression's grid is scaled with the crop; at the stored side it would name the source.
        side = round(size_px * float(np.exp(rng.uniform(*np.log(SIDE_JITTER)))))
        if self.settings.damaged:
            crop = degrade(resize(crop, side, side), rng)
        crop = resize(crop, size_px, size_px)
        if rng.random() < CUTOUT_CHANCE:
            crop = _cut_out(crop, rng)
        return crop, 1 if view.fake else self.examples[view.index].label

    def _make_fake(
        self, view: SamplePlan, crop: np.ndarray, landmarks: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        if view.fake == "reconstruction":
            return self._reconstructor.reconstruct(crop, rng)
        if view.fake == "graft":
            donor = read_image(self.examples[view.donor].path)
            return graft(crop, landmarks, donor, self.faces[view.donor].landmarks, rng)[0]
        return self_blend(crop, landmarks, rng)[0]


def _cut_out(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hide a rectangle of 10 to 40 % of each side under one grey."""
    side = crop.shape[0]
    w, h = (int(value) for value in rng.uniform(0.1, 0.4, 2) * side)
    x, y = int(rng.integers(0, side - w)), int(rng.integers(0, side - h))
    crop = crop.copy()
    crop[y : y + h, x : x + w] = rng.integers(0, 256)
    return crop


def tune_crops(examples: list[Example], faces: list[LocatedFace], size_px: int) -> np.ndarray:
    """Cut the largest face of each picture as the server does, (N, S, S, 3) uint8."""
    crops = []
    for example, face in zip(examples, faces, strict=True):
        image = read_image(example.path)
        crops.append(crop_faces(image, [face_square(face, CROP_MARGIN, image.shape[1], image.shape[0])], size_px)[0])
    return np.stack(crops)


def logits_of(model, crops: np.ndarray) -> np.ndarray:
    """Return the logits (N,) of crops (N, S, S, 3)."""
    batches = [crops[i : i + 32].astype(np.float32) for i in range(0, len(crops), 32)]
    return np.concatenate([model.predict_on_batch(batch)[:, 0] for batch in batches])


def open_run(run: Path, settings: TrainingSettings) -> None:
    """Make a run's folder, or go on with one, and note when that was and from which commit.

    Raises:
        SystemExit: the folder holds a run with other settings.
    """
    run.mkdir(parents=True, exist_ok=True)
    asked, kept = json.dumps(asdict(settings), indent=2), run / "settings.json"
    if kept.is_file() and kept.read_text() != asked:
        raise SystemExit(f"{run} holds a run with other settings; give another --run or remove it.")
    replace_file(kept, lambda part: part.write_text(asked))
    with open(run / "starts.txt", "a") as starts:
        starts.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {_commit() or 'unknown'}\n")


def train(settings: TrainingSettings, run: Path) -> tuple[Any, list[Example], dict[str, Any]]:
    """Train until the last epoch, keeping in `run` a checkpoint, the curves and the best averaged weights.

    Returns:
        The network with its best weights, the tuning examples and an account of the run.
    """
    import keras

    fit, tune = split_train_calibration(leave_out(read_manifest(Path(settings.manifest)), settings.leave_out))
    if unknown := set(settings.emphasis) - {example.source for example in fit}:
        raise SystemExit(f"There are no pictures of the source {', '.join(sorted(unknown))} to show more often.")
    fit_faces = locate_faces(fit)
    tune_faces = locate_faces(tune)
    shown = np.random.default_rng(settings.seed).permutation(len(tune))[:MAX_TUNE]
    crops = tune_crops([tune[i] for i in shown], [tune_faces[i] for i in shown], settings.input_size_px)
    labels = np.array([tune[i].label for i in shown])
    mixed = max(1, min(MIXED_SAMPLES, 2 * len(tune)) // settings.batch)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        batches = list(BatchGenerator(tune, tune_faces, settings).batches(0, mixed, pool))
    mixed_crops, mixed_labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))

    steps = max(1, settings.epoch_samples // settings.batch)
    checkpoint, history, best = run / "checkpoint.keras", run / "history.csv", run / "best.weights.h5"
    model = keras.models.load_model(checkpoint) if checkpoint.is_file() else compile_model(settings, steps)
    # The checkpoint is written last and says how far the run is; the curves may be an epoch ahead of it.
    rows = _read_history(history)[: int(model.optimizer.iterations) // steps]
    stream = BatchGenerator(fit, fit_faces, settings)
    progress = tqdm(total=steps * settings.epochs, initial=len(rows) * steps, unit="batch")
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress:
        for epoch in range(len(rows), settings.epochs):
            sums = Counter()
            # Dropout, too, draws from the seed and the step; a generator's own state is in no checkpoint.
            for place, generator in enumerate(dropout_generators(model)):
                generator.state.assign([settings.seed + place, epoch * steps])
            for pixels, targets in stream.batches(epoch * steps, (epoch + 1) * steps, pool):
                result = model.train_on_batch(pixels.astype(np.float32), targets, return_dict=True)
                sums.update({name: float(value) for name, value in result.items()})
                progress.update()
                progress.set_postfix(epoch=epoch + 1, loss=f"{result['loss']:.3f}")
            row = {
                "epoch": epoch + 1,
                "samples": (epoch + 1) * steps * settings.batch,
                "train_loss": sums["loss"] / steps,
                "train_accuracy": sums["accuracy"] / steps,
            }
            with averaged_weights(model):
                logits = logits_of(model, crops)
                row["tune_accuracy"] = float(np.mean((logits > 0) == labels))
                row["tune_auc"] = roc_auc(labels, logits)
                # The collected fakes alone are soon told apart; the epoch that does it best may know little else.
                row["mixed_auc"] = roc_auc(mixed_labels[:, 0], logits_of(model, mixed_crops))
                if row["mixed_auc"] >= max((r["mixed_auc"] for r in rows), default=0):
                    replace_file(best, model.save_weights)
            rows.append(row)
            replace_file(history, partial(_write_history, rows))
            replace_file(checkpoint, model.save)
            progress.write(", ".join(f"{name} {value:.4g}" for name, value in row.items()))

    model.load_weights(best)
    names = [layer.name for layer in model.layers]
    outputs = {name: model.get_layer(name).output for name in ("logit", "class_map") if name in names}
    network = keras.Model(model.input, outputs, name=settings.network)
    sources = Counter(f"{e.source} {'fake' if e.label else 'real'}" for e in fit)
    files = {"manifest": Path(settings.manifest).name, "weights": Path(settings.weights).name}
    account = {
        "sources": dict(sorted(sources.items())),
        "fit": len(fit),
        "tune": len(tune),
        "curve": [{name: round(value, 4) for name, value in row.items()} for row in rows],
        "date": date.today().isoformat(),
        "commit": _commit(),
        "settings": {**asdict(settings), **files},
        "before": _training_before(settings.weights),
    }
    return network, tune, account


def leave_out(examples: list[Example], beginnings: tuple[str, ...]) -> list[Example]:
    """Return the examples whose generator begins with none of these, in any case.

    Raises:
        SystemExit: a beginning fits no generator.
    """
    for beginning in beginnings:
        if not any(example.generator.lower().startswith(beginning.lower()) for example in examples):
            raise SystemExit(f"No generator begins with {beginning!r}, so there is nothing to leave out.")
    lower = tuple(beginning.lower() for beginning in beginnings)
    return [example for example in examples if not example.generator.lower().startswith(lower)]


def compile_model(settings: TrainingSettings, steps: int) -> Any:
    """Build the network with its logit alone as output, ready to train for `settings.epochs` of `steps` batches."""
    import keras

    keras.utils.set_random_seed(settings.seed)
    network = build_network(
        settings.network, settings.input_size_px, weights=settings.weights, dropout=settings.dropout
    )
    total = steps * settings.epochs
    warm_up = max(1, int(total * WARM_UP))
    rate = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate / 25,
        max(1, total - warm_up),
        warmup_target=settings.learning_rate,
        warmup_steps=warm_up,
    )
    # An average over more than a tenth of the run would still be full of the weights it began with.
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
    """Return the seed generators of a network's dropout layers, also of those inside its body."""
    found = []
    for layer in model.layers:
        found += dropout_generators(layer) if hasattr(layer, "layers") else []
        found += [layer.seed_generator] if hasattr(layer, "seed_generator") else []
    return found


@contextmanager
def averaged_weights(model: Any) -> Iterator[None]:
    """Put the moving average of the weights into the network for a while."""
    current = model.get_weights()
    model.optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        model.set_weights(current)


def _read_history(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        return [
            {name: int(text) if text.isdigit() else float(text) for name, text in row.items()}
            for row in csv.DictReader(file)
        ]


def _write_history(rows: list[dict[str, float]], path: Path) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _sha256(path: str | Path) -> str:
    """Return a file's SHA-256, or nothing for what is not a file and is refused or downloaded later."""
    return file_sha256(path) if Path(path).is_file() else ""


def _commit() -> str:
    """Return the commit the code stood at, with a mark where it was changed since; nothing outside a repository."""
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return asked.stdout.strip()


def _training_before(weights: str) -> dict[str, Any] | None:
    """Return the account of the model a run started from, None where it started from less."""
    return read_spec(weights).training if weights.endswith(".h5") and not weights.endswith(".weights.h5") else None


def network_of(spec: ModelSpec) -> str:
    """Return the architecture a run can go on from: of several that were joined, the last."""
    members = spec.training.get("members")
    return members[-1]["settings"]["network"] if members else spec.network


def autoencoders_sha256() -> str:
    """Return one hash over the files that make reconstructions."""
    hashes = "".join(file_sha256(path) for path in sorted(MODELS.glob("reconstruct_*.onnx")))
    return hashlib.sha256(hashes.encode()).hexdigest()


def weights_settings(weights: str) -> dict[str, str]:
    """Return the settings that name where a network starts: "none", "imagenet" or a file, and the file's hash."""
    where = weights if weights in ("none", "imagenet") else str(Path(weights).resolve())
    return {"weights": where, "weights_sha256": _sha256(weights)}


def _own_weights(network: str) -> str:
    """Return the project's own model where it can be the beginning: a few pictures do not teach from nothing."""
    try:
        return str(MODEL) if network_of(read_spec(MODEL)) == network else "none"
    except ModelError:
        return "none"


def _even(text: str) -> int:
    if at_least(1)(text) % 2:
        raise argparse.ArgumentTypeError(f"{text} is odd; half of a batch is real, half is fake")
    return int(text)


def _emphasis(text: str) -> tuple[str, float]:
    source, _, factor = text.rpartition("=")
    try:
        if source and float(factor) > 0:
            return source, float(factor)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not of the form SOURCE=FACTOR with a factor above 0")


def main(argv: list[str] | None = None) -> None:
    """Train, calibrate, write the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, default=ROOT / "data" / "synthetic_data" / "manifest.csv")
    parser.add_argument("--network", choices=NETWORKS, default="mobilenet")
    parser.add_argument(
        "--weights",
        help="imagenet (downloads), none, a .weights.h5 file of the body, or a model.h5 "
        "(default: the project's own model.h5 where it is of this network, else none)",
    )
    parser.add_argument("--size", type=int, default=192, help="side of the network's input in pixels (default 192)")
    parser.add_argument("--epochs", type=at_least(1), default=8)
    parser.add_argument("--epoch-samples", type=at_least(1), default=640, help="pictures an epoch (default 640)")
    parser.add_argument("--batch", type=_even, default=32, help="half real, half fake (default 32)")
    parser.add_argument(
        "--self-blend",
        type=proportion_argument,
        default=SELF_BLEND,
        help="share of the fakes blended from reals on line",
    )
    parser.add_argument(
        "--reconstruct",
        type=proportion_argument,
        default=RECONSTRUCT,
        help="share of the fakes rebuilt by autoencoders",
    )
    parser.add_argument("--undamaged", action="store_true", help="leave out recompression, scaling, blur and light")
    parser.add_argument("--unbalanced", action="store_true", help="show every picture as often as any other")
    parser.add_argument(
        "--leave-out", nargs="*", default=[], metavar="GENERATOR", help="fakes never seen: generators that begin so"
    )
    parser.add_argument(
        "--emphasis", type=_emphasis, nargs="*", default=[], metavar="SOURCE=FACTOR", help="show a source more often"
    )
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE, help="at its peak (default 1e-3)")
    parser.add_argument("--weight-decay", type=float, default=1e-4, help="of AdamW; 0 makes it Adam (default 1e-4)")
    parser.add_argument("--label-smoothing", type=proportion_argument, default=0.05)
    parser.add_argument("--dropout", type=proportion_argument, default=0.2, help="before the last layer (default 0.2)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", type=Path, help="folder of the run (default: one of these settings' own in runs)")
    parser.add_argument("--out", type=Path, default=MODEL)
    options = parser.parse_args(argv)
    if options.self_blend + options.reconstruct > 1:
        parser.error("--self-blend and --reconstruct are shares of the same fakes; together they are at most 1")

    weights = options.weights or ("none" if options.leave_out else _own_weights(options.network))
    if options.leave_out and weights.endswith(".h5") and not weights.endswith(".weights.h5"):
        parser.error("--leave-out wants weights that have not learned from what is left out: not a model.h5")
    print(f"starting from {weights}")
    settings = TrainingSettings(
        manifest=str(options.manifest.resolve()),
        manifest_sha256=_sha256(options.manifest),
        network=options.network,
        **weights_settings(weights),
        input_size_px=options.size,
        epochs=options.epochs,
        epoch_samples=options.epoch_samples,
        batch=options.batch,
        self_blend=options.self_blend,
        seed=options.seed,
        reconstruct=options.reconstruct,
        autoencoders_sha256=autoencoders_sha256() if options.reconstruct else "",
        damaged=not options.undamaged,
        balanced=not options.unbalanced,
        leave_out=tuple(options.leave_out),
        emphasis=dict(options.emphasis),
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        label_smoothing=options.label_smoothing,
        dropout=options.dropout,
    )
    digest = hashlib.sha256(json.dumps(asdict(settings)).encode()).hexdigest()
    run = options.run or ROOT / "runs" / f"{settings.network}-{digest[:8]}"
    open_run(run, settings)
    cv2.setNumThreads(1)  # the pool below is the parallelism

    try:
        network, tune, account = train(settings, run)
    except ModelError as error:
        raise SystemExit(str(error)) from error
    spec = ModelSpec(settings.network, FaceInput(settings.input_size_px, CROP_MARGIN), UNCALIBRATED, account)
    if can_export():
        write_calibrated(options.out, network, spec, tune)
        print(f"wrote {options.out}; next: python scripts/export.py")
    else:
        save_model(options.out, network, spec)
        command = f"python scripts/calibrate.py --manifest {options.manifest} --model {options.out}"
        print(f"wrote {options.out}, not calibrated; next, where TensorFlow runs Keras: {command}")


if __name__ == "__main__":
    main()
