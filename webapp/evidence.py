"""Evidence that a visitor requests for a verdict: further tests of a picture, and everything in one file."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import IO, Any, TypeVar

import numpy as np
from flask import Flask, current_app
from PIL import Image

import detector
from detector import Detector, DetectorError, record
from detector.media import MEDIA
from detector.models import Engine, ModelSpec
from detector.record import CheckedExplanation
from detector.reports import MAX_REPORTED_TRACKS, Evidence, ReportPicture
from detector.results import PictureDetection, TrackFrame, VideoDetection
from detector.text import translatable
from webapp import analyses, uploads
from webapp.detector_thread import DetectorThread
from webapp.jobs import PROGRESS_EVERY_S
from webapp.models import Analysis, db
from webapp.page_files import LIME, LIME_VALUES, SPECTROGRAM, encode_png, frame_name
from webapp.result_words import words_of

MAX_BUNDLE_MEMORY_BYTES = 20_000_000  # a larger bundle waits on the disk until it is sent
SPECTROGRAM_PX = (1000, 240)

Answer = TypeVar("Answer")

# A test uses every core, so a second request for one waits for the first. A check takes a hundred times as long.
_one_test, _one_check = threading.Lock(), threading.Lock()


class TurnTakingEngine(Engine):
    """An engine for long work: each batch takes its turn in the detector's thread, so that uploads come in between.

    Args:
        engine: does the work there.
        thread: the detector's.
        report: called after each batch with the number of crops scored so far.
    """

    def __init__(self, engine: Engine, thread: DetectorThread, report: Callable[[int], None]) -> None:
        self.spec, self.model_sha256 = engine.spec, engine.model_sha256
        self._engine, self._thread, self._report, self._count = engine, thread, report, 0

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Score a batch, see `Engine.run`."""
        outputs = self._thread.call(lambda _: self._engine.run(batch))
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
    with _one_check:
        _extend_once(analysis, can_check_explanation, partial(_check_explanations, _progress_report(analysis.id)))


def run_robustness_test(analysis: Analysis) -> None:
    """Score degraded copies of a picture's first face and store the scores; only once.

    Raises:
        FileNotFoundError: the upload has been deleted.
        AnalysedByAnotherModel: the model of the verdict is no longer loaded.
    """
    with _one_test:
        _extend_once(analysis, can_test_robustness, _test_robustness)


def build_evidence_bundle(analysis: Analysis, *, include_original: bool = True) -> IO[bytes]:
    """Build the evidence bundle from a file and its record; nothing is analysed again.

    Returns:
        An open file at its beginning: in memory, or on the disk if it is large.

    Raises:
        FileNotFoundError: the upload has been deleted.
        AnalysedByAnotherModel: the model of the verdict is no longer loaded.
    """
    with ExitStack() as undo:
        file = undo.enter_context(tempfile.SpooledTemporaryFile(MAX_BUNDLE_MEMORY_BYTES))
        with stored_evidence(analysis) as evidence:
            detector.reports.write_bundle(evidence, file, include_original=include_original)
        file.seek(0)
        undo.pop_all()
    return file


@contextmanager
def stored_evidence(analysis: Analysis) -> Iterator[Evidence]:
    """Restore the evidence for a verdict from its record and its stored files; nothing is analysed again.

    Raises:
        FileNotFoundError: the upload has been deleted.
        AnalysedByAnotherModel: the model of the verdict is no longer loaded.
    """
    result = analysis.record
    spec, sound_spec = current_app.extensions["detector"].call(partial(_specs_of, result))
    about: dict[str, Any] = {
        "spec": spec,
        "filename": analysis.filename,
        "checked_at": analysis.created_at,
        "error_sentence": words_of(analysis).verdict_error,
    }
    if not MEDIA[analysis.media].has_duration:
        yield _picture_evidence(analysis, result, about)
        return
    detection = record.from_record(result)
    with uploads.local_upload(analysis.upload_sha256) as path:
        if isinstance(detection, VideoDetection):
            yield Evidence(data=path, detection=_with_crops(analysis, detection), sound_spec=sound_spec, **about)
        else:
            yield Evidence(data=path, detection=detection, pictures=tuple(_draw_spectrogram(analysis)), **about)


def _specs_of(result: dict[str, Any], loaded: Detector) -> tuple[ModelSpec, ModelSpec | None]:
    """Return the specs of the network behind a record and, of a video with sound, of the voice network."""
    _require_model(result, loaded)
    return loaded.engine_of(result["media"]).spec, loaded.engine_of("audio").spec if result.get("sound") else None


def _require_model(result: dict[str, Any], loaded: Detector) -> None:
    sounds = [("audio", sound["model_sha256"])] if (sound := result.get("sound")) else []
    for media, sha256 in ((result["media"], result["model_sha256"]), *sounds):
        if loaded.engine_of(media).model_sha256 != sha256:
            item = MEDIA[result["media"]].item
            sentence = translatable("This {item} was checked by an earlier model. Please upload it again.")
            raise AnalysedByAnotherModel(sentence.format(item=item))


def _picture_evidence(analysis: Analysis, result: dict[str, Any], about: dict[str, Any]) -> Evidence:
    data = _read_upload(analysis)
    heatmaps = {}
    if any(explanation["method"] == "lime" for explanation in result.get("explanations", ())):
        with analyses.open_file(analysis, LIME_VALUES) as file:
            heatmaps["lime"] = detector.media.read_image(file.read())[..., 0].astype(np.float32) / 255
    image = detector.media.read_image(data)
    recorded = record.restore_evidence(result, heatmaps=heatmaps)
    return Evidence(
        data=data,
        detection=record.from_record(result, image=image),
        provenance=detector.provenance.read_provenance(data, image=image, sha256=analysis.upload_sha256),
        explanations=recorded.explanations,
        robustness=recorded.robustness,
        **about,
    )


def _with_crops(analysis: Analysis, detection: VideoDetection) -> VideoDetection:
    """Return a video's detection with the pictures of its strongest frames, which its page shows too."""

    def read(number: int, frame: TrackFrame) -> np.ndarray | None:
        try:
            with analyses.open_file(analysis, frame_name(number, frame.frame_index)) as file:
                return detector.media.read_image(file.read())
        except FileNotFoundError:
            return None

    tracks = [
        replace(
            track,
            frames=tuple(
                frame if frame.crop is None else replace(frame, crop=read(number, frame)) for frame in track.frames
            ),
        )
        for number, track in enumerate(detection.tracks[:MAX_REPORTED_TRACKS])
    ]
    return replace(detection, tracks=(*tracks, *detection.tracks[MAX_REPORTED_TRACKS:]))


def _draw_spectrogram(analysis: Analysis) -> Iterator[ReportPicture]:
    try:
        with analyses.open_file(analysis, SPECTROGRAM) as file, Image.open(file, formats=["PNG"]) as picture:
            shown = picture.convert("RGB").resize(SPECTROGRAM_PX)
    except FileNotFoundError:  # of a recording in which nothing was heard
        return
    caption = "Spectrogram: time from left to right, low tones at the bottom, up to 8 kHz."
    yield ReportPicture(detector.media.encode_jpeg(np.asarray(shown)), caption)


def _extend_once(
    analysis: Analysis,
    is_needed: Callable[[Mapping[str, Any]], bool],
    work: Callable[[dict[str, Any], bytes], tuple[dict[str, Any], dict[str, bytes]]],
) -> None:
    """Add the entries and files that `work` makes of a record and its upload, if they are still needed."""
    # An earlier request may have been for the same picture, or it may have been deleted in another tab.
    stored = db.session.get(Analysis, analysis.id, populate_existing=True)
    if stored is None or not is_needed(stored.record):
        return
    parts, files = work(stored.record, _read_upload(stored))
    analyses.extend(stored.id, parts, files)


def _call(result: dict[str, Any], data: bytes, work: Callable[[PictureDetection, Engine], Answer]) -> Answer:
    """Run work on a restored detection in the detector's thread, if the model is still the same."""

    def run(loaded: Detector) -> Answer:
        _require_model(result, loaded)
        detection = record.from_record(result, image=detector.media.read_image(data))
        assert isinstance(detection, PictureDetection)
        return work(detection, loaded.pictures.engine)

    thread: DetectorThread = current_app.extensions["detector"]
    return thread.call(run)


def _progress_report(analysis_id: str) -> Callable[[int], None]:
    """Return a function that stores how far an explanation's check is, from any thread: twice a second, and its end.

    The page may be served by another worker, so the progress is in the database.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    total = detector.evidence.LIME_SAMPLES + 2 * detector.evidence.DELETION_CHECK_FACES
    stored_at = 0.0

    def report(count: int) -> None:
        nonlocal stored_at
        now = time.monotonic()
        if count < total and now - stored_at < PROGRESS_EVERY_S:
            return
        stored_at = now
        with app.app_context():
            analyses.set_check_progress(analysis_id, min(count / total, 1.0))

    return report


def _check_explanations(
    report: Callable[[int], None], result: dict[str, Any], data: bytes
) -> tuple[dict[str, Any], dict[str, bytes]]:
    detection, shared = _call(result, data, _keep_crop)
    engine = TurnTakingEngine(shared, current_app.extensions["detector"], report)
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


def _keep_crop(detection: PictureDetection, engine: Engine) -> tuple[PictureDetection, Engine]:
    """Return a detection whose first face has its crop, without the pixels of the picture, and the engine."""
    crop = detector.evidence.face_crop(detection, engine)
    return replace(detection, faces=(replace(detection.faces[0], crop=crop),), image=crop), engine


def _test_robustness(result: dict[str, Any], data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    measured = _call(result, data, detector.evidence.measure_face_robustness)
    return {"robustness": None if measured is None else record.to_values(measured)}, {}


def _read_upload(analysis: Analysis) -> bytes:
    with uploads.open_upload(analysis.upload_sha256) as file:
        return file.read()
