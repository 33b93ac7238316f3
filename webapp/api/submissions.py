"""Files that programs send: one or several in a request, which may be repeated with an idempotency key."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, cast

from flask import current_app, request
from sqlalchemy import delete, or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import joinedload

from detector import DetectorError
from webapp.analyses import clean_name, ids_of_batch
from webapp.api.problems import Problem
from webapp.api.results import rejected_values
from webapp.api.tables import IdempotencyKey, WebhookCall
from webapp.batches.files import NothingAccepted, RefusedFile, UploadedFile, is_single, submit_upload
from webapp.models import Analysis, Batch, db
from webapp.statuses import status_of
from webapp.uploads import measure_file

KEY_LIFETIME = timedelta(hours=24)
ABANDONED_AFTER = timedelta(minutes=15)  # a request that runs for longer has died with its worker
MEMORY_BYTES = 1_000_000  # of a raw body; a larger one is a file on the disk while it is received
FILE_FIELD = "file"
DEFAULT_FILENAME = "upload"
FORM_TYPE = "multipart/form-data"
RAW_TYPE = "application/octet-stream"
ZIP_TYPES = ("application/zip", "application/x-zip-compressed")
MEDIA_GROUPS = ("image", "video", "audio")  # their types are as good: the bytes say what the file is


@dataclass(frozen=True)
class Answer:
    """What a request for analyses was answered.

    Attributes:
        analysis_ids: of the accepted files.
        batch_id: of several files or a ZIP archive; None for a file on its own.
        is_replayed: the request was a repetition, so nothing was analysed.
    """

    analysis_ids: list[str]
    batch_id: str | None = None
    is_replayed: bool = False


@contextmanager
def received_files(filename: str | None) -> Iterator[list[UploadedFile]]:
    """Give the files of the request: the fields `file` of a form, or else the body.

    Args:
        filename: of a body that is no form.

    Raises:
        Problem: there is no file, or the body is of another type.
    """
    if request.mimetype == FORM_TYPE:
        sent = request.files.getlist(FILE_FIELD)
        files = [UploadedFile(each.filename or DEFAULT_FILENAME, cast(BinaryIO, each.stream)) for each in sent]
        if not files:
            raise Problem(422, f"The form has no file in a field “{FILE_FIELD}”.")
        yield files
        return
    is_raw = request.mimetype in ("", RAW_TYPE, *ZIP_TYPES) or request.mimetype.partition("/")[0] in MEDIA_GROUPS
    if not is_raw:
        raise Problem(415, f"Send the file as {FORM_TYPE}, or as the body with Content-Type: {RAW_TYPE}.")
    with tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES) as body:
        shutil.copyfileobj(request.stream, body)
        yield [UploadedFile(filename or DEFAULT_FILENAME, cast(BinaryIO, body))]


def submit_request(files: Sequence[UploadedFile], *, visitor: str, callback_url: str | None, key: str | None) -> Answer:
    """Submit the files of a request like an upload by a page.

    Args:
        files: of the request.
        visitor: the owner of the analyses.
        callback_url: where to report the end of each analysis; None reports nothing.
        key: the idempotency key; with a known one nothing is submitted.

    Raises:
        Problem: every file was refused, or the key belongs to another or a running request.
    """
    if key is None:
        return _submit(files, visitor=visitor, callback_url=callback_url)
    known = _claim_key(visitor, key, _hash_request(files, callback_url))
    if known is not None:
        return Answer(known["analysis_ids"], known.get("batch_id"), is_replayed=True)
    stored = select(IdempotencyKey).filter_by(visitor=visitor, key=key)
    try:
        answer = _submit(files, visitor=visitor, callback_url=callback_url)
    except BaseException:  # the same request may then be tried again
        db.session.rollback()
        db.session.delete(db.session.scalars(stored).one())
        db.session.commit()
        raise
    db.session.scalars(stored).one().answer = {"analysis_ids": answer.analysis_ids, "batch_id": answer.batch_id}
    db.session.commit()
    return answer


def find_analyses(answer: Answer, visitor: str) -> list[Analysis]:
    """Return the analyses of an answer that have not been deleted since, in the order as sent.

    Raises:
        Problem: all have been deleted.
    """
    own = select(Analysis).filter_by(visitor=visitor).options(joinedload(Analysis.upload))
    chosen = own.where(Analysis.id.in_(answer.analysis_ids)).order_by(Analysis.batch_position)
    found = list(db.session.scalars(chosen))
    if not found:
        raise Problem(410, "The analyses of this idempotency key have been deleted.")
    return found


def _submit(files: Sequence[UploadedFile], *, visitor: str, callback_url: str | None) -> Answer:
    try:
        submitted = submit_upload(files, visitor=visitor)
    except DetectorError as error:
        raise _problem_of_files(error, files) from error
    if isinstance(submitted, Batch):
        answer = Answer(ids_of_batch(submitted.id, visitor), submitted.id)
    else:
        answer = Answer([submitted.id])
    if callback_url is not None:
        calls = (WebhookCall(analysis_id=each, visitor=visitor, url=callback_url) for each in answer.analysis_ids)
        db.session.add_all(calls)
        db.session.commit()
        current_app.extensions["webhooks"].wake()
    return answer


def _problem_of_files(error: DetectorError, files: Sequence[UploadedFile]) -> Problem:
    """Return the problem of a request whose files are all refused; if all have one status, it is that."""
    if is_single(files):
        refused: Sequence[RefusedFile] = [RefusedFile(0, clean_name(files[0].name), str(error), status_of(error))]
    else:
        refused = error.refused if isinstance(error, NothingAccepted) else ()
    statuses = {each.status for each in refused}
    status = statuses.pop() if len(statuses) == 1 else status_of(error)
    return Problem(status, str(error), **({"rejected": rejected_values(refused)} if refused else {}))


def _claim_key(visitor: str, key: str, body_sha256: str) -> dict[str, Any] | None:
    """Store a new key and return None, or return the answer to an earlier request with it."""
    now = datetime.now(UTC)
    is_abandoned = IdempotencyKey.answer.is_(None) & (IdempotencyKey.created_at < now - ABANDONED_AFTER)
    db.session.execute(delete(IdempotencyKey).where(or_(IdempotencyKey.created_at < now - KEY_LIFETIME, is_abandoned)))
    db.session.add(IdempotencyKey(visitor=visitor, key=key, body_sha256=body_sha256))
    try:
        db.session.commit()
        return None
    except IntegrityError:
        db.session.rollback()
    known = db.session.get(IdempotencyKey, (visitor, key))
    if known is not None and known.body_sha256 != body_sha256:
        raise Problem(409, "This idempotency key belongs to a request with other files or parameters.")
    if known is None or known.answer is None:
        raise Problem(409, "A request with this idempotency key is still running. Send it again later.")
    return known.answer


def _hash_request(files: Sequence[UploadedFile], callback_url: str | None) -> str:
    sent = [[file.name, measure_file(file.stream, "").sha256] for file in files]
    return hashlib.sha256(json.dumps([sent, callback_url]).encode()).hexdigest()
