"""From a picture to a verdict: decode, find faces, crop, run the network, fuse, calibrate, decide."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from detector.media.images import read_image
from detector.models.engines import Engine, load_engine
from detector.models.files import MODEL_FILES as MODEL_FILES
from detector.models.files import REFERENCE_SCORES_FILE as REFERENCE_SCORES_FILE
from detector.models.heatmaps import activation_heatmap
from detector.models.reference_scores import ReferenceScores, load_matching_reference_scores
from detector.pictures.faces import FaceFinder, crop_face, crop_faces, crop_square, whole_square
from detector.pictures.quality import face_exclusion_reasons, picture_exclusion_reasons
from detector.results import ErrorRate, Face, PictureDetection, UnreadableMedia
from detector.stages import stage
from detector.verdicts import decide

MAX_FACES = 64  # the largest are scored; a crowd costs time and says little about one person


class PictureDetector:
    """A loaded face network and face finder; threads may share one.

    Attributes:
        engine: the network, with its spec.
        reference_scores: how this model scored held-out pictures; None when that was not measured.
    """

    def __init__(self, engine: Engine, finder: FaceFinder, reference_scores: ReferenceScores | None = None):
        self.engine = engine
        self.reference_scores = reference_scores
        self._finder = finder

    def detect(self, source: str | Path | bytes | np.ndarray) -> PictureDetection:
        """Detect whether one picture is a deepfake.

        The picture's logit is that of its most suspicious face among those that pass the quality gate. Without any face
        the whole picture is scored, since it may be a very tight crop, but the verdict stays inconclusive.

        Args:
            source: a path, a file's bytes, or an upright picture (H, W, 3) uint8 RGB.

        Raises:
            UnreadableMedia, MediaTooLarge: as `read_image`; UnreadableMedia also for an array of another kind.
        """
        started = time.perf_counter()
        image = _checked(source) if isinstance(source, np.ndarray) else read_image(source)
        faces = self.score_faces(image)
        usable = [face for face in faces if not face.reasons]
        # Without a usable face the logit still serves programs that sort by it; the reason withholds the verdict.
        logit = max([face.logit for face in usable or faces] or [self.score_whole(image)])
        decision = decide(logit, picture_exclusion_reasons(faces), self.engine.spec.calibration)
        faces.sort(key=lambda face: (bool(face.reasons), -face.logit))
        error_rates = self._error_rates(decision.probability, faces[0].size_px) if usable else ()
        return PictureDetection(
            verdict=decision.verdict,
            probability=decision.probability,
            logit=logit,
            faces=tuple(faces),
            reasons=decision.reasons,
            width_px=image.shape[1],
            height_px=image.shape[0],
            elapsed_ms=(time.perf_counter() - started) * 1e3,
            model_sha256=self.engine.model_sha256,
            image=image,
            error_rates=error_rates,
        )

    def score_faces(self, image: np.ndarray, *, max_faces: int = MAX_FACES) -> list[Face]:
        """Find the faces of a picture or a frame and score each, without a verdict.

        Args:
            image: (H, W, 3) uint8 RGB, upright.
            max_faces: how many, of the largest.

        Returns:
            The faces, the largest first, each with its crop.
        """
        found = self._finder.find_faces(image)[:max_faces]
        if not found:
            return []
        height, width = image.shape[:2]
        spec, calibration = self.engine.spec.face, self.engine.spec.calibration
        squares = [crop_square(face.box, spec.crop_margin, width, height) for face in found]
        crops = crop_faces(image, squares, spec.size_px)
        with stage("score"):
            logits, class_maps = self.engine.run(crops)
        scored = []
        for index, (face, logit) in enumerate(zip(found, logits.tolist(), strict=True)):
            x, y, w, h = (round(float(value)) for value in face.box)
            scored.append(
                Face(
                    box=(x, y, w, h),
                    landmarks=face.landmarks,
                    detection_score=face.detection_score,
                    crop_box=squares[index],
                    logit=logit,
                    probability=calibration.probability(logit),
                    reasons=face_exclusion_reasons(image, face.box),
                    heatmap=None if class_maps is None else activation_heatmap(class_maps[index], calibration),
                    crop=crops[index],
                )
            )
        return scored

    @stage("score")
    def score_whole(self, image: np.ndarray) -> float:
        """Return the logit of a whole picture or frame (H, W, 3) uint8 RGB, as of one face that fills it."""
        height, width = image.shape[:2]
        crop = crop_face(image, whole_square(width, height), self.engine.spec.face.size_px)
        return float(self.engine.run(crop[None])[0][0])

    def _error_rates(self, probability: float, face_px: int) -> tuple[ErrorRate, ...]:
        return () if self.reference_scores is None else self.reference_scores.error_rates(probability, face_px)


def load_picture_detector(
    path: str | Path | None = None, *, engine: str = "onnx", threads: int | None = None, streams: int = 1
) -> PictureDetector:
    """Load the face network, the face finder and the reference scores, if they are this model's.

    Args:
        path: the model file; None takes the one that comes with the project, models/face.onnx or model.h5.
        engine: "onnx" for the fast engine, "keras" for the reference.
        threads: inference threads of the fast engine and the face finder; None takes every core.
        streams: pictures that the fast engine can score at once, each with its share of the threads.

    Raises:
        ModelError: unknown engine, a model file that is missing or foreign, or damaged reference scores.
    """
    finder = FaceFinder(threads=threads)  # first: the other order takes 4 MB and 0.1 s of CPU time more
    network = load_engine(MODEL_FILES, path=path, engine=engine, threads=threads, streams=streams)
    reference_scores = load_matching_reference_scores(REFERENCE_SCORES_FILE, network.model_sha256)
    return PictureDetector(network, finder, reference_scores)


def _checked(image: np.ndarray) -> np.ndarray:
    # Floats in [0, 1] would pass for a black picture without a face.
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise UnreadableMedia(
            f"A picture given as an array must be (H, W, 3) uint8 RGB; this one is {image.shape} {image.dtype}."
        )
    return image
