"""What is to be had beside a picture's verdict: a check of its explanation, and everything as one file."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from flask import current_app

import detector
from detector import Detector, DetectorError, Verdict
from detector.evidence import DegradedScore, DeletionCheck, RobustnessResult
from detector.reports import Evidence
from detector.results import ErrorRate, Face, PictureDetection, Reason
from webapp import analyses
from webapp.artifacts import LIME, LIME_HEAT
from webapp.models import Analysis, db

_examining = threading.Lock()  # one at a time: it takes every core, and a second press waits for the first


class AnalysedByAnotherModel(DetectorError):
    """The model has been replaced since, so nothing can be added to this verdict."""


def can_check_explanation(analysis: Analysis) -> bool:
    """Tell whether there is an explanation that was not checked yet."""
    return bool(analysis.result.get("explanation")) and "examination" not in analysis.result


def run_explanation_checks(analysis: Analysis) -> None:
    """Try whether a picture's score rests on what its map marks, ask LIME as well, and keep both; only once.

    Raises:
        FileNotFoundError: the upload was deleted meanwhile.
        JudgedByAnotherModel: by one that is not there any more.
    """
    with _examining:
        # The press before may have been for the same picture, and in another tab it may have been deleted.
        kept = db.session.get(Analysis, analysis.id, populate_existing=True)
        if kept is None or not can_check_explanation(kept):
            return
        data = _read_upload(analysis)
        result = analysis.result
        found, files = _call(result, lambda loaded: _examine(_restore(result, data), loaded.pictures.engine))
        analyses.extend(analysis.id, {"examination": found}, files)


def build_evidence_bundle(analysis: Analysis, *, include_original: bool = True) -> bytes:
    """Make the evidence bundle of a picture from its file and from what is kept of its verdict; nothing is judged.

    Raises:
        FileNotFoundError: the upload was deleted meanwhile.
        JudgedByAnotherModel: by one that is not there any more.
    """
    data, result = _read_upload(analysis), analysis.result
    lime = None
    if "examination" in result:
        with analyses.open_file(analysis, LIME_HEAT) as file:
            lime = detector.media.read_image(file.read())[..., 0].astype(np.float32) / 255

    def make(loaded: Detector) -> bytes:
        detection = _restore(result, data)
        evidence = Evidence(
            data=data,
            detection=detection,
            provenance=detector.provenance.read_provenance(data, image=detection.image),
            spec=loaded.pictures.engine.spec,
            filename=analysis.filename,
            checked_at=analysis.created_at,
            maps=tuple(_maps(result, lime)),
            stability=_stability(result),
        )
        return detector.reports.build_bundle(evidence, include_original=include_original)

    return _call(result, make)


def _call(result: dict[str, Any], work: Any) -> Any:
    """Do work on the detector's thread, where one picture's pixels exist at a time, if it still is the same model."""

    def checked(loaded: Detector) -> Any:
        if loaded.pictures.engine.model_sha256 != result["model_sha256"]:
            raise AnalysedByAnotherModel("This picture was judged by an earlier model. Upload it again.")
        return work(loaded)

    return current_app.extensions["detector"].call(checked)


def _examine(detection: PictureDetection, engine: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what is kept of the check, and the files for the page and the bundle."""
    crop = detector.evidence.face_crop(detection, engine)
    lime = detector.evidence.explain_face(detection, engine, method="lime")
    grey = np.rint(255 * lime.heatmap).astype(np.uint8)
    found = {
        "check": detector.evidence.run_deletion_check(crop, detection.faces[0].heatmap, engine).to_dict(),
        "lime": {**lime.to_dict(), "check": detector.evidence.run_deletion_check(crop, lime.heatmap, engine).to_dict()},
    }
    return found, {
        LIME: detector.media.encode_png(detector.evidence.colour_heatmap(lime.heatmap)),
        LIME_HEAT: detector.media.encode_png(np.dstack([grey] * 3)),
    }


def _read_upload(analysis: Analysis) -> bytes:
    with analyses.open_upload(analysis) as file:
        return file.read()


# what is kept as JSON, made into the detector's own objects again


def _restore(result: dict[str, Any], data: bytes) -> PictureDetection:
    """Return the detection whose `to_dict` is kept, with the picture it is about."""
    return PictureDetection(
        verdict=Verdict(result["verdict"]),
        probability=result["probability"],
        logit=result["logit"],
        reasons=tuple(map(Reason, result["reasons"])),
        elapsed_ms=result["elapsed_ms"],
        model_sha256=result["model_sha256"],
        error_rates=tuple(
            ErrorRate(**{**rate, "histogram": tuple(rate["histogram"])}) for rate in result["error_rates"]
        ),
        faces=tuple(map(_face, result["faces"], result["heatmaps"])),
        width_px=result["width_px"],
        height_px=result["height_px"],
        image=detector.media.read_image(data),
    )


def _face(kept: dict[str, Any], heatmap: list[list[float]] | None) -> Face:
    return Face(
        box=tuple(kept["box"]),
        landmarks=None if kept["landmarks"] is None else np.array(kept["landmarks"], np.float32),
        detection_score=kept["detection_score"],
        crop_box=tuple(kept["crop_box"]),
        logit=kept["logit"],
        probability=kept["probability"],
        reasons=tuple(map(Reason, kept["reasons"])),
        heatmap=None if heatmap is None else np.array(heatmap, np.float32),
    )


def _stability(result: dict[str, Any]) -> RobustnessResult | None:
    if result["stability"] is None:
        return None
    kept = result["stability"]["deliveries"]
    return RobustnessResult(tuple(DegradedScore(**{**one, "verdict": Verdict(one["verdict"])}) for one in kept))


def _maps(result: dict[str, Any], lime: np.ndarray | None) -> list[FaceMap]:
    if not result["explanation"]:
        return []
    sentence, examined = result["explanation"]["sentence"], result.get("examination")
    if examined is None:
        return [FaceMap("Class activation map", 0, None, sentence)]
    return [
        FaceMap("Class activation map", 0, None, sentence, _check(examined["check"])),
        FaceMap("LIME", 0, lime, examined["lime"]["sentence"], _check(examined["lime"]["check"])),
    ]


def _check(kept: dict[str, Any]) -> DeletionCheck:
    return DeletionCheck(**{name: value for name, value in kept.items() if name != "sentence"})
