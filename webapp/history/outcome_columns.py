"""What became of an analysis as SQL expressions, to search, sort and count by without reading records."""

from __future__ import annotations

from sqlalchemy import ColumnElement, case

from webapp.models import Analysis, State
from webapp.outcomes import Outcome


def outcome() -> ColumnElement[str]:
    """Return the `Outcome` of an analysis, as `webapp.outcomes.outcome_of` does."""
    return case(
        (Analysis.state != State.DONE, Analysis.state),
        (Analysis.is_checked.is_(False), Outcome.UNCHECKED.value),
        else_=Analysis.verdict,
    )


def checked_probability() -> ColumnElement[float | None]:
    """Return the probability of an analysis if it has a meaning, else NULL."""
    return case((Analysis.is_checked, Analysis.probability))
