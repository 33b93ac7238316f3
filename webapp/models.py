"""The tables: what was uploaded, and what was found in it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import JSON, DateTime, Dialect, ForeignKey, Index, String, TypeDecorator, event
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from webapp.config import PREFIX, StartupError

TOKEN_BYTES = 16
BUSY_TIMEOUT_MS = 10_000


class Tables(DeclarativeBase):
    """Root of the tables."""


db = SQLAlchemy(model_class=Tables)


def new_token() -> str:
    """Return an unguessable name of 22 characters, for an analysis or a visitor."""
    return secrets.token_urlsafe(TOKEN_BYTES)


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
    size_bytes: Mapped[int]
    media_type: Mapped[str] = mapped_column(String(32))


class Analysis(db.Model):
    """One verdict, visible to one visitor.

    Attributes:
        sample: which of our own samples it was; None for an upload.
        threshold_real, threshold_fake: probabilities between which this verdict was withheld.
        has_heatmaps: the storage holds a heat map for each face.
        result: `Detection.to_dict()`.
    """

    __tablename__ = "analysis"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_token)
    visitor: Mapped[str] = mapped_column(String(32))
    upload_sha256: Mapped[str] = mapped_column(ForeignKey("upload.sha256"), index=True)
    filename: Mapped[str] = mapped_column(String(255))
    sample: Mapped[str | None] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=lambda: datetime.now(UTC))
    media: Mapped[str] = mapped_column(String(16))
    verdict: Mapped[str] = mapped_column(String(16))
    probability: Mapped[float]
    threshold_real: Mapped[float]
    threshold_fake: Mapped[float]
    elapsed_ms: Mapped[float]
    has_heatmaps: Mapped[bool]
    result: Mapped[dict[str, Any]] = mapped_column(JSON)

    upload: Mapped[Upload] = relationship()

    __table_args__ = (Index("ix_analysis_visitor_created_at", "visitor", "created_at"),)


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
