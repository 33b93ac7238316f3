"""Files under generated names, in a folder or anywhere fsspec can write."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import fsspec

from detector.stages import stage
from webapp.config import PREFIX, StartupError

READ_AHEAD_BYTES = 2**20  # a media player seeks, and reads little at each place
PART_BYTES = 8 * 2**20  # of a file that is written to an object store; S3 takes no parts below 5 MiB
OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "az"}  # fsspec's names; a file appears there as a whole


class Storage:
    """Store files by name.

    Args:
        url: a folder, or an fsspec address such as s3://bucket/folder.

    Raises:
        StartupError: no installed package supports the address, or the folder cannot be created.
    """

    def __init__(self, url: str) -> None:
        try:
            # Without a cache of listings, because other machines write and delete, too.
            self._files, self._root = fsspec.url_to_fs(url, use_listings_cache=False)
            if "file" in self._files.protocol:
                Path(self._root).mkdir(mode=0o700, parents=True, exist_ok=True)  # uploads are for the server alone
        except (ValueError, ImportError, OSError) as error:
            raise StartupError(f"{PREFIX}STORAGE_URL cannot be used: {error}.") from error

    @property
    def _protocols(self) -> set[str]:
        names = self._files.protocol
        return {names} if isinstance(names, str) else set(names)

    def check(self) -> None:
        """Look for a file that does not exist, to see that the storage answers.

        Raises:
            OSError: it does not, or it refuses.
        """
        self._files.exists(f"{self._root}/check")

    @stage("save file")
    def save(self, name: str, data: bytes | BinaryIO) -> None:
        """Write bytes, or the rest of an open file, atomically; an existing file is replaced."""
        path = f"{self._root}/{name}"
        if OBJECT_STORES.intersection(self._protocols):
            self._put(path, data)
            return
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

    def _put(self, path: str, data: bytes | BinaryIO) -> None:
        """Write to an object store, which shows a file only when it is complete."""
        if isinstance(data, bytes):
            self._files.pipe_file(path, data)
            return
        file = self._files.open(path, "wb", block_size=PART_BYTES, autocommit=False)
        try:
            with file:
                shutil.copyfileobj(data, file)
            file.commit()
        except BaseException:
            file.discard()
            raise

    @stage("open file")
    def open(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            FileNotFoundError: there is no file of this name.
        """
        file: BinaryIO = self._files.open(f"{self._root}/{name}", "rb", block_size=READ_AHEAD_BYTES)
        return file

    @contextmanager
    def local_path(self, name: str) -> Iterator[Path]:
        """Give a local path of a file; a file that is stored remotely is copied for the time of the context.

        Raises:
            FileNotFoundError: there is no file of this name.
        """
        path = f"{self._root}/{name}"
        if "file" in self._protocols:
            if not Path(path).is_file():
                raise FileNotFoundError(path)
            yield Path(path)
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "file"
            with stage("fetch file"):
                self._files.get_file(path, str(copy))
            yield copy

    def names(self, folder: str) -> list[str]:
        """Return the names of the files and folders in a folder; none if there is no such folder."""
        try:
            paths = self._files.ls(f"{self._root}/{folder}", detail=False)
        except FileNotFoundError:
            return []
        return [path.rstrip("/").rpartition("/")[2] for path in paths]

    def modified_at(self, name: str) -> datetime:
        """Return when a file was written, or the newest file of a folder.

        Raises:
            FileNotFoundError: there is no file or folder of this name.
        """
        path = f"{self._root}/{name}"
        times: list[datetime] = [self._files.modified(file) for file in self._files.find(path) or [path]]
        return max(times)

    @stage("delete file")
    def delete(self, name: str) -> None:
        """Delete a file, or a folder with its contents; a missing one is no error."""
        with suppress(FileNotFoundError):
            self._files.rm(f"{self._root}/{name}", recursive=True)
