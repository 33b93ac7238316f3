"""Counts of analyses, computed by the database: by day, medium, outcome, score and processing time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import ColumnElement, SQLColumnExpression, case, func, literal, select

from webapp.history.outcome_columns import checked_probability, outcome
from webapp.models import Analysis, State, Upload, db

MAX_TIME_BINS = 31
SCORE_BINS = 20  # of equal width
SCORE_EDGES = tuple(place / SCORE_BINS for place in range(SCORE_BINS + 1))
TIME_EDGES_MS = (0, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000, math.inf)


@dataclass(frozen=True)
class Counts:
    """Counts of one visitor's analyses, or of all.

    Attributes:
        n: number of analyses.
        n_visitors: number of visitors they belong to.
        stored_bytes: size of the stored files of all visitors together.
        days: first day of each step of time, in UTC; as many days each as `days_per_step`.
        by_day: number by step of time, counted from 0, and outcome.
        by_medium: number by medium and outcome.
        scores: number of scores that have a meaning, in each of SCORE_BINS.
        durations: number of results by medium and bin of TIME_EDGES_MS.
    """

    n: int
    n_visitors: int
    stored_bytes: int
    days: tuple[date, ...]
    days_per_step: int
    by_day: Mapping[tuple[int, str], int]
    by_medium: Mapping[tuple[str, str], int]
    scores: tuple[int, ...]
    durations: Mapping[tuple[str, int], int]


def count_own(visitor: str | None) -> Counts:
    """Count the analyses of a visitor."""
    return _count(Analysis.visitor == visitor)


def count_everyone() -> Counts:
    """Count the analyses of all visitors."""
    return _count()


def _count(*conditions: ColumnElement[bool]) -> Counts:
    totals = select(func.count(), func.count(Analysis.visitor.distinct()), func.min(Analysis.created_at))
    n, n_visitors, first = db.session.execute(totals.where(*conditions)).one()
    days, days_per_step = time_steps(first)
    done = (Analysis.state == State.DONE, *conditions)
    scored = (checked_probability().is_not(None), *conditions)
    scores = _count_by(scored, score=_place(Analysis.probability, SCORE_EDGES))
    return Counts(
        n=n,
        n_visitors=n_visitors,
        stored_bytes=int(db.session.scalar(select(func.sum(Upload.size_bytes))) or 0),  # PostgreSQL: a Decimal
        days=days,
        days_per_step=days_per_step,
        by_day=_count_by(conditions, day=_place(Analysis.created_at, _midnights(days)), outcome=outcome()),
        by_medium=_count_by(conditions, media=Analysis.media, outcome=outcome()),
        scores=tuple(scores.get((place,), 0) for place in range(SCORE_BINS)),
        durations=_count_by(done, media=Analysis.media, duration=_place(Analysis.elapsed_ms, TIME_EDGES_MS)),
    )


def time_steps(first: datetime | None) -> tuple[tuple[date, ...], int]:
    """Return the first day of each step from the first result to today, at most MAX_TIME_BINS, and a step's days."""
    today = datetime.now(UTC).date()
    start = min(first.astimezone(UTC).date(), today) if first else today
    n_days = (today - start).days + 1
    step = math.ceil(n_days / MAX_TIME_BINS)
    return tuple(start + timedelta(days=offset) for offset in range(0, n_days, step)), step


def _count_by(conditions: Sequence[ColumnElement[bool]], **values: SQLColumnExpression[Any]) -> dict[Any, int]:
    """Return the number of analyses for each combination of values.

    The values are computed in a subquery, because PostgreSQL does not recognise an expression with parameters when it
    is grouped by.
    """
    each = select(*(value.label(name) for name, value in values.items())).where(*conditions).subquery()
    rows = db.session.execute(select(*each.c, func.count()).group_by(*each.c))
    return {tuple(key): count for *key, count in rows}


def _place(value: SQLColumnExpression[Any], edges: Sequence[Any]) -> ColumnElement[int]:
    """Return the SQL expression of the bin in which a value lies, counted from 0; the outermost edges do not matter."""
    inner = [(value < end, place) for place, end in enumerate(edges[1:-1])]
    return case(*inner, else_=len(inner)) if inner else literal(0)


def _midnights(days: Sequence[date]) -> list[datetime]:
    return [datetime.combine(day, time(), UTC) for day in [*days, date.max]]
