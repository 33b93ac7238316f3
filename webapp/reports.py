"""Downloads of a result: the report as a page for printing and as PDF, all values as JSON, and the evidence bundle."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Blueprint, Response, abort, request, session
from werkzeug.wsgi import FileWrapper

import detector
from detector.reports import Evidence, Report, make_report, render_html, render_json, render_pdf
from webapp import analyses, evidence
from webapp.models import Analysis, State

# The page has its styles and pictures inside, and no script.
PAGE_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"

downloads = Blueprint("reports", __name__, url_prefix="/analyses/<analysis_id>")


@downloads.get("/report.html")
def page(analysis_id: str) -> Response:
    """Show the report as one page for printing, which needs no other file."""
    response = Response(render_html(_report_on(_own(analysis_id))), mimetype="text/html")
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response


@downloads.get("/report.pdf")
def pdf(analysis_id: str) -> Response:
    """Send the report as PDF."""
    analysis = _own(analysis_id)
    return _attach(Response(render_pdf(_report_on(analysis)), mimetype="application/pdf"), analysis, "report", "pdf")


@downloads.get("/report.json")
def values(analysis_id: str) -> Response:
    """Send all values behind the report as JSON, as the evidence bundle holds them."""
    analysis = _own(analysis_id)
    with _found(analysis) as found:
        return _attach(Response(render_json(found), mimetype="application/json"), analysis, "report", "json")


@downloads.get("/evidence.zip")
def bundle(analysis_id: str) -> Response:
    """Send everything about a verdict as one ZIP file; `?original=no` omits the file itself."""
    analysis = _own(analysis_id)
    try:
        file = evidence.build_evidence_bundle(analysis, include_original=request.args.get("original") != "no")
    except FileNotFoundError:
        abort(404)
    size_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    response = Response(FileWrapper(file), mimetype="application/zip", direct_passthrough=True)
    response.content_length = size_bytes
    return _attach(response, analysis, "evidence", "zip")


def _own(analysis_id: str) -> Analysis:
    analysis = analyses.get(analysis_id, session.get("visitor"))
    if analysis is None or analysis.state != State.DONE:
        abort(404)
    if analysis.media == "image" and "provenance" not in analysis.record:  # a record of the first versions
        abort(404)
    return analysis


@contextmanager
def _found(analysis: Analysis) -> Iterator[Evidence]:
    try:
        with evidence.stored_evidence(analysis) as found:
            yield found
    except FileNotFoundError:  # deleted in another tab
        abort(404)


def _report_on(analysis: Analysis) -> Report:
    with _found(analysis) as found:
        return make_report(found, version=detector.__version__)


def _attach(response: Response, analysis: Analysis, name: str, suffix: str) -> Response:
    filename = f"{name}-{analysis.upload_sha256[:8]}.{suffix}"
    response.headers.set("Content-Disposition", "attachment", filename=filename)
    return response
