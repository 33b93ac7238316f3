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

from detector import DetectorError
from webapp import analyses
from webapp.api.problems import Problem
from webapp.api.tables import IdempotencyKey, WebhookCall
from webapp.models import Analysis, db
from webapp.statuses import status_of
from webapp.uploads import measure_file

MAX_FILES = 50  # of one request, whose pictures are analysed while the client waits
KEY_LIFETIME = timedelta(hours=24)
ABANDONED_AFTER = timedelta(minutes=15)  # a request that runs for longer has died with its worker
MEMORY_BYTES = 1_000_000  # of a raw body; a larger one is a file on the disk while it is received
FILE_FIELD = "file"
DEFAULT_FILENAME = "upload"
FORM_TYPE = "multipart/form-data"
RAW_TYPE = "application/octet-stream"
MEDIA_GROUPS = ("image", "video", "audio")  # their types are as good: the bytes say what the file is


@dataclass(frozen=True)
class SentFile:
    """A file of a request, open for reading, with the client's name for it."""

    name: str
    content: BinaryIO


@dataclass(frozen=True)
class Answer:
    """What a request for analyses was answered.

    Attributes:
        analysis_ids: of the accepted files, in their order.
        rejected: name, status and sentence of each refused file.
        is_replayed: the request was a repetition, so nothing was analysed.
    """

    analysis_ids: list[str]
    rejected: list[dict[str, Any]]
    is_replayed: bool = False


@contextmanager
def received_files(filename: str | None) -> Iterator[list[SentFile]]:
    """Give the files of the request: the fields `file` of a form, or else the body.

    Args:
        filename: of a body that is no form.

    Raises:
        Problem: there is no file, there are too many, or the body is of another type.
    """
    if request.mimetype == FORM_TYPE:
        sent = request.files.getlist(FILE_FIELD)
        files = [SentFile(each.filename or DEFAULT_FILENAME, cast(BinaryIO, each.stream)) for each in sent]
        if not files:
            raise Problem(422, f"The form has no file in a field “{FILE_FIELD}”.")
        if len(files) > MAX_FILES:
            raise Problem(422, f"The form has {len(files):,} files; at most {MAX_FILES} are accepted in one request.")
        yield files
        return
    if request.mimetype not in ("", RAW_TYPE) and request.mimetype.partition("/")[0] not in MEDIA_GROUPS:
        raise Problem(415, f"Send the file as {FORM_TYPE}, or as the body with Content-Type: {RAW_TYPE}.")
    with tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES) as body:
        shutil.copyfileobj(request.stream, body)
        yield [SentFile(filename or DEFAULT_FILENAME, cast(BinaryIO, body))]


def submit_files(files: Sequence[SentFile], *, visitor: str, callback_url: str | None, key: str | None) -> Answer:
    """Submit the files of a request, each like an upload by a page; the refusal of one stops no other.

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
        return Answer(**known, is_replayed=True)
    stored = select(IdempotencyKey).filter_by(visitor=visitor, key=key)
    try:
        answer = _submit(files, visitor=visitor, callback_url=callback_url)
    except BaseException:  # the same request may then be tried again
        db.session.rollback()
        db.session.delete(db.session.scalars(stored).one())
        db.session.commit()
        raise
    db.session.scalars(stored).one().answer = {"analysis_ids": answer.analysis_ids, "rejected": answer.rejected}
    db.session.commit()
    return answer


def find_analyses(answer: Answer, visitor: str) -> list[Analysis]:
    """Return the analyses of an answer that have not been deleted since.

    Raises:
        Problem: all have been deleted.
    """
    found = [analyses.get(analysis_id, visitor) for analysis_id in answer.analysis_ids]
    left = [analysis for analysis in found if analysis is not None]
    if not left:
        raise Problem(410, "The analyses of this idempotency key have been deleted.")
    return left


def _submit(files: Sequence[SentFile], *, visitor: str, callback_url: str | None) -> Answer:
    accepted: list[str] = []
    rejected: list[dict[str, Any]] = []
    for file in files:
        try:
            accepted.append(analyses.submit(file.content, filename=file.name, visitor=visitor).id)
        except DetectorError as error:
            name = analyses.clean_name(file.name)
            rejected.append({"filename": name, "status": status_of(error), "detail": str(error)})
    if not accepted:
        first = rejected[0]
        raise Problem(first["status"], first["detail"], rejected=rejected)
    if callback_url is not None:
        db.session.add_all(WebhookCall(analysis_id=each, visitor=visitor, url=callback_url) for each in accepted)
        db.session.commit()
        current_app.extensions["webhooks"].wake()
    return Answer(accepted, rejected)


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


def _hash_request(files: Sequence[SentFile], callback_url: str | None) -> str:
    sent = [[file.name, measure_file(file.content, "").sha256] for file in files]
    return hashlib.sha256(json.dumps([sent, callback_url]).encode()).hexdigest()
