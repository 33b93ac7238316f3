"""The store of uploaded files: each content is stored once, with a count of the analyses that refer to it.

`add_reference` and `drop_references` belong to the caller's transaction and lock the uploads' rows until its end. A row
without references stays until `delete_unreferenced` has removed its file, which happens after the transaction.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from flask import current_app
from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.exc import IntegrityError

from webapp.models import Upload, count_changed, db
from webapp.storage import Storage

HASH_CHUNK_BYTES = 1_000_000
UPLOAD_FILES, PAGE_FOLDERS = "uploads", "analyses"  # folders of the storage
UPLOADS_AT_ONCE = 100  # deleted in one transaction, so that new uploads do not wait long for it


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


def drop_references(hashes: Iterable[str]) -> None:
    """Count references less, one for each time a hash is given; call `delete_unreferenced` after the transaction."""
    counts = Counter(hashes)
    # Locked in the order of their hashes, so that two transactions never wait for each other.
    db.session.execute(select(Upload.sha256).where(_is_one_of(counts)).order_by(Upload.sha256).with_for_update())
    for count in set(counts.values()):
        dropped = update(Upload).where(_is_one_of(sha256 for sha256 in counts if counts[sha256] == count))
        db.session.execute(dropped.values(reference_count=Upload.reference_count - count))


def delete_unreferenced(hashes: Iterable[str] | None = None) -> None:
    """Delete the uploads that have no references, in transactions of its own.

    A file is deleted while its row is locked, so that an upload of the same content waits and then stores it again.

    Args:
        hashes: of those that may have none; None for all.
    """
    if hashes is None:
        hashes = db.session.scalars(select(Upload.sha256).where(Upload.reference_count == 0))
    left = sorted(set(hashes))
    for start in range(0, len(left), UPLOADS_AT_ONCE):
        some = _is_one_of(left[start : start + UPLOADS_AT_ONCE])
        free = select(Upload.sha256).where(some, Upload.reference_count == 0)
        mine = free.with_for_update(skip_locked=True)  # PostgreSQL: not those that another process is deleting
        for sha256 in db.session.scalars(
            delete(Upload).where(Upload.sha256.in_(mine), Upload.reference_count == 0).returning(Upload.sha256)
        ).all():
            delete_upload(sha256)
        db.session.commit()


def delete_orphan(sha256: str) -> bool:
    """Delete the file of a content that has no row, in a transaction of its own; return whether it had none."""
    try:
        # The row locks the content, so that an upload of it waits and then stores it again.
        db.session.add(Upload(sha256=sha256, reference_count=0, size_bytes=0, media_type=""))
        db.session.flush()
    except IntegrityError:  # stored in the meantime
        db.session.rollback()
        return False
    delete_upload(sha256)
    db.session.rollback()
    return True


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


def page_folder(analysis_id: str) -> str:
    """Return the name of the folder with the files of an analysis's page."""
    return f"{PAGE_FOLDERS}/{analysis_id}"


def _path(sha256: str) -> str:
    return f"{UPLOAD_FILES}/{sha256}"


def _is_one_of(hashes: Iterable[str]) -> ColumnElement[bool]:
    return Upload.sha256.in_(list(hashes))
