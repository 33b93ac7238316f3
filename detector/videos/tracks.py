"""Track faces from frame to frame, and fuse the scores of each person over time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from detector.models.calibration import Calibration
from detector.pictures.faces import crop_face, resize
from detector.results import Face, Reason, Track, TrackFrame, Verdict
from detector.verdicts import decide

MIN_TRACK_FRAMES = 3  # the fewest from which a robust mean can leave one out
TRIMMED_FRACTION = 0.25  # of a track's logits, at each end; the rest gives the interquartile mean
STRONGEST_FRAMES = 4  # of a track, that keep their pixels
MAX_TRACKS = 100  # their pixels together take 60 MB
MAX_MISSED_FRAMES = 3  # for how many a face may be turned away or covered

# Two frames belong to one shot when their colours overlap at least this much. Measured: 3% of 44,850 pairs of
# unrelated training pictures do, 95% of 300 pictures moved and zoomed by up to 40%, and in two clips all 18 pairs of
# frames a second apart.
MIN_COLOUR_OVERLAP = 0.6
# Least `Appearance.similarity` to the face at the same place a step earlier, and to one elsewhere in the shot. Of 400
# pairs of faces, each of one training video, 100% and 96% reach them; of 79,800 pairs of strangers 15% and 2%.
MIN_SIMILARITY_HERE, MIN_SIMILARITY_ELSEWHERE = 0.45, 0.65
MIN_BOX_OVERLAP = 0.3  # intersection over union of two boxes of a face that stayed at its place
MAX_GROWTH = 2.0  # of a box's longer side from one step to the next

SMALL_FRAME_PX = (64, 36)
COLOUR_LEVELS = 8  # of each of R, G and B
GREY_SIDE_PX = 24
LAB_SIDE_PX, LAB_LEVELS = 48, [8, 12, 12]


class Tracker:
    """Joins the faces of a video into tracks, frame by frame.

    Only the frames of a track with the highest logits keep their pixels, and only `MAX_TRACKS` tracks are kept. So
    memory stays bounded however long the video is.

    Args:
        calibration: from a logit to a verdict, for single frames and for whole tracks.
        crop_size_px: side of the crops that are kept.

    Attributes:
        shot_changes_s: times at which a new shot begins, which ends all tracks.
        frames_seen: number of sampled frames.
    """

    def __init__(self, calibration: Calibration, *, crop_size_px: int):
        self.shot_changes_s: list[float] = []
        self.frames_seen = 0
        self._calibration = calibration
        self._crop_size_px = crop_size_px
        self._colours: np.ndarray | None = None
        self._open: list[_OpenTrack] = []
        self._ended: list[Track] = []

    def add(self, timestamp_s: float, frame: np.ndarray, faces: list[Face]) -> None:
        """Add the next frame.

        Args:
            timestamp_s: later than that of the previous frame.
            frame: (H, W, 3) uint8 RGB.
            faces: its faces that passed the quality gate.
        """
        colours = _frame_colours(frame)
        if self._colours is not None and _histogram_overlap(colours, self._colours) < MIN_COLOUR_OVERLAP:
            self.shot_changes_s.append(timestamp_s)
            self._end(self._open)
        self._colours = colours
        self._end([track for track in self._open if self.frames_seen - track.last_index - 1 > MAX_MISSED_FRAMES])

        crops = [self._crop(frame, face) for face in faces]
        appearances = [Appearance.of(crop) for crop in crops]
        found = self._match(faces, appearances)
        for index, (face, appearance, crop) in enumerate(zip(faces, appearances, crops, strict=True)):
            track = found.get(index)
            if track is None:
                track = _OpenTrack(appearance)
                self._open.append(track)
            track.appearance = appearance
            track.add(self._track_frame(timestamp_s, face, crop))
        self.frames_seen += 1

    def tracks(self) -> tuple[Track, ...]:
        """End all tracks and return them, the most suspicious first, those with too few frames last."""
        self._end(self._open)
        return tuple(self._ended)

    def _match(self, faces: list[Face], appearances: list[Appearance]) -> dict[int, _OpenTrack]:
        """Return the track that each face continues, by the face's index; the best pairs are matched first."""
        pairs = []
        for index, (face, appearance) in enumerate(zip(faces, appearances, strict=True)):
            for track in self._open:
                before = track.frames[-1].box
                overlap, similarity = _box_overlap(face.box, before), appearance.similarity(track.appearance)
                growth = max(face.box[2:]) / max(before[2:])
                least = MIN_SIMILARITY_HERE if overlap >= MIN_BOX_OVERLAP else MIN_SIMILARITY_ELSEWHERE
                if similarity >= least and 1 / MAX_GROWTH <= growth <= MAX_GROWTH:
                    pairs.append((overlap + similarity, index, track))
        found: dict[int, _OpenTrack] = {}
        for _, index, track in sorted(pairs, key=lambda pair: -pair[0]):
            if index not in found and track not in found.values():
                found[index] = track
        return found

    def _crop(self, frame: np.ndarray, face: Face) -> np.ndarray:
        """Return the network's input for a face; a copy, since a view would keep the whole batch in memory."""
        return crop_face(frame, face.crop_box, self._crop_size_px) if face.crop is None else face.crop.copy()

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

    def _end(self, tracks: list[_OpenTrack]) -> None:
        self._open = [track for track in self._open if track not in tracks]
        ended = [*self._ended, *(fuse_frames(track.frames, self._calibration) for track in tracks)]
        ended.sort(key=lambda track: (Reason.TOO_FEW_FRAMES in track.reasons, -track.logit))
        self._ended = ended[:MAX_TRACKS]


@dataclass(eq=False)
class _OpenTrack:
    """A track that may still be continued.

    Attributes:
        appearance: of the face in the last frame.
        frames: so far; the `STRONGEST_FRAMES` have pixels.
    """

    appearance: Appearance
    frames: list[TrackFrame] = field(default_factory=list)

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
class Appearance:
    """Coarse features of a face: enough to distinguish it from the others in a shot.

    Attributes:
        grey: (GREY_SIDE_PX ** 2,) the blurred crop without its mean, of length 1.
        colours: (N,) normalised colour histogram in Lab.
    """

    grey: np.ndarray
    colours: np.ndarray

    @classmethod
    def of(cls, crop: np.ndarray) -> Appearance:
        """Compute the features of a crop (S, S, 3) uint8 RGB."""
        grey = cv2.cvtColor(resize(crop, GREY_SIDE_PX, GREY_SIDE_PX), cv2.COLOR_RGB2GRAY).astype(np.float32)
        blurred = cv2.GaussianBlur(grey, (0, 0), 1.0)
        blurred -= blurred.mean()
        lab = cv2.cvtColor(resize(crop, LAB_SIDE_PX, LAB_SIDE_PX), cv2.COLOR_RGB2LAB)
        return cls(blurred.ravel() / max(float(np.linalg.norm(blurred)), 1e-6), _colour_histogram(lab, LAB_LEVELS))

    def similarity(self, other: Appearance) -> float:
        """Return the mean of the grey correlation and the colour overlap; 1 for the same picture."""
        return (float(self.grey @ other.grey) + _histogram_overlap(self.colours, other.colours)) / 2


def fuse_frames(frames: list[TrackFrame], calibration: Calibration) -> Track:
    """Classify one person from all frames: the robust mean of their logits, and the proportion of each verdict.

    Args:
        frames: in temporal order, at least one.
        calibration: from that mean to a verdict; inconclusive under `MIN_TRACK_FRAMES`.
    """
    logit = robust_mean(np.array([frame.logit for frame in frames]))
    decision = decide(logit, (Reason.TOO_FEW_FRAMES,) if len(frames) < MIN_TRACK_FRAMES else (), calibration)
    votes = {verdict: sum(frame.verdict is verdict for frame in frames) / len(frames) for verdict in Verdict}
    return Track(tuple(frames), logit, decision.probability, decision.verdict, votes, decision.reasons)


def robust_mean(logits: np.ndarray) -> float:
    """Return the mean of (N,) logits without the `TRIMMED_FRACTION` at either end; of three logits the median."""
    left_out = round(TRIMMED_FRACTION * len(logits))
    return float(np.sort(logits)[left_out : len(logits) - left_out].mean())


def _frame_colours(frame: np.ndarray) -> np.ndarray:
    """Return the colour histogram of a frame, (COLOUR_LEVELS ** 3,)."""
    return _colour_histogram(resize(frame, *SMALL_FRAME_PX), [COLOUR_LEVELS] * 3)


def _colour_histogram(pixels: np.ndarray, levels: list[int]) -> np.ndarray:
    """Return the proportion of each colour, (product of levels,) float32, which sum to 1."""
    counts = cv2.calcHist([pixels], [0, 1, 2], None, levels, [0, 256] * 3).ravel()
    proportions: np.ndarray = counts / counts.sum()
    return proportions


def _histogram_overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Return the intersection of two normalised histograms, in [0, 1]."""
    return float(np.minimum(one, other).sum())


def _box_overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Return intersection over union of two boxes (x, y, w, h)."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)
