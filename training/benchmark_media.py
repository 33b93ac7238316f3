"""The benchmark's picture, video and recording, made on the spot."""

from __future__ import annotations

import io
import wave
from importlib.metadata import files
from pathlib import Path

import av
import numpy as np
from PIL import Image

from detector.media.images import encode_jpeg, read_image

PORTRAIT_SIDE_PX = 1024
VIDEO_SIZE_PX = (1920, 1080)
VIDEO_S, FRAMES_PER_S = 10, 25
RECORDING_S, RECORDING_RATE_HZ = 60, 16_000


def portrait_jpeg() -> bytes:
    """Return the NASA portrait in scikit-image's wheel, enlarged to 1 megapixel, as JPEG."""
    path = next(file for file in files("scikit-image") or () if file.name == "astronaut.png").locate()
    picture = Image.fromarray(read_image(Path(str(path)))).resize(
        (PORTRAIT_SIDE_PX, PORTRAIT_SIDE_PX), Image.Resampling.BICUBIC
    )
    return encode_jpeg(np.asarray(picture), quality=92)


def clip_mp4(portrait: np.ndarray) -> bytes:
    """Return an MP4 video of a portrait (H, W, 3) uint8 RGB that moves sideways, with the sound of `tones`."""
    width, height = VIDEO_SIZE_PX
    scaled = np.asarray(Image.fromarray(portrait).resize((height, height)))
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FRAMES_PER_S, options={"preset": "veryfast"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        sound = container.add_stream("aac", rate=RECORDING_RATE_HZ, layout="mono")
        for number in range(VIDEO_S * FRAMES_PER_S):
            frame = np.full((height, width, 3), 90, np.uint8)
            left = round((width - height) * (0.5 + 0.5 * np.sin(number / FRAMES_PER_S)))
            frame[:, left : left + height] = scaled
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode(None))
        samples = (tones(VIDEO_S) * 32767).astype(np.int16)[None]
        block = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        block.sample_rate = RECORDING_RATE_HZ
        resampler = av.AudioResampler("fltp", "mono", RECORDING_RATE_HZ, frame_size=1024)
        for part in [*resampler.resample(block), *resampler.resample(None)]:
            container.mux(sound.encode(part))
        container.mux(sound.encode(None))
    return buffer.getvalue()


def tones(seconds: int) -> np.ndarray:
    """Return a gliding tone with overtones and pauses, (T,) float32 in [-1, 1], which takes as much work as a voice."""
    times_s = np.arange(seconds * RECORDING_RATE_HZ) / RECORDING_RATE_HZ
    phase = 2 * np.pi * np.cumsum(150 + 40 * np.sin(3 * times_s)) / RECORDING_RATE_HZ
    voiced = sum(np.sin(order * phase) / order for order in range(1, 20))
    return (0.2 * voiced * (np.sin(4 * times_s) > -0.6)).astype(np.float32)


def wave_file(waveform: np.ndarray) -> bytes:
    """Return a WAV file of a waveform (T,) float32."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, RECORDING_RATE_HZ, 0, "NONE", ""))
        file.writeframes((waveform * 32767).astype(np.int16).tobytes())
    return buffer.getvalue()


def with_comment(jpeg: bytes, text: str) -> bytes:
    """Return a JPEG file with a comment after its start: another file with the same pixels."""
    comment = text.encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]
