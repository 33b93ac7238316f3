"""The samples of the start page: everything is made from NASA's portrait (public domain) or by a formula."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from fractions import Fraction

import av
import cv2
import numpy as np

from detector.pictures.faces import FaceFinder
from detector.results import UnreadableMedia

RATE_HZ = 16_000
FPS = 10
EYES = (0, 1)  # among the five landmarks
REACH = 0.42  # of an enlarged eye, in distances between the eyes
ENLARGEMENT = 0.3  # of an eye's size, at its centre


def enlarge_eyes(image: np.ndarray) -> np.ndarray:
    """Enlarge the eyes of the largest face by bending the picture around them, as retouching programs do.

    Args:
        image: (H, W, 3) uint8 RGB.

    Raises:
        UnreadableMedia: the picture shows no face.
    """
    faces = FaceFinder().find_faces(image)
    if not faces or faces[0].landmarks is None:
        raise UnreadableMedia("No face was found, so no eyes can be enlarged.")
    eyes = np.asarray(faces[0].landmarks, np.float32)[list(EYES)]
    radius = REACH * float(np.linalg.norm(eyes[1] - eyes[0]))
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    from_x, from_y = xs.copy(), ys.copy()
    for x, y in eyes:
        nearness = np.clip(1 - np.hypot(xs - x, ys - y) / radius, 0, 1)
        pull = ENLARGEMENT * nearness * nearness * (3 - 2 * nearness)  # smooth at the centre and at the edge
        from_x -= (xs - x) * pull
        from_y -= (ys - y) * pull
    return np.asarray(cv2.remap(image, from_x, from_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT))


def pan_over(
    picture: np.ndarray, count: int, *, size_px: tuple[int, int] = (320, 240), zoom: tuple[float, float] = (0.6, 0.8)
) -> Iterator[np.ndarray]:
    """Yield `count` frames of a camera that moves over a picture (H, W, 3) and zooms from `zoom[1]` to `zoom[0]`."""
    width_px, height_px = size_px
    for progress in np.linspace(0, 1, count):
        side = zoom[1] + (zoom[0] - zoom[1]) * progress  # visible part of the picture's side
        h = round(picture.shape[0] * side)
        w = min(picture.shape[1], round(h * width_px / height_px))
        top, left = (
            round((picture.shape[0] - h) * progress * 0.2),
            round((picture.shape[1] - w) * (0.5 - 0.2 * progress)),
        )
        yield cv2.resize(picture[top : top + h, left : left + w], size_px, interpolation=cv2.INTER_AREA)


def speak(
    seconds: float = 3.0, seed: int = 0, *, pitch_hz: float = 120, glide: float = 0.4, buzz: float = 0.0
) -> np.ndarray:
    """Return a sound between a hum and speech: gliding pitch, moving formants, syllables, pauses and breath.

    Args:
        seconds: duration.
        seed: source of all randomness.
        pitch_hz: centre of the pitch.
        glide: octaves by which the pitch moves at most, up and down.
        buzz: amplitude of a steady line at 5 kHz, such as a vocoder leaves.

    Returns:
        (T,) float32 mono 16 kHz.
    """
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    syllables = np.arange(0, seconds + 0.5, 0.25)

    def drift(low: float, high: float) -> np.ndarray:
        return np.interp(times, syllables, rng.uniform(low, high, len(syllables)))

    pitch = pitch_hz * 2 ** drift(-glide, glide)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE_HZ
    formants = [drift(300, 800), drift(900, 2200), drift(2300, 3200)]
    sound = np.zeros(len(times))
    for number in range(1, 40):
        hz = number * pitch
        gain = sum(1 / (1 + ((hz - centre) / 120) ** 2) for centre in formants) + 0.02
        sound += np.where(hz < 7500, gain, 0) / number**0.5 * np.sin(number * phase + rng.uniform(0, 6))
    loudness = np.interp(times, syllables, rng.uniform(0.2, 1, len(syllables)))
    loudness *= np.maximum(0, np.sin(2 * np.pi * 2 * times)) ** 0.5  # a syllable and a pause every half second
    sound = sound * loudness / np.abs(sound).max() + 0.002 * rng.standard_normal(len(times))
    sound += buzz * np.sin(2 * np.pi * 5000 * times) * loudness
    return np.asarray(0.5 * sound / np.abs(sound).max(), np.float32)


def encode_video(frames: Iterable[np.ndarray]) -> bytes:
    """Encode frames (H, W, 3) uint8 RGB as WebM, which every browser plays."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="webm") as container:
        stream = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream("libvpx", rate=FPS, options={"crf": "12", "b": "600k", "threads": "1"})
                stream.height, stream.width, stream.pix_fmt = *frame.shape[:2], "yuv420p"
                stream.codec_context.time_base = Fraction(1, FPS)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())
    return buffer.getvalue()


def encode_sound(waveform: np.ndarray) -> bytes:
    """Encode a waveform (T,) float32 mono 16 kHz as FLAC."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=RATE_HZ, layout="mono")
        samples = np.rint(32_767 * waveform).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()
