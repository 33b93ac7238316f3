"""What became of a file, in one word: its verdict, or why it has none. For tables, charts and exports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from enum import StrEnum

from detector.reports import was_checked
from detector.text import translatable
from webapp.models import State


class Outcome(StrEnum):
    """The outcomes, in the order in which tables and charts show them."""

    DEEPFAKE = "deepfake"
    INCONCLUSIVE = "inconclusive"
    REAL = "real"
    UNCHECKED = "unchecked"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RUNNING = "running"
    WAITING = "waiting"


OUTCOME_NAMES = {
    Outcome.DEEPFAKE: translatable("Deepfake"),
    Outcome.INCONCLUSIVE: translatable("Inconclusive"),
    Outcome.REAL: translatable("Real"),
    Outcome.UNCHECKED: translatable("Could not be checked"),
    Outcome.FAILED: translatable("Failed"),
    Outcome.CANCELLED: translatable("Cancelled"),
    Outcome.RUNNING: translatable("Being checked"),
    Outcome.WAITING: translatable("Waiting"),
}
UNFINISHED = (Outcome.RUNNING, Outcome.WAITING)
CHECKED = (Outcome.DEEPFAKE, Outcome.INCONCLUSIVE, Outcome.REAL)  # the outcomes whose score has a meaning


def outcome_of(state: str, verdict: str | None, reasons: Sequence[str] = ()) -> Outcome:
    """Return the outcome of an analysis.

    Args:
        state: a `State`.
        verdict: None unless it is done.
        reasons: of its record.
    """
    if state != State.DONE:
        return Outcome(state)
    return Outcome(verdict or "") if was_checked(reasons) else Outcome.UNCHECKED


def count_outcomes(outcomes: Iterable[Outcome]) -> dict[Outcome, int]:
    """Return the number of files with each outcome that occurs, in the order of `Outcome`."""
    counts = Counter(outcomes)
    return {outcome: counts[outcome] for outcome in Outcome if counts[outcome]}
