"""Lists of a token's analyses, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import select, tuple_
from sqlalchemy.orm import joinedload

from webapp.models import Analysis, db

EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
MOMENT_DIGITS = 16
CURSOR_PATTERN = r"^[0-9]{16}[A-Za-z0-9_-]{22}$"  # microseconds since 1970, and the id of an analysis


def list_page(
    visitor: str, *, limit: int, cursor: str | None = None, **wanted: str
) -> tuple[Sequence[Analysis], str | None]:
    """Return a page of a visitor's analyses, the newest first, and the cursor of the next page.

    A cursor names the last analysis of a page, so a page stays the same when newer analyses are added.

    Args:
        visitor: the owner.
        limit: how many to return.
        cursor: from the page before, of `CURSOR_PATTERN`; None for the first one.
        wanted: columns of `Analysis` and their values, to leave out others.
    """
    query = select(Analysis).filter_by(visitor=visitor, **wanted).options(joinedload(Analysis.upload))
    position = tuple_(Analysis.created_at, Analysis.id)
    if cursor is not None:
        query = query.where(position < tuple_(*_decode(cursor)))
    found = db.session.scalars(query.order_by(Analysis.created_at.desc(), Analysis.id.desc()).limit(limit + 1)).all()
    page = found[:limit]
    return page, _encode(page[-1]) if len(found) > limit else None


def _encode(analysis: Analysis) -> str:
    return f"{(analysis.created_at - EPOCH) // MICROSECOND:016}{analysis.id}"


def _decode(cursor: str) -> tuple[datetime, str]:
    return EPOCH + int(cursor[:MOMENT_DIGITS]) * MICROSECOND, cursor[MOMENT_DIGITS:]
