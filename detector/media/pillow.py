"""Pillow and its plugin for HEIC, with guards: the errors that readers raise, and warnings kept out of the log."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from PIL import Image

# The first three occurred in about 57,000 files broken at random, RuntimeError in broken HEIC and AVIF files. Pillow
# itself expects the others of its readers.
DECODING_ERRORS = (
    *(OSError, SyntaxError, ValueError, RuntimeError),
    *(EOFError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error, zlib.error),
)

HEIF = "HEIF"  # Pillow's name of the format of HEIC pictures, once the plugin is registered

_quiet_lock = threading.Lock()
_quiet_readers = 0
_quiet_filters = warnings.catch_warnings()


@contextmanager
def pillow_warnings_ignored() -> Iterator[None]:
    """Ignore Pillow's warnings; safe to use in several threads.

    The filters belong to the process, so the first reader sets them and the last one restores them.
    """
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


def open_picture(data: bytes, name: str) -> Image.Image:
    """Open a picture in one of Pillow's formats; its pixels are decoded later.

    Args:
        data: the file.
        name: of the format, such as "JPEG".
    """
    if name == HEIF:
        _register_heif()
    return Image.open(io.BytesIO(data), formats=[name])


@cache
def _register_heif() -> None:
    import pi_heif  # loaded with the first such picture; it decodes and cannot write

    pi_heif.register_heif_opener(thumbnails=False)
