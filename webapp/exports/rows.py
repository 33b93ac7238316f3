"""Stored results as rows: the columns of the command line's scan, and three more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from detector.record import from_record
from detector.reports import SCAN_COLUMNS, ScanRow
from detector.results import Detection, RecordError
from webapp.models import Analysis
from webapp.outcomes import CHECKED, Outcome, outcome_of

EXPORT_COLUMNS = (*SCAN_COLUMNS, "outcome", "sent_at", "id")
# The columns that hold text; all others hold numbers, or nothing.
TEXT_COLUMNS = {
    "path",
    "media",
    "verdict",
    "reasons",
    "rates_unseen",
    "sound_verdict",
    "error",
    "outcome",
    "sent_at",
    "id",
}


@dataclass(frozen=True)
class ExportRow:
    """The result for one file.

    Attributes:
        scan: as the command line reports it.
        outcome: what became of the file.
        media: a key of `detector.media.MEDIA`; "" for a file that was refused.
        sent_at: None for a file that was refused.
        analysis_id: None for a file that was refused.
    """

    scan: ScanRow
    outcome: Outcome
    media: str = ""
    sent_at: datetime | None = None
    analysis_id: str | None = None

    @property
    def probability(self) -> float | None:
        """Calibrated P(fake) in [0, 1]; None unless the file could be checked."""
        return self.scan.detection.probability if self.scan.detection and self.outcome in CHECKED else None

    def to_texts(self) -> dict[str, str]:
        """Return the values of `EXPORT_COLUMNS`."""
        values = dict(zip(SCAN_COLUMNS, self.scan.to_csv(), strict=True))
        return {**values, **{name: value or "" for name, value in self._own_values().items()}}

    def to_values(self) -> dict[str, Any]:
        """Return the whole record of the result as JSON values; a missing value is None."""
        return {**self.scan.to_values(), **self._own_values()}

    def _own_values(self) -> dict[str, str | None]:
        return {
            "media": self.media or None,
            "outcome": str(self.outcome),
            "sent_at": self.sent_at.isoformat(timespec="seconds") if self.sent_at else None,
            "id": self.analysis_id,
        }


def row_of(analysis: Analysis) -> ExportRow:
    """Return the row of an analysis in any state; a record that cannot be read becomes a row with the reason."""
    record, error = analysis.result, analysis.error
    detection: Detection | None = None
    try:
        detection = from_record(record) if record else None
    except RecordError as problem:
        error = str(problem)
    return ExportRow(
        scan=ScanRow(analysis.filename, detection, error),
        outcome=outcome_of(analysis.state, analysis.verdict, record.get("reasons", ())),
        media=analysis.media,
        sent_at=analysis.created_at,
        analysis_id=analysis.id,
    )


def row_of_refused(filename: str, error: str) -> ExportRow:
    """Return the row of a file that has no analysis.

    Args:
        filename: with its folders.
        error: why it was refused, as a sentence.
    """
    return ExportRow(ScanRow(filename, error=error), Outcome.FAILED)
