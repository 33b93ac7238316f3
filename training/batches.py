"""Training batches: which pictures a batch shows, how their faces are cut out, and the fakes made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from detector.media.images import read_image
from detector.pictures.faces import crop_faces, cut_square, resize
from training.manifests import Example, LocatedFace, face_square
from training.settings import MODELS, TrainingSettings
from training.synthesis import RECONSTRUCTION_PX, Reconstructor, degrade, graft, self_blend

CROP_MARGIN = 1.3  # side of the crop over the longer side of the face box
CROP_PX = RECONSTRUCTION_PX  # larger crops are shrunk to this side first, so that all degradations act at one scale
MARGIN_JITTER = (0.85, 1.2)  # factor of CROP_MARGIN, so that framing carries no label
SIDE_JITTER = (0.4, 1.25)  # factor of the network's input: the side at which a crop is degraded
SHIFT_JITTER = 0.04  # of the crop's side
MIRROR_CHANCE = 0.5
CUTOUT_CHANCE = 0.15  # of hiding a random rectangle
GRAFT_CHANCE = 0.3  # of blends that use another person's face instead of the face's own
LOOKAHEAD = 4  # batches prepared ahead of the network


@dataclass(frozen=True)
class SamplePlan:
    """One place of a batch.

    Attributes:
        index: of the example.
        seed: of its framing and degradation. A real and the fake made of it share the seed, so that they differ only
            in the fake's traces.
        fake: what is made of a real example: "" nothing, "blend", "graft" or "reconstruction".
        donor: index of the example whose face a graft uses.
    """

    index: int
    seed: tuple[int, ...]
    fake: str = ""
    donor: int = 0


class BatchGenerator:
    """Training batches, each a function of the settings and its number alone, so that a run can resume anywhere.

    Half of a batch is real, half fake. Within each half a source weighs as the square root of its number of pictures,
    times its emphasis, so that large sources do not dominate. A proportion of the fakes is made of reals of the same
    batch, with the same crop and the same degradation.
    """

    def __init__(self, examples: list[Example], faces: list[LocatedFace], settings: TrainingSettings):
        self.examples, self.faces, self.settings = examples, faces, settings
        self._pools = [self._weigh(label) for label in (0, 1)]
        self._reconstructor = Reconstructor(MODELS) if settings.reconstruct else None

    def batches(self, start: int, stop: int, pool: ThreadPoolExecutor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the batches `start` to `stop`, prepared ahead in threads.

        Yields:
            (N, S, S, 3) uint8 RGB crops and (N, 1) float32 labels, 1 = fake.
        """
        waiting: dict[int, list[Future[tuple[np.ndarray, int]]]] = {}
        for step in range(start, stop):
            for ahead in range(step, min(step + LOOKAHEAD, stop)):
                if ahead not in waiting:
                    waiting[ahead] = [pool.submit(self.load_sample, plan) for plan in self.plan_batch(ahead)]
            samples = [future.result() for future in waiting.pop(step)]
            yield np.stack([crop for crop, _ in samples]), np.array([[label] for _, label in samples], np.float32)

    def plan_batch(self, step: int) -> list[SamplePlan]:
        """Return the plan of each place of a batch: the reals, then the fakes."""
        settings = self.settings
        rng = np.random.default_rng([settings.seed, step])
        half = settings.batch // 2
        reals, fakes = (rng.choice(indices, half, p=weights) for indices, weights in self._pools)
        seeds = [(settings.seed, step, place) for place in range(2 * half)]
        plans = [SamplePlan(int(index), seeds[place]) for place, index in enumerate(reals)]

        chances = [settings.self_blend, settings.reconstruct, 1 - settings.self_blend - settings.reconstruct]
        kinds = rng.choice(["blend", "reconstruction", ""], half, p=chances)
        for place, kind in enumerate(kinds):
            parent, donor = int(reals[place]), int(rng.choice(reals))
            if kind == "blend" and self.faces[parent].landmarks is None:
                kind = ""
            if kind == "blend" and rng.random() < GRAFT_CHANCE and self._can_donate(donor, parent):
                kind = "graft"
            if kind:
                plans.append(SamplePlan(parent, seeds[place], str(kind), donor))
            else:
                plans.append(SamplePlan(int(fakes[place]), seeds[half + place]))
        return plans

    def load_sample(self, plan: SamplePlan) -> tuple[np.ndarray, int]:
        """Read, cut out, forge, mirror and degrade one picture.

        Returns:
            (S, S, 3) uint8 RGB crop and its label, 1 = fake.
        """
        image, face = read_image(self.examples[plan.index].path), self.faces[plan.index]
        rng = np.random.default_rng(plan.seed)
        crop, landmarks = _cut_with_jitter(image, face, rng)
        if plan.fake:
            # A separate generator keeps the degradation below the same for the real and its fake.
            crop = self._make_fake(plan, crop, landmarks, np.random.default_rng([*plan.seed, 1]))
        if rng.random() < MIRROR_CHANCE:
            crop = np.ascontiguousarray(crop[:, ::-1])
        size_px = self.settings.input_size_px
        # The crop is resized first: a compression grid at the stored side would identify the source.
        side = round(size_px * float(np.exp(rng.uniform(*np.log(SIDE_JITTER)))))
        if self.settings.damaged:
            crop = degrade(resize(crop, side, side), rng)
        crop = resize(crop, size_px, size_px)
        if rng.random() < CUTOUT_CHANCE:
            crop = cut_out(crop, rng)
        return crop, 1 if plan.fake else self.examples[plan.index].label

    def _weigh(self, label: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of the examples of a label and the chance of each, both (N,)."""
        indices = np.array([i for i, example in enumerate(self.examples) if example.label == label])
        return indices, source_weights([self.examples[i].source for i in indices], self.settings)

    def _can_donate(self, donor: int, parent: int) -> bool:
        return self.faces[donor].landmarks is not None and self.examples[donor].group != self.examples[parent].group

    def _make_fake(
        self, plan: SamplePlan, crop: np.ndarray, landmarks: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        if plan.fake == "reconstruction":
            assert self._reconstructor is not None  # present whenever the settings include reconstructions
            return self._reconstructor.reconstruct(crop, rng)
        donor_landmarks = self.faces[plan.donor].landmarks
        assert landmarks is not None  # `plan_batch` blends faces with landmarks only
        if plan.fake == "graft" and donor_landmarks is not None:
            donor = read_image(self.examples[plan.donor].path)
            return graft(crop, landmarks, donor, donor_landmarks, rng)[0]
        return self_blend(crop, landmarks, rng)[0]


def source_weights(sources: list[str], settings: TrainingSettings, power: float = 0.5) -> np.ndarray:
    """Return the chance of each of N pictures (N,), by the emphasis of its source and the balance of all sources.

    Args:
        sources: of the pictures.
        settings: of the run.
        power: a picture of a source of n pictures weighs 1 / n ** power; 0.5 makes a source weigh as the square root
            of its count. Nothing is balanced if the settings say so.
    """
    counts = Counter(sources)
    power = power if settings.balanced else 0.0
    weights = np.array([settings.emphasis.get(source, 1.0) * counts[source] ** -power for source in sources])
    return weights / weights.sum()


def cut_out(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hide a rectangle of 10 to 40 % of each side under one grey level.

    Args:
        crop: (S, S, 3) uint8 RGB.
        rng: source of all randomness.

    Source:
        DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", arXiv 1708.04552.
    """
    side = crop.shape[0]
    w, h = (int(value) for value in rng.uniform(0.1, 0.4, 2) * side)
    x, y = int(rng.integers(0, side - w)), int(rng.integers(0, side - h))
    crop = crop.copy()
    crop[y : y + h, x : x + w] = rng.integers(0, 256)
    return crop


def cut_faces(examples: list[Example], faces: list[LocatedFace], size_px: int) -> np.ndarray:
    """Cut out the largest face of each picture as the detector does, without jitter.

    Returns:
        (N, S, S, 3) uint8 RGB.
    """
    crops = []
    for example, face in zip(examples, faces, strict=True):
        image = read_image(example.path)
        crops.append(crop_faces(image, [face_square(face, CROP_MARGIN, image.shape[1], image.shape[0])], size_px)[0])
    return np.stack(crops)


def _cut_with_jitter(
    image: np.ndarray, face: LocatedFace, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """Cut out a face with a random margin and shift; returns the crop and the landmarks (5, 2) in its pixels."""
    square = face_square(face, CROP_MARGIN * rng.uniform(*MARGIN_JITTER), image.shape[1], image.shape[0])
    shift = np.rint(rng.uniform(-SHIFT_JITTER, SHIFT_JITTER, 2) * square[2]).astype(int)
    square = (square[0] + int(shift[0]), square[1] + int(shift[1]), square[2], square[3])
    crop, scale = cut_square(image, square), min(1.0, CROP_PX / square[2])
    if scale < 1:
        crop = resize(crop, CROP_PX, CROP_PX)
    return crop, None if face.landmarks is None else (face.landmarks - np.array(square[:2])) * scale
