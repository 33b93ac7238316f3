"""What the detector returns and what it raises: frozen results and a small family of errors."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

# Of the steps in which scores are counted: about even in log-odds, so that both ends, where most scores lie, are seen.
SCORE_EDGES = (
    0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5,
    0.65, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1,
)  # fmt: skip


class Verdict(StrEnum):
    """The three answers a person can get."""

    REAL = "real"
    DEEPFAKE = "deepfake"
    INCONCLUSIVE = "inconclusive"


WRONG_ABOUT = {  # which kinds of held-out pictures tell how easily such a verdict is wrong
    Verdict.REAL: ("fake",),
    Verdict.DEEPFAKE: ("real",),
    Verdict.INCONCLUSIVE: ("real", "fake"),
}


class Reason(StrEnum):
    """Why a verdict was withheld."""

    NO_FACE = "no_face"
    TOO_SMALL = "too_small"
    BETWEEN_THRESHOLDS = "between_thresholds"


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a picture and what the network made of it.

    Attributes:
        box: (x, y, w, h) in pixels of the upright original picture; a face at the edge may reach over it.
        landmarks: (5, 2) float32, x and y in pixels of the original: the eye on the left of the picture, the
            eye on the right, nose tip, the mouth corner on the left, the one on the right.
            None when the whole picture was taken for a face.
        detection_score: the face finder's confidence in [0, 1]; None when the whole picture was taken.
        crop_box: (x, y, w, h) in pixels of the original: the square the network saw, which may reach over the
            picture's edge.
        logit: raw network output, positive means fake.
        probability: calibrated P(fake) in [0, 1].
        heatmap: (h, w) float32 in [0, 1] over `crop_box`, 1 = speaks for a fake, .5 = neutral; None for a
            network without a class map.
    """

    box: tuple[int, int, int, int]
    landmarks: np.ndarray | None
    detection_score: float | None
    crop_box: tuple[int, int, int, int]
    logit: float
    probability: float
    heatmap: np.ndarray | None = field(default=None, repr=False)

    @property
    def size_px(self) -> int:
        """The longer side of the box."""
        return max(self.box[2:])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without the heat map."""
        return {
            "box": list(self.box),
            "landmarks": None if self.landmarks is None else np.round(self.landmarks.astype(float), 1).tolist(),
            "detection_score": self.detection_score,
            "crop_box": list(self.crop_box),
            "logit": self.logit,
            "probability": self.probability,
        }


@dataclass(frozen=True)
class ErrorRate:
    """How often held-out pictures of one kind, with a face of the same size, scored at least as wrongly.

    Attributes:
        kind: "real": the share of the reals that scored as high or higher; "fake": of the fakes that scored as low or
            lower.
        n: how many of this kind and size were held out.
        share, low, high: the share and its 95 % interval.
        min_px, max_px: the size: longer side of the face box; `max_px` is the first that is too large, None for no end.
        histogram: how many of the n scored in each step of SCORE_EDGES.
    """

    kind: str
    n: int
    share: float
    low: float
    high: float
    min_px: int
    max_px: int | None
    histogram: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "histogram": list(self.histogram)}


@dataclass(frozen=True, eq=False)
class Detection:
    """The verdict on one picture.

    Attributes:
        media: "image".
        verdict: real, deepfake or inconclusive.
        probability: calibrated P(fake) in [0, 1].
        logit: the fused network output behind it: the most suspicious face's.
        faces: every face that was found, the most suspicious first; empty when none was found, and then
            `logit` is that of the whole picture.
        reasons: why the verdict is inconclusive; empty otherwise.
        width_px, height_px: size of the upright original.
        elapsed_ms: decoding, face finding and network together.
        model_sha256: of the model.h5 the logit comes from, whichever engine ran.
        image: (H, W, 3) uint8 RGB, the upright picture that was judged; not part of `to_dict`.
        error_rates: of held-out reals and of held-out fakes with a face of this size, how many scored so; empty where
            no face was judged or the model was not measured.
    """

    media: str
    verdict: Verdict
    probability: float
    logit: float
    faces: tuple[Face, ...]
    reasons: tuple[Reason, ...]
    width_px: int
    height_px: int
    elapsed_ms: float
    model_sha256: str
    image: np.ndarray = field(repr=False)
    error_rates: tuple[ErrorRate, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without pixels and heat maps."""
        return {
            "media": self.media,
            "verdict": str(self.verdict),
            "probability": self.probability,
            "logit": self.logit,
            "faces": [face.to_dict() for face in self.faces],
            "reasons": [str(reason) for reason in self.reasons],
            "error_rates": [rate.to_dict() for rate in self.error_rates],
            "width_px": self.width_px,
            "height_px": self.height_px,
            "elapsed_ms": round(self.elapsed_ms, 1),
            "model_sha256": self.model_sha256,
        }


class DetectorError(Exception):
    """Root of what this package raises; the message is a sentence for the person."""


class UnreadableMedia(DetectorError):
    """The bytes are empty, damaged or of a kind the detector does not read."""


class MediaTooLarge(DetectorError):
    """The file or the picture inside it is over a limit."""


class ModelError(DetectorError):
    """A weights file is missing, foreign or does not fit."""
