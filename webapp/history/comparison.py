"""Two results in a table, row by row, and what a repetition changed."""

from __future__ import annotations

from dataclasses import dataclass

from detector.text import format_bytes, format_count, format_probability, translatable
from webapp.media_pages import MEDIUM_PAGES
from webapp.models import Analysis
from webapp.result_words import words_of
from webapp.template_filters import format_datetime, format_duration, format_timestamp, short_verdict

NOTHING = "–"
HASH_CHARACTERS = 16  # enough to see whether two hashes differ


@dataclass(frozen=True)
class Row:
    """A line of a comparison.

    Attributes:
        name: what is compared, in words.
        left, right: English texts of the two results.
        kind: "" for a text to translate, "written" for one by the sender, "code" for a hash.
    """

    name: str
    left: str
    right: str
    kind: str = ""

    @property
    def differs(self) -> bool:
        """Whether the two results differ here."""
        return self.left != self.right


def compare(left: Analysis, right: Analysis) -> list[Row]:
    """Return a line for everything that two results state; both are done."""
    values = [
        [
            *_verdict_values(each),
            *_file_values(each),
            (translatable("Checked on"), format_datetime(each.created_at), ""),
        ]
        for each in (left, right)
    ]
    rows = (Row(name, one, other, kind) for (name, one, kind), (_, other, _) in zip(*values, strict=True))
    return [row for row in rows if {row.left, row.right} != {NOTHING}]


def changes(earlier: Analysis, later: Analysis) -> list[Row]:
    """Return what a repetition may change: verdict, score and model; both are done."""
    values = [[*_verdict_values(each)[:2], _model_value(each)] for each in (earlier, later)]
    return [Row(name, one, other, kind) for (name, one, kind), (_, other, _) in zip(*values, strict=True)]


def picture_of(analysis: Analysis) -> str:
    """Return the name of the file that shows a result; "" if there is none, as of a video without a face."""
    page = MEDIUM_PAGES[analysis.media]
    return page.shown_file if not page.shown_if or analysis.record.get(page.shown_if) else ""


def _verdict_values(analysis: Analysis) -> list[tuple[str, str, str]]:
    words = words_of(analysis)

    def checked(text: str) -> str:
        return text if words.is_checked else NOTHING

    return [
        (translatable("Verdict"), short_verdict(analysis.verdict or "", analysis.record["reasons"]), ""),
        (translatable("P(fake)"), checked(format_probability(analysis.probability or 0.0)), ""),
        (translatable("Leans real up to"), checked(format_probability(analysis.threshold_real or 0.0)), ""),
        (translatable("Leans fake from"), checked(format_probability(analysis.threshold_fake or 0.0)), ""),
        (translatable("How often it is wrong"), checked(words.verdict_error), ""),
        (translatable("Why"), " ".join(words.reasons) or NOTHING, ""),
        _model_value(analysis),
    ]


def _file_values(analysis: Analysis) -> list[tuple[str, str, str]]:
    record, upload = analysis.record, analysis.upload
    size = (
        f"{format_count(record['width_px'])} × {format_count(record['height_px'])}" if "width_px" in record else NOTHING
    )
    faces = record.get("faces", record.get("tracks"))
    return [
        (translatable("Name"), analysis.filename, "written"),
        (translatable("Kind"), f"{upload.media_type}", "written"),
        (translatable("Size"), format_bytes(upload.size_bytes), ""),
        (translatable("Width and height in pixels"), size, ""),
        (translatable("Duration"), format_timestamp(record["duration_s"]) if "duration_s" in record else NOTHING, ""),
        (translatable("Faces"), NOTHING if faces is None else format_count(len(faces)), ""),
        (translatable("SHA-256 of the file"), analysis.upload_sha256[:HASH_CHARACTERS], "code"),
        (translatable("Processing time"), format_duration(analysis.elapsed_ms or 0.0), ""),
    ]


def _model_value(analysis: Analysis) -> tuple[str, str, str]:
    return (translatable("SHA-256 of the model"), analysis.record["model_sha256"][:HASH_CHARACTERS], "code")
