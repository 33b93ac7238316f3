"""Files under generated names, in a folder or anywhere fsspec can write."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import fsspec

from webapp.config import PREFIX, StartupError


class Storage:
    """Store files by name.

    Args:
        url: a folder, or an fsspec address such as s3://bucket/folder.

    Raises:
        StartupError: no installed package supports the address, or the folder cannot be created.
    """

    def __init__(self, url: str) -> None:
        try:
            self._files, self._root = fsspec.url_to_fs(url)
            if "file" in self._files.protocol:
                Path(self._root).mkdir(mode=0o700, parents=True, exist_ok=True)  # uploads are for the server alone
        except (ValueError, ImportError, OSError) as error:
            raise StartupError(f"{PREFIX}STORAGE_URL cannot be used: {error}.") from error

    def save(self, name: str, data: bytes | BinaryIO) -> None:
        """Write bytes, or the rest of an open file, atomically; an existing file is replaced."""
        path = f"{self._root}/{name}"
        draft = f"{path}.{secrets.token_hex(8)}.part"
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            if isinstance(data, bytes):
                self._files.pipe_file(draft, data)
            else:
                with self._files.open(draft, "wb") as file:
                    shutil.copyfileobj(data, file)
            self._files.mv(draft, path)
        except BaseException:
            with suppress(FileNotFoundError):
                self._files.rm(draft)
            raise

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            FileNotFoundError: there is no file of this name.
        """
        file: BinaryIO = self._files.open(f"{self._root}/{name}", "rb")
        return file

    @contextmanager
    def local_path(self, name: str) -> Iterator[Path]:
        """Give a local path of a file; a file that is stored remotely is copied for the time of the context.

        Raises:
            FileNotFoundError: there is no file of this name.
        """
        path = f"{self._root}/{name}"
        if "file" in self._files.protocol:
            if not Path(path).is_file():
                raise FileNotFoundError(path)
            yield Path(path)
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "file"
            self._files.get_file(path, str(copy))
            yield copy

    def delete(self, name: str) -> None:
        """Delete a file, or a folder with its contents; a missing one is no error."""
        self._files.invalidate_cache()
        with suppress(FileNotFoundError):
            self._files.rm(f"{self._root}/{name}", recursive=True)
