"""The tables of the API: tokens, idempotency keys and webhook calls."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from webapp.models import MAX_ERROR_CHARACTERS, Model, UtcDateTime, new_token

MAX_KEY_CHARACTERS = 255
MAX_URL_CHARACTERS = 2_000


class CallState(StrEnum):
    """The states of a webhook call."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"


class ApiToken(Model):
    """One access token; only a hash of its secret is stored.

    Attributes:
        id: public part of the token, 16 hexadecimal digits.
        name: whom it is for, in the administrator's words.
        scopes: what it allows, separated by spaces.
        expires_at: None if it does not expire.
        revoked_at: None while it is valid.
        last_used_at: exact to a minute; None if it was never used.
    """

    __tablename__ = "api_token"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    secret_sha256: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=lambda: datetime.now(UTC))
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    @property
    def visitor(self) -> str:
        """The owner of its analyses, as in `Analysis.visitor`."""
        return f"token:{self.id}"


class IdempotencyKey(Model):
    """One answered or running request that a client may repeat.

    Attributes:
        visitor: the owner of the key, as in `Analysis.visitor`.
        body_sha256: of the request's files and parameters.
        answer: what `submissions.submit_files` returned; None while the request is running.
    """

    __tablename__ = "idempotency_key"

    visitor: Mapped[str] = mapped_column(String(32), primary_key=True)
    key: Mapped[str] = mapped_column(String(MAX_KEY_CHARACTERS), primary_key=True)
    body_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True, default=lambda: datetime.now(UTC))
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class WebhookCall(Model):
    """One message that is sent when an analysis is over.

    There is no foreign key to the analysis: SQLite would delete calls when a migration rebuilds that table.

    Attributes:
        id: the message's id, the same for every attempt.
        visitor: the owner of the analysis; the signing secret is derived from it.
        attempts: how often it was sent, with or without success.
        next_attempt_at: not before; while an attempt runs, when another process may take over.
        error: why the last attempt failed, as a sentence.
    """

    __tablename__ = "webhook_call"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_token)
    analysis_id: Mapped[str] = mapped_column(String(32), index=True)
    visitor: Mapped[str] = mapped_column(String(32))
    url: Mapped[str] = mapped_column(String(MAX_URL_CHARACTERS))
    state: Mapped[str] = mapped_column(String(16), default=CallState.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime] = mapped_column(UtcDateTime, default=lambda: datetime.now(UTC))
    error: Mapped[str | None] = mapped_column(String(MAX_ERROR_CHARACTERS))

    __table_args__ = (Index("ix_webhook_call_state_next_attempt_at", "state", "next_attempt_at"),)
