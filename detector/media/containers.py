"""Limits on what the header of a container may claim, checked before FFmpeg opens the file.

FFmpeg allocates memory for what a header claims before it reads the first sample, so a small file could fill it.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

from detector.results import MediaTooLarge, UnreadableMedia
from detector.text import translatable

MAX_PACKETS = 5_000_000  # 10 hours at 120 frames a second; each costs 10 bytes here and 30 in FFmpeg
MAX_DEPTH = 10  # of boxes in boxes; FFmpeg's own limit
MAX_CHUNKS = 10_000  # of a list in a WAV or AVI file; usual are ten

# FFmpeg's name of the demuxer for each media type; no file is opened with any other demuxer.
DEMUXERS = {
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
# Boxes of an MP4 file that contain boxes, on the way to those that count samples.
_PARENT_BOXES = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"edts", b"dinf", b"mvex", b"udta"}
_ONE = b"\0\0\0\1"


def check_header_limits(file: BinaryIO, media_type: str) -> None:
    """Refuse a file whose header claims so much that FFmpeg would fill the memory.

    Raises:
        UnreadableMedia: a WAV or AVI chunk is larger than its parent, or there are too many chunks.
        MediaTooLarge: an MP4 header claims more than `MAX_PACKETS` samples.
    """
    size_bytes = file.seek(0, io.SEEK_END)
    if DEMUXERS[media_type] == "mov":
        _check_sample_counts(file, size_bytes)
    elif DEMUXERS[media_type] in {"wav", "avi"}:
        _check_chunks(file, 12, size_bytes)


def _check_chunks(file: BinaryIO, start: int, end: int, depth: int = 0) -> None:
    """Refuse a chunk larger than its parent; only sound and frames may be cut off."""
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
            raise UnreadableMedia(
                translatable("The file is damaged or cut off: a part of its header has {size} bytes.").format(
                    size=f"{size:,}"
                )
            )
        if kind in {b"hdrl", b"strl", b"odml"} and depth < MAX_DEPTH:
            _check_chunks(file, start + 12, start + 8 + size, depth + 1)
        start += 8 + size + size % 2
    raise UnreadableMedia(
        translatable("The file is damaged: it has more than {most} parts.").format(most=f"{MAX_CHUNKS:,}")
    )


def _check_sample_counts(file: BinaryIO, size_bytes: int) -> None:
    """Refuse an MP4 file that claims more samples than any video has.

    Plain sound is exempt: its samples all last one tick, and FFmpeg counts a chunk of them as one.
    """
    total = 0
    in_track, handlers, durations = 0, set[bytes](), set[tuple[bytes, bytes]]()
    for number, (kind, body) in enumerate(_walk_boxes(file, 0, size_bytes)):
        if kind == b"trak":
            in_track, handlers, durations = 0, set(), set()
        elif kind == b"hdlr":
            handlers |= {body[8:12]} & {b"soun", b"vide"}
        elif kind == b"stts":
            durations.add((body[4:8], body[12:16]))
        elif kind == b"stsz":
            in_track += int.from_bytes(body[8:12], "big")
        elif kind == b"trun":
            total += int.from_bytes(body[4:8], "big")
        elif kind == b"/trak" and not (handlers == {b"soun"} and durations == {(_ONE, _ONE)}):
            total += in_track
        # A compressed header (cmov) could hide its numbers.
        if max(total, number) > MAX_PACKETS or kind == b"cmov":
            raise MediaTooLarge(
                translatable("The file's header claims more than {most} frames, or hides their number.").format(
                    most=f"{MAX_PACKETS:,}"
                )
            )


def _walk_boxes(file: BinaryIO, start: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and first bytes of the body of every box in an MP4 file; "/trak" marks the end of a track."""
    while start + 8 <= end and depth < MAX_DEPTH:
        file.seek(start)
        header = file.read(32)
        size, kind, body = int.from_bytes(header[:4], "big"), header[4:8], 8
        if size == 1:  # the actual size follows
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
