"""Read and write pictures, and identify media types; `videos` reads containers."""

from detector.media.images import (
    AUDIO_SUFFIXES,
    HEAD_BYTES,
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    encode_jpeg,
    encode_png,
    read_image,
    sniff,
)

__all__ = [
    "AUDIO_SUFFIXES",
    "HEAD_BYTES",
    "IMAGE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "encode_jpeg",
    "encode_png",
    "read_image",
    "sniff",
]
