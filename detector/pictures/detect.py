"""From a picture to a verdict: decode, find faces, crop, run the network, fuse, calibrate, judge."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from detector.media.images import read_image
from detector.models.engines import Engine, load_engine
from detector.models.heatmaps import activation_heatmap
from detector.models.reference_scores import ReferenceScores, load_matching_reference_scores
from detector.pictures.faces import FaceFinder, FoundFace, crop_faces, crop_square, whole_square
from detector.pictures.quality import face_exclusion_reasons, picture_exclusion_reasons
from detector.results import Face, PictureDetection, UnreadableMedia
from detector.verdicts import decide

ROOT = Path(__file__).resolve().parents[2]
MODEL_FILES = {"onnx": ROOT / "models" / "face.onnx", "keras": ROOT / "model.h5"}
REFERENCE_SCORES_FILE = (
    ROOT / "models" / "face.reference_scores.json"
)  # what the shipped model made of held-out pictures
MAX_FACES = 64  # the largest are judged; a crowd costs time and says little about one person


class PictureDetector:
    """A loaded face network and face finder; may be shared by threads.

    Attributes:
        engine: the network, with its spec.
        reference_scores: how this very model scored held-out pictures; None when that was not measured.
    """

    def __init__(self, engine: Engine, finder: FaceFinder, reference_scores: ReferenceScores | None = None):
        self.engine = engine
        self.reference_scores = reference_scores
        self._finder = finder

    def detect(self, source: str | Path | bytes | np.ndarray) -> PictureDetection:
        """Judge one picture.

        The picture's logit is that of its most suspicious face among those fit to be judged. When no face is found the
        whole picture is scored, since it may be a very tight crop, but the verdict stays inconclusive.

        Args:
            source: a path, a file's bytes, or an upright picture (H, W, 3) uint8 RGB.

        Raises:
            UnreadableMedia, MediaTooLarge: what `read_image` raises; UnreadableMedia also for an array of another kind.
        """
        started = time.perf_counter()
        image = _checked(source) if isinstance(source, np.ndarray) else read_image(source)
        height, width = image.shape[:2]
        calibration = self.engine.spec.calibration
        faces = self.score_faces(image)
        judged = [face for face in faces if not face.reasons]
        # Without one the score is still given, for programs that sort by it; the reason withholds the verdict.
        logit = max([face.logit for face in judged or faces] or [self.score_whole(image)])
        decision = decide(logit, picture_exclusion_reasons(faces), calibration)
        faces.sort(key=lambda face: (bool(face.reasons), -face.logit))
        is_measured = judged and self.reference_scores is not None
        return PictureDetection(
            verdict=decision.verdict,
            probability=decision.probability,
            logit=logit,
            faces=tuple(faces),
            reasons=decision.reasons,
            width_px=width,
            height_px=height,
            elapsed_ms=(time.perf_counter() - started) * 1e3,
            model_sha256=self.engine.model_sha256,
            image=image,
            error_rates=self.reference_scores.error_rates(decision.probability, faces[0].size_px)
            if is_measured
            else (),
        )

    def score_faces(self, image: np.ndarray, *, max_faces: int = MAX_FACES) -> list[Face]:
        """Find the faces of a picture or a frame and score each; nothing is judged.

        Args:
            image: (H, W, 3) uint8 RGB, upright.
            max_faces: how many, of the largest.

        Returns:
            The faces, the largest first.
        """
        height, width = image.shape[:2]
        spec = self.engine.spec
        found = self._finder.find_faces(image)[:max_faces]
        if not found:
            return []
        squares = [crop_square(face.box, spec.face.crop_margin, width, height) for face in found]
        logits, class_maps = self.engine.run(crop_faces(image, squares, spec.face.size_px))
        return [
            self._face(image, face, squares[i], float(logits[i]), None if class_maps is None else class_maps[i])
            for i, face in enumerate(found)
        ]

    def score_whole(self, image: np.ndarray) -> float:
        """Return the logit of a whole picture or frame (H, W, 3) uint8 RGB, as of one face that fills it."""
        height, width = image.shape[:2]
        crops = crop_faces(image, [whole_square(width, height)], self.engine.spec.face.size_px)
        return float(self.engine.run(crops)[0][0])

    def _face(
        self,
        image: np.ndarray,
        found: FoundFace,
        square: tuple[int, int, int, int],
        logit: float,
        class_map: np.ndarray | None,
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
            reasons=face_exclusion_reasons(image, found.box),
            heatmap=None if class_map is None else activation_heatmap(class_map, calibration),
        )


def load_picture_detector(
    path: str | Path | None = None, *, engine: str = "onnx", threads: int | None = None
) -> PictureDetector:
    """Load the network, the face finder and, if it is of this model, the table of held-out scores.

    Args:
        path: the model file; None takes the one that comes with the project, models/face.onnx or model.h5.
        engine: "onnx" for the fast engine, "keras" for the reference.
        threads: inference threads of the fast engine and the face finder; None takes every core.

    Raises:
        ModelError: unknown engine, a model file that is missing or foreign, or a damaged table of held-out scores.
    """
    network = load_engine(MODEL_FILES, path=path, engine=engine, threads=threads)
    return PictureDetector(
        network,
        FaceFinder(threads=threads),
        load_matching_reference_scores(REFERENCE_SCORES_FILE, network.model_sha256),
    )


def _checked(image: np.ndarray) -> np.ndarray:
    # Floats in [0, 1] would pass for a black picture without a face.
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise UnreadableMedia(
            f"A picture given as an array must be (H, W, 3) uint8 RGB; this one is {image.shape} {image.dtype}."
        )
    return image
