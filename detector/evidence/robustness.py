"""The delivery test: does the verdict survive what happens to pictures on their way?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from detector.media.degradations import TIERS, recompress, rescale
from detector.models.engines import Engine
from detector.pictures.faces import crop_faces, crop_square
from detector.results import Reason, Verdict
from detector.verdicts import decide

STORED = "stored"
TIGHT_CROP = "tight"
# What is done to the picture; two of them lie beyond the TIERS for which the thresholds were chosen.
DEGRADATION_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "jpeg90": partial(recompress, quality=90),
    "jpeg70": partial(recompress, quality=70),
    "jpeg50": TIERS["jpeg50"],
    "jpeg30": partial(recompress, quality=30),
    "webp80": partial(recompress, quality=80, extension=".webp"),  # 80 is the usual quality of web services
    "half": TIERS["half"],
    "quarter": partial(rescale, factor=0.25),
    "blur1": TIERS["blur1"],
}
DEGRADATIONS = (STORED, *DEGRADATION_FUNCTIONS, TIGHT_CROP)
TIGHT_MARGIN = 1.1  # of an avatar, over the longer side of the face box: the tightest the network has learned from
MAX_TESTED_FACES = 4  # the first of a picture are delivered, so that a crowd does not cost a hundred crops
ALIGNED_PX = 32  # twice the block of a JPEG with halved colours, and a multiple of what `quarter` makes one pixel of


@dataclass(frozen=True)
class DegradedScore:
    """One way a picture may arrive and the verdict on it.

    Attributes:
        name: of DELIVERIES.
        logit: of its most suspicious face, positive means fake.
        probability: calibrated P(fake) in [0, 1].
        verdict: by the thresholds on that probability.
    """

    name: str
    logit: float
    probability: float
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "name": self.name,
            "logit": self.logit,
            "probability": self.probability,
            "verdict": str(self.verdict),
        }


@dataclass(frozen=True)
class RobustnessResult:
    """What became of a verdict on the way: `scores` in the order of DELIVERIES, the picture as it is first."""

    scores: tuple[DegradedScore, ...]

    @property
    def is_robust(self) -> bool:
        """Whether no two deliveries, the picture as it is among them, are called real and deepfake.

        A verdict that is merely lost, real or deepfake to inconclusive, is the thresholds doing their work.
        """
        return not {Verdict.REAL, Verdict.DEEPFAKE} <= {score.verdict for score in self.scores}

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why a verdict would be withheld; empty when it is stable."""
        return () if self.is_robust else (Reason.UNSTABLE,)

    @property
    def spread(self) -> float:
        """How far the logits lie apart."""
        logits = [score.logit for score in self.scores]
        return max(logits) - min(logits)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "deliveries": [score.to_dict() for score in self.scores],
            "is_robust": self.is_robust,
            "spread": self.spread,
        }


def measure_robustness(image: np.ndarray, boxes: Sequence[np.ndarray], engine: Engine) -> RobustnessResult:
    """Score a picture as it is and after each kind of damage, all crops in one batch.

    The faces are not found again: it is the network that is put to the test, a box that moves by a pixel would be
    mistaken for its doubt, and ten more looks would cost more than the ten crops. The damages leave the picture's size
    as it was, so the same square is cut out of each; only for TIGHT the picture is first cropped closer to the face.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: face boxes (4,), x, y, w, h in pixels, the most suspicious first; MAX_DELIVERED_FACES are delivered.

    Raises:
        ValueError: there is no box.
    """
    if not len(boxes):
        raise ValueError("the delivery test needs at least one face")
    spec, calibration = engine.spec, engine.spec.calibration
    crops = []
    for box in boxes[:MAX_TESTED_FACES]:
        crops += _degraded_crops(image, box, spec.face.crop_margin, spec.face.size_px)
    logits, _ = engine.run(np.stack(crops))
    deliveries = []
    for name, logit in zip(DEGRADATIONS, logits.reshape(-1, len(DEGRADATIONS)).max(axis=0).tolist(), strict=True):
        decision = decide(logit, (), calibration)
        deliveries.append(DegradedScore(name, logit, decision.probability, decision.verdict))
    return RobustnessResult(tuple(deliveries))


def _degraded_crops(image: np.ndarray, box: np.ndarray, margin: float, size_px: int) -> list[np.ndarray]:
    """Return a face's crops (S, S, 3) in the order of DELIVERIES."""
    height, width = image.shape[:2]
    square = crop_square(box, margin, width, height)
    surroundings, (left, top) = _surroundings(image, square)
    moved = (square[0] - left, square[1] - top, *square[2:])
    pictures = [surroundings, *(damage(surroundings) for damage in DEGRADATION_FUNCTIONS.values())]
    tight = crop_square(box, min(margin, TIGHT_MARGIN), width, height)
    return [crop_faces(picture, [moved], size_px)[0] for picture in pictures] + list(
        crop_faces(image, [tight], size_px)
    )


def _surroundings(image: np.ndarray, square: tuple[int, int, int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Cut out of a large picture what the damage of a square depends on; returns it and its corner.

    Its edges lie where the blocks of a JPEG begin and at least a block from the square, so that JPEG and blur do to it
    exactly what they would do to the whole picture, for a fraction of the time; scaling and WebP do as much.
    """
    left, top, side, _ = square
    x0, y0 = (max(0, (start // ALIGNED_PX - 1) * ALIGNED_PX) for start in (left, top))
    x1, y1 = (-((-start - side) // ALIGNED_PX) * ALIGNED_PX + ALIGNED_PX for start in (left, top))
    return image[y0:y1, x0:x1], (x0, y0)
