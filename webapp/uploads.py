"""The store of uploaded files: each content is stored once, with a count of the analyses that refer to it.

`add_reference` and `drop_reference` belong to the caller's transaction and lock the upload's row until its end.
"""

from __future__ import annotations

import hashlib
import io
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from flask import current_app
from sqlalchemy import delete, update
from sqlalchemy.exc import IntegrityError

from webapp.models import Upload, count_changed, db
from webapp.storage import Storage

HASH_CHUNK_BYTES = 1_000_000


@dataclass(frozen=True)
class FileFacts:
    """What is known about a file before it is analysed."""

    sha256: str
    size_bytes: int
    media_type: str


def measure_file(file: BinaryIO, media_type: str) -> FileFacts:
    """Return the hash and the size of an open file, and rewind it."""
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(HASH_CHUNK_BYTES):
        digest.update(chunk)
    size_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    return FileFacts(digest.hexdigest(), size_bytes, media_type)


def add_reference(facts: FileFacts) -> bool:
    """Count one more reference to a content; return whether it is the first one.

    The transaction begins with a write, so that a second worker waits here instead of acting on an old count.
    """
    while True:
        count_up = update(Upload).filter_by(sha256=facts.sha256).values(reference_count=Upload.reference_count + 1)
        if count_changed(count_up):
            return False
        try:
            with db.session.begin_nested():
                db.session.add(
                    Upload(
                        sha256=facts.sha256,
                        reference_count=1,
                        size_bytes=facts.size_bytes,
                        media_type=facts.media_type,
                    )
                )
            return True
        except IntegrityError:  # another worker was first: its row is counted up
            continue


def drop_reference(sha256: str) -> None:
    """Count one reference less; the last one deletes the row and the file, while the row is still locked."""
    left = db.session.scalar(
        update(Upload)
        .filter_by(sha256=sha256)
        .values(reference_count=Upload.reference_count - 1)
        .returning(Upload.reference_count)
    )
    if left == 0:
        db.session.execute(delete(Upload).filter_by(sha256=sha256))
        delete_upload(sha256)


def save_upload(sha256: str, file: BinaryIO) -> None:
    """Write the content of an upload; a file that was lost is written again."""
    storage().save(_path(sha256), file)


def delete_upload(sha256: str) -> None:
    """Delete the content of an upload."""
    storage().delete(_path(sha256))


def open_upload(sha256: str) -> BinaryIO:
    """Open a file as it was uploaded.

    Raises:
        FileNotFoundError: it has been deleted.
    """
    return storage().open(_path(sha256))


def local_upload(sha256: str) -> AbstractContextManager[Path]:
    """Return a context manager with a local path to a file as it was uploaded.

    Raises:
        FileNotFoundError: on entry, if it has been deleted.
    """
    return storage().local_path(_path(sha256))


def storage() -> Storage:
    """Return the storage of the current application."""
    files: Storage = current_app.extensions["storage"]
    return files


def _path(sha256: str) -> str:
    return f"uploads/{sha256}"
