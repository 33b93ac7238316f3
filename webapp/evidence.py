"""Evidence that a visitor requests for a picture's verdict: further tests, and everything as one file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from flask import Flask, current_app

import detector
from detector import Detector, DetectorError, record
from detector.models import Engine
from detector.record import CheckedExplanation
from detector.reports import Evidence
from detector.results import PictureDetection
from webapp import analyses, uploads
from webapp.jobs import PROGRESS_EVERY_S
from webapp.models import Analysis, db
from webapp.page_files import LIME, LIME_VALUES, encode_png

Answer = TypeVar("Answer")

_one_at_a_time = threading.Lock()  # a test uses every core, and a second request for it waits for the first


class CountingEngine(Engine):
    """An engine that reports how many crops it has scored.

    Args:
        engine: does the work.
        report: called after each batch with the number of crops so far.
    """

    def __init__(self, engine: Engine, report: Callable[[int], None]) -> None:
        self.spec, self.model_sha256 = engine.spec, engine.model_sha256
        self._engine, self._report, self._count = engine, report, 0

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Score a batch, see `Engine.run`."""
        outputs = self._engine.run(batch)
        self._count += len(batch)
        self._report(self._count)
        return outputs


class AnalysedByAnotherModel(DetectorError):
    """The model has been replaced since the analysis, so no evidence can be added."""


def can_check_explanation(result: Mapping[str, Any]) -> bool:
    """Return whether a picture's record has an explanation that has not been checked."""
    explanations = result.get("explanations", [])
    return bool(explanations) and explanations[0]["check"] is None


def can_test_robustness(result: Mapping[str, Any]) -> bool:
    """Return whether a picture's record has a face to test, and no result of the test.

    Records of the first versions have no evidence at all, and none is added to them.
    """
    is_scored = set(result.get("reasons", ())) <= {"between_thresholds"}
    return "provenance" in result and is_scored and result.get("robustness") is None


def run_explanation_checks(analysis: Analysis) -> None:
    """Check the explanation of a picture's score, explain the score by LIME too, and store both; only once.

    Raises:
        FileNotFoundError: the upload has been deleted.
        AnalysedByAnotherModel: the model of the verdict is no longer loaded.
    """
    report = _progress_report(analysis.id)
    _extend_once(analysis, can_check_explanation, partial(_check_explanations, report))


def run_robustness_test(analysis: Analysis) -> None:
    """Score degraded copies of a picture's first face and store the scores; only once.

    Raises:
        FileNotFoundError: the upload has been deleted.
        AnalysedByAnotherModel: the model of the verdict is no longer loaded.
    """
    _extend_once(analysis, can_test_robustness, _test_robustness)


def build_evidence_bundle(analysis: Analysis, *, include_original: bool = True) -> bytes:
    """Build the evidence bundle of a picture from its file and its record; nothing is analysed again.

    Raises:
        FileNotFoundError: the upload has been deleted.
        AnalysedByAnotherModel: the model of the verdict is no longer loaded.
    """
    data, result = _read_upload(analysis), analysis.record
    heatmaps = {}
    if any(explanation["method"] == "lime" for explanation in result.get("explanations", ())):
        with analyses.open_file(analysis, LIME_VALUES) as file:
            heatmaps["lime"] = detector.media.read_image(file.read())[..., 0].astype(np.float32) / 255

    def build(detection: PictureDetection, engine: Engine) -> bytes:
        recorded = record.restore_evidence(result, heatmaps=heatmaps)
        evidence = Evidence(
            data=data,
            detection=detection,
            provenance=detector.provenance.read_provenance(data, image=detection.image, sha256=analysis.upload_sha256),
            spec=engine.spec,
            filename=analysis.filename,
            checked_at=analysis.created_at,
            explanations=recorded.explanations,
            robustness=recorded.robustness,
        )
        bundle: bytes = detector.reports.build_bundle(evidence, include_original=include_original)
        return bundle

    return _call(result, data, build)


def _extend_once(
    analysis: Analysis,
    is_needed: Callable[[Mapping[str, Any]], bool],
    work: Callable[[dict[str, Any], PictureDetection, Engine], tuple[dict[str, Any], dict[str, bytes]]],
) -> None:
    """Add the entries and files that `work` returns to an analysis, if they are still needed."""
    with _one_at_a_time:
        # An earlier request may have been for the same picture, or it may have been deleted in another tab.
        stored = db.session.get(Analysis, analysis.id, populate_existing=True)
        if stored is None or not is_needed(stored.record):
            return
        parts, files = _call(stored.record, _read_upload(stored), partial(work, stored.record))
        analyses.extend(stored.id, parts, files)


def _call(result: dict[str, Any], data: bytes, work: Callable[[PictureDetection, Engine], Answer]) -> Answer:
    """Run work on a restored detection in the detector's thread, if the model is still the same."""

    def run(loaded: Detector) -> Answer:
        if loaded.pictures.engine.model_sha256 != result["model_sha256"]:
            raise AnalysedByAnotherModel("This picture was checked by an earlier model. Please upload it again.")
        detection = record.from_record(result, image=detector.media.read_image(data))
        assert isinstance(detection, PictureDetection)
        return work(detection, loaded.pictures.engine)

    answer: Answer = current_app.extensions["detector"].call(run)
    return answer


def _progress_report(analysis_id: str) -> Callable[[int], None]:
    """Return a function that stores the progress of an explanation's check, from any thread, at most every half second.

    The page may be served by another worker, so the progress is in the database.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    total = detector.evidence.LIME_SAMPLES + 2 * detector.evidence.DELETION_CHECK_FACES
    stored_at = 0.0

    def report(count: int) -> None:
        nonlocal stored_at
        if (now := time.monotonic()) - stored_at < PROGRESS_EVERY_S:
            return
        stored_at = now
        with app.app_context():
            analyses.set_check_progress(analysis_id, min(count / total, 1.0))

    return report


def _check_explanations(
    report: Callable[[int], None], result: dict[str, Any], detection: PictureDetection, engine: Engine
) -> tuple[dict[str, Any], dict[str, bytes]]:
    engine = CountingEngine(engine, report)
    class_map = record.restore_evidence(result).explanations[0]
    found = detector.evidence.explain_face(detection, engine, method="lime")
    lime = CheckedExplanation.of(found, size_px=class_map.size_px)
    crop = detector.evidence.face_crop(detection, engine)
    checked = [
        replace(explanation, check=detector.evidence.run_deletion_check(crop, explanation.heatmap, engine))
        for explanation in (class_map, lime)
        if explanation.heatmap is not None
    ]
    grey = np.rint(255 * found.heatmap).astype(np.uint8)
    files = {
        LIME: encode_png(detector.evidence.colour_heatmap(found.heatmap)),
        LIME_VALUES: encode_png(np.dstack([grey] * 3)),
    }
    return {"explanations": record.to_values(checked)}, files


def _test_robustness(
    _result: dict[str, Any], detection: PictureDetection, engine: Engine
) -> tuple[dict[str, Any], dict[str, bytes]]:
    measured = detector.evidence.measure_face_robustness(detection, engine)
    return {"robustness": None if measured is None else record.to_values(measured)}, {}


def _read_upload(analysis: Analysis) -> bytes:
    with uploads.open_upload(analysis.upload_sha256) as file:
        return file.read()
