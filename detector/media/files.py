"""Open and read regular files; each failure is a sentence that names the path."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from detector.media.kinds import HEAD_BYTES
from detector.results import MediaTooLarge, UnreadableMedia
from detector.text import translatable


def open_file(path: str | Path) -> BinaryIO:
    """Open a regular file for reading.

    Raises:
        UnreadableMedia: the path is missing, forbidden, a folder, a pipe or a device.
    """
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableMedia(translatable("{path} is a folder, not a file.").format(path=_quote(path)))
        if not stat.S_ISREG(mode):  # opening a pipe or a device could block for ever
            raise UnreadableMedia(translatable("{path} is not a regular file.").format(path=_quote(path)))
        return open(path, "rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise UnreadableMedia(
            translatable("{path} cannot be opened: {reason}.").format(path=_quote(path), reason=reason)
        ) from error


def read_head(source: str | Path | bytes) -> bytes:
    """Return the first bytes of a file, enough for `sniff`.

    Raises:
        UnreadableMedia: the file cannot be opened or read.
    """
    if isinstance(source, bytes):
        return source[:HEAD_BYTES]
    with _opened(source) as file:
        return file.read(HEAD_BYTES)


def read_file(path: str | Path, *, max_bytes: int) -> bytes:
    """Return the bytes of a file.

    Raises:
        UnreadableMedia: the file cannot be opened or read.
        MediaTooLarge: the file has more than `max_bytes`.
    """
    with _opened(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes > max_bytes:
            raise MediaTooLarge(
                translatable("The file has {size_bytes} bytes; at most {most} are read.").format(
                    size_bytes=f"{size_bytes:,}", most=f"{max_bytes:,}"
                )
            )
        return file.read()


@contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    with open_file(path) as file:
        try:
            yield file
        except OSError as error:
            raise UnreadableMedia(
                translatable("{path} cannot be read: {reason}.").format(path=_quote(path), reason=error.strerror)
            ) from error


def _quote(path: str | Path) -> str:
    return repr(str(path))  # a name may hold control characters
