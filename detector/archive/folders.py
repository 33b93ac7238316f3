"""Files of an archive and of its results, in a folder or at an fsspec address such as s3://bucket/prefix."""

from __future__ import annotations

import json
import os
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec

from detector.results import DetectorError

FETCHED_AHEAD = 4  # files that are copied while one is analysed


class ArchiveError(DetectorError):
    """An archive or its results cannot be used."""


class ResultFolder:
    """The folder of an archive's results.

    Args:
        url: a folder, or an fsspec address.

    Raises:
        ArchiveError: no installed package supports the address.
    """

    def __init__(self, url: str) -> None:
        self._files, self._root = _open(url)
        self.url = self._root if _is_local(self._files) else url  # for workers, whose current folder is another one

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: there is no such file.
        """
        data: bytes = self._files.cat_file(f"{self._root}/{name}")
        return data

    def read_json(self, name: str) -> Any:
        """Return the values of a JSON file; None if there is no such file."""
        try:
            return json.loads(self.read(name))
        except FileNotFoundError:
            return None

    def write_json(self, name: str, values: object) -> None:
        """Write a JSON file, as `write`."""
        self.write(name, json.dumps(values).encode())

    def write(self, name: str, data: bytes) -> None:
        """Write a file that appears as a whole; an existing one is replaced."""
        path = f"{self._root}/{name}"
        if not _is_local(self._files):
            self._files.pipe_file(path, data)  # one put
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        draft = f"{path}.{os.getpid()}.part"
        self._files.pipe_file(draft, data)
        os.replace(draft, path)

    def has(self, name: str) -> bool:
        """Return whether there is a file of this name."""
        return bool(self._files.exists(f"{self._root}/{name}"))

    def names(self) -> set[str]:
        """Return the names of the files in the folder itself."""
        try:
            return {path.rpartition("/")[2] for path in self._files.ls(self._root, detail=False)}
        except FileNotFoundError:
            return set()


def list_files(url: str, suffixes: frozenset[str]) -> list[tuple[str, int]]:
    """List the files of a folder at any depth, or the one file, sorted by path.

    Args:
        url: a path or an fsspec address.
        suffixes: of the files in folders; a file that is named itself may have any. Names with a dot in front are
            left out, and so is what lies in such folders.

    Returns:
        Of each file the path or address, and its size in bytes.

    Raises:
        ArchiveError: no installed package supports the address.
    """
    files, root = _open(url)
    found = []
    for path, facts in files.find(root, detail=True).items():
        inside = path.removeprefix(root).strip("/")
        is_hidden = any(part.startswith(".") for part in inside.split("/"))
        if not inside or (not is_hidden and os.path.splitext(path)[1].lower() in suffixes):
            found.append((path if _is_local(files) else files.unstrip_protocol(path), facts["size"]))
    return sorted(found)


def local_copies(paths: Sequence[str]) -> Iterator[Path | None]:
    """Give a local path for each file in turn; it may be gone when the next one is requested.

    Remote files are copied to a temporary folder, some of them ahead.

    Args:
        paths: paths or fsspec addresses.

    Yields:
        The path, or None if there is no such file.
    """
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(FETCHED_AHEAD) as pool:
        waiting: deque[Future[Path | None]] = deque()
        for number, path in enumerate(paths):
            waiting.append(pool.submit(_fetch, path, Path(folder) / str(number)))
            if len(waiting) > FETCHED_AHEAD:
                yield from _release(waiting.popleft(), folder)
        while waiting:
            yield from _release(waiting.popleft(), folder)


def _fetch(path: str, copy: Path) -> Path | None:
    if "://" not in path:
        return Path(path)
    files, name = _open(path)
    try:
        files.get_file(name, str(copy))
    except FileNotFoundError:
        return None
    return copy


def _release(fetched: Future[Path | None], folder: str) -> Iterator[Path | None]:
    path = fetched.result()
    yield path
    if path is not None and path.parent == Path(folder):
        path.unlink()


def _open(url: str) -> tuple[Any, str]:
    try:
        return fsspec.url_to_fs(url, use_listings_cache=False)  # type: ignore[no-any-return]
    except (ValueError, ImportError) as error:
        raise ArchiveError(f"{url} cannot be opened: {error}.") from error


def _is_local(files: Any) -> bool:
    return "file" in files.protocol
