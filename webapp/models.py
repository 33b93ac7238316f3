"""The tables: what was uploaded, and what was found in it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import JSON, BigInteger, DateTime, Dialect, ForeignKey, Index, Integer, String, TypeDecorator, event
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from webapp.config import PREFIX, StartupError

TOKEN_BYTES = 16
BUSY_TIMEOUT_MS = 10_000
MAX_ERROR_CHARACTERS = 500


class Tables(DeclarativeBase):
    """Root of the tables."""


db = SQLAlchemy(model_class=Tables)


def new_token() -> str:
    """Return an unguessable name of 22 characters, for an analysis or a visitor."""
    return secrets.token_urlsafe(TOKEN_BYTES)


class State(StrEnum):
    """How far the judging of an upload is; only `DONE` has a verdict."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class UtcDateTime(TypeDecorator):
    """A moment in UTC; SQLite forgets the zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


class Upload(db.Model):
    """One file in the storage, however many analyses refer to it."""

    __tablename__ = "upload"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    reference_count: Mapped[int]
    size_bytes: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"))
    media_type: Mapped[str] = mapped_column(String(32))


class Analysis(db.Model):
    """One upload of one visitor, and its verdict once there is one.

    Attributes:
        sample: which of our own samples it was; None for an upload.
        media: "image", "video" or "audio".
        state: a `State`; pictures are `DONE` from the beginning.
        progress: share of the work that is done, in [0, 1].
        worker: which instance folder's process judges it while it is running, by `jobs.keep_name`.
        attempts: how often judging was begun.
        error: why there is no verdict, as a sentence; None unless it failed.
        threshold_real, threshold_fake: probabilities between which this verdict was withheld.
        has_heatmaps: the storage holds a heat map for each face.
        result: `Detection.to_dict()`; empty until it is done, as verdict, probability and thresholds are None.
    """

    __tablename__ = "analysis"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_token)
    visitor: Mapped[str] = mapped_column(String(32))
    upload_sha256: Mapped[str] = mapped_column(ForeignKey("upload.sha256"), index=True)
    filename: Mapped[str] = mapped_column(String(255))
    sample: Mapped[str | None] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=lambda: datetime.now(UTC))
    media: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16), default=State.DONE)
    progress: Mapped[float] = mapped_column(default=0.0)
    worker: Mapped[str | None] = mapped_column(String(255))
    attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None] = mapped_column(String(MAX_ERROR_CHARACTERS))
    verdict: Mapped[str | None] = mapped_column(String(16))
    probability: Mapped[float | None]
    threshold_real: Mapped[float | None]
    threshold_fake: Mapped[float | None]
    elapsed_ms: Mapped[float | None]
    has_heatmaps: Mapped[bool] = mapped_column(default=False)
    result: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)

    upload: Mapped[Upload] = relationship()

    __table_args__ = (
        Index("ix_analysis_visitor_created_at", "visitor", "created_at"),
        Index("ix_analysis_state_created_at", "state", "created_at"),
    )


def connect_database(app: Flask) -> None:
    """Open `SQLALCHEMY_DATABASE_URI`.

    Raises:
        StartupError: its driver is not installed.
    """
    try:
        db.init_app(app)
        with app.app_context():
            engine = db.engine
    except (ArgumentError, ImportError) as error:
        raise StartupError(f"{PREFIX}DATABASE_URL cannot be used: {error}.") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    for pragma in ("foreign_keys = ON", "journal_mode = WAL", f"busy_timeout = {BUSY_TIMEOUT_MS}"):
        connection.execute(f"PRAGMA {pragma}")
