"""From a file to what is kept of its verdict: the row's columns, and the pictures that its page shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np

import detector
from detector import Detection, Detector
from detector.models import Engine
from detector.results import PictureDetection, VideoDetection, VoiceDetection

PREVIEW_SIDE_PX = 1600
THUMBNAIL_SIDE_PX = 240
PICTURE = "picture.jpg"  # upright, so that every browser can show it
THUMBNAIL = "thumbnail.jpg"
CROP = "crop.png"  # the picture's first face as the network saw it
LIME = "lime.png"  # another explanation of the same face, for those who ask: over the crop
LIME_HEAT = "lime-heat.png"  # the same as grey levels, for the evidence bundle
HEAT_DIGITS = 4  # as in the bundle
SPECTROGRAM = "spectrogram.png"
SPECTROGRAM_HEATMAP = "heatmap-sound.png"  # over the spectrogram
SPECTROGRAM_COLOURS = np.array([(14, 20, 38), (42, 66, 128), (120, 160, 214), (240, 246, 252)])  # silent to loud, RGB


@dataclass(frozen=True)
class AnalysisOutput:
    """What is kept of a verdict.

    Attributes:
        columns: of `Analysis`.
        files: names to bytes, for the page.
    """

    columns: dict[str, Any]
    files: dict[str, bytes]


def analyse(
    source: bytes | Path, loaded: Detector, *, every_s: float = 1.0, progress: Callable[[float], None] | None = None
) -> AnalysisOutput:
    """Judge a file and draw what its page shows of it; pixels and sound are gone afterwards.

    Args:
        source: a file's bytes or its path.
        every_s: seconds between the frames of a video that are looked at.
        progress: is told the share that is done, in [0, 1]; what it raises ends the work.

    Raises:
        DetectorError: the file cannot be read or judged.
    """
    detection = loaded.detect(source, every_s=every_s, progress=progress)
    thresholds = loaded.calibration_of(detection.media)
    files = draw(detection)
    result = detection.to_dict()
    if isinstance(detection, PictureDetection):
        data = source if isinstance(source, bytes) else source.read_bytes()
        result |= collect_evidence(detection, data, loaded.pictures.engine)
        if result["explanation"]:
            files[CROP] = detector.media.encode_png(detector.evidence.face_crop(detection, loaded.pictures.engine))
    columns = {
        "media": detection.media,
        "verdict": str(detection.verdict),
        "probability": detection.probability,
        "threshold_real": thresholds.threshold_real,
        "threshold_fake": thresholds.threshold_fake,
        "elapsed_ms": detection.elapsed_ms,
        "has_heatmaps": any(name.startswith("heatmap") for name in files),
        "result": result,
    }
    return AnalysisOutput(columns, files)


def collect_evidence(detection: PictureDetection, data: bytes, engine: Engine) -> dict[str, Any]:
    """Return the evidence for a picture's verdict, as plain values for JSON.

    Args:
        detection: the verdict.
        data: the picture's file.
        engine: the network that judged it.

    Returns:
        "heatmaps" of all faces; "explanation" of the first, None when it was not judged or has no map; "stability" in
        the delivery test, None when there was nothing to test; and "provenance".
    """
    first = detection.faces[0] if detection.faces else None
    explanation = stability = None
    if first is not None and first.heatmap is not None and not first.reasons:
        explanation = {
            **detector.evidence.explain_face(detection, engine).to_dict(),
            "size_px": engine.spec.face.size_px,
        }
    delivered = detector.evidence.measure_face_robustness(detection, engine)
    if delivered is not None:
        stability = {**delivered.to_dict(), "sentence": detector.evidence.robustness_sentence(delivered)}
    return {
        "heatmaps": [
            None if face.heatmap is None else np.round(face.heatmap.astype(float), HEAT_DIGITS).tolist()
            for face in detection.faces
        ],
        "explanation": explanation,
        "stability": stability,
        "provenance": detector.provenance.read_provenance(data, image=detection.image).to_dict(),
    }


@singledispatch
def draw(detection: Detection) -> dict[str, bytes]:
    """Return the pictures that the page of a verdict shows, by the names they are kept under."""
    raise TypeError(f"There is no page for {type(detection).__name__}.")


@draw.register
def _(detection: PictureDetection) -> dict[str, bytes]:
    files = {
        PICTURE: detector.media.encode_jpeg(detection.image, max_side_px=PREVIEW_SIDE_PX),
        THUMBNAIL: detector.media.encode_jpeg(detection.image, max_side_px=THUMBNAIL_SIDE_PX),
    }
    for index, face in enumerate(detection.faces):
        if face.heatmap is not None:
            files[heatmap_name(index)] = detector.media.encode_png(detector.evidence.colour_heatmap(face.heatmap))
    return files


@draw.register
def _(detection: VideoDetection) -> dict[str, bytes]:
    files = {}
    for number, track in enumerate(detection.tracks):
        for frame in track.frames:
            if frame.crop is None:
                continue
            files.setdefault(
                THUMBNAIL, detector.media.encode_jpeg(frame.crop)
            )  # tracks come with the most suspicious first
            files[frame_name(number, frame.frame_index)] = detector.media.encode_jpeg(frame.crop)
            if frame.heatmap is not None:
                name = frame_heatmap_name(number, frame.frame_index)
                files[name] = detector.media.encode_png(detector.evidence.colour_heatmap(frame.heatmap))
    if detection.sound is not None:
        files |= {name: data for name, data in draw(detection.sound).items() if name != THUMBNAIL}
    return files


@draw.register
def _(detection: VoiceDetection) -> dict[str, bytes]:
    if detection.spectrogram is None or detection.spectrogram.shape[1] == 0:
        return {}
    picture = paint_spectrogram(detection.spectrogram)
    files = {
        SPECTROGRAM: detector.media.encode_png(picture),
        THUMBNAIL: detector.media.encode_jpeg(picture[:, : len(picture)]),
    }
    if detection.heatmap is not None:
        heat = np.atleast_2d(detection.heatmap)[::-1]
        colours = detector.evidence.colour_heatmap(np.ascontiguousarray(heat), (picture.shape[1], len(picture)))
        files[SPECTROGRAM_HEATMAP] = detector.media.encode_png(colours)
    return files


def paint_spectrogram(spectrogram: np.ndarray) -> np.ndarray:
    """Paint a spectrogram in one hue, so that the heat which is laid over it has the other hues to itself.

    Args:
        spectrogram: (bands, T) float32 in [0, 1], low frequencies first.

    Returns:
        (bands, T, 3) uint8 RGB, low frequencies at the bottom.
    """
    steps = np.linspace(0, 1, len(SPECTROGRAM_COLOURS))
    channels = [np.interp(spectrogram[::-1], steps, channel) for channel in SPECTROGRAM_COLOURS.T]
    return np.stack(channels, axis=-1).astype(np.uint8)


def heatmap_name(face: int) -> str:
    """Return the name of a face's heat map, a PNG over its crop box; faces are counted from 0."""
    return f"heatmap-{face}.png"


def frame_name(track: int, frame_index: int) -> str:
    """Return the name of a face in a video's frame, a JPEG; tracks are counted from 0."""
    return f"frame-{track}-{frame_index}.jpg"


def frame_heatmap_name(track: int, frame_index: int) -> str:
    """Return the name of that face's heat map."""
    return f"heatmap-{track}-{frame_index}.png"
