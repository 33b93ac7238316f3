"""Lists of a token's analyses and batches, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import joinedload

from webapp.models import Analysis, Batch, db

EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
MOMENT_DIGITS = 16
CURSOR_PATTERN = r"^[0-9]{16}[A-Za-z0-9_-]{22}$"  # microseconds since 1970, and the id of a row

Row = TypeVar("Row", Analysis, Batch)


def page_of_analyses(
    visitor: str, *, limit: int, cursor: str | None = None, **wanted: str
) -> tuple[Sequence[Analysis], str | None]:
    """Return a page of a visitor's analyses, the newest first, and the cursor of the next page.

    Args:
        visitor: the owner.
        limit: how many to return.
        cursor: from the page before, of `CURSOR_PATTERN`; None for the first one.
        wanted: columns of `Analysis` and their values, to leave out others.
    """
    own = select(Analysis).filter_by(visitor=visitor, **wanted).options(joinedload(Analysis.upload))
    return _page(own, Analysis, limit, cursor)


def page_of_batches(visitor: str, *, limit: int, cursor: str | None = None) -> tuple[Sequence[Batch], str | None]:
    """Return a page of a visitor's batches, as `page_of_analyses` does."""
    return _page(select(Batch).filter_by(visitor=visitor), Batch, limit, cursor)


def _page(query: Select[Row], table: type[Row], limit: int, cursor: str | None) -> tuple[Sequence[Row], str | None]:
    """Return a page of a table's rows; a cursor names its last row, so newer rows do not change the next page."""
    if cursor is not None:
        query = query.where(tuple_(table.created_at, table.id) < tuple_(*_decode(cursor)))
    found = db.session.scalars(query.order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)).all()
    page = found[:limit]
    return page, _encode(page[-1]) if len(found) > limit else None


def _encode(row: Analysis | Batch) -> str:
    return f"{(row.created_at - EPOCH) // MICROSECOND:016}{row.id}"


def _decode(cursor: str) -> tuple[datetime, str]:
    return EPOCH + int(cursor[:MOMENT_DIGITS]) * MICROSECOND, cursor[MOMENT_DIGITS:]
