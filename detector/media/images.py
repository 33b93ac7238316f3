"""Read pictures as upright RGB, and write them as JPEG or PNG.

A file's name and header are not trusted: its type is identified from its first bytes, and its size is checked before
any pixel is decoded. Decoder errors become messages for the person.
"""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import AvifImagePlugin, Image, ImageOps, TiffImagePlugin, WebPImagePlugin

from detector.media.files import read_file
from detector.media.jpeg import count_progressive_scans
from detector.media.kinds import MEDIA, sniff
from detector.media.pillow import DECODING_ERRORS, HEIF, open_picture, pillow_warnings_ignored
from detector.results import MediaTooLarge, UnreadableMedia
from detector.stages import stage
from detector.text import translatable

MAX_PIXELS = 50_000_000  # width x height; Pillow keeps 4 bytes of each, so about 200 MB while decoding
MAX_SIDE_PX = 32_000  # OpenCV warps only pictures whose sides fit in 15 bits
MIN_SIDE_PX = 32  # below it even a tight face crop is too coarse
MAX_FILE_BYTES = 4 * MAX_PIXELS  # room for the largest picture stored without compression
MAX_JPEG_SCANS = 100  # a progressive JPEG has about 10; each costs a pass over the whole picture

_PILLOW_FORMATS = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": WebPImagePlugin.WebPImageFile.format,
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/tiff": TiffImagePlugin.TiffImageFile.format,
    "image/heic": HEIF,
    "image/avif": AvifImagePlugin.AvifImageFile.format,
}


@stage("decode")
def read_image(source: str | Path | bytes) -> np.ndarray:
    """Read a picture as upright RGB, the first frame of an animated one.

    Transparent parts are composited over white, 16 bits are scaled to 8, and colour profiles are not applied.

    Args:
        source: a path, or the file's bytes.

    Returns:
        (H, W, 3) uint8 RGB in [0, 255], turned upright according to EXIF.

    Raises:
        UnreadableMedia: the file is no picture of a supported type, is damaged or cut off, or has a side under
            `MIN_SIDE_PX`.
        MediaTooLarge: the picture exceeds `MAX_FILE_BYTES`, `MAX_PIXELS` or `MAX_SIDE_PX`; checked before decoding.
    """
    data = source if isinstance(source, bytes) else read_file(source, max_bytes=MAX_FILE_BYTES)
    media_type = sniff(data)
    if media_type not in _PILLOW_FORMATS:
        item = MEDIA[media_type.partition("/")[0]].item
        formats = MEDIA["image"].formats
        raise UnreadableMedia(
            translatable("The file is a {item} ({media_type}), not a picture; here only {formats} are read.").format(
                item=item, media_type=media_type, formats=formats
            )
        )
    name = _PILLOW_FORMATS[media_type]
    if name == "JPEG" and (scans := count_progressive_scans(data)) > MAX_JPEG_SCANS:
        raise MediaTooLarge(
            translatable("The JPEG picture has {scans} scans; at most {most} are read.").format(
                scans=f"{scans:,}", most=MAX_JPEG_SCANS
            )
        )
    try:
        with pillow_warnings_ignored(), open_picture(data, name) as image:
            _check_size(*image.size)
            if name == "PNG":  # load() stops once the pixels are complete and ignores the checksums
                with open_picture(data, name) as twin:
                    twin.verify()
            image.load()
            # With damaged EXIF the picture is still read. It is turned before its EXIF is rewritten, which may fail.
            with suppress(*DECODING_ERRORS):
                ImageOps.exif_transpose(image, in_place=True)
            return np.array(_to_rgb(image))
    except Image.DecompressionBombError as error:
        raise MediaTooLarge(
            translatable("The {name} picture has far more than {most} pixels.").format(
                name=name, most=f"{MAX_PIXELS:,}"
            )
        ) from error
    except MemoryError as error:
        raise MediaTooLarge(
            translatable("There is not enough memory for the {name} picture ({size_bytes} bytes).").format(
                name=name, size_bytes=f"{len(data):,}"
            )
        ) from error
    except DECODING_ERRORS as error:
        raise UnreadableMedia(
            translatable(
                "The {name} picture cannot be read: its {size_bytes} bytes are damaged, cut off or of a rare kind."
            ).format(name=name, size_bytes=f"{len(data):,}")
        ) from error


def encode_jpeg(image: np.ndarray, *, max_side_px: int | None = None, quality: int = 90) -> bytes:
    """Encode a picture as JPEG.

    Args:
        image: (H, W, 3) uint8 RGB.
        max_side_px: the longer side after shrinking; None keeps the size.
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


def _check_size(width_px: int, height_px: int) -> None:
    size = f"The picture is {width_px:,} x {height_px:,} pixels"
    if width_px * height_px > MAX_PIXELS:
        raise MediaTooLarge(
            translatable("{size}, {pixels} in all; at most {most} are read.").format(
                size=size, pixels=f"{width_px * height_px:,}", most=f"{MAX_PIXELS:,}"
            )
        )
    if max(width_px, height_px) > MAX_SIDE_PX:
        raise MediaTooLarge(
            translatable("{size}; at most {most} on each side are read.").format(size=size, most=f"{MAX_SIDE_PX:,}")
        )
    if min(width_px, height_px) < MIN_SIDE_PX:
        raise UnreadableMedia(
            translatable("{size}; at least {least} on each side are needed.").format(size=size, least=MIN_SIDE_PX)
        )


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
    # The file does not state the white level, so the next usual level is taken.
    values = np.nan_to_num(values.astype(np.float32), posinf=0, neginf=0)
    brightest = values.max()
    levels = (1, 255, 65535) if image.mode == "F" else (255, 65535)
    white = next((level for level in levels if brightest <= level), brightest)
    return Image.fromarray((np.clip(values / white, 0, 1) * 255).round().astype(np.uint8))
