"""Search a visitor's analyses: what was asked, and one page of what was found.

The pages of the history and of a batch share the fields of the search, their conditions and the division into pages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, SQLColumnExpression, func, select
from sqlalchemy.orm import joinedload

from detector.media import MEDIA
from detector.text import sanitize_text, translatable
from webapp.analyses import MAX_NAME_CHARACTERS
from webapp.history.outcome_columns import checked_probability, outcome
from webapp.models import Analysis, db
from webapp.outcomes import OUTCOME_NAMES, Outcome

HISTORY_PAGE_SIZE = 25
MAX_BATCH_CHARACTERS = 32
MAX_EXPORTED = 2_000  # results in one file, whose records are all read
FIRST_YEAR, LAST_YEAR = 2000, 2999
HISTORY_ORDERS = {
    "newest": translatable("Newest first"),
    "oldest": translatable("Oldest first"),
    "highest": translatable("Highest score first"),
    "lowest": translatable("Lowest score first"),
    "name": translatable("By name"),
}

Row = TypeVar("Row")


class InvalidSearch(ValueError):
    """A field of the search form cannot be read; the message is a sentence for the person."""


@dataclass(frozen=True)
class Search:
    """What a visitor searches for; an empty field does not matter.

    Attributes:
        name: part of the file's name, in capitals or not.
        verdict: an `Outcome`.
        media: a key of `MEDIA`.
        since, until: first and last day, in UTC.
        lowest, highest: P(fake) in percent; only results whose score has a meaning are found.
        sort: how the list is ordered; "" for its own order.
        page: counted from 1.
        batch: id of the batch they were sent in.
    """

    name: str = ""
    verdict: str = ""
    media: str = ""
    since: date | None = None
    until: date | None = None
    lowest: float | None = None
    highest: float | None = None
    sort: str = ""
    page: int = 1
    batch: str = ""

    @classmethod
    def of(cls, arguments: Mapping[str, str], *, orders: Mapping[str, object] = HISTORY_ORDERS) -> Search:
        """Read the fields of a form or an address.

        Args:
            arguments: as sent.
            orders: of the list, by the names that `sort` may have.

        Raises:
            InvalidSearch: a field cannot be read, or a range ends before it begins.
        """
        given = {name: text for name in FIELDS if (text := arguments.get(name, "").strip())}
        search = cls(
            name=sanitize_text(given.get("name", ""))[:MAX_NAME_CHARACTERS],
            verdict=_choice(given.get("verdict", ""), OUTCOME_NAMES),
            media=_choice(given.get("media", ""), MEDIA),
            since=_day(given.get("since")),
            until=_day(given.get("until")),
            lowest=_percent(given.get("lowest")),
            highest=_percent(given.get("highest")),
            sort=_choice(given.get("sort", ""), orders),
            page=_page(given.get("page", "")),
            batch=given.get("batch", "")[:MAX_BATCH_CHARACTERS],
        )
        if search.since and search.until and search.since > search.until:
            raise InvalidSearch(translatable("The first day is after the last one."))
        if search.lowest is not None and search.highest is not None and search.lowest > search.highest:
            raise InvalidSearch(translatable("The lowest score is above the highest one."))
        return search

    @property
    def is_narrow(self) -> bool:
        """Whether anything is left out."""
        return replace(self, sort="", page=1) != Search()

    def finds_refused(self, name: str) -> bool:
        """Return whether a file without an analysis is found: it has failed, and has no medium, day or score."""
        has_more = (self.media, self.since, self.until, self.lowest, self.highest) != ("", None, None, None, None)
        fits = self.verdict in ("", Outcome.FAILED) and self.name.lower() in name.lower()
        return fits and not has_more

    def arguments(self, **changes: object) -> dict[str, str]:
        """Return the fields of an address that leads to this search, with changes; those by default are left out."""
        return {
            name: f"{value:g}" if isinstance(value, float) else str(value)
            for name, value in asdict(replace(self, **changes)).items()  # type: ignore[arg-type]
            if value != getattr(Search, name)
        }


FIELDS = tuple(field.name for field in fields(Search))


@dataclass(frozen=True)
class Found(Generic[Row]):
    """One page of a list.

    Attributes:
        rows: of the page.
        count: of all pages.
        page, pages: counted from 1.
    """

    rows: Sequence[Row]
    count: int
    page: int
    pages: int

    @property
    def offered_pages(self) -> list[int | None]:
        """The first page, the last one, and those beside this page; None for those left out, if there are several."""
        near = {1, self.pages, *range(max(1, self.page - 1), min(self.pages, self.page + 1) + 1)}
        offered: list[int | None] = []
        for page in range(1, self.pages + 1):
            if page in near or {page - 1, page + 1} <= near:
                offered.append(page)
            elif offered[-1] is not None:
                offered.append(None)
        return offered


def existing_page(wanted: int, *, count: int, size: int) -> tuple[int, int]:
    """Return a page of a list and the number of its pages; the last page if there are fewer.

    Args:
        wanted: counted from 1.
        count: of all rows.
        size: rows on a page.
    """
    pages = max(1, math.ceil(count / size))
    return min(wanted, pages), pages


def find(visitor: str | None, search: Search) -> Found[Analysis]:
    """Return a page of a visitor's analyses; the last one if there are fewer pages."""
    conditions = conditions_of(visitor, search)
    count = db.session.scalar(select(func.count()).select_from(Analysis).where(*conditions)) or 0
    page, pages = existing_page(search.page, count=count, size=HISTORY_PAGE_SIZE)
    # The index has all that this needs, so only the rows of the page are read.
    ids = select(Analysis.id).where(*conditions).order_by(*_order(search.sort))
    shown = db.session.scalars(ids.limit(HISTORY_PAGE_SIZE).offset((page - 1) * HISTORY_PAGE_SIZE)).all()
    of_page = select(Analysis).where(Analysis.id.in_(shown)).options(joinedload(Analysis.batch))
    rows = {row.id: row for row in db.session.scalars(of_page)}
    return Found([rows[each] for each in shown if each in rows], count, page, pages)


def find_all(visitor: str | None, search: Search) -> list[Analysis]:
    """Return the analyses on all pages of a search, in its order; at most one more than MAX_EXPORTED."""
    every = select(Analysis).where(*conditions_of(visitor, search)).order_by(*_order(search.sort))
    return list(db.session.scalars(every.limit(MAX_EXPORTED + 1)))


def conditions_of(visitor: str | None, search: Search) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that a visitor's analyses meet if they are found."""
    conditions = [Analysis.visitor == visitor]
    if search.name:
        conditions.append(Analysis.filename.icontains(search.name, autoescape=True))
    if search.verdict:
        conditions.append(outcome() == search.verdict)
    if search.media:
        conditions.append(Analysis.media == search.media)
    if search.batch:
        conditions.append(Analysis.batch_id == search.batch)
    if search.since:
        conditions.append(Analysis.created_at >= _midnight(search.since))
    if search.until:
        conditions.append(Analysis.created_at < _midnight(search.until) + timedelta(days=1))
    if search.lowest is not None:
        conditions.append(checked_probability() >= search.lowest / 100)
    if search.highest is not None:
        conditions.append(checked_probability() <= search.highest / 100)
    return tuple(conditions)


def count_all(visitor: str | None) -> int:
    """Return how many analyses a visitor has."""
    return db.session.scalar(select(func.count()).select_from(Analysis).where(Analysis.visitor == visitor)) or 0


def _order(sort: str) -> tuple[SQLColumnExpression[Any], ...]:
    newest = (Analysis.created_at.desc(), Analysis.id.desc())
    return {
        "newest": newest,
        "oldest": (Analysis.created_at, Analysis.id),
        "highest": (Analysis.is_checked.desc(), checked_probability().desc(), *newest),
        "lowest": (Analysis.is_checked.desc(), checked_probability(), *newest),
        "name": (func.lower(Analysis.filename), *newest),
    }[sort or "newest"]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _choice(text: str, choices: Mapping[Any, object]) -> str:
    if text and text not in choices:
        raise InvalidSearch(translatable("There is no such choice: “{text}”.").format(text=sanitize_text(text)))
    return text


def _day(text: str | None) -> date | None:
    try:
        day = date.fromisoformat(text) if text else None
        if day is None or FIRST_YEAR <= day.year <= LAST_YEAR:
            return day
    except ValueError:
        pass
    sentence = translatable("“{text}” is not a day. Write it like this: 2026-11-20.")
    raise InvalidSearch(sentence.format(text=sanitize_text(text or "")))


def _percent(text: str | None) -> float | None:
    try:
        number = float(text.removesuffix("%")) if text else None
        if number is None or 0 <= number <= 100:
            return number
    except ValueError:
        pass
    sentence = translatable("A score is a number from 0 to 100, not “{text}”.")
    raise InvalidSearch(sentence.format(text=sanitize_text(text or "")))


def _page(text: str) -> int:
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 9 else 1
