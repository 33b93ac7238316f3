"""Frames and sound out of containers, by PyAV: what a file holds, a frame a second of a video, sound as one waveform.

A file is opened only as the kind its first bytes tell, through an open file and without any protocol, so that neither
its name nor a playlist inside can make it read another file. What a header says of length and keyframes is checked
against the packets; a file that is cut off gives what there is.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from av.frame import Frame
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from detector.media.images import open_file
from detector.media.kinds import HEAD_BYTES, sniff
from detector.results import MediaTooLarge, UnreadableMedia

MAX_FRAMES = 3600  # an hour at one a second; of longer videos the frames lie further apart
MAX_FRAME_PIXELS = 4096 * 4096  # a decoder keeps up to 16 frames: 400 MB at 1.5 bytes a pixel
MAX_PACKETS = 5_000_000  # 10 hours at 120 frames a second; each costs 10 bytes here and 30 in FFmpeg
MAX_DEPTH = 10  # of boxes in boxes; FFmpeg's own
MAX_CHUNKS = 10_000  # of a list in a WAV or AVI file; usual are ten
MAX_ASPECT = 4  # of a pixel's sides; beyond it the header is taken for wrong
SAMPLE_RATE_HZ = 16_000
MIN_SOURCE_RATE_HZ, MAX_SOURCE_RATE_HZ = 4_000, 384_000  # beyond these a small file could fill the memory
MAX_SOUND_S = 600.0  # 38 MB
CUT_OFF_S = 0.5  # a file is cut off when it ends so much earlier than its header says
BUFFER_BYTES = 1 << 18  # of one read

# What FFmpeg calls the container; a file is never opened as any other kind.
_CONTAINERS = {
    "video/mp4": "mov",
    "video/quicktime": "mov",
    "audio/mp4": "mov",
    "video/webm": "matroska",
    "video/x-matroska": "matroska",
    "video/x-msvideo": "avi",
    "audio/wav": "wav",
    "audio/flac": "flac",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
}
# Boxes of an MP4 file that hold boxes, and the ways to those that count samples.
_PARENT_BOXES = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"edts", b"dinf", b"mvex", b"udta"}
_ONE = b"\0\0\0\1"
_PACKET = np.dtype([("time", np.int64), ("is_key", bool), ("is_shown", bool)])

MediaSource = str | Path | bytes | BinaryIO


@dataclass(frozen=True)
class StreamInfo:
    """What a file holds.

    Attributes:
        media_type: as `sniff` tells it.
        duration_s: what the header says, else how far the packets reach; None when neither is known.
        has_video: frames, and not only the picture of a cover.
        has_audio: an audio track, silent or not.
        width_px, height_px: of the upright frames; 0 without a video.
        rotation_degrees: by how much the stored frames are turned clockwise to be upright: 0, 90, 180 or 270; says
            little where they are mirrored as well.
        last_frame_s: time of the last frame that is in the file; None without a video.
        is_cut_off: the header promises more than is there.
    """

    media_type: str
    duration_s: float | None
    has_video: bool
    has_audio: bool
    width_px: int = 0
    height_px: int = 0
    rotation_degrees: int = 0
    last_frame_s: float | None = None
    is_cut_off: bool = False


def probe(source: MediaSource) -> StreamInfo:
    """Tell what is in a video or a sound file; of a video every packet is read and one frame decoded.

    Args:
        source: a path, a file's bytes, or an open binary file that can seek.

    Raises:
        UnreadableMedia: neither video nor sound, damaged from the start, or without a track that can be decoded.
        MediaTooLarge: its frames have more than `MAX_FRAME_PIXELS`.
    """
    with _opened(source) as (container, media_type):
        claimed_s = max(container.duration or 0, 0) / av.time_base or None
        has_audio = _find(container, "audio") is not None
        stream = _find(container, "video")
        if stream is None and not has_audio:
            raise UnreadableMedia(
                f"The file ({media_type}) has neither a video nor an audio track that can be decoded."
            )
        if stream is None:
            return StreamInfo(media_type, claimed_s, has_video=False, has_audio=True)
        width_px, height_px = _stored_size(stream)
        packets, length_s = _list_packets(container, stream)
        times = packets["time"][packets["is_shown"]]
        last_frame_s = float((times.max() - times.min()) * stream.time_base) if len(times) else 0.0
        wanted = _choose_times(packets, 1, 1)
    rotation_degrees = 0
    with _opened(source) as (container, _):
        for frame in _decode(container, packets, wanted, np.ones(len(packets), bool)):
            height_px, width_px = _upright(frame, (width_px, height_px), _display_matrix(frame)).shape[:2]
            rotation_degrees = -frame.rotation % 360
    return StreamInfo(
        media_type,
        claimed_s or length_s,
        has_video=True,
        has_audio=has_audio,
        width_px=width_px,
        height_px=height_px,
        rotation_degrees=rotation_degrees,
        last_frame_s=last_frame_s,
        is_cut_off=claimed_s is not None and length_s < claimed_s - CUT_OFF_S,
    )


def sample_frames(
    source: MediaSource, *, every_s: float = 1.0, max_frames: int = MAX_FRAMES
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield one frame for each step of time, in one pass that decodes as little as it can.

    The frame of a step is the first to be shown in it, or one soon after where that one hangs on two keyframes; a
    picture that stands still over several steps comes once. Of a video of more than `max_frames` such frames as many
    come, spread evenly. A frame that is damaged is passed over for the next good one. Only a few frames are in memory
    at a time, however long the video is.

    Args:
        source: a path, a file's bytes, or an open binary file that can seek.
        every_s: length of a step, over 0.
        max_frames: how many may come.

    Yields:
        timestamp_s, from the first frame on, and the frame, (H, W, 3) uint8 RGB in [0, 255], turned upright and with
        square pixels. All have the size that the header tells, even where it changes on the way.

    Raises:
        UnreadableMedia: not a video, sound only, or nothing of it can be decoded.
        MediaTooLarge: its frames have more than `MAX_FRAME_PIXELS`.
    """
    with _opened(source) as (container, media_type):
        stream = _find(container, "video")
        if stream is None:
            raise UnreadableMedia(f"The file ({media_type}) has no video track that can be decoded.")
        size_px = _stored_size(stream)
        time_base = stream.time_base
        packets, _ = _list_packets(container, stream)
        wanted = _choose_times(packets, every_s / float(time_base), max_frames)
    sent, matrix = 0, None
    # The second round is for damaged videos and for those whose keyframes are none.
    for needed in (_find_needed(packets, wanted), np.ones(len(packets), bool)):
        with _opened(source) as (container, _):
            for frame in _decode(container, packets, wanted[sent:], needed):
                sent += 1
                matrix = matrix or _display_matrix(frame)
                yield float((frame.pts - int(wanted[0])) * time_base), _upright(frame, size_px, matrix)
        if sent == len(wanted):
            break
    if sent == 0:
        raise UnreadableMedia(f"No frame of the video ({media_type}) can be decoded: it is empty, damaged or cut off.")


def read_audio(source: MediaSource, *, max_seconds: float = MAX_SOUND_S) -> np.ndarray:
    """Read the sound of an audio file or a video, its channels averaged.

    Args:
        source: a path, a file's bytes, or an open binary file that can seek.
        max_seconds: reading ends there.

    Returns:
        (T,) float32 mono in [-1, 1] at `SAMPLE_RATE_HZ`. Of damaged sound what can be decoded, joined.

    Raises:
        UnreadableMedia: neither video nor sound, no audio track, or nothing of it can be decoded.
    """
    with _opened(source) as (container, media_type):
        stream = _find(container, "audio")
        if stream is None:
            raise UnreadableMedia(f"The file ({media_type}) has no audio track that can be decoded.")
        missing = round(max_seconds * SAMPLE_RATE_HZ)
        blocks = []
        for block in _resample(frame for packet in _packets(container, stream) for frame in _frames(stream, packet)):
            blocks.append(block[:missing])
            missing -= len(blocks[-1])
            if missing <= 0:
                break
    if not blocks:
        raise UnreadableMedia(f"The sound ({media_type}) cannot be decoded: it is empty, damaged or cut off.")
    return np.clip(np.nan_to_num(np.concatenate(blocks), posinf=0, neginf=0), -1, 1)


@contextmanager
def _opened(source: MediaSource) -> Iterator[tuple[InputContainer, str]]:
    """Open the container and tell its media type."""
    with ExitStack() as stack:
        if isinstance(source, bytes):
            source = io.BytesIO(source)
        elif isinstance(source, str | Path):
            source = stack.enter_context(open_file(source))
        source.seek(0)
        media_type = sniff(source.read(HEAD_BYTES))
        if media_type not in _CONTAINERS:
            raise UnreadableMedia(f"The file is a picture ({media_type}), neither video nor sound.")
        _check_header_limits(source, _CONTAINERS[media_type])
        source.seek(0)
        try:
            container = av.open(
                source,
                format=_CONTAINERS[media_type],
                options={"max_pixels": str(MAX_FRAME_PIXELS)},
                container_options={"protocol_whitelist": ""},
                metadata_errors="replace",
                buffer_size=BUFFER_BYTES,
            )
        except (av.FFmpegError, EOFError) as error:
            raise UnreadableMedia(f"The file ({media_type}) cannot be opened: it is damaged or cut off.") from error
        yield stack.enter_context(container), media_type


def _check_header_limits(file: BinaryIO, container: str) -> None:
    """Refuse a file whose header promises so much that FFmpeg would fill the memory to make room for it."""
    size_bytes = file.seek(0, io.SEEK_END)
    if container == "mov":
        _check_sample_counts(file, size_bytes)
    elif container in {"wav", "avi"}:
        _check_chunks(file, 12, size_bytes)


def _check_chunks(file: BinaryIO, start: int, end: int, depth: int = 0) -> None:
    """Refuse a WAV or AVI file with a chunk larger than what it lies in; only sound and frames may be cut off."""
    for _ in range(MAX_CHUNKS):
        if start + 8 > end:
            return
        file.seek(start)
        kind, size, list_kind = struct.unpack("<4sI4s", file.read(12).ljust(12))
        if kind == b"LIST":
            kind = list_kind
        if start + 8 + size > end:
            if kind in {b"data", b"movi"}:
                return
            raise UnreadableMedia(f"The file is damaged or cut off: a part of its header has {size:,} bytes.")
        if kind in {b"hdrl", b"strl", b"odml"} and depth < MAX_DEPTH:
            _check_chunks(file, start + 12, start + 8 + size, depth + 1)
        start += 8 + size + size % 2
    raise UnreadableMedia(f"The file is damaged: it has more than {MAX_CHUNKS:,} parts.")


def _check_sample_counts(file: BinaryIO, size_bytes: int) -> None:
    """Refuse an MP4 file that tells of more samples than any video has.

    FFmpeg makes room for each before it reads the first, so a file of one kilobyte could take gigabytes. Only of plain
    sound, whose samples all last one tick, it takes a chunk for one.
    """
    total = 0
    in_track, handlers, lengths = 0, set(), set()
    for number, (kind, body) in enumerate(_walk_boxes(file, 0, size_bytes)):
        if kind == b"trak":
            in_track, handlers, lengths = 0, set(), set()
        elif kind == b"hdlr":
            handlers |= {body[8:12]} & {b"soun", b"vide"}
        elif kind == b"stts":
            lengths.add((body[4:8], body[12:16]))
        elif kind == b"stsz":
            in_track += int.from_bytes(body[8:12], "big")
        elif kind == b"trun":
            total += int.from_bytes(body[4:8], "big")
        elif kind == b"/trak" and not (handlers == {b"soun"} and lengths == {(_ONE, _ONE)}):
            total += in_track
        # A compressed header (cmov) could hide its numbers.
        if max(total, number) > MAX_PACKETS or kind == b"cmov":
            raise MediaTooLarge(f"The file's header tells of more than {MAX_PACKETS:,} frames, or hides how many.")


def _walk_boxes(file: BinaryIO, start: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type of every box of an MP4 file and the first bytes of its body; a track's end comes as "/trak"."""
    while start + 8 <= end and depth < MAX_DEPTH:
        file.seek(start)
        header = file.read(32)
        size, kind, body = int.from_bytes(header[:4], "big"), header[4:8], 8
        if size == 1:  # the true size follows
            size, body = int.from_bytes(header[8:16], "big"), 16
        size = min(size or end, end - start)  # 0: up to the end
        if size < body:
            return
        yield kind, header[body:]
        if kind in _PARENT_BOXES:
            yield from _walk_boxes(file, start + body, start + size, depth + 1)
        if kind == b"trak":
            yield b"/trak", b""
        start += size


def _find(container: InputContainer, kind: str) -> Stream | None:
    """Return the track of a kind ("video", "audio") that a player would take and that can be decoded."""
    stream = container.streams.best(kind)
    if stream is None or stream.codec_context is None or stream.disposition & Disposition.attached_pic:
        return None
    return stream


def _stored_size(stream: VideoStream) -> tuple[int, int]:
    """Return width and height of the frames with square pixels, before they are turned upright."""
    width_px, height_px = stream.codec_context.width, stream.codec_context.height
    aspect = stream.sample_aspect_ratio or 1
    if 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
        width_px = round(width_px * aspect)
    if width_px * height_px > MAX_FRAME_PIXELS:
        raise MediaTooLarge(
            f"The video's frames are {width_px:,} x {height_px:,} pixels, {width_px * height_px:,} in all; "
            f"at most {MAX_FRAME_PIXELS:,} are read."
        )
    if width_px * height_px == 0:
        raise UnreadableMedia("The video's header does not tell the size of its frames: it is damaged or cut off.")
    return width_px, height_px


def _packets(container: InputContainer, stream: Stream | None = None) -> Iterator[Packet]:
    """Yield the packets of a track, or of all, up to the end or to where the container is damaged."""
    packets = container.demux(stream) if stream else container.demux()
    while True:
        try:
            packet = next(packets)
        except (av.FFmpegError, StopIteration):
            return
        if packet.size:  # the last one of each track is an empty mark
            yield packet


def _list_packets(container: InputContainer, stream: VideoStream) -> tuple[np.ndarray, float]:
    """Return the video's packets, (N,) _PACKET in the order of decoding, and how long all tracks last, in seconds."""
    start_s, end_s = np.inf, -np.inf

    def rows() -> Iterator[tuple[int, bool, bool]]:
        nonlocal start_s, end_s
        for packet in _packets(container):
            time = packet.dts if packet.pts is None else packet.pts
            if time is not None:
                start_s = min(start_s, float(time * packet.time_base))
                end_s = max(end_s, float((time + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index == stream.index:
                yield time or 0, packet.is_keyframe, not packet.is_discard

    return np.fromiter(islice(rows(), MAX_PACKETS), _PACKET), max(end_s - start_s, 0.0)


def _choose_times(packets: np.ndarray, step: float, max_frames: int) -> np.ndarray:
    """Return when the frame of each step is shown, (K,) int64 ascending; `step` is in the track's unit of time."""
    group = np.cumsum(packets["is_key"])
    is_start = np.diff(group, prepend=-1) != 0
    # What is decoded after a keyframe and shown before it hangs on both sides, so a jump could not reach it.
    leads = packets["time"] < packets["time"][is_start][np.cumsum(is_start) - 1]
    times = np.unique(packets["time"][packets["is_shown"] & ~leads])
    _, first = np.unique((times - times[:1]) // step, return_index=True)
    if len(first) > max_frames:
        first = first[np.linspace(0, len(first) - 1, max_frames).round().astype(int)]
    return times[first]


def _find_needed(packets: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return (N,) which packets must be decoded: those from a keyframe to the last wanted frame that hangs on it."""
    index = np.arange(len(packets))
    group = np.cumsum(packets["is_key"])
    last = np.full(group.max(initial=0) + 1, -1)
    is_wanted = np.isin(packets["time"], wanted)
    np.maximum.at(last, group[is_wanted], index[is_wanted])
    return index <= last[group]


def _decode(
    container: InputContainer, packets: np.ndarray, wanted: np.ndarray, needed: np.ndarray
) -> Iterator[VideoFrame]:
    """Yield the frame of each wanted time, or the next good one.

    While packets are left out there is no next one: decoding ends at the first frame that is missing, since what was
    left out may have been needed.
    """
    stream = _find(container, "video")
    may_miss = bool(needed.all())
    times = iter(wanted.tolist())
    time = next(times, None)
    if time is None:
        return
    is_good = True
    for frame in _decode_needed(container, stream, np.isin(packets["time"], wanted), needed):
        if frame is None or frame.is_corrupt or frame.pts is None:  # and with it all that hang on it
            is_good = False
            continue
        is_good = is_good or bool(frame.key_frame)
        if frame.pts > time and not may_miss:
            return
        if frame.pts >= time and is_good:
            yield frame
            time = next((later for later in times if later > frame.pts), None)
            if time is None:
                return


def _decode_needed(
    container: InputContainer, stream: VideoStream, is_wanted: np.ndarray, needed: np.ndarray
) -> Iterator[VideoFrame | None]:
    """Yield the frames of the needed packets in the order they are shown; frames no other hangs on only if wanted."""
    decoder = stream.codec_context  # its threads share a frame; with one for each, FFmpeg crashes on damaged VP9
    is_fed = False
    for packet, is_needed, is_kept in zip(_packets(container, stream), needed, is_wanted, strict=False):
        if is_needed:
            decoder.skip_frame = "DEFAULT" if is_kept else "NONREF"
            yield from _frames(stream, packet)
        elif is_fed:  # get out what waits in the decoder, and make it ready for the next keyframe
            yield from _frames(stream, None)
            decoder.flush_buffers()
        is_fed = is_needed
    yield from _frames(stream, None)


def _frames(stream: Stream, packet: Packet | None) -> list[Frame | None]:
    """Decode a packet, or what is left in the decoder; a damaged one gives None."""
    try:
        return stream.codec_context.decode(packet)
    except EOFError:
        return []
    except av.FFmpegError:
        return [None]


def _display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """Return (a, b, c, d): a point x, y is to be seen at a x + c y, b x + d y, in quarter turns and mirrorings."""
    # A frame that was asked for its side data waits for the garbage collector with all its pixels: ask only one.
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    return a, b, c, d


def _upright(frame: VideoFrame, size_px: tuple[int, int], matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Return a frame, scaled to its stored size, as the display matrix wants it seen: (H, W, 3) uint8 RGB."""
    width_px, height_px = size_px
    pixels = frame.to_ndarray(format="rgb24", width=width_px, height=height_px, threads=1)
    a, b, c, d = matrix
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _resample(frames: Iterator[Frame | None]) -> Iterator[np.ndarray]:
    """Yield sound as (T,) float32 mono at `SAMPLE_RATE_HZ`; rate and channels may change on the way."""
    resampler, kind = AudioResampler(), None
    for frame in frames:
        if frame is None:
            continue
        if kind != (kind := (frame.format.name, frame.layout.name, frame.sample_rate)):
            if not MIN_SOURCE_RATE_HZ <= frame.sample_rate <= MAX_SOURCE_RATE_HZ:
                raise UnreadableMedia(
                    f"The sound has {frame.sample_rate:,} samples a second; "
                    f"{MIN_SOURCE_RATE_HZ:,} to {MAX_SOURCE_RATE_HZ:,} are read."
                )
            yield from _convert(resampler, None)
            # Packed and with all channels: its own mixing to mono is louder than the average and may clip.
            resampler = AudioResampler(format="flt", rate=SAMPLE_RATE_HZ)
        frame.pts = None  # gaps and jumps in time are no business of the waveform
        yield from _convert(resampler, frame)
    yield from _convert(resampler, None)


def _convert(resampler: AudioResampler, frame: Frame | None) -> Iterator[np.ndarray]:
    try:
        converted = resampler.resample(frame)
    except av.FFmpegError:
        return
    for block in converted:
        if block is not None:
            yield block.to_ndarray().reshape(-1, block.layout.nb_channels).mean(axis=1, dtype=np.float32)
