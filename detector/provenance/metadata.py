"""Read the metadata of a picture file: EXIF, XMP and plain texts, such as the prompt of an image generator."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from defusedxml import ElementTree
from PIL import ExifTags, Image

from detector.media.jpeg import jpeg_segments
from detector.media.pillow import DECODING_ERRORS, HEIF, open_picture, pillow_warnings_ignored
from detector.text import sanitize_text

MAX_PNG_CHUNKS = 100_000  # a PNG of 200 MB in the usual pieces of 8 kB has 25,000
MAX_EXIF_BYTES = 1_000_000  # outside TIFF files; in a JPEG it is one segment, 64 kB
MAX_XMP_BYTES = 1_000_000  # a long history of editing takes some 100 kB
MAX_TEXTS = 50
MAX_TEXT_BYTES = 100_000  # of one text once it is unpacked; its beginning identifies a generator

# (generator, pattern of the text's name, pattern of its content)
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


@dataclass(frozen=True)
class FileText:
    """A text inside a file.

    Attributes:
        name: its key in the file.
        text: its beginning, without control characters.
        generator: the image generator that writes such texts; None for any other text.
    """

    name: str
    text: str
    generator: str | None


@dataclass(frozen=True)
class Metadata:
    """The metadata of a file.

    Attributes:
        exif, xmp: the few entries that are read, by name, never coordinates; `xmp["History"]` counts its steps.
        has_location: the file contains the place where it was taken.
        texts: all other texts.
        preview: a small JPEG picture from the EXIF block; empty when there is none.
        damaged: names of the parts that could not be read.
    """

    exif: dict[str, str]
    xmp: dict[str, str]
    has_location: bool
    texts: tuple[FileText, ...]
    preview: bytes
    damaged: tuple[str, ...]


@dataclass
class _Notes:
    """What was found so far: the raw blocks of the file, then the entries read from them."""

    exif_block: bytes = b""
    xmp_packet: bytes = b""
    texts: list[tuple[str, str]] = field(default_factory=list)
    exif: dict[str, str] = field(default_factory=dict)
    xmp: dict[str, str] = field(default_factory=dict)
    has_location: bool = False
    preview: bytes = b""

    def add_text(self, name: str, text: str) -> None:
        if len(self.texts) < MAX_TEXTS:
            self.texts.append((name, text))


def read_metadata(data: bytes, media_type: str) -> Metadata | None:
    """Read the metadata of a JPEG, PNG, WebP, TIFF, HEIC or AVIF file; damaged parts are named and the others read.

    Returns:
        None for files of other types.
    """
    if media_type not in _READERS:
        return None
    notes, damaged = _Notes(), []
    steps: dict[str, Callable[[_Notes], None]] = {
        "text": partial(_READERS[media_type], data),
        "EXIF": _read_exif,
        "XMP": _read_xmp,
    }
    for name, read in steps.items():
        try:
            read(notes)
        except (*DECODING_ERRORS, Image.DecompressionBombError):
            damaged.append(name)
    return Metadata(
        exif=notes.exif,
        xmp=notes.xmp,
        has_location=notes.has_location,
        texts=tuple(
            FileText(sanitize_text(name), clean, _identify_generator(name, text[:MAX_TEXT_BYTES]))
            for name, text in notes.texts
            if (clean := sanitize_text(text))
        ),
        preview=notes.preview,
        damaged=tuple(damaged),
    )


def _read_jpeg(data: bytes, notes: _Notes) -> None:
    for marker, content in jpeg_segments(data):
        if marker == _APP1 and content.startswith(_EXIF_HEAD):
            notes.exif_block = notes.exif_block or content
        elif marker == _APP1 and content.startswith(_XMP_HEAD):
            notes.xmp_packet = notes.xmp_packet or content.removeprefix(_XMP_HEAD)
        elif marker == _COMMENT:
            notes.add_text("comment", _decode(content))


def _read_png(data: bytes, notes: _Notes) -> None:
    """Read the chunks by hand: Pillow reads texts behind the pixels only by decoding them."""
    for kind, place in _png_chunks(data):
        if kind == b"eXIf":
            notes.exif_block = notes.exif_block or data[place][:MAX_EXIF_BYTES]
        elif kind in (b"tEXt", b"zTXt", b"iTXt") and len(notes.texts) < MAX_TEXTS:  # the others are not unpacked
            notes.add_text(*_read_png_text(kind, data[place]))
    notes.xmp_packet = next((text for name, text in notes.texts if name == _XMP_IN_PNG), "").encode()
    notes.texts = [(name, text) for name, text in notes.texts if name != _XMP_IN_PNG]


def _read_by_pillow(name: str, data: bytes, notes: _Notes) -> None:
    """Read a file of one of Pillow's formats whose notes it finds without decoding the pixels."""
    with pillow_warnings_ignored(), open_picture(data, name) as image:
        notes.exif_block = (image.info.get("exif") or b"")[:MAX_EXIF_BYTES]
        notes.xmp_packet = image.info.get("xmp") or b""


def _read_tiff(data: bytes, notes: _Notes) -> None:
    notes.exif_block = data  # an EXIF block is a TIFF file without a picture


_READERS: dict[str, Callable[[bytes, _Notes], None]] = {
    "image/jpeg": _read_jpeg,
    "image/png": _read_png,
    "image/tiff": _read_tiff,
    "image/webp": partial(_read_by_pillow, "WEBP"),
    "image/heic": partial(_read_by_pillow, HEIF),
    "image/avif": partial(_read_by_pillow, "AVIF"),
}


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, slice]]:
    position = 8
    for _ in range(MAX_PNG_CHUNKS):
        if position + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, position)
        yield kind, slice(position + 8, position + 8 + length)
        position += length + 12  # with the checksum behind it


def _read_png_text(kind: bytes, content: bytes) -> tuple[str, str]:
    head, _, rest = content.partition(b"\0")
    name = head.decode("latin-1")
    limit = MAX_XMP_BYTES if name == _XMP_IN_PNG else MAX_TEXT_BYTES
    if kind == b"iTXt":  # flag, method, language, translated name, text
        is_packed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    else:
        is_packed, text = kind == b"zTXt", rest[kind == b"zTXt" :]
    if is_packed:
        text = zlib.decompressobj().decompress(text, limit)
    return name, text[:limit].decode("utf-8" if kind == b"iTXt" else "latin-1", errors="replace")


def _read_exif(notes: _Notes) -> None:
    """Read the EXIF entries, its texts, the preview, whether the place is inside, and a TIFF file's XMP."""
    if not notes.exif_block:
        return
    block = notes.exif_block.removeprefix(_EXIF_HEAD)
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
        notes.xmp_packet = notes.xmp_packet or packet
    entries = {}
    for tag, value in (values | texts).items():
        text = _decode(value)
        # ComfyUI stores its settings in the camera's tags.
        if tag in texts or _identify_generator(tag.name, text):
            notes.add_text(tag.name, text)
        elif text := sanitize_text(text):
            entries[tag.name] = text
    start, length = (inside.get(tag) for tag in (ExifTags.Base.JpegIFOffset, ExifTags.Base.JpegIFByteCount))
    if isinstance(start, int) and isinstance(length, int):
        notes.preview = block[start : start + length]
    notes.exif, notes.has_location = entries, ExifTags.GPS.GPSLatitude in place


def _read_xmp(notes: _Notes) -> None:
    """Read the XMP entries and whether the place is inside; Pillow's `getxmp` drops namespaces and has no limit."""
    packet = notes.xmp_packet.strip(b"\0 \r\n\t")
    if not packet:
        return
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
    notes.has_location = notes.has_location or has_location
    notes.xmp = {name: value for name, value in found.items() if value}


def _identify_generator(name: str, text: str) -> str | None:
    """Return the image generator that writes such a text; None for any other text."""
    for generator, name_pattern, text_pattern in _GENERATORS:
        if name_pattern.search(name) and text_pattern.search(text):
            return generator
    return None


def _decode(value: object) -> str:
    """Return an EXIF value or a JPEG comment as text; empty for other values, such as a list of numbers."""
    if not isinstance(value, bytes):
        return str(value) if isinstance(value, str | int) else ""
    code, comment = value[:8], value[8:]
    if code == b"UNICODE\0":  # the byte order is not stated; in Latin text every other byte is zero
        is_big = comment[0::2].count(0) >= comment[1::2].count(0)
        return comment.decode("utf-16-be" if is_big else "utf-16-le", errors="replace")
    if code in (b"ASCII\0\0\0", b"\0" * 8):
        value = comment
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")
