"""A visitor's batches as their pages show them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from detector.media import MEDIA
from detector.text import format_count, translatable
from webapp import analyses
from webapp.analyses import RECENT_ANALYSES
from webapp.batches.files import RefusedFile
from webapp.history.outcome_columns import outcome
from webapp.models import Analysis, Batch, State, db
from webapp.outcomes import CHECKED, UNFINISHED, Outcome, outcome_of

SORTS: dict[str, Callable[[ResultRow], Any]] = {}


@dataclass(frozen=True)
class ResultRow:
    """A file of a batch, in the table of its page.

    Attributes:
        position: as sent, from 0.
        name: with its folders.
        outcome: what became of it.
        media: a key of `detector.media.MEDIA`; None for a refused file.
        analysis_id: None for a refused file.
        verdict: None unless its analysis is done.
        probability: calibrated P(fake) in [0, 1]; None unless the file could be checked.
        progress: fraction of the work that is done, in [0, 1].
        reasons: of an inconclusive verdict.
        error: why there is no verdict, as a sentence; None if there is one.
        model_sha256: of the model behind the verdict.
    """

    position: int
    name: str
    outcome: Outcome
    media: str | None = None
    analysis_id: str | None = None
    verdict: str | None = None
    probability: float | None = None
    progress: float = 0.0
    reasons: tuple[str, ...] = ()
    error: str | None = None
    model_sha256: str | None = None


SORTS |= {
    "position": lambda row: row.position,
    "name": lambda row: row.name.casefold(),
    "verdict": lambda row: list(Outcome).index(row.outcome),
    "probability": lambda row: -1.0 if row.probability is None else row.probability,
    "medium": lambda row: list(MEDIA).index(row.media) if row.media else len(MEDIA),
}


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
class RecentBatch:
    """A batch among a visitor's latest results.

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


def recent(visitor: str | None) -> list[Analysis | RecentBatch]:
    """Return a visitor's latest analyses and batches, the newest first, a batch as one entry."""
    newest_first = select(Batch).filter_by(visitor=visitor).order_by(Batch.created_at.desc())
    summaries = summarise(db.session.scalars(newest_first.limit(RECENT_ANALYSES)).all())
    entries: list[Analysis | RecentBatch] = [*analyses.recent(visitor)]
    entries += [RecentBatch(summary, _first_result(summary.batch)) for summary in summaries]
    return sorted(entries, key=lambda entry: entry.created_at, reverse=True)[:RECENT_ANALYSES]


def _first_result(batch: Batch) -> str | None:
    done = select(Analysis.id).filter_by(batch_id=batch.id, state=State.DONE)
    return db.session.scalar(done.order_by(Analysis.batch_position).limit(1))


def read_analyses(batch: Batch) -> Sequence[Analysis]:
    """Return the analyses of a batch with their records, in the order as sent."""
    return db.session.scalars(select(Analysis).filter_by(batch_id=batch.id).order_by(Analysis.batch_position)).all()


def refused_files(batch: Batch) -> list[RefusedFile]:
    """Return the files of a batch that have no analysis."""
    return [RefusedFile(**values) for values in batch.refused]


def read_rows(batch: Batch) -> tuple[ResultRow, ...]:
    """Return the rows of all files of a batch in the order as sent.

    The records are not read, which are large: only two values of each are needed.
    """
    columns = (
        Analysis.batch_position, Analysis.filename, Analysis.media, Analysis.id, Analysis.state, Analysis.verdict,
        Analysis.probability, Analysis.progress, Analysis.error,
        Analysis.result["reasons"].label("reasons"), Analysis.result["model_sha256"].label("model_sha256"),
    )  # fmt: skip
    rows = [ResultRow(each.position, each.filename, Outcome.FAILED, error=each.error) for each in refused_files(batch)]
    for found in db.session.execute(select(*columns).where(Analysis.batch_id == batch.id)):
        became = outcome_of(found.state, found.verdict, found.reasons or ())
        rows.append(
            ResultRow(
                position=found.batch_position,
                name=found.filename,
                outcome=became,
                media=found.media,
                analysis_id=found.id,
                verdict=found.verdict,
                probability=found.probability if became in CHECKED else None,
                progress=found.progress,
                reasons=tuple(found.reasons or ()),
                error=found.error,
                model_sha256=found.model_sha256,
            )
        )
    return tuple(sorted(rows, key=SORTS["position"]))
