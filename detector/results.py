"""What the detector returns and what it raises: frozen results and a small family of errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np


class Verdict(StrEnum):
    """The three answers a person can get."""

    REAL = "real"
    DEEPFAKE = "deepfake"
    INCONCLUSIVE = "inconclusive"


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

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without pixels and heat maps."""
        return {
            "media": self.media,
            "verdict": str(self.verdict),
            "probability": self.probability,
            "logit": self.logit,
            "faces": [face.to_dict() for face in self.faces],
            "reasons": [str(reason) for reason in self.reasons],
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
