"""Read pictures, videos and sound, and identify media types."""

from detector.media.images import encode_jpeg, encode_png, read_image
from detector.media.kinds import (
    AUDIO_SUFFIXES,
    HEAD_BYTES,
    IMAGE_SUFFIXES,
    MEDIA,
    VIDEO_SUFFIXES,
    Medium,
    is_zip,
    sniff,
)

__all__ = [
    "AUDIO_SUFFIXES",
    "HEAD_BYTES",
    "IMAGE_SUFFIXES",
    "MEDIA",
    "VIDEO_SUFFIXES",
    "Medium",
    "encode_jpeg",
    "encode_png",
    "is_zip",
    "read_image",
    "sniff",
]
