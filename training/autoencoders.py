"""Train the small autoencoders whose reconstructions of real faces serve as fakes: models/reconstruct_*.onnx.

    python scripts/train_autoencoders.py --manifest FACES.csv          # about five minutes each on two cores

They learn from the real pictures of the fit cut alone, as the detector does. Each rebuilds a face through another kind
of enlargement, so that a detector trained on picture and reconstruction side by side learns the traces of enlarging
and nothing of the content (Zhang et al., arXiv 1907.06515; Rajan et al., arXiv 2410.11835).
"""

from __future__ import annotations

import argparse
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from detector.media.images import read_image
from detector.pictures.faces import cut_square, resize
from training.fitting import CROP_MARGIN
from training.manifests import (
    ROOT,
    Example,
    LocatedFace,
    face_square,
    locate_faces,
    read_manifest,
    split_train_calibration,
)
from training.networks import DECODERS, build_autoencoder
from training.synthesis import RECONSTRUCTION_PX

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

PATCH_PX = 96  # side of what they learn from
FACE_PX = (120, 224)  # side a face crop is brought to before a patch is cut out of it
PATCH_BATCH = 16
LEARNING_RATE = 2e-3  # peak, Adam, cosine
EDGE_WEIGHT = 1.0  # of the error of differences between neighbours, against blur, beside the error of the pixels
OPSET = 15


def patches(examples: list[Example], faces: list[LocatedFace], seed: int, step: int) -> np.ndarray:
    """Return a batch (N, P, P, 3) float32 of patches of real faces, a function of its seed and number alone."""
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


def fit(decoder: str, examples: list[Example], faces: list[LocatedFace], steps: int, seed: int):
    """Train one autoencoder; returns it at the size reconstructions are made in."""
    import keras

    def loss(wanted, got):
        difference = got - wanted
        edges = keras.ops.mean(keras.ops.abs(difference[:, 1:] - difference[:, :-1]))
        edges += keras.ops.mean(keras.ops.abs(difference[:, :, 1:] - difference[:, :, :-1]))
        return keras.ops.mean(keras.ops.abs(difference)) + EDGE_WEIGHT * edges

    keras.utils.set_random_seed(seed)
    network = build_autoencoder(decoder, PATCH_PX)
    rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    network.compile(keras.optimizers.Adam(rate), loss=loss)
    with ThreadPoolExecutor(2) as pool, tqdm(range(steps), desc=decoder, unit="batch") as progress:
        waiting = [pool.submit(patches, examples, faces, seed, step) for step in range(min(4, steps))]
        for step in progress:
            batch = waiting.pop(0).result()
            if step + 4 < steps:
                waiting.append(pool.submit(patches, examples, faces, seed, step + 4))
            progress.set_postfix(loss=f"{float(network.train_on_batch(batch, batch)):.2f}")
    whole = build_autoencoder(decoder, RECONSTRUCTION_PX)
    whole.set_weights(network.get_weights())
    whole(np.zeros((1, RECONSTRUCTION_PX, RECONSTRUCTION_PX, 3), np.float32))  # Keras exports only what was called
    return whole


def peak_signal_to_noise(network, examples: list[Example], faces: list[LocatedFace], seed: int) -> float:
    """Return the mean PSNR in dB over patches the network was not trained on."""
    values = []
    small = build_autoencoder(network.name, PATCH_PX)
    small.set_weights(network.get_weights())
    for step in range(8):
        batch = patches(examples, faces, seed, step)
        got = np.clip(np.asarray(small.predict_on_batch(batch)), 0, 255)
        values += list(10 * np.log10(255**2 / np.mean((got - batch) ** 2, axis=(1, 2, 3))))
    return float(np.mean(values))


def main(argv: list[str] | None = None) -> None:
    """Train each, export it, print how well it rebuilds the tuning pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, default=ROOT / "data" / "synthetic_data" / "manifest.csv")
    parser.add_argument("--decoders", nargs="*", choices=DECODERS, default=list(DECODERS))
    parser.add_argument("--steps", type=int, default=2000, help=f"batches of {PATCH_BATCH} patches each (default 2000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "models")
    options = parser.parse_args(argv)
    learned, tune = (
        [e for e in part if e.label == 0] for part in split_train_calibration(read_manifest(options.manifest))
    )
    learned_faces, tune_faces = locate_faces(learned), locate_faces(tune)
    cv2.setNumThreads(1)  # the pool is the parallelism
    options.out.mkdir(parents=True, exist_ok=True)
    for decoder in options.decoders:
        network = fit(decoder, learned, learned_faces, options.steps, options.seed)
        quality = peak_signal_to_noise(network, tune, tune_faces, options.seed)
        target = options.out / f"reconstruct_{decoder}.onnx"
        with tempfile.TemporaryDirectory(dir=options.out) as folder:
            part = Path(folder) / target.name
            network.export(part, format="onnx", opset_version=OPSET, verbose=False)
            part.replace(target)
        print(
            f"wrote {target} ({target.stat().st_size / 1e3:.0f} kB), PSNR {quality:.1f} dB on {8 * PATCH_BATCH} patches"
        )


if __name__ == "__main__":
    main()
