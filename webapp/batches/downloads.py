"""The results of a batch as one file, for the pages and for the API."""

from __future__ import annotations

import io

from flask import Response, send_file

from webapp.batches import results
from webapp.exports import FORMATS, ExportRow, export, row_of, row_of_refused
from webapp.models import Batch


def send_results(batch: Batch, ending: str) -> Response:
    """Return a response with all results of a batch as a file, in the order as sent.

    Args:
        batch: whose analyses may be in any state.
        ending: a key of `FORMATS`.
    """
    (summary,) = results.summarise([batch])
    data = export(_export_rows(batch), ending, title=summary.title)
    name = f"results-{batch.created_at:%Y-%m-%d}.{ending}"
    return send_file(
        io.BytesIO(data), mimetype=FORMATS[ending].media_type, as_attachment=True, download_name=name, max_age=None
    )


def _export_rows(batch: Batch) -> list[ExportRow]:
    refused = {each.position: row_of_refused(each.filename, each.error) for each in results.refused_files(batch)}
    stored = {analysis.batch_position: row_of(analysis) for analysis in results.read_analyses(batch)}
    return [row for _, row in sorted((refused | stored).items())]
