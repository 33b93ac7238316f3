"""A visitor's batches as their pages show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select

from detector.media import MEDIA
from detector.text import format_count, translatable
from webapp import analyses
from webapp.analyses import RECENT_ANALYSES
from webapp.batches.files import RefusedFile
from webapp.history.outcome_columns import checked_probability, outcome
from webapp.history.search import Found, Search, conditions_of, existing_page
from webapp.models import Analysis, Batch, State, db
from webapp.outcomes import CHECKED, UNFINISHED, Outcome

BATCH_PAGE_SIZE = 50  # files
BATCHES_PAGE_SIZE = 25
OFFERED_BATCHES = 50  # of which a search may choose one


@dataclass(frozen=True)
class ResultRow:
    """A file of a batch, in the table of its page.

    Attributes:
        position: as sent, from 0.
        name: with its folders.
        outcome: what became of it.
        media: a key of `detector.media.MEDIA`; None for a refused file.
        analysis_id: None for a refused file.
        probability: calibrated P(fake) in [0, 1]; None unless the file could be checked.
        reasons: why it could not be checked.
        error: why there is no verdict, as a sentence; None if there is one.
    """

    position: int
    name: str
    outcome: Outcome
    media: str | None = None
    analysis_id: str | None = None
    probability: float | None = None
    reasons: tuple[str, ...] = ()
    error: str | None = None

    @property
    def has_verdict(self) -> bool:
        """Whether its analysis is done."""
        return self.outcome in CHECKED or self.outcome is Outcome.UNCHECKED


# What the table is sorted by; None comes last in either direction.
SORTS: dict[str, Callable[[ResultRow], Any]] = {
    "position": lambda row: row.position,
    "name": lambda row: row.name.casefold(),
    "verdict": lambda row: list(Outcome).index(row.outcome),
    "probability": lambda row: row.probability,
    "medium": lambda row: list(MEDIA).index(row.media) if row.media else None,
}
BATCH_ORDERS = {f"{minus}{key}": key for key in SORTS for minus in ("", "-")}  # a minus for downward


@dataclass(frozen=True)
class BatchSummary:
    """A batch and how far it is.

    Attributes:
        batch: its row.
        counts: the number of files with each outcome that occurs; refused files have failed.
        under_way: sum of the progress of the files that are being checked.
    """

    batch: Batch
    counts: Mapping[Outcome, int]
    under_way: float

    @property
    def n_files(self) -> int:
        """Number of files."""
        return sum(self.counts.values())

    @property
    def n_unfinished(self) -> int:
        """How many files are waiting or being checked."""
        return sum(self.counts.get(outcome, 0) for outcome in UNFINISHED)

    @property
    def n_finished(self) -> int:
        """How many files are neither waiting nor being checked."""
        return self.n_files - self.n_unfinished

    @property
    def n_to_retry(self) -> int:
        """How many stored files have failed or were cancelled."""
        n_over = self.counts.get(Outcome.FAILED, 0) + self.counts.get(Outcome.CANCELLED, 0)
        return n_over - len(self.batch.refused)

    @property
    def progress(self) -> float:
        """The fraction of the work that is done, in [0, 1], a file counting as much as any other."""
        return (self.n_finished + self.under_way) / max(self.n_files, 1)

    @property
    def title(self) -> str:
        """The name of the ZIP archive or the folder; the number of files if there is none."""
        if self.batch.name:
            return self.batch.name
        return translatable("Results of {count} files").format(count=format_count(self.n_files))


@dataclass(frozen=True)
class BatchEntry:
    """A batch in a list.

    Attributes:
        summary: how far it is.
        thumbnail_of: the id of the first analysis with a verdict; None if there is none.
    """

    summary: BatchSummary
    thumbnail_of: str | None

    @property
    def created_at(self) -> datetime:
        """When the files were sent."""
        return self.summary.batch.created_at


def get(batch_id: str, visitor: str | None) -> Batch | None:
    """Return a visitor's batch; None if it does not exist or belongs to somebody else."""
    return db.session.scalar(select(Batch).filter_by(id=batch_id, visitor=visitor))


def summarise(batches: Sequence[Batch]) -> list[BatchSummary]:
    """Return how far each of the batches is."""
    # A subquery, because PostgreSQL does not recognise an expression with parameters when it is grouped by.
    each = (
        select(Analysis.batch_id, outcome().label("outcome"), Analysis.progress)
        .where(Analysis.batch_id.in_([batch.id for batch in batches]))
        .subquery()
    )
    counted = select(each.c.batch_id, each.c.outcome, func.count(), func.sum(each.c.progress))
    counts: dict[str, Counter[Outcome]] = {
        batch.id: Counter({Outcome.FAILED: len(batch.refused)} if batch.refused else {}) for batch in batches
    }
    under_way: Counter[str] = Counter()
    for batch_id, name, n_files, progress in db.session.execute(counted.group_by(each.c.batch_id, each.c.outcome)):
        counts[batch_id][Outcome(name)] += n_files
        if name == Outcome.RUNNING:
            under_way[batch_id] = progress
    return [BatchSummary(batch, counts[batch.id], under_way[batch.id]) for batch in batches]


def recent(visitor: str | None) -> list[Analysis | BatchEntry]:
    """Return a visitor's latest analyses and batches, the newest first, a batch as one entry."""
    entries: list[Analysis | BatchEntry] = [*analyses.recent(visitor)]
    entries += _entries(latest(visitor, RECENT_ANALYSES))
    return sorted(entries, key=lambda entry: entry.created_at, reverse=True)[:RECENT_ANALYSES]


def latest(visitor: str | None, limit: int) -> Sequence[Batch]:
    """Return a visitor's latest batches, the newest first."""
    return db.session.scalars(_newest_first(visitor).limit(limit)).all()


def offered_batches(visitor: str | None, chosen_id: str) -> list[BatchSummary]:
    """Return a visitor's latest batches to choose from, with the one that is chosen; "" if none is."""
    offered = list(latest(visitor, OFFERED_BATCHES))
    chosen = get(chosen_id, visitor)
    if chosen is not None and chosen not in offered:
        offered.append(chosen)
    return summarise(offered)


def find_batches(visitor: str | None, page: int) -> Found[BatchEntry]:
    """Return a page of a visitor's batches, the newest first."""
    count = db.session.scalar(select(func.count()).select_from(Batch).where(Batch.visitor == visitor)) or 0
    page, pages = existing_page(page, count=count, size=BATCHES_PAGE_SIZE)
    shown = _newest_first(visitor).limit(BATCHES_PAGE_SIZE).offset((page - 1) * BATCHES_PAGE_SIZE)
    return Found(_entries(db.session.scalars(shown).all()), count, page, pages)


def _newest_first(visitor: str | None) -> Select[Batch]:
    return select(Batch).filter_by(visitor=visitor).order_by(Batch.created_at.desc(), Batch.id.desc())


def _entries(batches: Sequence[Batch]) -> list[BatchEntry]:
    done = (Analysis.batch_id.in_([batch.id for batch in batches])) & (Analysis.state == State.DONE)
    first = select(Analysis.batch_id, func.min(Analysis.batch_position).label("position")).where(done)
    first_done = first.group_by(Analysis.batch_id).subquery()
    is_first = (Analysis.batch_id == first_done.c.batch_id) & (Analysis.batch_position == first_done.c.position)
    found = db.session.execute(select(Analysis.batch_id, Analysis.id).join(first_done, is_first))
    thumbnails = dict(found.all())
    return [BatchEntry(summary, thumbnails.get(summary.batch.id)) for summary in summarise(batches)]


def read_analyses(batch: Batch) -> Sequence[Analysis]:
    """Return the analyses of a batch with their records, in the order as sent."""
    return db.session.scalars(select(Analysis).filter_by(batch_id=batch.id).order_by(Analysis.batch_position)).all()


def refused_files(batch: Batch) -> list[RefusedFile]:
    """Return the files of a batch that have no analysis."""
    return [RefusedFile(**values) for values in batch.refused]


def find_rows(batch: Batch, search: Search) -> Found[ResultRow]:
    """Return a page of the files of a batch that fit a search, the refused ones among them."""
    columns = (
        Analysis.batch_position, Analysis.filename, outcome().label("outcome"), Analysis.media, Analysis.id,
        checked_probability().label("probability"), Analysis.error,
    )  # fmt: skip
    conditions = conditions_of(batch.visitor, replace(search, batch=batch.id))
    rows = [
        ResultRow(each.batch_position, each.filename, Outcome(each.outcome), each.media, each.id, each.probability,
                  error=each.error)
        for each in db.session.execute(select(*columns).where(*conditions).order_by(Analysis.batch_position))
    ]  # fmt: skip
    rows += [
        ResultRow(each.position, each.filename, Outcome.FAILED, error=each.error)
        for each in refused_files(batch)
        if search.finds_refused(each.filename)
    ]
    rows = _sort(rows, search.sort)
    page, pages = existing_page(search.page, count=len(rows), size=BATCH_PAGE_SIZE)
    shown = rows[(page - 1) * BATCH_PAGE_SIZE : page * BATCH_PAGE_SIZE]
    return Found(_add_reasons(shown), len(rows), page, pages)


def read_verdicts(batch: Batch) -> list[tuple[str, str, str]]:
    """Return medium, verdict and SHA-256 of the model of the files that could be checked, each combination once."""
    model_sha256 = Analysis.result["model_sha256"].as_string()
    found = select(Analysis.media, Analysis.verdict, model_sha256).distinct()
    checked = found.where(Analysis.batch_id == batch.id, Analysis.is_checked)
    return [(media, verdict or "", sha256 or "") for media, verdict, sha256 in db.session.execute(checked)]


def _sort(rows: Sequence[ResultRow], order: str) -> list[ResultRow]:
    key = SORTS[order.removeprefix("-") or "position"]
    by_position = sorted(rows, key=SORTS["position"])
    known = sorted((row for row in by_position if key(row) is not None), key=key, reverse=order.startswith("-"))
    return [*known, *(row for row in by_position if key(row) is None)]


def _add_reasons(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Return rows with the reasons of what could not be checked; only their records are read, which are large."""
    unchecked = [row.analysis_id for row in rows if row.outcome is Outcome.UNCHECKED]
    if not unchecked:
        return list(rows)
    found = select(Analysis.id, Analysis.result["reasons"]).where(Analysis.id.in_(unchecked))
    reasons = {analysis_id: tuple(each or ()) for analysis_id, each in db.session.execute(found)}
    return [replace(row, reasons=reasons.get(row.analysis_id or "", ())) for row in rows]
