"""The formats of an export, and the file of each."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import detector
from webapp.exports.documents import write_pdf
from webapp.exports.rows import EXPORT_COLUMNS, TEXT_COLUMNS, ExportRow, row_of
from webapp.exports.workbooks import write_xlsx
from webapp.models import Analysis
from webapp.outcomes import count_outcomes

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute what follows


@dataclass(frozen=True)
class ExportFormat:
    """A file format: its name, its media type, and the function that writes rows under a title."""

    name: str
    media_type: str
    write: Callable[[Sequence[ExportRow], str], bytes]


def export(rows: Sequence[ExportRow], ending: str, *, title: str) -> bytes:
    """Return results as one file.

    Args:
        rows: in the order of the file.
        ending: a key of `FORMATS`.
        title: what the results are of, for the formats that have a title.
    """
    return FORMATS[ending].write(rows, title)


def export_analyses(analyses: Iterable[Analysis], ending: str, *, title: str) -> bytes:
    """Return analyses in any state as one file, see `export`."""
    return export([row_of(analysis) for analysis in analyses], ending, title=title)


def write_csv(rows: Sequence[ExportRow], title: str) -> bytes:
    """Return a table whose texts no spreadsheet takes for a formula, in UTF-8 with the mark that Excel needs."""
    text = io.StringIO(newline="")
    table = csv.writer(text, quoting=csv.QUOTE_ALL)  # or a name with semicolons is split where they separate columns
    table.writerow(EXPORT_COLUMNS)
    for row in rows:
        values = row.to_texts()
        table.writerow(_harmless(values[name]) if name in TEXT_COLUMNS else values[name] for name in EXPORT_COLUMNS)
    return text.getvalue().encode("utf-8-sig")


def write_json(rows: Sequence[ExportRow], title: str) -> bytes:
    """Return an object with the numbers of outcomes and the whole record of each result."""
    values = {
        "title": title,
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "detector_version": detector.__version__,
        "counts": {str(outcome): count for outcome, count in count_outcomes(row.outcome for row in rows).items()},
        "results": [row.to_values() for row in rows],
    }
    return json.dumps(values, ensure_ascii=False, indent=1).encode()


def _harmless(text: str) -> str:
    """Return a text with an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


# By the ending of the file's name.
FORMATS = {
    "csv": ExportFormat("CSV", "text/csv", write_csv),
    "json": ExportFormat("JSON", "application/json", write_json),
    "xlsx": ExportFormat("Excel", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", write_xlsx),
    "pdf": ExportFormat("PDF", "application/pdf", write_pdf),
}
