"""How a JPEG file was saved: its quantisation tables, whose they are, and how coarse."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

MAX_SEGMENTS = 10_000  # a JPEG of 200 MB that is nothing but full segments has 3,000

# Base tables at quality 50, row by row. Source: ITU-T T.81, Annex K; mozjpeg 4, jcparam.c, the ones it uses by default.
_STANDARD_LUMA = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
_STANDARD_CHROMA = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *(99,) * 32,
)  # fmt: skip
_MOZJPEG = (
    16, 16, 16, 18, 25, 37, 56, 85, 16, 17, 20, 27, 34, 40, 53, 75, 16, 20, 24, 31, 43, 62, 91, 135,
    18, 27, 31, 40, 53, 74, 106, 156, 25, 34, 43, 53, 69, 94, 131, 189, 37, 40, 62, 74, 94, 124, 169, 238,
    56, 53, 91, 106, 131, 169, 226, 311, 85, 75, 135, 156, 189, 238, 311, 418,
)  # fmt: skip
_FAMILIES = {"standard": (_STANDARD_LUMA, _STANDARD_CHROMA), "mozjpeg": (_MOZJPEG, _MOZJPEG)}
# Where the file's numbers belong, row by row: they run along the diagonals, turning at each end.
_ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8))

_MARKER = re.compile(rb"\xff+[^\x00\x01\xff\xd0-\xd8]")  # one that begins a segment with a length, or the end
_START = b"\xff\xd8"
_END, _SCAN, _TABLES = 0xD9, 0xDA, 0xDB
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}


@dataclass(frozen=True)
class JpegCoding:
    """How a JPEG file was saved.

    Attributes:
        tables: quantisation tables of brightness and, if there is one, of colour, 64 numbers each, row by row.
        family: "standard" (libjpeg's), "mozjpeg", or "own" for any other tables.
        quality: 1 to 100 as libjpeg counts; for tables of their own the nearest.
        is_progressive: saved in several passes from coarse to fine.
        width_px, height_px: as stored, before it is turned upright.
    """

    tables: tuple[tuple[int, ...], ...]
    family: str
    quality: int
    is_progressive: bool
    width_px: int
    height_px: int


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of each segment before the first scan, MAX_SEGMENTS at most."""
    position = 2
    for _ in range(MAX_SEGMENTS):
        match = _MARKER.search(data, position)
        if match is None or match[0][-1] in (_END, _SCAN):
            return
        position = match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")
        yield match[0][-1], data[match.end() + 2 : position]


def read_jpeg_coding(data: bytes) -> JpegCoding | None:
    """Read how a JPEG file was saved; None for other files, and for one whose tables or size are missing or cut off."""
    if not data.startswith(_START):
        return None
    tables: dict[int, tuple[int, ...]] = {}
    frame = None
    try:
        for marker, content in jpeg_segments(data):
            if marker == _TABLES:
                tables |= _read_tables(content)
            elif marker in _FRAMES and frame is None:
                frame = marker, content
        if frame is None:
            return None
        marker, content = frame
        _, height, width, components = struct.unpack_from(">BHHB", content)
        numbers = dict.fromkeys(content[8 + 3 * component] for component in range(components))
        used = tuple(tables[number] for number in numbers)[:2]
        if not used:
            return None
        return JpegCoding(used, *_name_tables(used), marker in _PROGRESSIVE, width, height)
    except (struct.error, LookupError):
        return None


def _read_tables(content: bytes) -> dict[int, tuple[int, ...]]:
    """Return the tables of one segment by their number."""
    tables = {}
    position = 0
    while position < len(content):
        is_wide, number = divmod(content[position], 16)
        values = struct.unpack_from(">64H" if is_wide else ">64B", content, position + 1)
        tables[number] = tuple(value for _, value in sorted(zip(_ZIGZAG, values, strict=True)))
        position += 129 if is_wide else 65
    return tables


def _name_tables(tables: tuple[tuple[int, ...], ...]) -> tuple[str, int]:
    """Return family and quality of the tables."""
    for family, bases in _FAMILIES.items():
        for quality in range(100, 0, -1):
            if all(_scale(base, quality) == table for base, table in zip(bases, tables, strict=False)):
                return family, quality
    coarseness = _coarseness(tables[0])
    return "own", min(range(1, 101), key=lambda quality: abs(_coarseness(_scale(_STANDARD_LUMA, quality)) - coarseness))


@cache
def _scale(base: tuple[int, ...], quality: int) -> tuple[int, ...]:
    """Return a base table at a quality. Source: libjpeg, jpeg_quality_scaling and jpeg_add_quant_table."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return tuple(min(max((value * percent + 50) // 100, 1), 255) for value in base)


def _coarseness(table: tuple[int, ...]) -> float:
    return float(np.log(np.maximum(table, 1)).mean())
