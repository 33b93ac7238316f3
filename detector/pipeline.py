"""From a file to a verdict: decode, find faces, crop, run the network, fuse, calibrate, judge."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from detector.engines import Engine, FastEngine, KerasEngine
from detector.explanations import activation_heatmap
from detector.faces import FaceFinder, FoundFace, crop_faces, crop_square, whole_square
from detector.media import read_image
from detector.results import Detection, Face, ModelError, Reason, UnreadableMedia, Verdict

ROOT = Path(__file__).resolve().parents[1]
MODEL_FILES = {"onnx": ROOT / "models" / "face.onnx", "keras": ROOT / "model.h5"}
MIN_FACE_PX = 40  # longer side of a face box: the smallest face in training (81 px) after the halving of TIERS
MAX_FACES = 64  # the largest are judged; a crowd costs time and says little about one person


class Detector:
    """A loaded network and face finder; may be shared by threads.

    Attributes:
        engine: the network, with its spec.
    """

    def __init__(self, engine: Engine, finder: FaceFinder):
        self.engine = engine
        self._finder = finder

    def detect(self, source: str | Path | bytes | np.ndarray) -> Detection:
        """Judge one picture.

        The picture's logit is that of its most suspicious face among those large enough to be judged. When no face is
        found the whole picture is scored, since it may be a very tight crop, but the verdict stays inconclusive.

        Args:
            source: a path, a file's bytes, or an upright picture (H, W, 3) uint8 RGB.

        Raises:
            UnreadableMedia, MediaTooLarge: what `read_image` raises; UnreadableMedia also for an array of another kind.
        """
        started = time.perf_counter()
        image = _checked(source) if isinstance(source, np.ndarray) else read_image(source)
        height, width = image.shape[:2]
        found = self._finder.find_faces(image)[:MAX_FACES]
        spec = self.engine.spec
        squares = [crop_square(face.box, spec.crop_margin, width, height) for face in found]
        squares = squares or [whole_square(width, height)]
        logits, class_maps = self.engine.run(crop_faces(image, squares, spec.input_size_px))

        faces = [
            self._face(face, squares[i], float(logits[i]), None if class_maps is None else class_maps[i])
            for i, face in enumerate(found)
        ]
        judged = [i for i, face in enumerate(faces) if _is_large_enough(face)]
        # Without one the score is still given, for programs that sort by it; the reason withholds the verdict.
        logit = float(logits[judged or slice(None)].max())
        probability = spec.calibration.probability(logit)
        reasons = () if judged else (Reason.TOO_SMALL,) if found else (Reason.NO_FACE,)
        verdict = Verdict.INCONCLUSIVE if reasons else spec.calibration.judge(probability)
        if verdict is Verdict.INCONCLUSIVE and not reasons:
            reasons = (Reason.BETWEEN_THRESHOLDS,)
        return Detection(
            media="image",
            verdict=verdict,
            probability=probability,
            logit=logit,
            faces=tuple(sorted(faces, key=lambda face: (not _is_large_enough(face), -face.logit))),
            reasons=reasons,
            width_px=width,
            height_px=height,
            elapsed_ms=(time.perf_counter() - started) * 1e3,
            model_sha256=self.engine.model_sha256,
            image=image,
        )

    def _face(
        self, found: FoundFace, square: tuple[int, int, int, int], logit: float, class_map: np.ndarray | None
    ) -> Face:
        calibration = self.engine.spec.calibration
        x, y, w, h = (round(float(value)) for value in found.box)
        return Face(
            box=(x, y, w, h),
            landmarks=found.landmarks,
            detection_score=found.detection_score,
            crop_box=square,
            logit=logit,
            probability=calibration.probability(logit),
            heatmap=None if class_map is None else activation_heatmap(class_map, calibration),
        )


def load_detector(path: str | Path | None = None, *, engine: str = "onnx", threads: int | None = None) -> Detector:
    """Load the network and the face finder.

    Args:
        path: the model file; None takes the one that comes with the project, models/face.onnx or model.h5.
        engine: "onnx" for the fast engine, "keras" for the reference.
        threads: inference threads of the fast engine and the face finder; None takes every core.

    Raises:
        ModelError: unknown engine, or a file that is missing or foreign.
    """
    if engine not in MODEL_FILES:
        raise ModelError(f"There is no engine called {engine!r}; choose from {', '.join(MODEL_FILES)}.")
    path = Path(path or MODEL_FILES[engine])
    network = FastEngine(path, threads=threads) if engine == "onnx" else KerasEngine(path)
    return Detector(network, FaceFinder(threads=threads))


def _checked(image: np.ndarray) -> np.ndarray:
    # Floats in [0, 1] would pass for a black picture without a face.
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise UnreadableMedia(
            f"A picture given as an array must be (H, W, 3) uint8 RGB; this one is {image.shape} {image.dtype}."
        )
    return image


def _is_large_enough(face: Face) -> bool:
    return max(face.box[2:]) >= MIN_FACE_PX
