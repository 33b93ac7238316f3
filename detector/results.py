"""What the detector returns and what it raises: frozen results and a small family of errors."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

import numpy as np

# Of the steps in which scores are counted: about even in log-odds, so that both ends, where most scores lie, are seen.
HISTOGRAM_BIN_EDGES = (
    0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5,
    0.65, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1,
)  # fmt: skip


class Verdict(StrEnum):
    """The three answers a person can get."""

    REAL = "real"
    DEEPFAKE = "deepfake"
    INCONCLUSIVE = "inconclusive"


ERROR_CLASS_BY_VERDICT = {  # which kinds of held-out pictures tell how easily such a verdict is wrong
    Verdict.REAL: ("fake",),
    Verdict.DEEPFAKE: ("real",),
    Verdict.INCONCLUSIVE: ("real", "fake"),
}


class Reason(StrEnum):
    """Why a verdict was withheld."""

    NO_FACE = "no_face"
    TOO_SMALL = "too_small"
    TOO_BLURRED = "too_blurred"
    TOO_DARK = "too_dark"
    TOO_MANY_FACES = "too_many_faces"
    DRAWING = "drawing"
    BETWEEN_THRESHOLDS = "between_thresholds"
    UNSTABLE = "unstable_under_recompression"
    TOO_FEW_FRAMES = "too_few_frames"
    TOO_SHORT = "too_short"
    SILENT = "silent"
    NOISY = "noisy"
    NO_SPEECH = "no_speech"


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
        reasons: why this face is scored but not judged; empty for one that is.
        heatmap: (h, w) float32 in [0, 1] over `crop_box`, 1 = speaks for a fake, .5 = neutral; None for a
            network without a class map.
    """

    box: tuple[int, int, int, int]
    landmarks: np.ndarray | None
    detection_score: float | None
    crop_box: tuple[int, int, int, int]
    logit: float
    probability: float
    reasons: tuple[Reason, ...] = ()
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
            "reasons": [str(reason) for reason in self.reasons],
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
        histogram: how many of the n scored in each step of HISTOGRAM_BIN_EDGES.
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


@dataclass(frozen=True, eq=False, kw_only=True)
class Detection:
    """The verdict on one file; each medium adds what its verdict rests on.

    Attributes:
        media: "image", "video" or "audio".
        verdict: real, deepfake or inconclusive.
        probability: calibrated P(fake) in [0, 1].
        logit: the fused network output behind it.
        reasons: why the verdict is inconclusive; empty otherwise.
        elapsed_ms: from bytes to verdict.
        model_sha256: of the .h5 file the logit comes from, whichever engine ran.
        error_rates: of held-out reals and of held-out fakes like this one, how many scored so; empty where nothing
            was judged or the model was not measured.
    """

    media: ClassVar[str]
    verdict: Verdict
    probability: float
    logit: float
    reasons: tuple[Reason, ...]
    elapsed_ms: float
    model_sha256: str
    error_rates: tuple[ErrorRate, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without pixels, sound and heat maps."""
        return {
            "media": self.media,
            "verdict": str(self.verdict),
            "probability": self.probability,
            "logit": self.logit,
            "reasons": [str(reason) for reason in self.reasons],
            "error_rates": [rate.to_dict() for rate in self.error_rates],
            "elapsed_ms": round(self.elapsed_ms, 1),
            "model_sha256": self.model_sha256,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class PictureDetection(Detection):
    """The verdict on one picture: that on its most suspicious face.

    Attributes:
        faces: every face that was found, the most suspicious first, those that are not judged last; empty when none
            was found, and then `logit` is that of the whole picture.
        width_px, height_px: size of the upright original.
        image: (H, W, 3) uint8 RGB, the upright picture that was judged; not part of `to_dict`.
    """

    media = "image"
    faces: tuple[Face, ...]
    width_px: int
    height_px: int
    image: np.ndarray = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        return {
            **super().to_dict(),
            "faces": [face.to_dict() for face in self.faces],
            "width_px": self.width_px,
            "height_px": self.height_px,
        }


@dataclass(frozen=True)
class Segment:
    """A stretch of time and what the voice network made of it.

    Attributes:
        start_s, end_s: from the beginning of the recording.
        logit: raw network output, positive means fake.
        probability: calibrated P(fake) in [0, 1].
    """

    start_s: float
    end_s: float
    logit: float
    probability: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False, kw_only=True)
class VoiceDetection(Detection):
    """The verdict on one recording of speech: the mean over its windows.

    Attributes:
        segments: the windows that were judged, in the order of time.
        duration_s: of the whole recording.
        spectrogram: (bands, T) float32 in [0, 1], a mel spectrogram to be looked at, low frequencies first; not part
            of `to_dict`.
        heatmap: (T',) or (bands', T') float32 in [0, 1] over the same time, 1 = speaks for a fake, .5 = neutral; None
            when nothing was judged. Not part of `to_dict`.
    """

    media = "audio"
    segments: tuple[Segment, ...]
    duration_s: float
    spectrogram: np.ndarray | None = field(default=None, repr=False)
    heatmap: np.ndarray | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        return {
            **super().to_dict(),
            "segments": [segment.to_dict() for segment in self.segments],
            "duration_s": self.duration_s,
            "has_spectrogram": self.spectrogram is not None,
        }


@dataclass(frozen=True, eq=False)
class TrackFrame:
    """One face in one frame.

    Attributes:
        timestamp_s: of the frame, from the beginning of the video.
        frame_index: counted over the frames that were looked at, from 0.
        box: (x, y, w, h) in pixels of the upright frame.
        logit: raw network output, positive means fake.
        probability: calibrated P(fake) in [0, 1] by the video's calibration.
        verdict: of this frame alone.
        crop: (S, S, 3) uint8 RGB, what the network saw; kept for the strongest frames of a track only. Not part of
            `to_dict`.
        heatmap: (h, w) float32 in [0, 1] over the crop, kept with it.
    """

    timestamp_s: float
    frame_index: int
    box: tuple[int, int, int, int]
    logit: float
    probability: float
    verdict: Verdict
    crop: np.ndarray | None = field(default=None, repr=False)
    heatmap: np.ndarray | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without pixels."""
        return {
            "timestamp_s": round(self.timestamp_s, 3),
            "frame_index": self.frame_index,
            "box": list(self.box),
            "logit": self.logit,
            "probability": self.probability,
            "verdict": str(self.verdict),
            "has_crop": self.crop is not None,
        }


@dataclass(frozen=True, eq=False)
class Track:
    """One person's face through a video.

    Attributes:
        frames: in the order of time.
        logit: robust mean over the frames.
        probability: calibrated P(fake) in [0, 1].
        verdict: by the thresholds on that probability; inconclusive with `reasons` where there are too few frames.
        votes: share of the frames for each verdict; they sum to 1.
        reasons: why the verdict is inconclusive; empty otherwise.
    """

    frames: tuple[TrackFrame, ...]
    logit: float
    probability: float
    verdict: Verdict
    votes: dict[Verdict, float]
    reasons: tuple[Reason, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, without pixels."""
        return {
            "frames": [frame.to_dict() for frame in self.frames],
            "logit": self.logit,
            "probability": self.probability,
            "verdict": str(self.verdict),
            "votes": {str(verdict): share for verdict, share in self.votes.items()},
            "reasons": [str(reason) for reason in self.reasons],
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class VideoDetection(Detection):
    """The verdict on one video: that on its most suspicious face with enough frames.

    Attributes:
        tracks: the faces, the most suspicious first; those with too few frames last.
        width_px, height_px: size of the upright frames.
        duration_s: of the video; where the file does not say, the time of the last frame.
        frames_seen: how many frames were looked at.
        shot_changes_s: where one shot ends and another begins.
        sound: the verdict on its audio track; None when it has none.
    """

    media = "video"
    tracks: tuple[Track, ...]
    width_px: int
    height_px: int
    duration_s: float
    frames_seen: int
    shot_changes_s: tuple[float, ...] = ()
    sound: VoiceDetection | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            **super().to_dict(),
            "tracks": [track.to_dict() for track in self.tracks],
            "width_px": self.width_px,
            "height_px": self.height_px,
            "duration_s": self.duration_s,
            "frames_seen": self.frames_seen,
            "shot_changes_s": list(self.shot_changes_s),
            "sound": None if self.sound is None else self.sound.to_dict(),
        }


class DetectorError(Exception):
    """Root of what this package raises; the message is a sentence for the person."""


class UnreadableMedia(DetectorError):
    """The bytes are empty, damaged or of a kind the detector does not read."""


class MediaTooLarge(DetectorError):
    """The file or the picture inside it is over a limit."""


class ModelError(DetectorError):
    """A weights file is missing, foreign or does not fit."""


class RecordError(DetectorError):
    """A stored record is damaged or comes from a newer version."""
