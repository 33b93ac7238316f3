"""Bytes in, pixels out: what kind of file this is, and a picture as upright RGB (`streams` reads videos and sound).

Nothing here trusts a file's name or its header: the kind is read from the first bytes, the size is checked before
a pixel is decoded, and whatever a decoder stumbles over becomes a sentence for the person.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, WebPImagePlugin

from detector.media.kinds import HEAD_BYTES, MEDIA, sniff
from detector.results import MediaTooLarge, UnreadableMedia

MAX_PIXELS = 50_000_000  # width x height; Pillow keeps 4 bytes of each, so about 200 MB while decoding
MAX_SIDE_PX = 32_000  # OpenCV warps no picture whose side does not fit in 15 bits
MIN_SIDE_PX = 32  # under this not even a tight face crop tells anything
MAX_FILE_BYTES = 4 * MAX_PIXELS  # room for the largest picture stored without compression
MAX_JPEG_SCANS = 100  # a progressive JPEG has about 10; each costs a pass over the whole picture

_PILLOW_FORMATS = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": WebPImagePlugin.WebPImageFile.format,
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": TiffImagePlugin.TiffImageFile.format,
}
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\x01\xff\xd0-\xd8]")  # one that begins a segment with a length, or the end
_JPEG_SEQUENTIAL = {0xC0, 0xC1, 0xC3, 0xC9}  # frames whose scans cost their own bytes

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# The first three came out of some 57,000 files broken at random; the rest Pillow itself expects of its readers.
DECODING_ERRORS = (
    *(OSError, SyntaxError, ValueError),
    *(EOFError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error, zlib.error),
)


def read_image(source: str | Path | bytes) -> np.ndarray:
    """Read a picture as upright RGB, the first frame of an animated one.

    Transparent parts are laid over white, 16 bits are scaled to 8, colour profiles are not applied.

    Args:
        source: a path, or the file's bytes.

    Returns:
        (H, W, 3) uint8 RGB in [0, 255], turned upright as EXIF says.

    Raises:
        UnreadableMedia: not a picture of the six kinds (a video, sound), damaged, cut off, or with a side under
            `MIN_SIDE_PX`.
        MediaTooLarge: over `MAX_FILE_BYTES`, `MAX_PIXELS` or `MAX_SIDE_PX`; checked before decoding.
    """
    data = source if isinstance(source, bytes) else _read_file(source)
    media_type = sniff(data)
    if media_type not in _PILLOW_FORMATS:
        item = MEDIA[media_type.partition("/")[0]].item
        formats = MEDIA["image"].formats
        raise UnreadableMedia(f"The file is a {item} ({media_type}), not a picture; here only {formats} are read.")
    name = _PILLOW_FORMATS[media_type]
    if name == "JPEG" and (scans := _count_progressive_scans(data)) > MAX_JPEG_SCANS:
        raise MediaTooLarge(f"The JPEG picture has {scans:,} scans; at most {MAX_JPEG_SCANS} are read.")
    try:
        with pillow_warnings_ignored(), Image.open(io.BytesIO(data), formats=[name]) as image:
            _check_size(*image.size)
            if name == "PNG":  # load() is content once the pixels are complete and never looks at the checksums
                with Image.open(io.BytesIO(data), formats=[name]) as twin:
                    twin.verify()
            image.load()
            return _turn_upright(_to_rgb(image), image)
    except Image.DecompressionBombError as error:
        raise MediaTooLarge(f"The {name} picture has far more than {MAX_PIXELS:,} pixels.") from error
    except MemoryError as error:
        raise MediaTooLarge(f"There is not enough memory for the {name} picture ({len(data):,} bytes).") from error
    except DECODING_ERRORS as error:
        raise UnreadableMedia(
            f"The {name} picture cannot be decoded: its {len(data):,} bytes are damaged, cut off or of a rare kind."
        ) from error


def encode_jpeg(image: np.ndarray, *, max_side_px: int | None = None, quality: int = 90) -> bytes:
    """Encode a picture as JPEG.

    Args:
        image: (H, W, 3) uint8 RGB.
        max_side_px: shrink so that neither side is longer; None keeps the size.
        quality: 1 to 95.
    """
    picture = Image.fromarray(image)
    if max_side_px is not None:
        picture.thumbnail((max_side_px, max_side_px), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def encode_png(image: np.ndarray) -> bytes:
    """Encode a picture as PNG.

    Args:
        image: (H, W, 3) uint8 RGB or (H, W, 4) uint8 RGBA.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def read_head(source: str | Path | bytes) -> bytes:
    """Return the first bytes of a file, enough for `sniff`.

    Raises:
        UnreadableMedia: it cannot be opened or read.
    """
    if isinstance(source, bytes):
        return source[:HEAD_BYTES]
    with open_file(source) as file:
        try:
            return file.read(HEAD_BYTES)
        except OSError as error:
            raise UnreadableMedia(f"{_shown(source)} cannot be read: {error.strerror}.") from error


def open_file(path: str | Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        UnreadableMedia: it is missing, forbidden, a folder, a pipe or a device.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableMedia(f"{_shown(path)} is a folder, not a file.")
        if not stat.S_ISREG(mode):  # opening a pipe or a device could wait for ever
            raise UnreadableMedia(f"{_shown(path)} is not a regular file.")
        return open(path, "rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise UnreadableMedia(f"{_shown(path)} cannot be opened: {reason}.") from error


def _read_file(path: str | Path) -> bytes:
    with open_file(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes > MAX_FILE_BYTES:
            raise MediaTooLarge(f"The file has {size_bytes:,} bytes; at most {MAX_FILE_BYTES:,} are read.")
        try:
            return file.read()
        except OSError as error:
            raise UnreadableMedia(f"{_shown(path)} cannot be read: {error.strerror}.") from error


def _shown(path: str | Path) -> str:
    return repr(str(path))  # a name may hold control characters


def _check_size(width_px: int, height_px: int) -> None:
    seen = f"The picture is {width_px:,} x {height_px:,} pixels"
    if width_px * height_px > MAX_PIXELS:
        raise MediaTooLarge(f"{seen}, {width_px * height_px:,} in all; at most {MAX_PIXELS:,} are read.")
    if max(width_px, height_px) > MAX_SIDE_PX:
        raise MediaTooLarge(f"{seen}; at most {MAX_SIDE_PX:,} on each side are read.")
    if min(width_px, height_px) < MIN_SIDE_PX:
        raise UnreadableMedia(f"{seen}; at least {MIN_SIDE_PX} on each side are needed.")


def _count_progressive_scans(data: bytes) -> int:
    scans, position = 0, 2
    while match := _JPEG_MARKER.search(data, position):
        marker = match[0][-1]
        if marker == 0xD9 or marker in _JPEG_SEQUENTIAL:
            break
        scans += marker == 0xDA
        position = match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")
    return scans


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _to_eight_bits(image).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image)
    return white.convert("RGB")


def _to_eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if values.dtype.kind == "u":
        return Image.fromarray((values >> 8).astype(np.uint8))
    # nothing in the file says where white is: take the next usual level
    values = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
    brightest = values.max()
    levels = (1, 255, 65535) if image.mode == "F" else (255, 65535)
    white = next((level for level in levels if brightest <= level), brightest)
    return Image.fromarray((np.clip(values / white, 0, 1) * 255).round().astype(np.uint8))


def _turn_upright(rgb: Image.Image, image: Image.Image) -> np.ndarray:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except DECODING_ERRORS:  # a damaged note about the picture is no reason to refuse the picture
        orientation = None
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    return np.array(rgb)


_quiet_lock = threading.Lock()
_quiet_readers = 0
_quiet_filters: warnings.catch_warnings | None = None


@contextmanager
def pillow_warnings_ignored() -> Iterator[None]:
    """Silence Pillow; the filters are the process's, so the first reader in sets them, the last one out restores."""
    global _quiet_readers, _quiet_filters
    with _quiet_lock:
        if _quiet_readers == 0:
            _quiet_filters = warnings.catch_warnings()
            _quiet_filters.__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
        _quiet_readers += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_readers -= 1
            if _quiet_readers == 0:
                _quiet_filters.__exit__(None, None, None)
                _quiet_filters = None
