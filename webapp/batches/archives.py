"""Read an uploaded ZIP archive without trusting it.

Nothing is unpacked before the table of contents is known to stay within the limits. zipfile never returns more bytes
of a file than that table declares, so the declared sizes can be relied on. Names are only shown.
"""

from __future__ import annotations

import io
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import detector
from detector import MediaTooLarge, UnreadableMedia
from detector.text import format_bytes, format_count, translatable
from webapp.analyses import MEGABYTE

DIRECTORY_BYTES_PER_FILE = 1000  # of the table of contents: names, times and comments of a file, and of its folders
HARMLESS_BYTES = 20 * MEGABYTE  # unpacked; up to this size a drawing or silence may be packed as tightly as it can
ENCRYPTED = 0x41  # the flags of both kinds of encryption
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others can claim gigabytes of memory by their headers
SYSTEM_FOLDER = "__MACOSX/"
SYSTEM_NAMES = {"thumbs.db", "desktop.ini"}
# What zipfile raises on tables of contents that are damaged, or damaged on purpose.
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, OverflowError, RuntimeError)


@dataclass(frozen=True)
class UploadLimits:
    """Limits of one upload.

    Attributes:
        n_files: number of files, with those in ZIP archives.
        size_bytes: their total size, unpacked.
        ratio: how many times its size a ZIP archive may unpack to.
    """

    n_files: int
    size_bytes: int
    ratio: int

    def check(self, n_files: int, size_bytes: int) -> None:
        """Compare an upload with the limits.

        Raises:
            MediaTooLarge: there are more files or bytes.
        """
        if n_files > self.n_files:
            raise too_many_files(self.n_files, n_files)
        if size_bytes > self.size_bytes:
            raise MediaTooLarge(
                translatable("The files have {size_bytes} in all; at most {limit_mb} MB are accepted at once.").format(
                    size_bytes=format_bytes(size_bytes), limit_mb=self.size_bytes // MEGABYTE
                )
            )


def too_many_files(limit: int, n_files: int | None = None) -> MediaTooLarge:
    """Return the error for an upload of too many files.

    Args:
        limit: the number that is accepted.
        n_files: the number that was sent; None if it was not counted.
    """
    if n_files is None:
        return MediaTooLarge(
            translatable("There are too many files; at most {limit} are accepted at once.").format(
                limit=format_count(limit)
            )
        )
    return MediaTooLarge(
        translatable("There are {n_files} files; at most {limit} are accepted at once.").format(
            n_files=format_count(n_files), limit=format_count(limit)
        )
    )


class Archive:
    """An uploaded ZIP archive whose table of contents is within the limits.

    Args:
        file: open for reading, and seekable; stays open.
        limits: of the upload.

    Raises:
        UnreadableMedia: it is damaged, or has no files.
        MediaTooLarge: it has too many files, or would be too large unpacked.
    """

    def __init__(self, file: BinaryIO, limits: UploadLimits) -> None:
        packed_bytes = file.seek(0, io.SEEK_END)
        try:
            self._zip = zipfile.ZipFile(_BoundedReads(file, limits.n_files))
            if any(info.header_offset < 0 for info in self._zip.infolist()):
                raise zipfile.BadZipFile
        except (*DAMAGE, OSError) as error:  # OSError: a place before the beginning of the file
            raise UnreadableMedia(translatable("The ZIP archive is damaged or cut off.")) from error
        self.members = [
            info for info in self._zip.infolist() if not info.is_dir() and not is_system_file(info.filename)
        ]
        if not self.members:
            raise UnreadableMedia(translatable("There are no files in the ZIP archive."))
        self.size_bytes = sum(info.file_size for info in self.members)
        limits.check(len(self.members), self.size_bytes)
        if self.size_bytes > max(limits.ratio * packed_bytes, HARMLESS_BYTES):
            raise MediaTooLarge(
                translatable(
                    "The ZIP archive would unpack to more than {ratio} times its size, so it was not opened."
                ).format(ratio=limits.ratio)
            )

    @contextmanager
    def unpacked(self, member: zipfile.ZipInfo) -> Iterator[BinaryIO]:
        """Unpack a file into a temporary one, which has no name, and give it.

        Raises:
            UnreadableMedia: it is encrypted, packed by an unusual method, damaged or an archive itself.
        """
        if member.flag_bits & ENCRYPTED:
            raise UnreadableMedia(translatable("The ZIP archive needs a password. Unpack it and send the files."))
        if member.compress_type not in METHODS:
            raise UnreadableMedia(
                translatable("The file is packed by an unusual method. Unpack the archive and send the files.")
            )
        with tempfile.TemporaryFile() as file:
            try:
                with self._zip.open(member) as packed:
                    shutil.copyfileobj(packed, file)
            except DAMAGE as error:
                raise UnreadableMedia(translatable("The file is damaged or cut off inside the ZIP archive.")) from error
            refuse_nested(file)
            yield file


def is_zip(file: BinaryIO) -> bool:
    """Return whether an open file is a ZIP archive, by its first bytes, and rewind it."""
    file.seek(0)
    head = file.read(detector.media.HEAD_BYTES)
    file.seek(0)
    return detector.media.is_zip(head)


def refuse_nested(file: BinaryIO) -> None:
    """Refuse an open file from an archive if it is one itself.

    Raises:
        UnreadableMedia: it is a ZIP archive.
    """
    if is_zip(file):
        raise UnreadableMedia(translatable("This is an archive inside an archive. Unpack it and send the files."))


def is_system_file(path: str) -> bool:
    """Return whether a file belongs to an operating system's file manager, which nobody means to send."""
    name = path.replace("\\", "/").rpartition("/")[2].lower()
    return path.startswith(SYSTEM_FOLDER) or name.startswith(".") or name in SYSTEM_NAMES


class _BoundedReads:
    """A file whose single reads are limited: zipfile reads a table of contents of any size into memory at once."""

    def __init__(self, file: BinaryIO, n_files: int) -> None:
        self._file, self._n_files = file, n_files
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > max(self._n_files, 100) * DIRECTORY_BYTES_PER_FILE:
            raise too_many_files(self._n_files)
        return self._file.read(size)
