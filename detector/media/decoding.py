"""Packets, frames and sound by PyAV. Only this module imports PyAV, and it is imported when a container is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import BinaryIO, TypeVar

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.buffer import Buffer
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from detector.media.containers import DEMUXERS, MAX_PACKETS
from detector.results import MediaTooLarge, UnreadableMedia
from detector.text import translatable

MAX_FRAME_PIXELS = 4096 * 4096  # a decoder keeps up to 16 frames: 400 MB at 1.5 bytes a pixel
MAX_ASPECT = 4  # of a pixel's sides; beyond it the header is taken for wrong
MIN_SOURCE_RATE_HZ, MAX_SOURCE_RATE_HZ = 4_000, 384_000  # beyond these a small file could fill the memory
BUFFER_BYTES = 1 << 18  # of one read
TIME_BASE = av.time_base  # units of a container's duration in a second

PACKET = np.dtype([("time", np.int64), ("is_key", bool), ("is_shown", bool)])
Matrix = tuple[int, int, int, int]
AnyFrame = TypeVar("AnyFrame", VideoFrame, AudioFrame)


@dataclass(frozen=True, eq=False)
class VideoTrack:
    """What is known of a video track once all its packets were read.

    Attributes:
        packets: (N,) PACKET in decoding order; times in units of `time_base`.
        time_base: in seconds.
        length_s: from the first to the last packet of all tracks of the file.
        stored_size_px: width and height with square pixels, before frames are turned upright.
        size_px: width and height of the upright frames.
        rotation_degrees: clockwise turn from a stored to an upright frame.
    """

    packets: np.ndarray
    time_base: Fraction
    length_s: float
    stored_size_px: tuple[int, int]
    size_px: tuple[int, int]
    rotation_degrees: int

    @property
    def last_frame_s(self) -> float:
        """Time of the last frame, from the first one on."""
        times = self.packets["time"][self.packets["is_shown"]]
        return float((times.max() - times.min()) * self.time_base) if len(times) else 0.0


def open_container(file: BinaryIO, media_type: str) -> InputContainer:
    """Open a file as the container that its media type states.

    Raises:
        UnreadableMedia: the container is damaged or cut off.
    """
    try:
        return av.open(
            file,
            "r",
            format=DEMUXERS[media_type],
            options={"max_pixels": str(MAX_FRAME_PIXELS)},
            container_options={"protocol_whitelist": ""},  # the demuxer can open no other file and no address
            metadata_errors="replace",
            buffer_size=BUFFER_BYTES,
        )
    except (av.FFmpegError, EOFError) as error:
        raise UnreadableMedia(
            translatable("The file ({media_type}) cannot be opened: it is damaged or cut off.").format(
                media_type=media_type
            )
        ) from error


def find_video(container: InputContainer) -> VideoStream | None:
    """Return the video track that a player would choose; None if there is none that can be decoded."""
    stream = container.streams.best("video")
    return stream if isinstance(stream, VideoStream) and _is_decodable(stream) else None


def find_audio(container: InputContainer) -> AudioStream | None:
    """Return the audio track that a player would choose; None if there is none that can be decoded."""
    stream = container.streams.best("audio")
    return stream if isinstance(stream, AudioStream) and _is_decodable(stream) else None


def _is_decodable(stream: Stream) -> bool:
    return stream.codec_context is not None and not stream.disposition & Disposition.attached_pic


def read_track(container: InputContainer, stream: VideoStream) -> VideoTrack:
    """Read all packets of a container, and decode the first good frame for its orientation.

    Raises:
        UnreadableMedia: the header states no frame size.
        MediaTooLarge: the frames have more than `MAX_FRAME_PIXELS`.
    """
    stored_size_px = _stored_size(stream)
    start_s, end_s = np.inf, -np.inf
    first: VideoFrame | None = None

    def rows() -> Iterator[tuple[int, bool, bool]]:
        nonlocal start_s, end_s, first
        for packet in _read_packets(container):
            time = packet.dts if packet.pts is None else packet.pts
            if time is not None:
                start_s = min(start_s, float(time * packet.time_base))
                end_s = max(end_s, float((time + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index == stream.index:
                yield time or 0, packet.is_keyframe, not packet.is_discard
                first = first or _first_good_frame(stream, packet)

    packets = np.fromiter(islice(rows(), MAX_PACKETS), PACKET)
    first = first or _first_good_frame(stream, None)
    a, b, *_ = (1, 0, 0, 1) if first is None else display_matrix(first)
    return VideoTrack(
        packets,
        stream.time_base or Fraction(1, TIME_BASE),
        max(end_s - start_s, 0.0),
        stored_size_px,
        stored_size_px[::-1] if abs(b) > abs(a) else stored_size_px,
        0 if first is None else -first.rotation % 360,
    )


def _first_good_frame(stream: VideoStream, packet: Packet | None) -> VideoFrame | None:
    frames = decode_packet(stream.codec_context.decode, packet)
    return next((frame for frame in frames if frame is not None and not frame.is_corrupt), None)


def _stored_size(stream: VideoStream) -> tuple[int, int]:
    """Return width and height of the frames with square pixels, before they are turned upright."""
    width_px, height_px = stream.codec_context.width, stream.codec_context.height
    aspect = stream.sample_aspect_ratio or 1
    if 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
        width_px = round(width_px * aspect)
    if width_px * height_px > MAX_FRAME_PIXELS:
        raise MediaTooLarge(
            translatable(
                "The video's frames are {width_px} x {height_px} pixels, {pixels} in all; at most {most} are read."
            ).format(
                width_px=f"{width_px:,}",
                height_px=f"{height_px:,}",
                pixels=f"{width_px * height_px:,}",
                most=f"{MAX_FRAME_PIXELS:,}",
            )
        )
    if width_px * height_px == 0:
        raise UnreadableMedia(
            translatable("The video's header does not state the size of its frames: it is damaged or cut off.")
        )
    return width_px, height_px


def _read_packets(container: InputContainer, stream: Stream | None = None) -> Iterator[Packet]:
    """Yield the packets of one track, or of all, up to the end or to where the container is damaged."""
    packets = container.demux(stream) if stream else container.demux()
    while True:
        try:
            packet = next(packets)
        except (av.FFmpegError, StopIteration):
            return
        if packet.size:  # the last packet of each track is an empty mark
            yield packet


def decode_packet(
    decode: Callable[[Packet | None], list[AnyFrame]], packet: Packet | None
) -> Sequence[AnyFrame | None]:
    """Decode a packet, or with None what is left in the decoder; a damaged packet gives None."""
    try:
        return decode(packet)
    except EOFError:
        return []
    except av.FFmpegError:
        return [None]


def decode_frames(
    container: InputContainer, packets: np.ndarray, wanted: np.ndarray, is_needed: np.ndarray
) -> Iterator[tuple[int, VideoFrame]]:
    """Yield the frame of each wanted time, or the next good one, with its time.

    While packets are left out there is no next one: decoding ends at the first missing frame, since it may depend on
    a packet that was left out.

    Args:
        container: the file, from its beginning.
        packets: (N,) PACKET of its video track.
        wanted: (K,) int64, times in ascending order.
        is_needed: (N,) bool, which packets are decoded.
    """
    stream = find_video(container)
    times = iter(wanted.tolist())
    time = next(times, None)
    if stream is None or time is None:
        return
    may_miss, is_good = bool(is_needed.all()), True
    for frame in _decode_needed(container, stream, np.isin(packets["time"], wanted), is_needed):
        if frame is None or frame.is_corrupt or frame.pts is None:  # and all frames that depend on it
            is_good = False
            continue
        is_good = is_good or bool(frame.key_frame)
        if frame.pts > time and not may_miss:
            return
        if frame.pts >= time and is_good:
            yield frame.pts, frame
            time = next((later for later in times if later > frame.pts), None)
            if time is None:
                return


def _decode_needed(
    container: InputContainer, stream: VideoStream, is_wanted: np.ndarray, is_needed: np.ndarray
) -> Iterator[VideoFrame | None]:
    """Yield the frames of the needed packets in display order; those no other depends on only if wanted."""
    decoder = stream.codec_context  # its threads share a frame; with a frame for each, FFmpeg crashes on damaged VP9
    is_fed = False
    for packet, needed, kept in zip(_read_packets(container, stream), is_needed, is_wanted, strict=False):
        if needed:
            decoder.skip_frame = "DEFAULT" if kept else "NONREF"
            yield from decode_packet(decoder.decode, packet)
        elif is_fed:  # get the frames that wait in the decoder, and prepare it for the next keyframe
            yield from decode_packet(decoder.decode, None)
            decoder.flush_buffers()
        is_fed = needed
    yield from decode_packet(decoder.decode, None)


def display_matrix(frame: VideoFrame) -> Matrix:
    """Return (a, b, c, d): the point x, y is displayed at a x + c y, b x + d y; quarter turns and mirroring only."""
    # A frame whose side data were read is freed with all its pixels only by the garbage collector: read only one.
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, Buffer):
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    return a, b, c, d


def turn_upright(frame: VideoFrame, size_px: tuple[int, int], matrix: Matrix) -> np.ndarray:
    """Return a frame, scaled to its stored size, as its display matrix states: (H, W, 3) uint8 RGB."""
    width_px, height_px = size_px
    pixels = frame.to_ndarray(format="rgb24", width=width_px, height=height_px, threads=1)
    a, b, c, d = matrix
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def decode_sound(container: InputContainer, stream: AudioStream, rate_hz: int) -> Iterator[np.ndarray]:
    """Yield the sound of a track as blocks (T,) float32 mono at `rate_hz`; its rate and channels may change.

    Raises:
        UnreadableMedia: its rate is outside `MIN_SOURCE_RATE_HZ` to `MAX_SOURCE_RATE_HZ`.
    """
    resampler, layout = AudioResampler(), None
    for packet in _read_packets(container, stream):
        for frame in decode_packet(stream.codec_context.decode, packet):
            if frame is None:
                continue
            if layout != (layout := (frame.format.name, frame.layout.name, frame.sample_rate)):
                if not MIN_SOURCE_RATE_HZ <= frame.sample_rate <= MAX_SOURCE_RATE_HZ:
                    raise UnreadableMedia(
                        translatable(
                            "The sound has {sample_rate} samples a second; {least} to {most} are read."
                        ).format(
                            sample_rate=f"{frame.sample_rate:,}",
                            least=f"{MIN_SOURCE_RATE_HZ:,}",
                            most=f"{MAX_SOURCE_RATE_HZ:,}",
                        )
                    )
                yield from _average_channels(resampler, None)
                # Packed and with all channels: the resampler's own mix to mono is louder than the mean and may clip.
                resampler = AudioResampler(format="flt", rate=rate_hz)
            frame.pts = None  # the waveform ignores gaps and jumps in time
            yield from _average_channels(resampler, frame)
    yield from _average_channels(resampler, None)


def _average_channels(resampler: AudioResampler, frame: AudioFrame | None) -> Iterator[np.ndarray]:
    try:
        converted = resampler.resample(frame)
    except av.FFmpegError:
        return
    for block in converted:
        if block is not None:
            yield block.to_ndarray().reshape(-1, block.layout.nb_channels).mean(axis=1, dtype=np.float32)
