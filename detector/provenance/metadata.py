"""Notes that a file carries beside its pixels: EXIF, XMP and plain texts, such as the prompt of an image generator."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from defusedxml import ElementTree
from PIL import ExifTags, Image

from detector.media.jpeg import jpeg_segments
from detector.media.pillow import DECODING_ERRORS, pillow_warnings_ignored
from detector.text import sanitize_text

MAX_CHUNKS = 100_000  # of a file; a PNG of 200 MB in the usual pieces of 8 kB has 25,000
MAX_EXIF_BYTES = 1_000_000  # outside TIFF files; in a JPEG it is one segment, 64 kB
MAX_XMP_BYTES = 1_000_000  # a long history of editing takes some 100 kB
MAX_TEXTS = 50
MAX_TEXT_BYTES = 100_000  # of one text once it is unpacked; what tells a generator stands in its beginning

# (who writes such a text, a pattern for its name, one for its content)
_GENERATORS = tuple(
    (tool, re.compile(name, re.IGNORECASE), re.compile(text))
    for tool, name, text in (
        ("ComfyUI", "", r'^(prompt:)?\{.{0,100}"(class_type|inputs)"'),
        ("ComfyUI", "", r"^workflow:\{"),
        ("ComfyUI", r"^workflow$", r"^\{"),
        ("a Stable Diffusion program", "", r"\bSteps: \d+, Sampler: "),
        ("InvokeAI", r"^(invokeai_.*|sd-metadata|dream)$", ""),
        ("Fooocus", r"^fooocus_scheme$", ""),
        ("SwarmUI", "", r'"sui_image_params"'),
        ("Midjourney", "", r"\bJob ID: [0-9a-f]{8}-[0-9a-f]{4}-"),
    )
)

_EXIF_HEAD = b"Exif\0\0"
_EXIF_MAIN = (ExifTags.Base.Make, ExifTags.Base.Model, ExifTags.Base.Software, ExifTags.Base.DateTime)
_EXIF_MORE = (ExifTags.Base.DateTimeOriginal, ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
_EXIF_TEXTS = (ExifTags.Base.ImageDescription, ExifTags.Base.UserComment)
_TIFF_XMP = 700  # the tag of a TIFF file that holds its XMP

_XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_IN_PNG = "XML:com.adobe.xmp"
_IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
_XMP_NAMES = {
    "{http://ns.adobe.com/xap/1.0/}CreatorTool": "CreatorTool",
    "{http://ns.adobe.com/xap/1.0/}CreateDate": "CreateDate",
    "{http://ns.adobe.com/tiff/1.0/}Make": "Make",
    "{http://ns.adobe.com/tiff/1.0/}Model": "Model",
    "{http://ns.adobe.com/photoshop/1.0/}Credit": "Credit",
    f"{_IPTC}DigitalSourceType": "DigitalSourceType",
    f"{_IPTC}AISystemUsed": "AISystemUsed",
    f"{_IPTC}AIPromptInformation": "AIPromptInformation",
    "{http://purl.org/dc/terms/}provenance": "provenance",
    "{http://ns.adobe.com/exif/1.0/}GPSLatitude": "GPSLatitude",
}
_HISTORY = "{http://ns.adobe.com/xap/1.0/mm/}History"
_LIST_ITEM = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"

_APP1, _COMMENT = 0xE1, 0xFE  # JPEG segments

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class FileText:
    """A text inside a file.

    Attributes:
        name: its key in the file.
        text: its beginning, without control characters.
        generator: which image generator writes such texts; None for any other text.
    """

    name: str
    text: str
    generator: str | None


@dataclass(frozen=True)
class Metadata:
    """What was noted in a file.

    Attributes:
        exif, xmp: the few entries that are looked at, by name, never coordinates; `xmp["History"]` counts its steps.
        has_location: whether the place where it was taken is inside.
        texts: all others.
        preview: a small JPEG picture out of the EXIF block; empty when there is none.
        damaged: the names of what could not be read.
    """

    exif: dict[str, str]
    xmp: dict[str, str]
    has_location: bool
    texts: tuple[FileText, ...]
    preview: bytes
    damaged: tuple[str, ...]


@dataclass
class _Parts:
    """The pieces of a file before anybody understands them."""

    exif: bytes = b""
    xmp: bytes = b""
    texts: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, text: str) -> None:
        if len(self.texts) < MAX_TEXTS:
            self.texts.append((name, text))


def read_metadata(data: bytes, media_type: str) -> Metadata | None:
    """Read the notes in a JPEG, PNG, WebP or TIFF file; broken ones are named and the rest is read.

    Returns:
        None for files of other kinds.
    """
    if media_type not in _READERS:
        return None
    parts, damaged = _Parts(), []

    def attempt(name: str, read: Callable[[], Answer], otherwise: Answer) -> Answer:
        try:
            return read()
        except DECODING_ERRORS:
            damaged.append(name)
            return otherwise

    attempt("text", lambda: _READERS[media_type](data, parts), None)
    exif, exif_has_location, preview = attempt("EXIF", lambda: _read_exif(parts), ({}, False, b""))
    xmp, xmp_has_location = attempt("XMP", lambda: _read_xmp(parts.xmp), ({}, False))
    return Metadata(
        exif=exif,
        xmp=xmp,
        has_location=exif_has_location or xmp_has_location,
        texts=tuple(
            FileText(sanitize_text(name), clean, _generator(name, text[:MAX_TEXT_BYTES]))
            for name, text in parts.texts
            if (clean := sanitize_text(text))
        ),
        preview=preview,
        damaged=tuple(damaged),
    )


def _read_jpeg(data: bytes, parts: _Parts) -> None:
    for marker, content in jpeg_segments(data):
        if marker == _APP1 and content.startswith(_EXIF_HEAD):
            parts.exif = parts.exif or content
        elif marker == _APP1 and content.startswith(_XMP_HEAD):
            parts.xmp = parts.xmp or content.removeprefix(_XMP_HEAD)
        elif marker == _COMMENT:
            parts.add("comment", _decode(content))


def _read_png(data: bytes, parts: _Parts) -> None:
    for kind, place in _png_chunks(data):
        if kind == b"eXIf":
            parts.exif = parts.exif or data[place][:MAX_EXIF_BYTES]
        elif kind in (b"tEXt", b"zTXt", b"iTXt") and len(parts.texts) < MAX_TEXTS:  # so few are unpacked at all
            parts.add(*_read_png_text(kind, data[place]))
    parts.xmp = next((text for name, text in parts.texts if name == _XMP_IN_PNG), "").encode()
    parts.texts = [(name, text) for name, text in parts.texts if name != _XMP_IN_PNG]


def _read_webp(data: bytes, parts: _Parts) -> None:
    for kind, place in _webp_chunks(data):
        if kind == b"EXIF":
            parts.exif = parts.exif or data[place][:MAX_EXIF_BYTES]
        elif kind == b"XMP ":
            parts.xmp = parts.xmp or data[place]


def _read_tiff(data: bytes, parts: _Parts) -> None:
    parts.exif = data  # an EXIF block is a TIFF file without a picture


_READERS = {"image/jpeg": _read_jpeg, "image/png": _read_png, "image/webp": _read_webp, "image/tiff": _read_tiff}


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, slice]]:
    position = 8
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, position)
        yield kind, slice(position + 8, position + 8 + length)
        position += length + 12  # with the checksum behind it


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, slice]]:
    position = 12
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            return
        kind, length = struct.unpack_from("<4sI", data, position)
        yield kind, slice(position + 8, position + 8 + length)
        position += 8 + length + length % 2


def _read_png_text(kind: bytes, content: bytes) -> tuple[str, str]:
    head, _, rest = content.partition(b"\0")
    name = head.decode("latin-1")
    limit = MAX_XMP_BYTES if name == _XMP_IN_PNG else MAX_TEXT_BYTES
    if kind == b"iTXt":  # packed or not, method, language, the name translated, text
        is_packed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    else:
        is_packed, text = kind == b"zTXt", rest[kind == b"zTXt" :]
    if is_packed:
        text = zlib.decompressobj().decompress(text, limit)
    return name, text[:limit].decode("utf-8" if kind == b"iTXt" else "latin-1", errors="replace")


def _read_exif(parts: _Parts) -> tuple[dict[str, str], bool, bytes]:
    """Return the entries, whether the place is inside, and the preview; notes its texts and a TIFF file's XMP."""
    if not parts.exif:
        return {}, False, b""
    block = parts.exif.removeprefix(_EXIF_HEAD)
    exif = Image.Exif()
    with pillow_warnings_ignored():
        exif.load(block)
        more, place, inside = (
            exif.get_ifd(kind) for kind in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, ExifTags.IFD.IFD1)
        )
        values = {tag: exif.get(tag) for tag in _EXIF_MAIN} | {tag: more.get(tag) for tag in _EXIF_MORE}
        texts = {tag: exif.get(tag) or more.get(tag) for tag in _EXIF_TEXTS}
        packet = exif.get(_TIFF_XMP)
    if isinstance(packet, bytes):
        parts.xmp = parts.xmp or packet
    entries = {}
    for tag, value in (values | texts).items():
        text = _decode(value)
        # ComfyUI keeps its settings where the camera's name belongs.
        if tag in texts or _generator(tag.name, text):
            parts.add(tag.name, text)
        elif text := sanitize_text(text):
            entries[tag.name] = text
    start, length = (inside.get(tag) for tag in (ExifTags.Base.JpegIFOffset, ExifTags.Base.JpegIFByteCount))
    preview = block[start : start + length] if isinstance(start, int) and isinstance(length, int) else b""
    return entries, ExifTags.GPS.GPSLatitude in place, preview


def _read_xmp(xmp: bytes) -> tuple[dict[str, str], bool]:
    """Return the entries and whether the place is inside."""
    packet = xmp.strip(b"\0 \r\n\t")
    if not packet:
        return {}, False
    if len(packet) > MAX_XMP_BYTES:
        raise ValueError(f"XMP of {len(packet):,} bytes")
    found: dict[str, str] = {}
    for element in ElementTree.fromstring(packet, forbid_dtd=True).iter():
        for name, value in element.attrib.items():
            if name in _XMP_NAMES:
                found.setdefault(_XMP_NAMES[name], sanitize_text(value))
        if element.tag in _XMP_NAMES and _XMP_NAMES[element.tag] not in found:
            found[_XMP_NAMES[element.tag]] = sanitize_text("".join(element.itertext()))
        if element.tag == _HISTORY and "History" not in found:
            found["History"] = str(sum(1 for _ in element.iter(_LIST_ITEM)))
    has_location = bool(found.pop("GPSLatitude", ""))
    return {name: value for name, value in found.items() if value}, has_location


def _generator(name: str, text: str) -> str | None:
    """Return which image generator writes such a text."""
    for tool, name_pattern, text_pattern in _GENERATORS:
        if name_pattern.search(name) and text_pattern.search(text):
            return tool
    return None


def _decode(value: Any) -> str:
    """Return an EXIF value or a JPEG comment as text; nothing for a value that is none, such as a list of numbers."""
    if not isinstance(value, bytes):
        return str(value) if isinstance(value, str | int) else ""
    code, comment = value[:8], value[8:]
    if code == b"UNICODE\0":  # the order of bytes is stated nowhere; in Latin text every other one is zero
        is_big = comment[0::2].count(0) >= comment[1::2].count(0)
        return comment.decode("utf-16-be" if is_big else "utf-16-le", errors="replace")
    if code in (b"ASCII\0\0\0", b"\0" * 8):
        value = comment
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
