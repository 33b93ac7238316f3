"""How a JPEG file was saved: its quantisation tables, the encoder family they come from, and their quality."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice, takewhile

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from detector.media.pillow import DECODING_ERRORS, pillow_warnings_ignored

MAX_SEGMENTS = 10_000  # a JPEG of 200 MB that holds only full segments has 3,000

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

_MARKER = re.compile(rb"\xff+[^\x00\x01\xff\xd0-\xd8]")  # of a segment with a length, or the end of the image
_END, _SCAN = 0xD9, 0xDA
_SEQUENTIAL = {0xC0, 0xC1, 0xC3, 0xC9}  # frames whose scans cost their own bytes


@dataclass(frozen=True)
class JpegCoding:
    """How a JPEG file was saved.

    Attributes:
        tables: quantisation tables of luma and, if present, of chroma; 64 numbers each, row by row.
        family: "standard" (libjpeg's tables), "mozjpeg", or "own" for any others.
        quality: 1 to 100 on libjpeg's scale; the nearest one for "own" tables.
        is_progressive: saved in several scans from coarse to fine.
        width_px, height_px: as stored, before EXIF turns the picture upright.
    """

    tables: tuple[tuple[int, ...], ...]
    family: str
    quality: int
    is_progressive: bool
    width_px: int
    height_px: int


def jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of each segment before the first scan, at most MAX_SEGMENTS.

    Pillow keeps only the last comment, joins EXIF segments, and reads nothing from a file cut off before its pixels.
    """
    segments = takewhile(lambda segment: segment[0] != _SCAN, _walk_segments(data))
    return ((marker, data[place]) for marker, place in islice(segments, MAX_SEGMENTS))


def count_progressive_scans(data: bytes) -> int:
    """Return the number of scans of a progressive JPEG file, which Pillow does not report; 0 for a sequential one."""
    scans = 0
    for marker, _ in _walk_segments(data):
        if marker in _SEQUENTIAL:
            break
        scans += marker == _SCAN
    return scans


def _walk_segments(data: bytes) -> Iterator[tuple[int, slice]]:
    """Yield the marker of each segment up to the end of the image, and the place of its content."""
    position = 2
    while (match := _MARKER.search(data, position)) and match[0][-1] != _END:
        position = match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")
        yield match[0][-1], slice(match.end() + 2, position)


def read_jpeg_coding(data: bytes) -> JpegCoding | None:
    """Read how a JPEG file was saved, without decoding it.

    Returns:
        None for other files, and for a file whose header is damaged or cut off.
    """
    try:
        with pillow_warnings_ignored(), Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            if not isinstance(image, JpegImageFile) or not image.layer:
                return None
            numbers = dict.fromkeys(number for *_, number in image.layer)  # of the tables, luma first
            tables = tuple(tuple(image.quantization[number]) for number in numbers)[:2]
            width_px, height_px = image.size
            return JpegCoding(tables, *_name_tables(tables), "progressive" in image.info, width_px, height_px)
    except (*DECODING_ERRORS, Image.DecompressionBombError):
        return None


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
