"""Stored files that no row names, and their removal.

They are left by a process that was killed between writing files and committing their row, or between deleting a row and
its files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute

from webapp import uploads
from webapp.config import SHA256_PATTERN
from webapp.models import Analysis, Upload, db
from webapp.uploads import PAGE_FOLDERS, UPLOAD_FILES

MIN_AGE = timedelta(days=1)  # a younger file may be of an upload that is under way
EVERY = timedelta(days=1)  # the storage is listed, by one of all processes
LAST_SWEEP = "last_sweep"  # the file whose age says when
NAMES_AT_ONCE = 500  # looked up in one query


def is_due() -> bool:
    """Return whether no process has removed orphans for a day."""
    return _is_older(LAST_SWEEP, EVERY, if_missing=True)


def remove_orphans() -> int:
    """Remove the uploads and the folders of pages that no row names; return how many there were."""
    uploads.storage().save(LAST_SWEEP, b"")
    uploads.delete_unreferenced()
    count = 0
    for name in _without_row(PAGE_FOLDERS, Analysis.id):
        if _is_older(f"{PAGE_FOLDERS}/{name}", MIN_AGE):
            uploads.storage().delete(f"{PAGE_FOLDERS}/{name}")
            count += 1
    for name in _without_row(UPLOAD_FILES, Upload.sha256):
        if not _is_older(f"{UPLOAD_FILES}/{name}", MIN_AGE):
            continue
        if SHA256_PATTERN.fullmatch(name):
            count += uploads.delete_orphan(name)
        else:  # a draft of the storage, which no other process uses
            uploads.storage().delete(f"{UPLOAD_FILES}/{name}")
            count += 1
    return count


def _without_row(folder: str, column: InstrumentedAttribute[str]) -> Iterator[str]:
    """Give those names in a folder that a column of the database does not have."""
    for names in _groups(uploads.storage().names(folder)):
        known = set(db.session.scalars(select(column).where(column.in_(names))))
        db.session.commit()  # no transaction stays open while files are deleted
        yield from (name for name in names if name not in known)


def _groups(names: Iterable[str]) -> Iterator[list[str]]:
    left = iter(names)
    while some := list(islice(left, NAMES_AT_ONCE)):
        yield some


def _is_older(name: str, age: timedelta, *, if_missing: bool = False) -> bool:
    try:
        return datetime.now(UTC) - uploads.storage().modified_at(name) > age
    except FileNotFoundError:  # another process removes the same
        return if_missing
