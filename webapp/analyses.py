"""The analyses of a visitor's files: every state from the upload to the deletion.

A picture on its own is analysed during its upload. A video, a recording or a file of a batch waits in its row until
the process of `webapp.jobs` claims it.
"""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from flask import current_app
from sqlalchemy import ColumnElement, Update, func, select, update
from sqlalchemy import delete as delete_from

import detector
from detector import MediaTooLarge, UnreadableMedia
from detector.stages import stage
from detector.text import format_bytes, translatable
from webapp import uploads
from webapp.analysis_output import AnalysisOutput, analyse
from webapp.file_removal import DeletedRows, remove_files, remove_files_soon
from webapp.media_pages import MEDIUM_PAGES
from webapp.models import MAX_ERROR_CHARACTERS, Analysis, Batch, State, count_changed, db
from webapp.operations.tracing import current_traceparent
from webapp.samples import SAMPLES, read_sample
from webapp.uploads import FileFacts, page_folder

RECENT_ANALYSES = 12
MAX_NAME_CHARACTERS = 120
MAX_PATH_CHARACTERS = 240  # of a name with its folders
MEGABYTE = 1_000_000
MAX_ATTEMPTS = 2
DELETED_AT_ONCE = 500  # rows in one transaction, so that uploads do not wait long for it
GAVE_UP = "The check of this file crashed twice, so there is no result."
QUEUE_ORDER = (Analysis.batch_position, Analysis.created_at)


class UnsupportedMedia(UnreadableMedia):
    """The file is of a kind that is not supported."""


@dataclass(frozen=True)
class BatchPlace:
    """The place of a file among those that were sent with it: the batch's id, and a position from 0."""

    batch_id: str
    position: int


# submit, read, delete


def submit(
    file: BinaryIO,
    *,
    filename: str,
    visitor: str,
    sample: str | None = None,
    repeats: str | None = None,
    place: BatchPlace | None = None,
) -> Analysis:
    """Store an upload and analyse it: a picture at once, a video or a recording in the background.

    If anything fails, nothing is stored. A picture is analysed again even when the same bytes are already stored, so
    that nobody can find out whether they were.

    Args:
        file: open for reading, and seekable.
        filename: the sender's name for the file; only displayed.
        visitor: who may see the result.
        sample: the name of one of the shipped samples; None for an upload.
        repeats: id of the analysis that is repeated; None for an upload.
        place: in a batch, whose pictures are analysed in the background too, and whose names keep their folders; None
            for a file on its own.

    Raises:
        MediaTooLarge: more bytes or pixels than are accepted.
        UnsupportedMedia: the file is of a kind that is not supported.
        UnreadableMedia: the file is empty or damaged.
        ModelError: there is no usable model.
    """
    facts = uploads.measure_file(file, _check_media(file))
    media = facts.media_type.partition("/")[0]
    analysis = Analysis(
        visitor=visitor,
        filename=clean_path(filename) if place else clean_name(filename),
        sample=sample,
        repeats=repeats,
        batch_id=place.batch_id if place else None,
        batch_position=place.position if place else 0,
        media=media,
        upload_sha256=facts.sha256,
        traceparent=current_traceparent(),
    )
    if place or detector.media.MEDIA[media].has_duration:
        analysis.state = State.WAITING
        _store(analysis, file, facts, {})
        current_app.extensions["jobs"].wake()
        return analysis
    # Read in the detector's thread, so that of all open uploads only one is in memory.
    output = current_app.extensions["detector"].call(lambda loaded: analyse(file.read(), loaded, facts=facts))
    _apply(analysis, output)
    file.seek(0)
    _store(analysis, file, facts, output.files)
    return analysis


def submit_sample(name: str, *, visitor: str) -> Analysis:
    """Submit one of the shipped samples like an upload.

    Args:
        name: a key of `SAMPLES`.
        visitor: who may see the result.
    """
    return submit(io.BytesIO(read_sample(name)), filename=SAMPLES[name].filename, visitor=visitor, sample=name)


def repeat(analysis_id: str, visitor: str | None) -> Analysis | None:
    """Analyse a visitor's file again with the present model, as a new analysis that refers to the earlier one.

    Returns:
        The new analysis; None if the visitor has no such result.

    Raises:
        FileNotFoundError: the file is no longer stored.
        DetectorError: as `submit`, for example because the size limit was lowered since.
    """
    earlier = get(analysis_id, visitor)
    if earlier is None or earlier.state != State.DONE:
        return None
    with uploads.open_upload(earlier.upload_sha256) as file:
        return submit(
            file, filename=earlier.filename, visitor=earlier.visitor, sample=earlier.sample, repeats=earlier.id
        )


def get(analysis_id: str, visitor: str | None) -> Analysis | None:
    """Return a visitor's analysis; None if it does not exist or belongs to somebody else."""
    return db.session.scalar(select(Analysis).filter_by(id=analysis_id, visitor=visitor))


def recent(visitor: str | None) -> list[Analysis]:
    """Return the latest analyses of a visitor's files on their own, the newest first."""
    own = select(Analysis).filter_by(visitor=visitor, batch_id=None)
    newest_first = own.order_by(Analysis.created_at.desc())
    return list(db.session.scalars(newest_first.limit(RECENT_ANALYSES)))


def place_in_queue(analysis: Analysis) -> int:
    """Return how many files are before a waiting one, with those that are being analysed."""
    return places_in_queue([analysis.id]).get(analysis.id, 0)


def places_in_queue(analysis_ids: Collection[str]) -> dict[str, int]:
    """Return how many files are before each of those that wait, with those that are being analysed."""
    n_running = db.session.scalar(select(func.count()).where(Analysis.state == State.RUNNING)) or 0
    rank = func.rank().over(order_by=QUEUE_ORDER).label("rank")
    queue = select(Analysis.id, rank).where(Analysis.state == State.WAITING).subquery()
    places = select(queue.c.id, queue.c.rank).where(queue.c.id.in_(analysis_ids))
    return {analysis_id: n_running + rank - 1 for analysis_id, rank in db.session.execute(places)}


def delete(analysis_id: str, visitor: str | None) -> bool:
    """Delete a visitor's analysis, and its upload if no other analysis refers to it.

    Returns:
        Whether there was one. Of two simultaneous requests only one gets True.
    """
    return delete_several(visitor, [analysis_id]) > 0


def delete_several(visitor: str | None, analysis_ids: Collection[str] | None = None) -> int:
    """Delete those of a visitor's analyses, or all, as `delete` does; return how many there were.

    The rows are gone when it returns. Of many, a thread removes the files.
    """
    chosen = () if analysis_ids is None else (Analysis.id.in_(analysis_ids),)
    count = 0
    for deleted in _delete_rows(Analysis.visitor == visitor, *chosen):
        remove_files_soon(deleted)
        count += len(deleted.analysis_ids)
    return count


def delete_older(moment: datetime) -> int:
    """Delete the analyses of all visitors that began before a moment, with their files; return how many there were."""
    count = 0
    for deleted in _delete_rows(Analysis.created_at < moment):
        remove_files(deleted)
        count += len(deleted.analysis_ids)
    return count


def ids_of_batch(batch_id: str, visitor: str | None) -> list[str]:
    """Return the ids of the analyses of a visitor's batch, in the order as sent."""
    own = select(Analysis.id).filter_by(batch_id=batch_id, visitor=visitor)
    return list(db.session.scalars(own.order_by(Analysis.batch_position)))


def drop_empty_batches(batch_ids: Collection[str]) -> None:
    """Delete those batches that have no analyses, in the caller's transaction.

    Their locked rows make the simultaneous deletion of others of their analyses wait.
    """
    chosen = Batch.id.in_(batch_ids)
    db.session.execute(select(Batch.id).where(chosen).order_by(Batch.id).with_for_update())
    is_empty = ~select(Analysis.id).where(Analysis.batch_id == Batch.id).exists()
    db.session.execute(delete_from(Batch).where(chosen, is_empty))


def open_file(analysis: Analysis, name: str) -> BinaryIO:
    """Open one of the files that were stored with an analysis, see `webapp.page_files`.

    Raises:
        FileNotFoundError: there is no such file, for example for a face without a heat map.
    """
    return uploads.storage().open(f"{page_folder(analysis.id)}/{name}")


def extend(analysis_id: str, parts: Mapping[str, Any], files: Mapping[str, bytes]) -> bool:
    """Add entries to the record of an analysis, and files.

    Returns:
        Whether the analysis still exists; nothing is added to a deleted one.
    """
    # The transaction begins with a write, so that a simultaneous deletion waits until it is over.
    if not count_changed(update(Analysis).filter_by(id=analysis_id).values(progress=Analysis.progress)):
        db.session.rollback()
        return False
    # Read again: other entries may have been added since this session read the row.
    analysis = db.session.get_one(Analysis, analysis_id, populate_existing=True)
    analysis.result = {**analysis.record, **parts}
    _save_files(analysis_id, files)
    db.session.commit()
    return True


# states of an analysis in the background; an update by its process holds only while it is running there


def has_work() -> bool:
    """Return whether an analysis waits, or is still marked as running here by a process that has ended."""
    left = (Analysis.state == State.RUNNING) & (Analysis.worker == current_app.config["WORKER"])
    unfinished = select(Analysis.id).where((Analysis.state == State.WAITING) | left)
    return db.session.scalar(unfinished.limit(1)) is not None


def recover() -> None:
    """Put back what an earlier process left unfinished; fail what was left unfinished too often."""
    left = update(Analysis).filter_by(state=State.RUNNING, worker=current_app.config["WORKER"])
    db.session.execute(
        left.where(Analysis.attempts >= MAX_ATTEMPTS).values(state=State.FAILED, error=GAVE_UP, worker=None)
    )
    db.session.execute(left.values(state=State.WAITING, progress=0.0, worker=None))
    db.session.commit()


def claim() -> str | None:
    """Mark the first analysis of the queue as running here, and return its id; None when none waits.

    A file on its own comes before all but the first file of a batch, and batches take turns: each file of a batch
    waits behind the files at earlier places of other batches.
    """
    first = select(Analysis.id).filter_by(state=State.WAITING).order_by(*QUEUE_ORDER).limit(1)
    first = first.with_for_update(skip_locked=True)  # PostgreSQL: not the row that another machine is claiming
    values = {"state": State.RUNNING, "worker": current_app.config["WORKER"], "progress": 0.0}
    analysis_id = db.session.scalar(
        update(Analysis)
        # The state is checked twice, because another machine may claim the same row at the same moment.
        .where(Analysis.id == first.scalar_subquery(), Analysis.state == State.WAITING)
        .values(**values, attempts=Analysis.attempts + 1)
        .returning(Analysis.id)
    )
    db.session.commit()
    return analysis_id


@contextmanager
def claimed_upload(analysis_id: str) -> Iterator[Path]:
    """Give a local path to the uploaded file of an analysis.

    Raises:
        FileNotFoundError: the file has been deleted.
    """
    sha256 = db.session.scalar(select(Analysis.upload_sha256).filter_by(id=analysis_id))
    db.session.commit()  # the file is read for minutes; no transaction stays open so long
    if sha256 is None:
        raise FileNotFoundError(analysis_id)
    with uploads.local_upload(sha256) as path:
        yield path


def set_progress(analysis_id: str, progress: float) -> bool:
    """Store the fraction of the work that is done; return whether the analysis is still running here."""
    return _change(analysis_id, progress=progress)


def set_check_progress(analysis_id: str, progress: float) -> None:
    """Store the fraction of a check that is done, of a picture whose analysis is over."""
    db.session.execute(update(Analysis).filter_by(id=analysis_id, state=State.DONE).values(progress=progress))
    db.session.commit()


@stage("store")
def finish(analysis_id: str, output: AnalysisOutput) -> bool:
    """Store the verdict of an analysis.

    Returns:
        Whether it was still running; nothing is stored for a cancelled or deleted one.
    """
    # The transaction begins with a write, so that a simultaneous cancellation or deletion waits until it is over.
    if not count_changed(_running_here(analysis_id).values(progress=1.0)):
        db.session.rollback()
        return False
    analysis = db.session.get_one(Analysis, analysis_id)
    with ExitStack() as undo:
        undo.callback(db.session.rollback)
        undo.callback(uploads.storage().delete, page_folder(analysis_id))
        _save_files(analysis_id, output.files)
        _apply(analysis, output)
        analysis.state, analysis.worker = State.DONE, None
        db.session.commit()
        undo.pop_all()
    return True


def fail(analysis_id: str, error: str) -> bool:
    """Store why an analysis has no verdict, as a sentence; return whether it was still running here."""
    return _change(analysis_id, state=State.FAILED, error=error[:MAX_ERROR_CHARACTERS], worker=None)


def put_back(analysis_id: str) -> bool:
    """Let an analysis wait again without counting the attempt; return whether it was still running here."""
    waiting = {"state": State.WAITING, "progress": 0.0, "worker": None, "seen_at": None}
    return _change(analysis_id, attempts=Analysis.attempts - 1, **waiting)


def cancel(analysis_id: str, visitor: str | None) -> bool:
    """Stop the analysis of a visitor's upload; the upload stays.

    Returns:
        Whether there was something to stop.
    """
    return _cancel(id=analysis_id, visitor=visitor) > 0


def cancel_batch(batch_id: str, visitor: str | None) -> int:
    """Stop the unfinished analyses of a visitor's batch; return how many there were."""
    return _cancel(batch_id=batch_id, visitor=visitor)


def retry(analysis_id: str, visitor: str | None) -> bool:
    """Start the analysis of a visitor's upload again after it was cancelled or failed, behind all that wait.

    Returns:
        Whether there was one.
    """
    return bool(_retry(id=analysis_id, visitor=visitor))


def retry_batch(batch_id: str, visitor: str | None) -> list[str]:
    """Start the cancelled and the failed analyses of a visitor's batch again; return their ids."""
    return _retry(batch_id=batch_id, visitor=visitor)


def _cancel(**columns: str | None) -> int:
    unfinished = Analysis.state.in_((State.WAITING, State.RUNNING))
    cancelled = update(Analysis).filter_by(**columns).where(unfinished)
    n_stopped = count_changed(cancelled.values(state=State.CANCELLED, worker=None))
    db.session.commit()
    return n_stopped


def _retry(**columns: str | None) -> list[str]:
    over = Analysis.state.in_((State.CANCELLED, State.FAILED))
    again = update(Analysis).filter_by(**columns).where(over)
    values = {"state": State.WAITING, "progress": 0.0, "attempts": 0, "error": None, "seen_at": None}
    values |= {"created_at": datetime.now(UTC), "traceparent": current_traceparent()}
    restarted = list(db.session.scalars(again.values(**values).returning(Analysis.id)))
    db.session.commit()
    if restarted:
        current_app.extensions["jobs"].wake()
    return restarted


def _change(analysis_id: str, **values: object) -> bool:
    is_changed = count_changed(_running_here(analysis_id).values(**values)) > 0
    db.session.commit()
    return is_changed


def _running_here(analysis_id: str) -> Update:
    return update(Analysis).filter_by(id=analysis_id, state=State.RUNNING, worker=current_app.config["WORKER"])


# from a file to rows and files


def clean_name(name: str) -> str:
    """Return a displayable file name: no path, no control or invisible characters, shortened in the middle."""
    name = name.replace("\\", "/").rpartition("/")[2]
    name = "".join(" " if c.isspace() else c for c in name if c.isspace() or unicodedata.category(c)[0] != "C")
    return _shorten(" ".join(name.split()), MAX_NAME_CHARACTERS) or "unnamed"


def clean_path(path: str) -> str:
    """Return a displayable file name with its folders, as a ZIP or a folder holds it; never to be used as a path."""
    parts = (part.strip() for part in path.replace("\\", "/").split("/"))
    kept = "/".join(clean_name(part) for part in parts if part not in ("", ".", ".."))
    return _shorten(kept, MAX_PATH_CHARACTERS) or "unnamed"


def _shorten(name: str, max_characters: int) -> str:
    kept = max_characters // 2
    return name if len(name) <= max_characters else f"{name[: kept - 1]}…{name[-kept:]}"


def _check_media(file: BinaryIO) -> str:
    """Return the media type of an upload by its first bytes, after checking the size limit of its medium."""
    size_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(detector.media.HEAD_BYTES)
    try:
        media_type = detector.media.sniff(head)
    except UnreadableMedia as error:
        if head:
            raise UnsupportedMedia(str(error)) from error
        raise
    limit_mb = current_app.config[MEDIUM_PAGES[media_type.partition("/")[0]].limit_setting]
    if size_bytes > limit_mb * MEGABYTE:
        raise MediaTooLarge(
            translatable("The file has {size_bytes}; at most {limit_mb} MB are accepted.").format(
                size_bytes=format_bytes(size_bytes), limit_mb=limit_mb
            )
        )
    return media_type


def _delete_rows(*conditions: ColumnElement[bool]) -> Iterator[DeletedRows]:
    """Delete the rows of the analyses that meet the conditions, and give whose files are left after each transaction.

    Each begins with a write, so that of two simultaneous ones only one deletes a row. All lock rows in the same order:
    analyses by their time, then uploads by their hash, then batches.
    """
    oldest = select(Analysis.id).where(*conditions).order_by(Analysis.created_at, Analysis.id)
    some = delete_from(Analysis).where(Analysis.id.in_(oldest.limit(DELETED_AT_ONCE).with_for_update()))
    returned = some.returning(Analysis.upload_sha256, Analysis.id, Analysis.batch_id)
    while rows := db.session.execute(returned).all():
        uploads.drop_references(row.upload_sha256 for row in rows)
        drop_empty_batches({row.batch_id for row in rows} - {None})
        db.session.commit()
        yield DeletedRows([row.id for row in rows], {row.upload_sha256 for row in rows})
    db.session.commit()


def _apply(analysis: Analysis, output: AnalysisOutput) -> None:
    for column, value in output.columns.items():
        setattr(analysis, column, value)


@stage("store")
def _store(analysis: Analysis, file: BinaryIO, facts: FileFacts, files: Mapping[str, bytes]) -> None:
    """Store rows and files in one transaction; the stack undoes the finished steps when a later one fails."""
    with ExitStack() as undo:
        undo.callback(db.session.rollback)
        if uploads.add_reference(facts):
            undo.callback(uploads.delete_upload, facts.sha256)
        uploads.save_upload(facts.sha256, file)
        db.session.add(analysis)
        db.session.flush()
        undo.callback(uploads.storage().delete, page_folder(analysis.id))
        _save_files(analysis.id, files)
        db.session.commit()
        undo.pop_all()


def _save_files(analysis_id: str, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        uploads.storage().save(f"{page_folder(analysis_id)}/{name}", content)
