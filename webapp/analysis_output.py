"""Run the detector on a file and collect what is stored: the row's columns and the files of its page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blinker import Signal

import detector
from detector import Detector
from detector.models import Engine
from detector.record import CheckedExplanation, evidence_to_record, to_record
from detector.reports import was_checked
from detector.results import PictureDetection
from detector.stages import stage
from webapp.page_files import CROP, draw_page_files, encode_png
from webapp.uploads import FileFacts

analysis_made = Signal("sent with the columns of each analysis")


@dataclass(frozen=True)
class AnalysisOutput:
    """What is stored of an analysis.

    Attributes:
        columns: of `Analysis`.
        files: contents by name, for the page.
    """

    columns: dict[str, Any]
    files: dict[str, bytes]


@stage("analysis")
def analyse(
    source: bytes | Path,
    loaded: Detector,
    *,
    facts: FileFacts | None = None,
    every_s: float = 1.0,
    progress: Callable[[float], None] | None = None,
) -> AnalysisOutput:
    """Analyse a file and draw the files of its page.

    Args:
        source: a file's bytes or its path.
        loaded: the detector.
        facts: the file's hash and type; None lets them be computed where they are needed.
        every_s: seconds between the sampled frames of a video.
        progress: called with the fraction that is done, in [0, 1]; an exception it raises ends the work.

    Raises:
        DetectorError: the file cannot be read or analysed.
    """
    detection = loaded.detect(source, every_s=every_s, progress=progress)
    calibration = loaded.calibration_of(detection.media)
    with stage("draw"):
        files = draw_page_files(detection)
    record = to_record(detection)
    if isinstance(detection, PictureDetection):
        data = source if isinstance(source, bytes) else source.read_bytes()
        record |= collect_evidence(detection, data, loaded.pictures.engine, facts=facts)
        if record["explanations"]:
            files[CROP] = encode_png(detector.evidence.face_crop(detection, loaded.pictures.engine))
    columns = {
        "media": detection.media,
        "verdict": str(detection.verdict),
        "probability": detection.probability,
        "is_checked": was_checked(detection.reasons),
        "threshold_real": calibration.threshold_real,
        "threshold_fake": calibration.threshold_fake,
        "elapsed_ms": detection.elapsed_ms,
        "has_heatmaps": any(name.startswith("heatmap") for name in files),
        "result": record,
    }
    analysis_made.send(columns=columns)
    return AnalysisOutput(columns, files)


@stage("evidence")
def collect_evidence(
    detection: PictureDetection, data: bytes, engine: Engine, *, facts: FileFacts | None = None
) -> dict[str, Any]:
    """Return the evidence that is stored with every picture, as JSON values.

    Args:
        detection: the verdict.
        data: the picture's file.
        engine: the network behind the verdict.
        facts: the file's hash and type; None computes them.

    Returns:
        "heatmaps" of all faces; "explanations" of the first face, empty if the face is excluded or has no heat map;
        "robustness", which is None until it is requested; and "provenance".
    """
    first = detection.faces[0] if detection.faces else None
    explanations = []
    if first is not None and first.heatmap is not None and not first.reasons:
        class_map = detector.evidence.explain_face(detection, engine)
        explanations.append(CheckedExplanation.of(class_map, size_px=engine.spec.face.size_px))
    provenance = detector.provenance.read_provenance(
        data,
        image=detection.image,
        sha256=facts.sha256 if facts else None,
        media_type=facts.media_type if facts else None,
    )
    return evidence_to_record(detection, explanations=explanations, robustness=None, provenance=provenance)
