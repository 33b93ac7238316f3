"""Removing the files of rows that are deleted: after the rows, and of many rows after the answer.

An interruption loses nothing that is needed. The row of an upload without references stays until its file is removed,
and `webapp.orphans` finds the folders that are left.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass

from flask import Flask, current_app
from sqlalchemy.exc import SQLAlchemyError

from webapp import uploads
from webapp.models import db
from webapp.wakeable import WakeableThread

REMOVED_AT_ONCE = 100  # rows whose files a request removes itself; it leaves those of more rows to the thread

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeletedRows:
    """What deleted rows leave behind: the ids of analyses, and hashes of uploads that may have no reference left."""

    analysis_ids: list[str]
    hashes: set[str]


class FileRemoval:
    """Remove the files of many rows in a thread.

    Args:
        app: the application whose storage has them.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._waiting: deque[DeletedRows] = deque()
        self._thread = WakeableThread("file removal", self._remove_waiting)

    def add(self, deleted: DeletedRows) -> None:
        """Remove files soon."""
        self._waiting.append(deleted)
        self._thread.wake()

    def _remove_waiting(self) -> None:
        with self._app.app_context():
            while self._waiting:
                remove_files(self._waiting.popleft())


def remove_files(deleted: DeletedRows) -> None:
    """Remove the files of deleted rows; what cannot be removed now is logged, and left to the next sweep."""
    try:
        for analysis_id in deleted.analysis_ids:
            uploads.storage().delete(uploads.page_folder(analysis_id))
        uploads.delete_unreferenced(deleted.hashes)
    except (OSError, SQLAlchemyError):
        db.session.rollback()
        log.exception("Files of deleted results could not be removed; the next sweep tries again.")


def remove_files_soon(deleted: DeletedRows) -> None:
    """Remove the files of deleted rows: of few now, of many in a thread."""
    if len(deleted.analysis_ids) <= REMOVED_AT_ONCE:
        remove_files(deleted)
    else:
        current_app.extensions["file_removal"].add(deleted)
