"""Files under names of our own making, in a folder or wherever fsspec reaches."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import BinaryIO

import fsspec

from webapp.config import PREFIX, StartupError


class Storage:
    """A place for bytes.

    Args:
        url: a folder, or an address fsspec understands, such as s3://bucket/folder.

    Raises:
        StartupError: nothing installed understands the address.
    """

    def __init__(self, url: str) -> None:
        try:
            self._files, self._root = fsspec.url_to_fs(url)
        except (ValueError, ImportError) as error:
            raise StartupError(f"{PREFIX}STORAGE_URL cannot be used: {error}.") from error

    def save(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all; what was there before is replaced."""
        path = f"{self._root}/{name}"
        draft = f"{path}.{secrets.token_hex(8)}.part"
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            self._files.pipe_file(draft, data)
            self._files.mv(draft, path)
        except BaseException:
            with suppress(FileNotFoundError):
                self._files.rm(draft)
            raise

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            FileNotFoundError: there is none of this name.
        """
        return self._files.open(f"{self._root}/{name}", "rb")

    def delete(self, name: str) -> None:
        """Remove a file, or a folder with all it holds; a missing one is no error."""
        self._files.invalidate_cache()
        with suppress(FileNotFoundError):
            self._files.rm(f"{self._root}/{name}", recursive=True)
