"""The files that a page shows of an analysis: their names, and how they are drawn from a detection."""

from __future__ import annotations

import io
import re
from functools import singledispatch

import numpy as np
from PIL import Image

import detector
from detector import Detection
from detector.results import PictureDetection, VideoDetection, VoiceDetection

PREVIEW_SIDE_PX = 1600
THUMBNAIL_SIDE_PX = 240
PNG_COMPRESSION = 1  # a tenth of the time of the default 6; a crop of 192 pixels grows by 5%, a heat map by half
PICTURE = "picture.jpg"  # upright, because not every browser can show every format
THUMBNAIL = "thumbnail.jpg"
CROP = "crop.png"  # the network's input for the picture's first face
SPECTROGRAM = "spectrogram.png"
SPECTROGRAM_HEATMAP = "heatmap-sound.png"  # over the spectrogram
LIME = "lime.png"  # LIME's heat map of the first face, over the crop
LIME_VALUES = "lime-heat.png"  # the same as grey levels, for the evidence bundle; no page shows it
SPECTROGRAM_COLOURS = np.array([(14, 20, 38), (42, 66, 128), (120, 160, 214), (240, 246, 252)])  # silent to loud, RGB

_NUMBER = r"(0|[1-9][0-9]{0,7})"
# The names that a page may request, in the order of the constants above and the functions below.
_SERVED_NAMES = re.compile(
    r"picture\.jpg|thumbnail\.jpg|crop\.png|spectrogram\.png|heatmap-sound\.png|lime\.png"
    rf"|heatmap-{_NUMBER}\.png|frame-{_NUMBER}-{_NUMBER}\.jpg|heatmap-{_NUMBER}-{_NUMBER}\.png"
)


def heatmap_name(face: int) -> str:
    """Return the name of a face's heat map, a PNG over its crop box; faces are counted from 0."""
    return f"heatmap-{face}.png"


def frame_name(track: int, frame_index: int) -> str:
    """Return the name of a face in a video's frame, a JPEG; tracks are counted from 0."""
    return f"frame-{track}-{frame_index}.jpg"


def frame_heatmap_name(track: int, frame_index: int) -> str:
    """Return the name of the heat map of that face."""
    return f"heatmap-{track}-{frame_index}.png"


def explanation_name(method: str) -> str:
    """Return the name of the heat map of the first face by an explanation method."""
    return heatmap_name(0) if method == "class_map" else {"lime": LIME}[method]


def is_served(name: str) -> bool:
    """Return whether a page may request a file of this name."""
    return _SERVED_NAMES.fullmatch(name) is not None


def media_type_of(name: str) -> str:
    """Return the media type of one of these files."""
    return "image/png" if name.endswith(".png") else "image/jpeg"


@singledispatch
def draw_page_files(detection: Detection) -> dict[str, bytes]:
    """Draw the files that the page of a detection shows; return their contents by name."""
    raise TypeError(f"There is no page for {type(detection).__name__}.")


@draw_page_files.register
def _(detection: PictureDetection) -> dict[str, bytes]:
    preview = _shrink(detection.image, PREVIEW_SIDE_PX)
    files = {
        PICTURE: detector.media.encode_jpeg(preview),
        THUMBNAIL: detector.media.encode_jpeg(_shrink(preview, THUMBNAIL_SIDE_PX)),
    }
    for index, face in enumerate(detection.faces):
        if face.heatmap is not None and not face.reasons:
            files[heatmap_name(index)] = encode_png(detector.evidence.colour_heatmap(face.heatmap))
    return files


@draw_page_files.register
def _(detection: VideoDetection) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for number, track in enumerate(detection.tracks):
        for frame in track.frames:
            if frame.crop is None:
                continue
            picture = detector.media.encode_jpeg(frame.crop)
            files.setdefault(THUMBNAIL, picture)  # the most suspicious track comes first
            files[frame_name(number, frame.frame_index)] = picture
            if frame.heatmap is not None:
                name = frame_heatmap_name(number, frame.frame_index)
                files[name] = encode_png(detector.evidence.colour_heatmap(frame.heatmap))
    if detection.sound is not None:
        files |= {name: data for name, data in draw_page_files(detection.sound).items() if name != THUMBNAIL}
    return files


@draw_page_files.register
def _(detection: VoiceDetection) -> dict[str, bytes]:
    if detection.spectrogram is None or detection.spectrogram.shape[1] == 0:
        return {}
    picture = colour_spectrogram(detection.spectrogram)
    files = {
        SPECTROGRAM: encode_png(picture),
        THUMBNAIL: detector.media.encode_jpeg(picture[:, : len(picture)]),
    }
    if detection.heatmap is not None:
        heat = np.atleast_2d(detection.heatmap)[::-1]
        colours = detector.evidence.colour_heatmap(np.ascontiguousarray(heat), (picture.shape[1], len(picture)))
        files[SPECTROGRAM_HEATMAP] = encode_png(colours)
    return files


def colour_spectrogram(spectrogram: np.ndarray) -> np.ndarray:
    """Colour a spectrogram in one hue, so that the heat map over it can use the other hues.

    Args:
        spectrogram: (bands, T) float32 in [0, 1], low frequencies first.

    Returns:
        (bands, T, 3) uint8 RGB, low frequencies at the bottom.
    """
    steps = np.linspace(0, 1, len(SPECTROGRAM_COLOURS))
    channels = [np.interp(spectrogram[::-1], steps, channel) for channel in SPECTROGRAM_COLOURS.T]
    return np.stack(channels, axis=-1).astype(np.uint8)


def encode_png(image: np.ndarray) -> bytes:
    """Encode a picture (H, W, 3) uint8 RGB or (H, W, 4) uint8 RGBA as PNG, quickly."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=PNG_COMPRESSION)
    return buffer.getvalue()


def _shrink(image: np.ndarray, max_side_px: int) -> np.ndarray:
    """Shrink a picture (H, W, 3) uint8 RGB so that neither side is longer."""
    if max(image.shape[:2]) <= max_side_px:
        return image
    picture = Image.fromarray(image)
    # Averaging whole blocks first, and a short filter, take a quarter of the time of LANCZOS alone.
    picture.thumbnail((max_side_px, max_side_px), Image.Resampling.HAMMING, reducing_gap=1.0)
    return np.asarray(picture)
