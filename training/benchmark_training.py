"""Training speed: batches with everything that prepares them, beside the framework's step on arrays that are ready."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detector.pictures.faces import FaceFinder
from training.batches import BatchGenerator
from training.fitting import compile_model
from training.frozen_features import FeatureBatches, FeatureStore
from training.manifests import Example, find_largest_face
from training.networks import build_network, split_network
from training.settings import DEFAULT_SETTINGS

LAST_FROZEN = "block10_add"
TRAINING_SETTINGS = replace(
    DEFAULT_SETTINGS, network="efficientnet_lite0", weights="none", batch=32, reconstruct=0.0, last_frozen=LAST_FROZEN
)
PICTURES = 16  # copies of the portrait, half of them labelled fake

Batches = Iterator[tuple[np.ndarray, np.ndarray]]


def time_training(portrait: bytes, steps: int) -> dict[str, float]:
    """Time the training of a whole network and of its upper part alone, on copies of one portrait.

    Args:
        portrait: bytes of a JPEG file with a face.
        steps: timed batches of each way.

    Returns:
        For each part of the network the pictures per second, with batches prepared in threads meanwhile, and the share
        of the speed that the step alone reaches on one batch that is ready.
    """
    settings = TRAINING_SETTINGS
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor() as pool:
        folder = Path(name)
        examples = [_write_example(folder, number, portrait) for number in range(PICTURES)]
        faces = [find_largest_face(examples[0].path, FaceFinder())] * PICTURES
        network = build_network(settings.network, settings.input_size_px)
        lower, upper = split_network(network, LAST_FROZEN)
        store = FeatureStore(examples, faces, settings, lower, folder=folder)
        features = FeatureBatches(store, np.ones(PICTURES, bool), settings)
        crops = BatchGenerator(examples, faces, settings)
        figures = {}
        for name, part, batches in (("whole network", network, crops), ("upper part", upper, features)):
            model = compile_model(part, settings, steps)
            prepared = _speed(model, batches.batches(0, steps + 1, pool), settings.batch)
            ready = next(batches.batches(0, 1, pool))
            bare = _speed(model, iter([ready] * (steps + 1)), settings.batch)
            figures[f"training, {name}, pictures/s"] = prepared
            figures[f"training, {name}, share of the bare step's speed"] = prepared / bare
    return figures


def _speed(model: Any, batches: Batches, size: int) -> float:
    """Return the median of pictures per second; the first batch, which compiles the step, does not count."""
    times = []
    started = time.perf_counter()
    for pixels, labels in batches:
        model.train_on_batch(pixels.astype(np.float32), labels)
        times.append(time.perf_counter() - started)
        started = time.perf_counter()
    return size / statistics.median(times[1:])


def _write_example(folder: Path, number: int, portrait: bytes) -> Example:
    path = folder / f"{number}.jpg"
    path.write_bytes(portrait)
    return Example(path, number % 2, "portrait", "any", str(number), "train")
