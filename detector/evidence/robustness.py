"""The robustness test: does the verdict survive recompression, scaling, blur and a tighter crop?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from detector.media.degradations import TIERS, UNDEGRADED, recompress, rescale
from detector.models.engines import Engine, score_in_batches
from detector.pictures.faces import crop_face, crop_square
from detector.results import PictureDetection, Reason, Verdict
from detector.text import translatable
from detector.verdicts import decide

TIGHT_CROP = "tight"
_TIER_FUNCTIONS = {name: degrade for name, degrade in TIERS.items() if degrade is not None}
# The thresholds were chosen for those of TIERS alone.
DEGRADATION_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "jpeg90": partial(recompress, quality=90),
    "jpeg70": partial(recompress, quality=70),
    "jpeg50": _TIER_FUNCTIONS["jpeg50"],
    "jpeg30": partial(recompress, quality=30),
    "webp80": partial(recompress, quality=80, extension=".webp"),  # 80 is the usual quality of web services
    "half": _TIER_FUNCTIONS["half"],
    "quarter": partial(rescale, factor=0.25),
    "blur1": _TIER_FUNCTIONS["blur1"],
}
DEGRADATIONS = (UNDEGRADED, *DEGRADATION_FUNCTIONS, TIGHT_CROP)
DEGRADATION_LABELS = {
    UNDEGRADED: translatable("As it is"),
    "jpeg90": translatable("JPEG 90"),
    "jpeg70": translatable("JPEG 70"),
    "jpeg50": translatable("JPEG 50"),
    "jpeg30": translatable("JPEG 30"),
    "webp80": translatable("WebP 80"),
    "half": translatable("Half size"),
    "quarter": translatable("Quarter size"),
    "blur1": translatable("Blurred"),
    TIGHT_CROP: translatable("Cropped"),
}
TIGHT_MARGIN = 1.1  # of an avatar, over the longer side of the face box: the tightest crop in training
MAX_TESTED_FACES = 4  # the first of a picture, so that a crowd does not cost a hundred crops
ALIGNED_PX = 32  # twice the block of a JPEG with halved colours, and a multiple of 4, the factor of `quarter`


@dataclass(frozen=True)
class DegradedScore:
    """A degradation and the verdict after it.

    Attributes:
        name: one of DEGRADATIONS.
        logit: of the most suspicious face, positive means fake.
        probability: calibrated P(fake) in [0, 1].
        verdict: by the thresholds on that probability.
    """

    name: str
    logit: float
    probability: float
    verdict: Verdict


@dataclass(frozen=True)
class RobustnessResult:
    """The scores after each degradation: `scores` in the order of DEGRADATIONS, the unchanged picture first."""

    scores: tuple[DegradedScore, ...]

    @property
    def is_robust(self) -> bool:
        """Whether no two scores, the unchanged picture's included, give the verdicts real and deepfake.

        A change from real or deepfake to inconclusive is what the thresholds are for, and does not count.
        """
        return not {Verdict.REAL, Verdict.DEEPFAKE} <= {score.verdict for score in self.scores}

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why a verdict would be withheld; empty when it is robust."""
        return () if self.is_robust else (Reason.UNSTABLE,)

    @property
    def spread(self) -> float:
        """The largest logit less the smallest."""
        logits = [score.logit for score in self.scores]
        return max(logits) - min(logits)


def measure_face_robustness(detection: PictureDetection, engine: Engine) -> RobustnessResult | None:
    """Score the decisive face of a picture after each degradation; None where no face was fit for a verdict.

    Only the first face is tested, so the test costs nine crops however many faces there are. The detection holds the
    score of the unchanged picture.
    """
    if not set(detection.reasons) <= {Reason.BETWEEN_THRESHOLDS}:
        return None
    face = detection.faces[0]
    return measure_robustness(detection.image, [face.crop_box], engine, stored_logit=face.logit)


def measure_robustness(
    image: np.ndarray,
    crop_boxes: Sequence[tuple[int, int, int, int]],
    engine: Engine,
    *,
    stored_logit: float | None = None,
) -> RobustnessResult:
    """Score a picture after each degradation.

    Faces are not re-detected: box jitter would be confused with model instability. The degradations keep the picture's
    size, so the same square is cut from each result. Only TIGHT_CROP changes the square.

    Args:
        image: (H, W, 3) uint8 RGB.
        crop_boxes: (x, y, side, side) in pixels, the squares that the network scores, the most suspicious first;
            MAX_TESTED_FACES are tested.
        stored_logit: of the unchanged picture's most suspicious face; None scores it.

    Raises:
        ValueError: there is no crop box.
    """
    if not crop_boxes:
        raise ValueError("the robustness test needs at least one face")
    spec = engine.spec
    names = DEGRADATIONS if stored_logit is None else DEGRADATIONS[1:]
    pairs = [(crop_box, name) for crop_box in crop_boxes[:MAX_TESTED_FACES] for name in names]

    def degrade(rows: slice) -> np.ndarray:
        return np.stack([degraded_crop(image, crop_box, engine, degradation=name) for crop_box, name in pairs[rows]])

    by_face = score_in_batches(engine, degrade, len(pairs)).reshape(-1, len(names))
    logits = dict(zip(names, by_face.max(axis=0).tolist(), strict=True))
    if stored_logit is not None:
        logits = {UNDEGRADED: stored_logit, **logits}
    decisions = {name: decide(logit, (), spec.calibration) for name, logit in logits.items()}
    return RobustnessResult(
        tuple(DegradedScore(name, logits[name], one.probability, one.verdict) for name, one in decisions.items())
    )


def robustness_sentence(result: RobustnessResult) -> str:
    """Return the result of the robustness test in words."""
    verdicts = Counter(score.verdict for score in result.scores)
    total, n_inconclusive = len(result.scores), verdicts[Verdict.INCONCLUSIVE]
    if not result.is_robust:
        return translatable(
            "The result reversed. Of {total} copies of the picture, {real} became real, {fake} a deepfake and "
            "{inconclusive} inconclusive."
        ).format(total=total, real=verdicts[Verdict.REAL], fake=verdicts[Verdict.DEEPFAKE], inconclusive=n_inconclusive)
    if len(verdicts) == 1:
        return translatable("The result is the same for all {total} copies of the picture.").format(total=total)
    if result.scores[0].verdict is Verdict.INCONCLUSIVE:
        sentence = (
            translatable(
                "In {count} of {total} copies of the picture the result stayed inconclusive. In {others} it became "
                "real."
            )
            if verdicts[Verdict.REAL]
            else translatable(
                "In {count} of {total} copies of the picture the result stayed inconclusive. In {others} it became "
                "a deepfake."
            )
        )
        return sentence.format(count=n_inconclusive, total=total, others=total - n_inconclusive)
    return translatable(
        "In {count} of {total} copies of the picture the result became inconclusive. It never reversed."
    ).format(count=n_inconclusive, total=total)


def degraded_crop(
    image: np.ndarray, crop_box: tuple[int, int, int, int], engine: Engine, *, degradation: str
) -> np.ndarray:
    """Return a face's crop (S, S, 3) uint8 RGB after one of DEGRADATIONS."""
    spec = engine.spec.face
    if degradation == TIGHT_CROP:
        tight = tight_crop_box(crop_box, spec.crop_margin, image.shape[1], image.shape[0])
        return crop_face(image, tight, spec.size_px)
    surroundings, (left, top) = _cut_surroundings(image, crop_box)
    if degradation != UNDEGRADED:
        surroundings = DEGRADATION_FUNCTIONS[degradation](surroundings)
    x, y, side, _ = crop_box
    return crop_face(surroundings, (x - left, y - top, side, side), spec.size_px)


def tight_crop_box(
    crop_box: tuple[int, int, int, int], margin: float, width_px: int, height_px: int
) -> tuple[int, int, int, int]:
    """Return the square (x, y, side, side) of an avatar, in the middle of a crop box.

    Args:
        crop_box: (x, y, side, side) in pixels.
        margin: side of the crop box over the longer side of the face box.
        width_px, height_px: size of the picture.
    """
    x, y, side, _ = crop_box
    face_px = side / margin
    face_box = np.array([x + (side - face_px) / 2, y + (side - face_px) / 2, face_px, face_px])
    return crop_square(face_box, min(margin, TIGHT_MARGIN), width_px, height_px)


def _cut_surroundings(image: np.ndarray, square: tuple[int, int, int, int]) -> tuple[np.ndarray, tuple[int, int]]:
    """Cut the part of a large picture that a square depends on when degraded; return that part and its corner.

    Its edges lie on the block grid of a JPEG and at least a block from the square. JPEG and blur then give exactly the
    pixels that they would give on the whole picture, in a fraction of the time; scaling and WebP lose as much.
    """
    left, top, side, _ = square
    x0, y0 = (max(0, (start // ALIGNED_PX - 1) * ALIGNED_PX) for start in (left, top))
    x1, y1 = (-((-start - side) // ALIGNED_PX) * ALIGNED_PX + ALIGNED_PX for start in (left, top))
    return image[y0:y1, x0:x1], (x0, y0)
