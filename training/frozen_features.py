"""Train only the upper part of a network: the features below it are computed once, for several views of each picture.

The lower part keeps its weights, so its output for a view never changes. Kept on disk, it serves every epoch, every
fold of a cross-validation and every setting of the upper part.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from detector.media.degradations import INTERPOLATIONS, blur, recompress, rescale
from detector.models.sessions import Session
from detector.pictures.faces import resize
from training import manifests
from training.batches import GRAFT_CHANCE, BatchGenerator, SamplePlan, cut_faces, source_weights
from training.exporting import OPSET
from training.image_statistics import sharpness
from training.manifests import Example, LocatedFace
from training.runs import replace_file
from training.settings import TrainingSettings

DEFAULT_VIEWS = 2  # of each picture
# Numbers of the views that are cut out as the detector does: as they are; after a lossy save; after blur or scaling;
# saved as JPEG at another size, so that its blocks of 8 pixels lie elsewhere in the input and have another size there.
PLAIN, COMPRESSED, SOFTENED, RESIZED = -1, -2, -3, -4
SAVE_QUALITY = (30, 85)  # of the lossy saves, from and below
SAVE_FORMATS = (".jpg", ".jpg", ".webp")  # a third of the saves are WebP
BLUR_SIGMA_PX = (0.5, 1.6)  # of the input's pixels
SCALE_FACTOR = (0.35, 0.8)  # of the side, before the crop is enlarged again
SAVED_SIDE = (0.7, 1.8)  # of the crop that is saved at another size, in sides of the input
PRECISION = "bf16"  # of the features: its errors, 4 % of a feature's deviation, average out over the views
CHUNK = 256  # views computed between two notes of how far it is
JPEG_BLOCK_PX = 8
BATCH = 16  # crops of one inference
SHARPNESS_BINS = 12  # a real and the fake beside it in a batch are drawn from the same one


@dataclass(frozen=True)
class View:
    """An augmented view of an example, or the crop that the detector cuts, perhaps degraded.

    Attributes:
        index: of the example.
        number: of an augmented view, from 0; PLAIN, COMPRESSED, SOFTENED or RESIZED for the crop that the detector
            cuts.
        fake: what is made of a real example: "" nothing, "blend", "graft" or "reconstruction".
        donor: index of the example whose face a graft uses.
    """

    index: int
    number: int
    fake: str = ""
    donor: int = 0


class FeatureStore:
    """The features of all views of a manifest's training pictures, and the sharpness of each view.

    Attributes:
        views: the views, in the order of the rows.
        features: (V, h, w, C) float16, mapped from disk; (V, C) of a lower part that pools them.
        sharpness: (V,) of the crops that the network was fed.
        labels: (V,) 1 = fake.

    Args:
        examples, faces: the training pictures of all folds.
        settings: of the run; those that only concern the upper part do not matter.
        lower: the lower part of the network.
        as_detected: whether the crops that the detector cuts are among the views, and three degraded copies of each.
        folder: that keeps the features for later runs; by default `manifests.CACHE`.
    """

    def __init__(
        self,
        examples: list[Example],
        faces: list[LocatedFace],
        settings: TrainingSettings,
        lower: Any,
        *,
        as_detected: bool = False,
        folder: Path | None = None,
    ):
        self.examples = examples
        self.views = plan_views(examples, faces, settings)
        if as_detected:
            numbers = (PLAIN, COMPRESSED, SOFTENED, RESIZED)
            self.views = [View(index, number) for number in numbers for index in range(len(examples))] + self.views
        self.labels = np.array([1 if view.fake else examples[view.index].label for view in self.views])
        folder = (folder or manifests.CACHE) / f"features-{_digest(self.views, settings, lower)}"
        folder.mkdir(parents=True, exist_ok=True)
        shape = (len(self.views), *lower.output_shape[1:])
        self.features = _open_array(folder / "features.npy", np.float16, shape)
        self.sharpness = _open_array(folder / "sharpness.npy", np.float32, shape[:1])
        self._fill(faces, settings, lower, folder / "done.json")

    def _fill(self, faces: list[LocatedFace], settings: TrainingSettings, lower: Any, done: Path) -> None:
        """Compute what is missing; a stopped run goes on after the last complete chunk."""
        start = json.loads(done.read_text()) if done.is_file() else 0
        if start >= len(self.views):
            return
        batches = BatchGenerator(self.examples, faces, settings)
        progress = tqdm(total=len(self.views), initial=start, desc="computing features", unit="view")
        with compiled(lower, PRECISION) as session, ThreadPoolExecutor(os.cpu_count()) as pool, progress:
            for first in range(start, len(self.views), CHUNK):
                rows = slice(first, first + CHUNK)
                crops = list(pool.map(lambda view: _load_view(view, batches, settings.seed), self.views[rows]))
                self.sharpness[rows] = [sharpness(crop) for crop in crops]
                self.features[rows] = run_session(session, np.stack(crops))
                self.features.flush()
                self.sharpness.flush()
                replace_file(done, partial(_write_text, json.dumps(first + len(crops))))
                progress.update(len(crops))


def plan_views(examples: list[Example], faces: list[LocatedFace], settings: TrainingSettings) -> list[View]:
    """Return the views of each example, and a fake made of each view of a real face with landmarks.

    All first views come first. The faces of a graft come from one fold, so that no fold's faces reach another's.
    """
    made = np.array([settings.self_blend, settings.reconstruct])
    donors: dict[int | None, list[int]] = {}
    for index, (example, face) in enumerate(zip(examples, faces, strict=True)):
        if made.any() and example.label == 0 and face.landmarks is not None:
            donors.setdefault(example.fold, []).append(index)
    views = []
    for number in range(DEFAULT_VIEWS if settings.views is None else settings.views):
        views += [View(index, number) for index in range(len(examples))]
        for index in sorted(index for group in donors.values() for index in group):
            rng = np.random.default_rng([settings.seed, number, index])
            fake = str(rng.choice(["blend", "reconstruction"], p=made / made.sum()))
            donor = int(rng.choice(donors[examples[index].fold]))
            is_graft = fake == "blend" and rng.random() < GRAFT_CHANCE
            if is_graft and examples[donor].group != examples[index].group:
                fake = "graft"
            views.append(View(index, number, fake, donor))
    return views


@contextmanager
def compiled(network: Any, precision: str = "f32") -> Iterator[Session]:
    """Compile a Keras network for the CPU for the duration of the context: four times as fast as `predict`.

    Args:
        network: with one output.
        precision: of `Session`.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        network(np.zeros((1, *network.input_shape[1:]), np.float32))  # Keras exports only what was called once
        network.export(path, format="onnx", opset_version=OPSET, verbose=False)
        yield Session(path, precision=precision)


def run_session(session: Session, crops: np.ndarray) -> np.ndarray:
    """Return the features (N, h, w, C) float32 of crops (N, S, S, 3) uint8."""
    chunks = (crops[i : i + BATCH].astype(np.float32) for i in range(0, len(crops), BATCH))
    return np.concatenate([session.run(chunk)[0] for chunk in chunks])


class FeatureBatches:
    """Training batches of stored features, each a function of the settings and its number alone.

    Half of a batch is real, half fake, and each fake has about the sharpness of the real beside it, so that
    sharpness does not predict the label. Sources are weighted as in `BatchGenerator`. Some of the fakes are made.

    Args:
        store: the features of all folds.
        chosen: (N,) whether each of the store's examples may be shown.
        settings: of the run.
    """

    def __init__(self, store: FeatureStore, chosen: np.ndarray, settings: TrainingSettings):
        self.store, self.settings = store, settings
        shown = chosen[[view.index for view in store.views]]
        made = np.array([view.fake for view in store.views])
        edges = np.quantile(store.sharpness[shown], np.linspace(0, 1, SHARPNESS_BINS + 1)[1:-1])
        bins = np.digitize(store.sharpness, edges)
        kinds = {
            "real": (made == "") & (store.labels == 0),
            "fake": (made == "") & (store.labels == 1),
            "blend": (made == "blend") | (made == "graft"),
            "reconstruction": made == "reconstruction",
        }
        self._pools = {name: self._weigh(np.flatnonzero(shown & rows), bins) for name, rows in kinds.items()}
        masses = [[pool.mass for pool in self._pools[name]] for name in ("real", "fake")]
        self._bin_chances = np.mean([np.divide(mass, np.sum(mass)) for mass in masses], axis=0)

    def batches(self, start: int, stop: int, pool: ThreadPoolExecutor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the batches `start` to `stop`, the next one read ahead in a thread.

        Yields:
            (N, h, w, C) float32 features and (N, 1) float32 labels, 1 = fake.
        """
        ahead = pool.submit(self._load, start)
        for step in range(start, stop):
            batch, ahead = ahead.result(), pool.submit(self._load, step + 1)
            yield batch

    def plan_batch(self, step: int) -> np.ndarray:
        """Return the rows of the store that a batch shows, (N,): the reals, then the fakes."""
        settings = self.settings
        rng = np.random.default_rng([settings.seed, step])
        chances = {
            "blend": settings.self_blend,
            "reconstruction": settings.reconstruct,
            "fake": 1 - settings.self_blend - settings.reconstruct,
        }
        reals: list[int] = []
        fakes: list[int] = []
        while len(reals) < settings.batch // 2:
            place = rng.choice(SHARPNESS_BINS, p=self._bin_chances)
            pools = [self._pools[name][place] for name in ("real", rng.choice(list(chances), p=list(chances.values())))]
            if all(len(pool.rows) for pool in pools):
                real, fake = (pool.draw(rng) for pool in pools)
                reals.append(real)
                fakes.append(fake)
        return np.array(reals + fakes)

    def _load(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.plan_batch(step)
        features = np.stack([self.store.features[row] for row in rows]).astype(np.float32)
        return features, self.store.labels[rows, None].astype(np.float32)

    def _weigh(self, rows: np.ndarray, bins: np.ndarray) -> list[_Pool]:
        """Return the rows of each bin with their chances."""
        examples = [self.store.examples[self.store.views[row].index] for row in rows]
        weights = source_weights([example.source for example in examples], self.settings)
        return [_Pool(rows[bins[rows] == place], weights[bins[rows] == place]) for place in range(SHARPNESS_BINS)]


class _Pool:
    """Rows and their chances."""

    def __init__(self, rows: np.ndarray, weights: np.ndarray):
        self.rows, self.mass = rows, float(weights.sum())
        self._cumulated = np.cumsum(weights) / self.mass if len(rows) else weights

    def draw(self, rng: np.random.Generator) -> int:
        return int(self.rows[min(int(np.searchsorted(self._cumulated, rng.random())), len(self.rows) - 1)])


def _load_view(view: View, batches: BatchGenerator, seed: int) -> np.ndarray:
    """Return the crop of a view; a real and the fake made of it differ only in the fake's traces."""
    if view.number < 0:
        input_px, rng = batches.settings.input_size_px, np.random.default_rng([seed, -view.number, view.index])
        side_px = round(input_px * rng.uniform(*SAVED_SIDE)) if view.number == RESIZED else input_px
        crop = cut_faces([batches.examples[view.index]], [batches.faces[view.index]], side_px)[0]
        return resize(_degrade_crop(crop, view.number, rng), input_px, input_px)
    plan = SamplePlan(view.index, (seed, view.number, view.index), view.fake, view.donor)
    return batches.load_sample(plan)[0]


def _degrade_crop(crop: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Return a crop (S, S, 3) as the view of a number has it."""
    if number == COMPRESSED:
        return recompress(crop, int(rng.integers(*SAVE_QUALITY)), str(rng.choice(SAVE_FORMATS)))
    if number == SOFTENED:
        if rng.random() < 0.5:
            return rescale(crop, float(rng.uniform(*SCALE_FACTOR)), int(rng.choice(INTERPOLATIONS)))
        return blur(crop, float(rng.uniform(*BLUR_SIGMA_PX)))
    if number == RESIZED:
        top, left = rng.integers(JPEG_BLOCK_PX, size=2)
        padded = np.pad(crop, ((top, 0), (left, 0), (0, 0)), "edge")
        return recompress(padded, int(rng.integers(*SAVE_QUALITY)))[top:, left:]
    return crop


def _open_array(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """Map an array on disk, made on first use."""
    if not path.is_file():
        replace_file(path, lambda part: np.lib.format.open_memmap(part, "w+", dtype, shape).flush())
    return np.lib.format.open_memmap(path, "r+")


def _write_text(text: str, path: Path) -> None:
    path.write_text(text)


def _digest(views: list[View], settings: TrainingSettings, lower: Any) -> str:
    """Return the digits that name the features: of the pictures, the views and the lower part's weights."""
    relevant = (
        settings.manifest_sha256, settings.input_size_px, settings.seed, settings.damaged, settings.self_blend,
        settings.reconstruct, settings.autoencoders_sha256, len(views), views[0].number, lower.output_shape,
        SAVE_QUALITY, SAVE_FORMATS, BLUR_SIGMA_PX, SCALE_FACTOR, SAVED_SIDE, PRECISION,
    )  # fmt: skip
    digest = hashlib.sha256(repr(relevant).encode())
    for values in lower.get_weights():
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()[:12]
