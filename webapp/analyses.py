"""Submit, get, list and delete: the one path that every page takes."""

from __future__ import annotations

import hashlib
import io
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from flask import Flask, current_app
from sqlalchemy import Update, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy.exc import IntegrityError

import detector
from detector import Detector, MediaTooLarge, ModelError, UnreadableMedia
from detector.text import format_bytes
from webapp.artifacts import AnalysisOutput, analyse
from webapp.config import StartupError
from webapp.models import Analysis, State, Upload, db
from webapp.samples import SAMPLES, read_sample
from webapp.storage import Storage

RECENT_ANALYSES = 12
MAX_NAME_CHARACTERS = 120
MEGABYTE = 1_000_000

Answer = TypeVar("Answer")


class UnsupportedMedia(UnreadableMedia):
    """The bytes are of a kind that is not read at all."""


class DetectorThread:
    """The one detector of a worker, in a thread of its own that judges one picture after the other.

    That bounds memory: only one picture's pixels exist at a time, and the runtime's buffers and the allocator's
    leftovers belong to one thread instead of to each that serves a request. And OpenVINO 2026.4 stands still for ever
    when two threads make a process's first inference at once.

    Args:
        threads: for the network; 0 means as many as cores.
        detector: one that is loaded already; None loads the shipped one when it is first needed.
    """

    def __init__(self, *, threads: int = 0, detector: Detector | None = None) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="detector")
        self._threads = threads or None
        self._detector = detector

    def call(self, work: Callable[[Detector], Answer]) -> Answer:
        """Return `work(detector)`, called in the detector's thread.

        Raises:
            ModelError: the model's file is missing or does not fit.
        """
        return self._thread.submit(lambda: work(self._load())).result()

    def _load(self) -> Detector:
        if self._detector is None:
            self._detector = detector.load_detector(threads=self._threads)
        return self._detector


def warm_up(app: Flask) -> None:
    """Load the detector now instead of at the first picture, and go on with what a stop interrupted.

    Raises:
        StartupError: there is no usable model.
    """
    try:
        app.extensions["detector"].call(lambda _: None)
    except ModelError as error:
        raise StartupError(str(error)) from error
    app.extensions["jobs"].wake()


def submit(file: BinaryIO, *, filename: str, visitor: str, sample: str | None = None) -> Analysis:
    """Keep an upload and see to its verdict: a picture is judged at once, a video or a recording by `webapp.jobs`.

    When anything fails nothing is kept. A picture is judged afresh even when the same bytes are stored already, so
    nobody learns whether they were.

    Args:
        file: open for reading, and seekable.
        filename: as the sender calls it, only ever shown.
        visitor: who may see the result.
        sample: which of our own samples it is.

    Raises:
        MediaTooLarge: more bytes or pixels than are accepted.
        UnsupportedMedia: of a kind that is not read.
        UnreadableMedia: empty or damaged.
        ModelError: there is no usable model.
    """
    media_type = _check_media(file)
    media = media_type.partition("/")[0]
    analysis = Analysis(visitor=visitor, filename=clean_name(filename), sample=sample, media=media)
    if media == "image":
        data = file.read()
        judged = current_app.extensions["detector"].call(lambda loaded: analyse(data, loaded))
        _apply(analysis, judged)
        _store(analysis, io.BytesIO(data), media_type, judged.files)
    else:
        analysis.state = State.WAITING
        _store(analysis, file, media_type, {})
        current_app.extensions["jobs"].wake()
    return analysis


def submit_sample(name: str, *, visitor: str) -> Analysis:
    """Judge one of our own samples as if it had been uploaded.

    Args:
        name: a key of `SAMPLES`.
        visitor: who may see the result.
    """
    return submit(io.BytesIO(read_sample(name)), filename=SAMPLES[name].filename, visitor=visitor, sample=name)


def finish(analysis_id: str, judged: AnalysisOutput) -> bool:
    """Write the verdict of an analysis that is running.

    Returns:
        Whether it was still wanted; of a cancelled or deleted one nothing is kept.
    """
    # The transaction begins with a write, so that whoever cancels or deletes meanwhile waits until it is over.
    if not db.session.execute(running_here(analysis_id).values(progress=1.0)).rowcount:
        db.session.rollback()
        return False
    analysis = db.session.get_one(Analysis, analysis_id)
    with ExitStack() as undo:
        undo.callback(db.session.rollback)
        undo.callback(_storage().delete, _folder(analysis_id))
        _save_files(analysis_id, judged.files)
        _apply(analysis, judged)
        analysis.state, analysis.worker = State.DONE, None
        db.session.commit()
        undo.pop_all()
    return True


def extend(analysis_id: str, parts: Mapping[str, Any], files: Mapping[str, bytes]) -> bool:
    """Add to what is kept of an analysis: entries of its result, and files.

    Returns:
        Whether it is still there; to a deleted one nothing is added.
    """
    # The transaction begins with a write, so that whoever deletes meanwhile waits until it is over.
    claim = update(Analysis).filter_by(id=analysis_id).values(progress=Analysis.progress)
    if not db.session.execute(claim).rowcount:
        db.session.rollback()
        return False
    analysis = db.session.get_one(Analysis, analysis_id)
    analysis.result = {**analysis.result, **parts}
    _save_files(analysis_id, files)
    db.session.commit()
    return True


def running_here(analysis_id: str) -> Update:
    """Return an update of an analysis that holds only while it is running in this very process."""
    return update(Analysis).filter_by(id=analysis_id, state=State.RUNNING, worker=current_app.config["WORKER"])


def cancel(analysis_id: str, visitor: str | None) -> bool:
    """Stop judging a visitor's upload; the upload stays.

    Returns:
        Whether there was something to stop.
    """
    unfinished = Analysis.state.in_((State.WAITING, State.RUNNING))
    cancelled = update(Analysis).filter_by(id=analysis_id, visitor=visitor).where(unfinished)
    stopped = db.session.execute(cancelled.values(state=State.CANCELLED, worker=None)).rowcount > 0
    db.session.commit()
    return stopped


def retry(analysis_id: str, visitor: str | None) -> bool:
    """Judge a visitor's upload again that was cancelled or failed.

    Returns:
        Whether there was one.
    """
    over = Analysis.state.in_((State.CANCELLED, State.FAILED))
    again = update(Analysis).filter_by(id=analysis_id, visitor=visitor).where(over)
    values = {"state": State.WAITING, "progress": 0.0, "attempts": 0, "error": None}
    begun = db.session.execute(again.values(**values)).rowcount > 0
    db.session.commit()
    if begun:
        current_app.extensions["jobs"].wake()
    return begun


def get(analysis_id: str, visitor: str | None) -> Analysis | None:
    """Return a visitor's analysis; None for somebody else's as for one that does not exist."""
    return db.session.scalar(select(Analysis).filter_by(id=analysis_id, visitor=visitor))


def recent(visitor: str | None) -> list[Analysis]:
    """Return a visitor's latest analyses, the newest first."""
    newest_first = select(Analysis).filter_by(visitor=visitor).order_by(Analysis.created_at.desc())
    return list(db.session.scalars(newest_first.limit(RECENT_ANALYSES)))


def delete(analysis_id: str, visitor: str | None) -> bool:
    """Delete a visitor's analysis, and its upload when no other analysis refers to it.

    Returns:
        Whether there was one; of two requests at once only one is told so.
    """
    sha256 = db.session.scalar(
        delete_from(Analysis).filter_by(id=analysis_id, visitor=visitor).returning(Analysis.upload_sha256)
    )
    if sha256 is None:
        db.session.rollback()
        return False
    _storage().delete(_folder(analysis_id))
    _drop_reference(sha256)
    db.session.commit()
    return True


def open_file(analysis: Analysis, name: str) -> BinaryIO:
    """Open one of the pictures that `webapp.artifacts` drew of an analysis.

    Raises:
        FileNotFoundError: there is none of this name, as for a face the network gives no heat map of.
    """
    return _storage().open(f"{_folder(analysis.id)}/{name}")


def open_upload(analysis: Analysis) -> BinaryIO:
    """Open the file as it was uploaded.

    Raises:
        FileNotFoundError: it was deleted meanwhile.
    """
    return _storage().open(_upload_path(analysis.upload_sha256))


@contextmanager
def claimed_upload(analysis_id: str) -> Iterator[Path]:
    """Give a path to the file of an analysis as it was uploaded.

    Raises:
        FileNotFoundError: it was deleted meanwhile.
    """
    sha256 = db.session.scalar(select(Analysis.upload_sha256).filter_by(id=analysis_id))
    db.session.commit()  # the file is read for minutes; no transaction stays open so long
    if sha256 is None:
        raise FileNotFoundError(analysis_id)
    with _storage().local_path(_upload_path(sha256)) as path:
        yield path


def clean_name(name: str) -> str:
    """Return a file name fit to be shown: no path, no control or invisible characters, not too long."""
    name = name.replace("\\", "/").rpartition("/")[2]
    name = "".join(" " if c.isspace() else c for c in name if c.isspace() or unicodedata.category(c)[0] != "C")
    name = " ".join(name.split())
    if len(name) > MAX_NAME_CHARACTERS:
        kept = MAX_NAME_CHARACTERS // 2
        name = f"{name[: kept - 1]}…{name[-kept:]}"
    return name or "unnamed"


def _check_media(file: BinaryIO) -> str:
    """Return the kind of an upload by its first bytes, with its size within the limit for that kind."""
    size_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(detector.media.HEAD_BYTES)
    file.seek(0)
    try:
        media_type = detector.media.sniff(head)
    except UnreadableMedia as error:
        if head:
            raise UnsupportedMedia(str(error)) from error
        raise
    limit_mb = current_app.config["MAX_UPLOAD_MB" if media_type.startswith("image/") else "MAX_RECORDING_MB"]
    if size_bytes > limit_mb * MEGABYTE:
        raise MediaTooLarge(f"The file has {format_bytes(size_bytes)}; at most {limit_mb} MB are accepted.")
    return media_type


def _apply(analysis: Analysis, judged: AnalysisOutput) -> None:
    for column, value in judged.columns.items():
        setattr(analysis, column, value)


def _store(analysis: Analysis, file: BinaryIO, media_type: str, drawn: dict[str, bytes]) -> None:
    """Store rows and files in one transaction; the stack takes back what was done when a later step fails."""
    analysis.upload_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    size_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    upload_path = _upload_path(analysis.upload_sha256)
    with ExitStack() as undo:
        undo.callback(db.session.rollback)
        if _add_reference(analysis.upload_sha256, size_bytes, media_type):
            undo.callback(_storage().delete, upload_path)
        _storage().save(upload_path, file)
        db.session.add(analysis)
        db.session.flush()
        undo.callback(_storage().delete, _folder(analysis.id))
        _save_files(analysis.id, drawn)
        db.session.commit()
        undo.pop_all()


def _save_files(analysis_id: str, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        _storage().save(f"{_folder(analysis_id)}/{name}", content)


def _add_reference(sha256: str, size_bytes: int, media_type: str) -> bool:
    """Count one more reference and keep the row locked until the transaction ends; return whether the row is new.

    The transaction begins with a write, so a second worker waits here rather than acting on an old count.
    """
    while True:
        count_up = update(Upload).filter_by(sha256=sha256).values(reference_count=Upload.reference_count + 1)
        if db.session.execute(count_up).rowcount:
            return False
        try:
            with db.session.begin_nested():
                db.session.add(Upload(sha256=sha256, reference_count=1, size_bytes=size_bytes, media_type=media_type))
            return True
        except IntegrityError:  # another worker was first: count on its row
            continue


def _drop_reference(sha256: str) -> None:
    """Count one reference less; with the last one the row and the file go, while the row is still locked."""
    left = db.session.scalar(
        update(Upload)
        .filter_by(sha256=sha256)
        .values(reference_count=Upload.reference_count - 1)
        .returning(Upload.reference_count)
    )
    if left == 0:
        db.session.execute(delete_from(Upload).filter_by(sha256=sha256))
        _storage().delete(_upload_path(sha256))


def _upload_path(sha256: str) -> str:
    return f"uploads/{sha256}"


def _folder(analysis_id: str) -> str:
    return f"analyses/{analysis_id}"


def _storage() -> Storage:
    return current_app.extensions["storage"]
