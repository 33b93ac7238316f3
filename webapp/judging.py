"""From a file to what is kept of its verdict: the row's columns, and the pictures that its page shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

import detector
from detector import Detection, Detector, PictureDetection, VideoDetection, VoiceDetection

PREVIEW_SIDE_PX = 1600
THUMBNAIL_SIDE_PX = 240
PICTURE = "picture.jpg"  # upright, so that every browser can show it
THUMBNAIL = "thumbnail.jpg"
SPECTROGRAM = "spectrogram.png"


@dataclass(frozen=True)
class Judged:
    """What is kept of a verdict.

    Attributes:
        columns: of `Analysis`.
        files: names to bytes, for the page.
    """

    columns: dict[str, Any]
    files: dict[str, bytes]


def judge(
    source: bytes | Path, loaded: Detector, *, every_s: float = 1.0, progress: Callable[[float], None] | None = None
) -> Judged:
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
    columns = {
        "media": detection.media,
        "verdict": str(detection.verdict),
        "probability": detection.probability,
        "threshold_real": thresholds.threshold_real,
        "threshold_fake": thresholds.threshold_fake,
        "elapsed_ms": detection.elapsed_ms,
        "has_heatmaps": any(name.startswith("heatmap") for name in files),
        "result": detection.to_dict(),
    }
    return Judged(columns, files)


@singledispatch
def draw(detection: Detection) -> dict[str, bytes]:
    """Return the pictures that the page of a verdict shows, by the names they are kept under."""
    raise TypeError(f"There is no page for {type(detection).__name__}.")


@draw.register
def _(detection: PictureDetection) -> dict[str, bytes]:
    files = {
        PICTURE: detector.encode_jpeg(detection.image, max_side_px=PREVIEW_SIDE_PX),
        THUMBNAIL: detector.encode_jpeg(detection.image, max_side_px=THUMBNAIL_SIDE_PX),
    }
    for index, face in enumerate(detection.faces):
        if face.heatmap is not None:
            files[heatmap_name(index)] = detector.encode_png(detector.colour_heatmap(face.heatmap))
    return files


@draw.register
def _(detection: VideoDetection) -> dict[str, bytes]:
    files = {}
    for number, track in enumerate(detection.tracks):
        for frame in track.frames:
            if frame.crop is None:
                continue
            files.setdefault(THUMBNAIL, detector.encode_jpeg(frame.crop))  # tracks come with the most suspicious first
            files[frame_name(number, frame.frame_index)] = detector.encode_jpeg(frame.crop)
            if frame.heatmap is not None:
                name = frame_heatmap_name(number, frame.frame_index)
                files[name] = detector.encode_png(detector.colour_heatmap(frame.heatmap))
    if detection.sound is not None:
        files |= {name: data for name, data in draw(detection.sound).items() if name != THUMBNAIL}
    return files


@draw.register
def _(detection: VoiceDetection) -> dict[str, bytes]:
    if detection.spectrogram is None:
        return {}
    picture = detector.colour_spectrogram(detection.spectrogram, detection.heatmap)
    return {SPECTROGRAM: detector.encode_png(picture), THUMBNAIL: detector.encode_jpeg(picture, max_side_px=240)}


def heatmap_name(face: int) -> str:
    """Return the name of a face's heat map, a PNG over its crop box; faces are counted from 0."""
    return f"heatmap-{face}.png"


def frame_name(track: int, frame_index: int) -> str:
    """Return the name of a face in a video's frame, a JPEG; tracks are counted from 0."""
    return f"frame-{track}-{frame_index}.jpg"


def frame_heatmap_name(track: int, frame_index: int) -> str:
    """Return the name of that face's heat map."""
    return f"heatmap-{track}-{frame_index}.png"
