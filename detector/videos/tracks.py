"""Follow faces from frame to frame: who is the same person, and what the network made of each over time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from detector.models.calibration import Calibration
from detector.pictures.faces import crop_faces, resize
from detector.results import Face, Reason, Track, TrackFrame, Verdict
from detector.verdicts import decide

MIN_TRACK_FRAMES = 3  # the fewest of which a robust mean can leave out one
TRIMMED_SHARE = 0.25  # of a track's logits, at each end: what is left is the interquartile mean
STRONGEST_FRAMES = 4  # of a track, that keep their pixels
MAX_TRACKS = 100  # all of their pixels together take 60 MB
MAX_MISSED_FRAMES = 3  # for how many a face may be turned away or covered

# Two frames belong to one shot when their colours overlap so far. Of 44,850 pairs of unrelated training pictures 3 %
# do, of 300 pictures moved and zoomed by up to 40 % still 95 %, in two clips all 18 pairs of frames a second apart.
MIN_COLOUR_OVERLAP = 0.6
# How alike (`_Look.likeness`) a face must be to the one at its place a step earlier, or to one elsewhere in the shot.
# Of 400 pairs of faces, each of one training video, 100 % and 96 % are, of 79,800 pairs of strangers 15 % and 2 %.
MIN_LIKENESS_HERE, MIN_LIKENESS_ELSEWHERE = 0.45, 0.65
MIN_OVERLAP = 0.3  # intersection over union of the boxes of a face that has stayed at its place
MAX_GROWTH = 2.0  # of a box's longer side from one step to the next

SMALL_FRAME_PX = (64, 36)
COLOUR_LEVELS = 8  # of each of R, G and B
GREY_SIDE_PX = 24
LAB_SIDE_PX, LAB_LEVELS = 48, [8, 12, 12]


class Tracker:
    """Joins the faces of the frames of a video into tracks, frame by frame.

    Only the strongest frames of a track, those that speak most for a fake, keep their pixels, and only `MAX_TRACKS` are
    kept, so that memory stays bounded however long the video is.

    Args:
        calibration: from a logit to a verdict, for single frames and for whole tracks.
        crop_size_px: side of the crops that are kept.

    Attributes:
        shot_changes_s: where one shot ended and another began, which ended all tracks.
        frames_seen: how many frames were looked at.
    """

    def __init__(self, calibration: Calibration, *, crop_size_px: int):
        self.shot_changes_s: list[float] = []
        self.frames_seen = 0
        self._calibration = calibration
        self._crop_size_px = crop_size_px
        self._colours: np.ndarray | None = None
        self._open: list[_Path] = []
        self._ended: list[Track] = []

    def add(self, timestamp_s: float, frame: np.ndarray, faces: list[Face]) -> None:
        """Add the next frame.

        Args:
            timestamp_s: later than that of the frame before.
            frame: (H, W, 3) uint8 RGB.
            faces: those of its faces that are to be followed.
        """
        colours = _colours(frame)
        if self._colours is not None and _overlap(colours, self._colours) < MIN_COLOUR_OVERLAP:
            self.shot_changes_s.append(timestamp_s)
            self._end(self._open)
        self._colours = colours
        self._end([path for path in self._open if self.frames_seen - path.last_index - 1 > MAX_MISSED_FRAMES])

        crops = crop_faces(frame, [face.crop_box for face in faces], self._crop_size_px)
        looks = [_Look.of(crop) for crop in crops]
        found = self._match(faces, looks)
        for index, (face, look, crop) in enumerate(zip(faces, looks, crops, strict=True)):
            path = found.get(index)
            if path is None:
                path = _Path()
                self._open.append(path)
            path.look = look
            path.add(self._track_frame(timestamp_s, face, crop))
        self.frames_seen += 1

    def tracks(self) -> tuple[Track, ...]:
        """End all tracks and return them, the most suspicious first, those with too few frames last."""
        self._end(self._open)
        return tuple(self._ended)

    def _match(self, faces: list[Face], looks: list[_Look]) -> dict[int, _Path]:
        """Return which face continues which path, the surest pair first."""
        pairs = []
        for index, (face, look) in enumerate(zip(faces, looks, strict=True)):
            for path in self._open:
                before = path.frames[-1].box
                here, likeness = _box_overlap(face.box, before), look.likeness(path.look)
                growth = max(face.box[2:]) / max(before[2:])
                least = MIN_LIKENESS_HERE if here >= MIN_OVERLAP else MIN_LIKENESS_ELSEWHERE
                if likeness >= least and 1 / MAX_GROWTH <= growth <= MAX_GROWTH:
                    pairs.append((here + likeness, index, path))
        found: dict[int, _Path] = {}
        for _, index, path in sorted(pairs, key=lambda pair: -pair[0]):
            if index not in found and path not in found.values():
                found[index] = path
        return found

    def _track_frame(self, timestamp_s: float, face: Face, crop: np.ndarray) -> TrackFrame:
        return TrackFrame(
            timestamp_s=timestamp_s,
            frame_index=self.frames_seen,
            box=face.box,
            logit=face.logit,
            probability=face.probability,
            verdict=decide(face.logit, (), self._calibration).verdict,
            crop=crop,
            heatmap=face.heatmap,
        )

    def _end(self, paths: list[_Path]) -> None:
        self._open = [path for path in self._open if path not in paths]
        ended = [*self._ended, *(fuse_frames(path.frames, self._calibration) for path in paths)]
        ended.sort(key=lambda track: (Reason.TOO_FEW_FRAMES in track.reasons, -track.logit))
        self._ended = ended[:MAX_TRACKS]


@dataclass(eq=False)
class _Path:
    """A track that still grows.

    Attributes:
        frames: so far; those with pixels are the strongest.
        look: of the face when it was last seen.
    """

    frames: list[TrackFrame] = field(default_factory=list)
    look: _Look | None = None

    @property
    def last_index(self) -> int:
        return self.frames[-1].frame_index

    def add(self, frame: TrackFrame) -> None:
        self.frames.append(frame)
        kept = [index for index, frame in enumerate(self.frames) if frame.crop is not None]
        if len(kept) > STRONGEST_FRAMES:
            weakest = min(kept, key=lambda index: self.frames[index].logit)
            self.frames[weakest] = replace(self.frames[weakest], crop=None, heatmap=None)


@dataclass(frozen=True, eq=False)
class _Look:
    """What a face looks like, roughly: enough to tell it from the others in a shot.

    Attributes:
        grey: (GREY_SIDE_PX ** 2,) the blurred crop without its mean, of length 1.
        colours: (N,) shares of the colours in Lab.
    """

    grey: np.ndarray
    colours: np.ndarray

    @classmethod
    def of(cls, crop: np.ndarray) -> _Look:
        """Look at a crop (S, S, 3) uint8 RGB."""
        grey = cv2.cvtColor(resize(crop, GREY_SIDE_PX, GREY_SIDE_PX), cv2.COLOR_RGB2GRAY).astype(np.float32)
        grey = cv2.GaussianBlur(grey, (0, 0), 1.0)
        grey -= grey.mean()
        lab = cv2.cvtColor(resize(crop, LAB_SIDE_PX, LAB_SIDE_PX), cv2.COLOR_RGB2LAB)
        return cls(grey.ravel() / max(float(np.linalg.norm(grey)), 1e-6), _shares(lab, LAB_LEVELS))

    def likeness(self, other: _Look) -> float:
        """Return the mean of the correlation of the greys and the overlap of the colours; 1 for the same picture."""
        return (float(self.grey @ other.grey) + _overlap(self.colours, other.colours)) / 2


def fuse_frames(frames: list[TrackFrame], calibration: Calibration) -> Track:
    """Judge one face by all its frames: the robust mean of their logits, and a vote.

    Args:
        frames: in the order of time, at least one.
        calibration: from that mean to a verdict; under `MIN_TRACK_FRAMES` it stays inconclusive.
    """
    logit = robust_mean(np.array([frame.logit for frame in frames]))
    decision = decide(logit, (Reason.TOO_FEW_FRAMES,) if len(frames) < MIN_TRACK_FRAMES else (), calibration)
    votes = {kind: sum(frame.verdict is kind for frame in frames) / len(frames) for kind in Verdict}
    return Track(tuple(frames), logit, decision.probability, decision.verdict, votes, decision.reasons)


def robust_mean(logits: np.ndarray) -> float:
    """Return the mean of (N,) logits without the `TRIMMED_SHARE` at either end; of three the median."""
    left_out = round(TRIMMED_SHARE * len(logits))
    return float(np.sort(logits)[left_out : len(logits) - left_out].mean())


def _colours(frame: np.ndarray) -> np.ndarray:
    """Return the shares of the colours in a frame: (COLOUR_LEVELS ** 3,)."""
    return _shares(resize(frame, *SMALL_FRAME_PX), [COLOUR_LEVELS] * 3)


def _shares(pixels: np.ndarray, levels: list[int]) -> np.ndarray:
    counts = cv2.calcHist([pixels], [0, 1, 2], None, levels, [0, 256] * 3).ravel()
    return counts / counts.sum()


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the intersection of two histograms of shares, in [0, 1]."""
    return float(np.minimum(one, other).sum())


def _box_overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Return intersection over union of two boxes (x, y, w, h)."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)
