"""A visitor's batches as their pages show them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import func, select

from detector import Verdict
from detector.media import MEDIA
from detector.text import format_count, translatable
from webapp import analyses
from webapp.analyses import RECENT_ANALYSES
from webapp.batches.files import RefusedFile
from webapp.models import Analysis, Batch, State, db
from webapp.outcomes import CHECKED, UNFINISHED, Outcome, count_outcomes, outcome_of

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
class BatchEntry:
    """A batch among a visitor's latest results.

    Attributes:
        batch: its row.
        n_files: number of files.
        n_unfinished: how many of them are waiting or being checked.
        n_deepfakes: how many of them are deepfakes.
        thumbnail_of: the id of the first analysis with a verdict; None if there is none.
    """

    batch: Batch
    n_files: int
    n_unfinished: int
    n_deepfakes: int
    thumbnail_of: str | None

    @property
    def created_at(self) -> datetime:
        """When the files were sent."""
        return self.batch.created_at


@dataclass(frozen=True)
class BatchResults:
    """A batch with the state of its files.

    Attributes:
        batch: its row.
        rows: of all files, in the order as sent.
    """

    batch: Batch
    rows: tuple[ResultRow, ...]

    @cached_property
    def counts(self) -> dict[Outcome, int]:
        """The number of files with each outcome that occurs."""
        return count_outcomes(row.outcome for row in self.rows)

    @property
    def title(self) -> str:
        """The name of the ZIP archive or the folder; the number of files if there is none."""
        if self.batch.name:
            return self.batch.name
        return translatable("Results of {count} files").format(count=format_count(len(self.rows)))

    @property
    def n_unfinished(self) -> int:
        """How many files are waiting or being checked."""
        return sum(self.counts.get(outcome, 0) for outcome in UNFINISHED)

    @property
    def n_finished(self) -> int:
        """How many files are neither waiting nor being checked."""
        return len(self.rows) - self.n_unfinished

    @property
    def n_to_retry(self) -> int:
        """How many stored files have failed or were cancelled."""
        return sum(
            row.analysis_id is not None and row.outcome in (Outcome.FAILED, Outcome.CANCELLED) for row in self.rows
        )

    @property
    def progress(self) -> float:
        """The fraction of the work that is done, in [0, 1], a file counting as much as any other."""
        under_way = sum(row.progress for row in self.rows if row.outcome is Outcome.RUNNING)
        return (self.n_finished + under_way) / max(len(self.rows), 1)

    def sorted_rows(self, sort: str, *, descending: bool = False) -> list[ResultRow]:
        """Return the rows sorted by a key of `SORTS`; equal ones stay in the order as sent."""
        return sorted(self.rows, key=SORTS[sort], reverse=descending)


def get(batch_id: str, visitor: str | None) -> BatchResults | None:
    """Return a visitor's batch; None if it does not exist or belongs to somebody else."""
    batch = db.session.scalar(select(Batch).filter_by(id=batch_id, visitor=visitor))
    return None if batch is None else BatchResults(batch, _read_rows(batch))


def recent(visitor: str | None) -> list[Analysis | BatchEntry]:
    """Return a visitor's latest analyses and batches, the newest first, a batch as one entry."""
    newest_first = select(Batch).filter_by(visitor=visitor).order_by(Batch.created_at.desc())
    batches = db.session.scalars(newest_first.limit(RECENT_ANALYSES)).all()
    entries: list[Analysis | BatchEntry] = [*analyses.recent(visitor), *map(_read_entry, batches)]
    return sorted(entries, key=lambda entry: entry.created_at, reverse=True)[:RECENT_ANALYSES]


def _read_entry(batch: Batch) -> BatchEntry:
    counted = select(Analysis.state, Analysis.verdict, func.count().label("n")).where(Analysis.batch_id == batch.id)
    groups = db.session.execute(counted.group_by(Analysis.state, Analysis.verdict)).all()
    done = select(Analysis.id).filter_by(batch_id=batch.id, state=State.DONE).order_by(Analysis.batch_position)
    return BatchEntry(
        batch=batch,
        n_files=len(batch.refused) + sum(group.n for group in groups),
        n_unfinished=sum(group.n for group in groups if group.state in (State.WAITING, State.RUNNING)),
        n_deepfakes=sum(group.n for group in groups if group.verdict == Verdict.DEEPFAKE),
        thumbnail_of=db.session.scalar(done.limit(1)),
    )


def read_analyses(batch: Batch) -> Sequence[Analysis]:
    """Return the analyses of a batch with their records, in the order as sent."""
    return db.session.scalars(select(Analysis).filter_by(batch_id=batch.id).order_by(Analysis.batch_position)).all()


def refused_files(batch: Batch) -> list[RefusedFile]:
    """Return the files of a batch that have no analysis."""
    return [RefusedFile(**values) for values in batch.refused]


def _read_rows(batch: Batch) -> tuple[ResultRow, ...]:
    """Read the rows without the records, which are large: only two values of each are needed."""
    columns = (
        Analysis.batch_position, Analysis.filename, Analysis.media, Analysis.id, Analysis.state, Analysis.verdict,
        Analysis.probability, Analysis.progress, Analysis.error,
        Analysis.result["reasons"].label("reasons"), Analysis.result["model_sha256"].label("model_sha256"),
    )  # fmt: skip
    rows = [ResultRow(each.position, each.filename, Outcome.FAILED, error=each.error) for each in refused_files(batch)]
    for found in db.session.execute(select(*columns).where(Analysis.batch_id == batch.id)):
        outcome = outcome_of(found.state, found.verdict, found.reasons or ())
        rows.append(
            ResultRow(
                position=found.batch_position,
                name=found.filename,
                outcome=outcome,
                media=found.media,
                analysis_id=found.id,
                verdict=found.verdict,
                probability=found.probability if outcome in CHECKED else None,
                progress=found.progress,
                reasons=tuple(found.reasons or ()),
                error=found.error,
                model_sha256=found.model_sha256,
            )
        )
    return tuple(sorted(rows, key=SORTS["position"]))
