"""Files of rows, each written at once, so that a scan that was stopped can go on."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TextIO

from detector.reports.rows import SCAN_COLUMNS, ScanRow
from detector.results import DetectorError

CSV_LINE_END, JSON_LINE_END = "\r\n", "\n"


class RowFile:
    """Rows of a scan in a file.

    Args:
        file: where to write.
        write: writes one row there.
        earlier: which files have a row already, see `read_csv`.
    """

    def __init__(self, file: TextIO, write: Callable[[ScanRow], object], earlier: Mapping[str, bool]) -> None:
        self._file, self._write, self.earlier = file, write, earlier

    def has(self, path: str) -> bool:
        """Return whether a file has a row from an earlier scan."""
        return _escape(path) in self.earlier

    def add(self, row: ScanRow) -> None:
        """Write a row, unless the file has one from an earlier scan."""
        if not self.has(row.path):
            self._write(row)
            self._file.flush()


def csv_rows(file: TextIO, earlier: Mapping[str, bool] | None = None) -> RowFile:
    """Return the rows of a CSV file; into a new one (`earlier` is None) the names of the columns are written."""
    table = csv.writer(file, lineterminator=CSV_LINE_END)
    if earlier is None:
        table.writerow(SCAN_COLUMNS)
        file.flush()
    return RowFile(file, lambda row: table.writerow(row.to_csv()), earlier or {})


def json_rows(file: TextIO, earlier: Mapping[str, bool] | None = None) -> RowFile:
    """Return the rows of a file of JSON Lines."""
    return RowFile(file, lambda row: file.write(row.to_json() + JSON_LINE_END), earlier or {})


def read_csv(path: str) -> dict[str, bool] | None:
    """Read which files have a row in a CSV file, and cut off a last row that is not complete.

    Args:
        path: of the CSV file.

    Returns:
        The paths with bytes that are no text escaped, as the table has them; True for those with an error. None if
        there is no such file, or if it is empty.

    Raises:
        DetectorError: the file holds something else.
    """

    def parse(text: str) -> Iterable[Any]:
        columns, *rows = csv.reader(io.StringIO(text, newline=""))
        if tuple(columns) != SCAN_COLUMNS:
            raise ValueError("These are not the columns of a scan.")
        return (dict(zip(SCAN_COLUMNS, row, strict=True)) for row in rows)

    return _read(path, CSV_LINE_END, parse)


def read_json(path: str) -> dict[str, bool] | None:
    """Read which files have a row in a file of JSON Lines, as `read_csv` does."""
    return _read(path, JSON_LINE_END, lambda text: map(json.loads, text.split(JSON_LINE_END)[:-1]))


def _read(path: str, line_end: str, parse: Callable[[str], Iterable[Any]]) -> dict[str, bool] | None:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
        if not text:
            return None
        complete = text[: text.rindex(line_end) + len(line_end)]
        found = {_escape(row["path"]): bool(row["error"]) for row in parse(complete)}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        message = f"{path} does not hold the rows of a scan by this version, so it cannot be continued."
        raise DetectorError(message) from error
    os.truncate(path, len(complete.encode()))
    return found


def _escape(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()
