"""Guards around Pillow: the errors that its readers raise, and its warnings kept out of the log."""

from __future__ import annotations

import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

# The first three occurred in about 57,000 files broken at random; Pillow itself expects the others of its readers.
DECODING_ERRORS = (
    *(OSError, SyntaxError, ValueError),
    *(EOFError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error, zlib.error),
)

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
