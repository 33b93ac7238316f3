"""The table of media, and the identification of a file's type from its first bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from detector.results import UnreadableMedia
from detector.text import translatable

HEAD_BYTES = 4096  # how much of a file `sniff` reads
ZIP_ARCHIVE = translatable("a ZIP archive")


@dataclass(frozen=True)
class Medium:
    """What the project knows about one medium.

    Attributes:
        media_types: media types that `sniff` returns, each with the suffix under which such a file is stored.
        suffixes: file name suffixes, lower case with a dot.
        formats: the formats that are read, for error messages.
        noun: name of the medium in a headline.
        item: name of one file in a sentence.
        class_names: plural of the held-out examples, by `ErrorRate.kind` ("real", "fake").
        cohort_phrase: which of the held-out examples an error rate counts; follows the class name.
        metrics_file: name of the file with the metrics measured on this medium.
        has_duration: it lasts: a player can play it, and its analysis takes longer than a request may.
        search_advice: a sentence on how to search for the original.
        unseen_metrics_file: name of the file with the metrics on families and sources left out of training; None where
            there is no such file.
    """

    media_types: Mapping[str, str]
    suffixes: frozenset[str]
    formats: str
    noun: str
    item: str
    class_names: Mapping[str, str]
    cohort_phrase: str
    metrics_file: str
    has_duration: bool
    search_advice: str
    unseen_metrics_file: str | None = None


# Keyed by `Detection.media`, which is also the first part of a media type. A new medium is one entry here, one function
# in `detector.pipeline` that detects it and one page template.
MEDIA = {
    "image": Medium(
        media_types={
            "image/jpeg": "jpg",
            "image/png": "png",
            "image/webp": "webp",
            "image/gif": "gif",
            "image/bmp": "bmp",
            "image/tiff": "tif",
            "image/heic": "heic",
            "image/avif": "avif",
        },
        suffixes=frozenset(
            {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff"}
            | {".heic", ".heif", ".hif", ".avif"}
        ),
        formats=translatable("JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC and AVIF pictures"),
        noun=translatable("Image"),
        item=translatable("picture"),
        class_names={"real": translatable("real pictures"), "fake": translatable("deepfakes")},
        cohort_phrase=" with a face of this size",
        metrics_file="metrics.json",
        unseen_metrics_file="unseen_metrics.json",
        has_duration=False,
        search_advice=translatable("Search for the original and for other copies of this picture."),
    ),
    "video": Medium(
        media_types={
            "video/mp4": "mp4",
            "video/quicktime": "mov",
            "video/webm": "webm",
            "video/x-matroska": "mkv",
            "video/x-msvideo": "avi",
        },
        suffixes=frozenset({".mp4", ".m4v", ".3gp", ".mov", ".qt", ".webm", ".mkv", ".avi"}),
        formats=translatable("MP4, MOV, WebM, MKV and AVI videos"),
        noun=translatable("Video"),
        item=translatable("video"),
        class_names={"real": translatable("real videos"), "fake": translatable("deepfakes")},
        cohort_phrase="",
        metrics_file="video_metrics.json",
        has_duration=True,
        search_advice=translatable("Search for the original and for other copies, with a still picture of this video."),
    ),
    "audio": Medium(
        media_types={
            "audio/wav": "wav",
            "audio/flac": "flac",
            "audio/mpeg": "mp3",
            "audio/ogg": "ogg",
            "audio/mp4": "m4a",
        },
        suffixes=frozenset({".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".m4b", ".mka"}),
        formats=translatable("WAV, FLAC, MP3, OGG and M4A sound"),
        noun=translatable("Voice"),
        item=translatable("recording"),
        class_names={"real": translatable("real recordings"), "fake": translatable("deepfakes")},
        cohort_phrase="",
        metrics_file="voice_metrics.json",
        has_duration=True,
        search_advice=translatable("Search for the original, with words that are spoken in this recording."),
    ),
}
IMAGE_SUFFIXES, VIDEO_SUFFIXES, AUDIO_SUFFIXES = (MEDIA[media].suffixes for media in ("image", "video", "audio"))

# (offset, magic, media type or, for an unsupported kind, a name with its article); the first match counts
_SIGNATURES = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (8, b"WEBPVP8", "image/webp"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (0, b"II*\0", "image/tiff"),
    (0, b"MM\0*", "image/tiff"),
    (0, b"II+\0", "image/tiff"),
    (0, b"MM\0+", "image/tiff"),
    (4, b"ftypcrx ", translatable("a raw camera picture")),
    *((4, b"ftyp" + brand, "audio/mp4") for brand in (b"M4A ", b"M4B ", b"F4A ")),
    (4, b"ftypqt  ", "video/quicktime"),
    (4, b"ftyp", "video/mp4"),
    (0, b"FLV\x01", translatable("an FLV video")),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", translatable("a Windows Media file")),
    (0, b"\x00\x00\x01\xba", translatable("an MPEG-1 or MPEG-2 video")),
    (0, b"\x00\x00\x01\xb3", translatable("an MPEG-1 or MPEG-2 video")),
    *((0, b"ID3" + version, "audio/mpeg") for version in (b"\2", b"\3", b"\4")),
    (0, b"fLaC", "audio/flac"),
    (28, b"\x80theora", translatable("an Ogg video")),
    (0, b"OggS", "audio/ogg"),
    (0, b"#!AMR", translatable("an AMR audio file")),
    (8, b"AIF", translatable("an AIFF audio file")),
    *((0, b"\xff" + second, translatable("an AAC audio file")) for second in (b"\xf1", b"\xf9")),
    *((0, b"\xff" + second, "audio/mpeg") for second in (b"\xfb", b"\xfa", b"\xf3", b"\xf2", b"\xe3", b"\xe2")),
    (0, b"%PDF", translatable("a PDF document")),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", translatable("an Office document")),
    (30, b"[Content_Types].xml", translatable("an Office document")),
    (30, b"mimetypeapplication/vnd.oasis", translatable("an Office document")),
    (0, b"PK\x03\x04", ZIP_ARCHIVE),
    (0, b"PK\x05\x06", ZIP_ARCHIVE),
    (0, b"\x1f\x8b", translatable("a gzip archive")),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", translatable("a RAR archive")),
    (0, b"8BPS", translatable("a Photoshop document")),
    (0, b"\xff\x0a", translatable("a JPEG XL picture")),
    (0, b"\x00\x00\x00\x0cJXL ", translatable("a JPEG XL picture")),
    (0, b"\x00\x00\x00\x0cjP  ", translatable("a JPEG 2000 picture")),
    (0, b"\x00\x00\x01\x00", translatable("an icon")),
    (0, b"\x7fELF", translatable("a program")),
    (0, b"MZ", translatable("a program")),
)
_RIFF_TYPES = {b"AVI ": "video/x-msvideo", b"WAVE": "audio/wav"}
_QUICKTIME_BOXES = {b"moov", b"mdat", b"wide", b"free", b"skip"}  # one of them comes first in a file without a type
# Brands of still pictures and of sequences of pictures; None leaves the coding open.
_HEIF_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "image/heic"),
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    **dict.fromkeys((b"mif1", b"msf1"), None),
}
_MAX_BRAND_BYTES = 256  # of the list of brands that are read
_MATROSKA = b"\x1a\x45\xdf\xa3"
_WEBM_TYPE = b"\x42\x82\x84webm"  # the DocType of a Matroska file's first element
_BMP_HEADER_BYTES = {12, 16, 40, 52, 56, 64, 108, 124}  # "BM" alone could begin a text


def sniff(data: bytes) -> str:
    """Return the media type of a file from its bytes alone; a file's name is never used.

    Args:
        data: the file, or at least its first `HEAD_BYTES`.

    Returns:
        One of the media types in `MEDIA`. A file of a video type may hold nothing but sound.

    Raises:
        UnreadableMedia: the file is of another kind, which the message names.
    """
    if not data:
        raise UnreadableMedia(translatable("The file is empty (0 bytes)."))
    seen = _identify(bytes(data[:HEAD_BYTES]))
    if "/" in seen:
        return seen
    first, *others, last = (medium.formats for medium in MEDIA.values())
    sentence = translatable("The file is {kind}.").format(kind=seen)
    raise UnreadableMedia(f"{sentence} Use {first}. Or use {', '.join(others)}, or {last}.")


def is_zip(data: bytes) -> bool:
    """Return whether a file is a ZIP archive, but no document that is stored as one.

    Args:
        data: the file, or at least its first `HEAD_BYTES`.
    """
    return _identify(bytes(data[:HEAD_BYTES])) == ZIP_ARCHIVE


def _identify(head: bytes) -> str:
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADER_BYTES:
        return "image/bmp"
    if head[:4] == b"RIFF" and head[8:12] in _RIFF_TYPES:
        return _RIFF_TYPES[head[8:12]]
    if head[4:8] in _QUICKTIME_BOXES and head[0] < ord(" "):  # the first byte of the size; in a text it is printable
        return "video/quicktime"
    if head[4:8] == b"ftyp" and (picture := _identify_heif(head)):
        return picture
    if head.startswith(_MATROSKA):
        return "video/webm" if _WEBM_TYPE in head[:64] else "video/x-matroska"
    for offset, magic, seen in _SIGNATURES:
        if head.startswith(magic, offset):
            return seen
    return _identify_text(head) or translatable("of an unknown kind")


def _identify_heif(head: bytes) -> str | None:
    """Return the type of a picture in a container of MP4's kind, by its main brand or else by the first compatible one.

    Source: ISO/IEC 23008-12, annex B: "mif1" and "msf1" leave the coding open.
    """
    end = min(int.from_bytes(head[:4], "big"), _MAX_BRAND_BYTES)
    brands = [head[8:12], *(head[place : place + 4] for place in range(16, end - 3, 4))]
    if brands[0] not in _HEIF_BRANDS:
        return None
    return next((_HEIF_BRANDS[brand] for brand in brands if _HEIF_BRANDS.get(brand)), "image/heic")


def _identify_text(head: bytes) -> str | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = head.decode("utf-16", errors="replace")
    else:
        text = head.decode("utf-8-sig", errors="replace")
    # The end of the head may cut a character, so a few undecodable ones are allowed.
    if text.count("\ufffd") > len(text) / 100 + 1 or any(c < " " and c not in "\t\n\v\f\r\x1b" for c in text):
        return None
    text = text.lstrip().lower()
    if not text.startswith("<"):
        return translatable("plain text")
    if "<svg" in text:
        return translatable("an SVG drawing")
    return (
        translatable("an XML document")
        if text.startswith("<?xml") and "<html" not in text
        else translatable("an HTML page")
    )
