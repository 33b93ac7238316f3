"""Results of many files as one CSV, JSON, XLSX or PDF file, for any list of analyses."""

from webapp.exports.files import FORMATS, ExportFormat, export, export_analyses
from webapp.exports.rows import EXPORT_COLUMNS, ExportRow, row_of, row_of_refused

__all__ = [
    "EXPORT_COLUMNS",
    "FORMATS",
    "ExportFormat",
    "ExportRow",
    "export",
    "export_analyses",
    "row_of",
    "row_of_refused",
]
