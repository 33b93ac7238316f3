"""Train the small autoencoders whose reconstructions of real faces serve as fakes.

Each rebuilds a face through another kind of upsampling. A detector trained on pictures beside their reconstructions
learns the traces of upsampling and nothing of the content (Zhang et al., arXiv 1907.06515; Rajan et al., arXiv
2410.11835).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from detector.media.images import read_image
from detector.pictures.faces import cut_square, resize
from training.batches import CROP_MARGIN
from training.exporting import OPSET
from training.manifests import Example, LocatedFace, face_square, locate_faces, read_manifest, split_train_calibration
from training.networks import build_autoencoder
from training.synthesis import RECONSTRUCTION_PX

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

PATCH_PX = 96  # side of a training patch
FACE_PX = (120, 224)  # side of the face crop that a patch is cut out of
PATCH_BATCH = 16
PEAK_LEARNING_RATE = 2e-3  # Adam, cosine
EDGE_WEIGHT = 1.0  # of the error of pixel differences, against blur, relative to the error of the pixels


def draw_patches(examples: list[Example], faces: list[LocatedFace], seed: int, step: int) -> np.ndarray:
    """Return a batch (N, P, P, 3) float32 RGB of patches of faces, a function of the seed and the step alone."""
    rng = np.random.default_rng([seed, step])
    batch = []
    for index in rng.integers(0, len(examples), PATCH_BATCH):
        image = read_image(examples[index].path)
        square = face_square(faces[index], CROP_MARGIN, image.shape[1], image.shape[0])
        side = int(rng.integers(*FACE_PX, endpoint=True))
        crop = resize(cut_square(image, square), side, side)
        x, y = rng.integers(0, side - PATCH_PX, 2, endpoint=True)
        batch.append(crop[y : y + PATCH_PX, x : x + PATCH_PX])
    return np.stack(batch).astype(np.float32)


def fit_autoencoder(decoder: str, examples: list[Example], faces: list[LocatedFace], *, steps: int, seed: int) -> Any:
    """Train one autoencoder.

    Args:
        decoder: a name of `training.networks.DECODERS`.
        examples, faces: real pictures to learn from.
        steps: number of batches.
        seed: of patches and initial weights.

    Returns:
        The Keras network at the size of reconstructions.
    """
    import keras

    def loss(wanted: Any, got: Any) -> Any:
        difference = got - wanted
        edges = keras.ops.mean(keras.ops.abs(difference[:, 1:] - difference[:, :-1]))
        edges += keras.ops.mean(keras.ops.abs(difference[:, :, 1:] - difference[:, :, :-1]))
        return keras.ops.mean(keras.ops.abs(difference)) + EDGE_WEIGHT * edges

    keras.utils.set_random_seed(seed)
    network = build_autoencoder(decoder, PATCH_PX)
    rate = keras.optimizers.schedules.CosineDecay(PEAK_LEARNING_RATE, steps)
    network.compile(keras.optimizers.Adam(rate), loss=loss)
    with ThreadPoolExecutor(2) as pool, tqdm(range(steps), desc=decoder, unit="batch") as progress:
        waiting = [pool.submit(draw_patches, examples, faces, seed, step) for step in range(min(4, steps))]
        for step in progress:
            batch = waiting.pop(0).result()
            if step + 4 < steps:
                waiting.append(pool.submit(draw_patches, examples, faces, seed, step + 4))
            progress.set_postfix(loss=f"{float(network.train_on_batch(batch, batch)):.2f}")
    whole = build_autoencoder(decoder, RECONSTRUCTION_PX)
    whole.set_weights(network.get_weights())
    whole(
        np.zeros((1, RECONSTRUCTION_PX, RECONSTRUCTION_PX, 3), np.float32)
    )  # Keras exports only networks that were called
    return whole


def peak_signal_to_noise(network: Any, examples: list[Example], faces: list[LocatedFace], seed: int) -> float:
    """Return the mean PSNR in dB over patches the network was not trained on."""
    values = []
    small = build_autoencoder(network.name, PATCH_PX)
    small.set_weights(network.get_weights())
    for step in range(8):
        batch = draw_patches(examples, faces, seed, step)
        got = np.clip(np.asarray(small.predict_on_batch(batch)), 0, 255)
        values += list(10 * np.log10(255**2 / np.mean((got - batch) ** 2, axis=(1, 2, 3))))
    return float(np.mean(values))


def train_autoencoders(manifest: Path, decoders: Sequence[str], out: Path, *, steps: int, seed: int) -> None:
    """Train autoencoders on the real pictures a detector learns from, export them, and print their quality.

    Args:
        manifest: CSV file of labelled pictures.
        decoders: names of `training.networks.DECODERS`.
        out: folder of the reconstruct_*.onnx files.
        steps: number of batches for each.
        seed: of patches and initial weights.
    """
    parts = split_train_calibration(read_manifest(manifest))
    training, calibration = ([example for example in part if example.label == 0] for part in parts)
    training_faces, calibration_faces = locate_faces(training), locate_faces(calibration)
    cv2.setNumThreads(1)  # the thread pool is the parallelism
    out.mkdir(parents=True, exist_ok=True)
    for decoder in decoders:
        network = fit_autoencoder(decoder, training, training_faces, steps=steps, seed=seed)
        quality_db = peak_signal_to_noise(network, calibration, calibration_faces, seed)
        target = out / f"reconstruct_{decoder}.onnx"
        with tempfile.TemporaryDirectory(dir=out) as folder:
            part = Path(folder) / target.name
            network.export(part, format="onnx", opset_version=OPSET, verbose=False)
            part.replace(target)
        size_kb = target.stat().st_size / 1e3
        print(f"wrote {target} ({size_kb:.0f} kB), PSNR {quality_db:.1f} dB on {8 * PATCH_BATCH} patches")
