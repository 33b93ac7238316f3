"""Make videos and sound for the tests."""

import io
from fractions import Fraction

import av
import numpy as np

from training.samples import pan_over

__all__ = ["make_sound", "make_video", "pan_over"]


def make_video(
    frames,
    *,
    fps=25,
    times_s=None,
    format="mp4",
    codec="libx264",
    options=None,
    gop=10,
    turn=(0, False),
    aspect=None,
    waveform=None,
):
    """Return a video file.

    Args:
        frames: each (H, W, 3) uint8 RGB.
        times_s: display time of each frame; None spaces them by `fps`.
        turn: counterclockwise rotation for display in degrees, and whether the frames are then mirrored.
        aspect: width of a pixel divided by its height.
        waveform: the sound, (T,) float32 at 16 kHz; None leaves it out.
    """
    frames = list(frames)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = Fraction(1, fps if times_s is None else 1000)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if turn != (0, False):
            stream.set_display_rotation(turn[0], hflip=turn[1])
        sound = None if waveform is None else container.add_stream("aac" if format == "mp4" else "libopus", rate=48_000)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = number if times_s is None else round(times_s[number] * 1000)
            frame.time_base = stream.codec_context.time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            _mux_sound(container, sound, waveform[None], 16_000)
    return buffer.getvalue()


def make_sound(waveform, *, format="wav", codec="pcm_s16le", rate_hz=16_000, cover=None):
    """Return a sound file of a waveform (T,) or (channels, T) in [-1, 1], with an optional cover picture (H, W, 3)."""
    waveform = np.atleast_2d(waveform)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as container:
        layout = {1: "mono", 2: "stereo"}.get(len(waveform), f"{len(waveform)} channels")
        sound = container.add_stream(codec, rate=rate_hz, layout=layout)
        if cover is not None:
            picture = container.add_stream("mjpeg", rate=1)
            picture.height, picture.width = cover.shape[:2]
            picture.pix_fmt = "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
            container.mux(picture.encode(av.VideoFrame.from_ndarray(cover, format="rgb24")))
            container.mux(picture.encode(None))
        _mux_sound(container, sound, waveform, rate_hz)
    return buffer.getvalue()


def _mux_sound(container, stream, waveform, rate_hz):
    context = stream.codec_context
    resampler = av.AudioResampler(context.format, context.layout, context.rate, frame_size=960)
    packed = (np.clip(waveform.T, -1, 1) * 32767).astype(np.int16).reshape(1, -1)
    layout = context.layout if len(waveform) > 1 else "mono"
    frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
    frame.sample_rate = rate_hz
    for source in (frame, None):
        for part in resampler.resample(source):
            container.mux(stream.encode(part))
    container.mux(stream.encode(None))
