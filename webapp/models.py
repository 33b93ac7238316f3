"""The tables: uploads, their analyses, and batches of them."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    JSON,
    BigInteger,
    CursorResult,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    String,
    TypeDecorator,
    Update,
    event,
)
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from detector.record import upgrade
from webapp.config import PREFIX, StartupError

TOKEN_BYTES = 16
BUSY_TIMEOUT_MS = 10_000
MAX_ERROR_CHARACTERS = 500
# A restarted database is noticed before a query fails, and each thread of a worker can have a connection.
SHARED_ENGINE = {"pool_pre_ping": True, "pool_size": 4, "max_overflow": 28}


class Tables(DeclarativeBase):
    """Root of the tables."""


db = SQLAlchemy(model_class=Tables)

if TYPE_CHECKING:  # Flask-SQLAlchemy makes its own class from `Tables` when it runs
    Model = Tables
else:
    Model = db.Model


def new_token() -> str:
    """Return an unguessable name of 22 characters, for an analysis, a batch or a visitor."""
    return secrets.token_urlsafe(TOKEN_BYTES)


class State(StrEnum):
    """The states of an analysis; only `DONE` has a verdict."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class UtcDateTime(TypeDecorator):
    """A time in UTC; SQLite loses the zone, so it is added again on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


class Upload(Model):
    """One file in the storage, with the number of analyses that refer to it."""

    __tablename__ = "upload"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    reference_count: Mapped[int]
    size_bytes: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"))
    media_type: Mapped[str] = mapped_column(String(32))


class Batch(Model):
    """Several files of one visitor that were sent together; it goes with the last of its analyses.

    Attributes:
        name: of the ZIP or the folder; empty for files that have nothing in common.
        refused: the files without an analysis, see `webapp.batches.files.RefusedFile`.
    """

    __tablename__ = "batch"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_token)
    visitor: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=lambda: datetime.now(UTC))
    name: Mapped[str] = mapped_column(String(255), default="")
    refused: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)

    __table_args__ = (Index("ix_batch_visitor_created_at", "visitor", "created_at"),)


class Analysis(Model):
    """One upload of one visitor, and its verdict when it is done.

    Attributes:
        sample: name of the shipped sample; None for an upload.
        batch_id: the files it was sent with; None for a file on its own.
        batch_position: its place among them as sent, from 0; 0 for a file on its own.
        media: "image", "video" or "audio".
        state: a `State`; a picture on its own is always `DONE`.
        progress: fraction of the work that is done, in [0, 1].
        worker: the process that analyses it while it is running, by `jobs.worker_id` of its instance folder.
        attempts: how often its analysis was started.
        seen_at: with Celery, when its task was sent, or when its worker last gave a sign of life.
        error: why there is no verdict, as a sentence; None unless it failed.
        threshold_real, threshold_fake: probabilities between which this verdict would be inconclusive.
        is_checked: it is done and its score has a meaning, see `detector.reports.was_checked`.
        traceparent: the trace of the request that sent it, as W3C's header; None without traces.
        repeats: id of the analysis that this one repeats, which may have been deleted since; None for an upload.
        has_heatmaps: the storage holds heat maps.
        result: `detector.record.to_record` and, for a picture, the evidence; written by any version of the detector.
            Empty until the analysis is done, while verdict, probability and thresholds are None. Read `record`.
    """

    __tablename__ = "analysis"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_token)
    visitor: Mapped[str] = mapped_column(String(32))
    upload_sha256: Mapped[str] = mapped_column(ForeignKey("upload.sha256"), index=True)
    filename: Mapped[str] = mapped_column(String(255))
    sample: Mapped[str | None] = mapped_column(String(16))
    batch_id: Mapped[str | None] = mapped_column(ForeignKey("batch.id"), index=True)
    batch_position: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=lambda: datetime.now(UTC))
    media: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16), default=State.DONE)
    progress: Mapped[float] = mapped_column(default=0.0)
    worker: Mapped[str | None] = mapped_column(String(255))
    attempts: Mapped[int] = mapped_column(default=0)
    seen_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[str | None] = mapped_column(String(MAX_ERROR_CHARACTERS))
    verdict: Mapped[str | None] = mapped_column(String(16))
    probability: Mapped[float | None]
    threshold_real: Mapped[float | None]
    threshold_fake: Mapped[float | None]
    elapsed_ms: Mapped[float | None]
    is_checked: Mapped[bool] = mapped_column(default=False)
    traceparent: Mapped[str | None] = mapped_column(String(55))
    repeats: Mapped[str | None] = mapped_column(String(32))
    has_heatmaps: Mapped[bool] = mapped_column(default=False)
    result: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)

    upload: Mapped[Upload] = relationship()
    batch: Mapped[Batch | None] = relationship()

    @property
    def record(self) -> dict[str, Any]:
        """`result` as a record of the present version; empty until the analysis is done."""
        return upgrade(self.result) if self.result else {}

    __table_args__ = (
        # Every column that the history and the statistics filter, sort or count by: a search then reads no records,
        # which are many times as long as the rest of a row.
        Index(
            "ix_analysis_history",
            *("visitor", "created_at", "id", "state", "is_checked", "verdict", "media", "probability", "elapsed_ms"),
            "filename",
        ),
        Index("ix_analysis_created_at", "created_at"),
        Index("ix_analysis_state_created_at", "state", "created_at"),
    )


def count_changed(statement: Update) -> int:
    """Execute an update and return how many rows it changed."""
    result = db.session.execute(statement)
    assert isinstance(result, CursorResult)
    return result.rowcount


def connect_database(app: Flask) -> None:
    """Open `SQLALCHEMY_DATABASE_URI`.

    Raises:
        StartupError: its driver is not installed.
    """
    if not app.config["SQLALCHEMY_DATABASE_URI"].startswith("sqlite"):
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = SHARED_ENGINE
    try:
        db.init_app(app)
        with app.app_context():
            engine = db.engine
    except (ArgumentError, ImportError) as error:
        raise StartupError(f"{PREFIX}DATABASE_URL cannot be used: {error}.") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # SQLite's own function knows only the letters of ASCII.
    connection.create_function("lower", 1, lambda text: text and text.lower(), deterministic=True)
    for pragma in ("foreign_keys = ON", "journal_mode = WAL", f"busy_timeout = {BUSY_TIMEOUT_MS}"):
        connection.execute(f"PRAGMA {pragma}")
