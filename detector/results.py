"""Detections and the errors of this package; every result is frozen.

`detector.record` turns detections into JSON values and back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

import numpy as np

# Histogram bin edges, roughly uniform in log-odds to resolve both ends, where most scores lie.
HISTOGRAM_BIN_EDGES = (
    0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5,
    0.65, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 1,
)  # fmt: skip


class Verdict(StrEnum):
    """The three possible verdicts."""

    REAL = "real"
    DEEPFAKE = "deepfake"
    INCONCLUSIVE = "inconclusive"


# The classes of held-out files whose error rates belong to a verdict.
ERROR_CLASS_BY_VERDICT = {
    Verdict.REAL: ("fake",),
    Verdict.DEEPFAKE: ("real",),
    Verdict.INCONCLUSIVE: ("real", "fake"),
}


class Reason(StrEnum):
    """Why a verdict is inconclusive."""

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
    """One face of a picture and its score.

    Attributes:
        box: (x, y, w, h) in pixels of the upright original picture; may extend past the edge.
        landmarks: (5, 2) float32, x and y in pixels of the original: left eye, right eye, nose tip, left and right
            mouth corner; left and right as seen in the picture. None when the whole picture was used.
        detection_score: the face finder's confidence in [0, 1]; None when the whole picture was used.
        crop_box: (x, y, w, h) in pixels of the original: the network's input square; may extend past the edge.
        logit: raw network output, positive means fake.
        probability: calibrated P(fake) in [0, 1].
        reasons: why this face is excluded from the verdict; empty if it is used.
        heatmap: (h, w) float32 in [0, 1] over `crop_box`, 1 = evidence of a fake, .5 = neutral; None for a network
            without a class map.
        crop: (S, S, 3) uint8 RGB, the network's input; None in a detection restored from a record.
    """

    box: tuple[int, int, int, int]
    landmarks: np.ndarray | None
    detection_score: float | None
    crop_box: tuple[int, int, int, int]
    logit: float
    probability: float
    reasons: tuple[Reason, ...] = ()
    heatmap: np.ndarray | None = field(default=None, repr=False)
    crop: np.ndarray | None = field(default=None, repr=False)

    @property
    def size_px(self) -> int:
        """The longer side of the box."""
        return max(self.box[2:])


@dataclass(frozen=True)
class ErrorRate:
    """How often held-out files of one class, with a face of the same size, had a score at least as wrong.

    Attributes:
        kind: the class. "real": the proportion of reals that scored as high or higher; "fake": the proportion of
            fakes that scored as low or lower.
        n: number of held-out files of this class and size.
        share, low, high: the proportion and its 95% interval.
        min_px, max_px: range of sizes, by the longer side of the face box. `max_px` is excluded; None means no limit.
        histogram: number of the n scores in each bin of HISTOGRAM_BIN_EDGES.
        unseen: whether each file was scored by a network that had learned from nothing of its family or source. If
            not, the rate holds only for the collections that the model was trained on.
    """

    kind: str
    n: int
    share: float
    low: float
    high: float
    min_px: int
    max_px: int | None
    histogram: tuple[int, ...]
    unseen: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Detection:
    """The verdict on one file; the subclass of each medium adds its details.

    Attributes:
        media: "image", "video" or "audio".
        verdict: real, deepfake or inconclusive.
        probability: calibrated P(fake) in [0, 1].
        logit: the fused network output, positive means fake.
        reasons: why the verdict is inconclusive; empty otherwise.
        elapsed_ms: time from bytes to verdict.
        model_sha256: SHA-256 of the network's .h5 file, for both engines.
        error_rates: for held-out reals and held-out fakes like this file; empty if the file was not classified or the
            model has no reference scores.
    """

    media: ClassVar[str]
    verdict: Verdict
    probability: float
    logit: float
    reasons: tuple[Reason, ...]
    elapsed_ms: float
    model_sha256: str
    error_rates: tuple[ErrorRate, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class PictureDetection(Detection):
    """The verdict on one picture, which is the verdict on its most suspicious face.

    Attributes:
        faces: all faces, the most suspicious first, excluded faces last. If there is none, `logit` is the score of the
            whole picture.
        width_px, height_px: size of the upright original.
        image: (H, W, 3) uint8 RGB, the upright picture; not part of a record.
    """

    media = "image"
    faces: tuple[Face, ...]
    width_px: int
    height_px: int
    image: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class Segment:
    """A segment of a recording and its score.

    Attributes:
        start_s, end_s: seconds from the beginning of the recording.
        logit: raw network output, positive means fake.
        probability: calibrated P(fake) in [0, 1].
    """

    start_s: float
    end_s: float
    logit: float
    probability: float


@dataclass(frozen=True, eq=False, kw_only=True)
class VoiceDetection(Detection):
    """The verdict on one recording of speech, from the mean score of its windows.

    Attributes:
        segments: the scored windows in the order of time.
        duration_s: length of the whole recording.
        spectrogram: (bands, T) float32 in [0, 1], a mel spectrogram to display, low frequencies first; not part of a
            record.
        heatmap: (T',) or (bands', T') float32 in [0, 1] over the same time, 1 = evidence of a fake, .5 = neutral; None
            if no window was scored. Not part of a record.
    """

    media = "audio"
    segments: tuple[Segment, ...]
    duration_s: float
    spectrogram: np.ndarray | None = field(default=None, repr=False)
    heatmap: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class TrackFrame:
    """One face in one sampled frame.

    Attributes:
        timestamp_s: seconds from the beginning of the video.
        frame_index: index among the sampled frames, from 0.
        box: (x, y, w, h) in pixels of the upright frame.
        logit: raw network output, positive means fake.
        probability: calibrated P(fake) in [0, 1], by the video's calibration.
        verdict: the verdict on this frame alone.
        crop: (S, S, 3) uint8 RGB, the network's input; kept only for the strongest frames of a track. Not part of a
            record.
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


@dataclass(frozen=True, eq=False)
class Track:
    """One person's face through a video.

    Attributes:
        frames: in the order of time.
        logit: robust mean over the frames.
        probability: calibrated P(fake) in [0, 1].
        verdict: by the thresholds on that probability; inconclusive with `reasons` if there are too few frames.
        votes: proportion of frames for each verdict; they sum to 1.
        reasons: why the verdict is inconclusive; empty otherwise.
    """

    frames: tuple[TrackFrame, ...]
    logit: float
    probability: float
    verdict: Verdict
    votes: dict[Verdict, float]
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class VideoDetection(Detection):
    """The verdict on one video, which is the verdict on its most suspicious face with enough frames.

    Attributes:
        tracks: the faces, the most suspicious first; those with too few frames last.
        width_px, height_px: size of the upright frames.
        duration_s: length of the video; the time of the last frame if the file does not state one.
        frames_seen: number of sampled frames.
        shot_changes_s: times at which a new shot begins.
        sound: the verdict on the audio track; None if there is none.
        every_s: the requested time between sampled frames; a second analysis needs it to sample the same ones.
    """

    media = "video"
    tracks: tuple[Track, ...]
    width_px: int
    height_px: int
    duration_s: float
    frames_seen: int
    shot_changes_s: tuple[float, ...] = ()
    sound: VoiceDetection | None = None
    every_s: float = 1.0


class DetectorError(Exception):
    """Base of all errors of this package; the message is a sentence for the person."""


class UnreadableMedia(DetectorError):
    """The bytes are empty, damaged or of an unsupported format."""


class MediaTooLarge(DetectorError):
    """The file, or the picture inside it, exceeds a limit."""


class ModelError(DetectorError):
    """A weights file is missing, not made by this project, or incompatible."""


class RecordError(DetectorError):
    """A stored record is damaged, or newer than this version of the detector."""
