"""Verdicts in words, reports as HTML and PDF, and evidence bundles."""

from detector.reports.bundle import build_bundle, render_json, write_bundle
from detector.reports.drawings import VERDICT_COLOURS, split_overlaps
from detector.reports.evidence import Evidence
from detector.reports.phrases import (
    KNOWN_PHRASE,
    TAIL_PHRASES,
    UNMEASURED,
    UNSEEN_PHRASES,
    advice,
    error_rate_origin,
    error_rate_sentence,
    headline,
    map_caption,
    reason_sentence,
    size_sentence,
    suggestion_sentence,
    verdict_error_sentence,
    was_checked,
)
from detector.reports.recording_sections import MAX_REPORTED_TRACKS
from detector.reports.rendering import (
    CAPTION_COLOUR,
    PDF_ENCODING,
    TEXT_COLOUR,
    render_html,
    render_pdf,
    typeset,
    write_text,
)
from detector.reports.report import make_report
from detector.reports.rows import SCAN_COLUMNS, ScanRow
from detector.reports.structure import Report, ReportPicture
from detector.reports.verification import verify_bundle

__all__ = [
    "CAPTION_COLOUR",
    "Evidence",
    "KNOWN_PHRASE",
    "PDF_ENCODING",
    "SCAN_COLUMNS",
    "ScanRow",
    "MAX_REPORTED_TRACKS",
    "Report",
    "ReportPicture",
    "TAIL_PHRASES",
    "TEXT_COLOUR",
    "UNMEASURED",
    "UNSEEN_PHRASES",
    "VERDICT_COLOURS",
    "advice",
    "build_bundle",
    "error_rate_origin",
    "error_rate_sentence",
    "headline",
    "make_report",
    "map_caption",
    "reason_sentence",
    "render_html",
    "render_json",
    "render_pdf",
    "size_sentence",
    "split_overlaps",
    "suggestion_sentence",
    "typeset",
    "write_text",
    "verdict_error_sentence",
    "verify_bundle",
    "was_checked",
    "write_bundle",
]
