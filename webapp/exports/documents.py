"""Results as a PDF document in the page's language: a summary with its chart, how often verdicts are wrong, a table."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flask import current_app

from detector.media import MEDIA
from detector.reports import (
    CAPTION_COLOUR,
    PDF_ENCODING,
    TEXT_COLOUR,
    VERDICT_COLOURS,
    reason_sentence,
    typeset,
    write_text,
)
from detector.text import format_count, format_probability, translatable
from webapp.exports.rows import ExportRow
from webapp.exports.sentences import wrong_sentences
from webapp.languages import page_language, translate
from webapp.outcomes import CHECKED, OUTCOME_NAMES, Outcome, count_outcomes
from webapp.template_filters import capitalize_first, format_datetime

if TYPE_CHECKING:
    from fpdf import FPDF

MARGIN_MM = 15
LABEL_MM, BAR_MM, BAR_HEIGHT_MM = 45.0, 110.0, 5.0
LINE_COLOUR, PAPER_COLOUR = (201, 207, 217), (255, 255, 255)
COLUMN_MM = (9, 66, 16, 30, 17, 42)  # on a page of 180 mm inside its margins
MAX_CELL_CHARACTERS = 300
HINT = translatable("A verdict is a hint, not proof. For research use.")


def write_pdf(rows: Sequence[ExportRow], title: str) -> bytes:
    """Return a document; letters that its fonts lack are written as escapes, as in the reports."""
    from fpdf import FPDF  # slow to import, and only exports and reports need it

    now = datetime.now(UTC)
    pdf = FPDF(format="A4")
    pdf.core_fonts_encoding = PDF_ENCODING
    pdf.set_title(typeset(title))
    pdf.set_lang(page_language())
    pdf.set_creation_date(now)
    pdf.set_margin(MARGIN_MM)
    pdf.set_auto_page_break(True, margin=MARGIN_MM)
    pdf.add_page()
    write_text(pdf, translate(title), 20, style="B")
    line = translatable("{count} files, exported on {when}").format(count=len(rows), when=format_datetime(now))
    write_text(pdf, translate(line), 10, colour=CAPTION_COLOUR)
    _draw_bars(pdf, rows)
    for sentence in summary_sentences(rows):
        write_text(pdf, sentence, 9)
    pdf.ln(3)
    _write_table(pdf, rows)
    return bytes(pdf.output())


def summary_sentences(rows: Sequence[ExportRow]) -> list[str]:
    """Return how often each kind of verdict in the rows is wrong, as sentences in the page's language."""
    verdicts = (
        (row.media, str(row.outcome), row.scan.detection.model_sha256)
        for row in rows
        if row.scan.detection and row.outcome in CHECKED
    )
    found = wrong_sentences(verdicts, current_app.config["VISUALIZATIONS"])
    named = [f"{_medium(media)}, {translate(name)}: {translate(words)}" for media, name, words in found]
    return [*named, translate(HINT)]


def _draw_bars(pdf: FPDF, rows: Sequence[ExportRow]) -> None:
    counts = count_outcomes(row.outcome for row in rows)
    pdf.ln(2)
    for outcome, count in counts.items():
        y = pdf.get_y()
        pdf.set_font("Helvetica", "", 10)
        pdf.set_text_color(*TEXT_COLOUR)
        pdf.cell(LABEL_MM, BAR_HEIGHT_MM, typeset(translate(OUTCOME_NAMES[outcome])))
        width = BAR_MM * count / max(counts.values())
        pdf.set_fill_color(*_colour(outcome))
        pdf.rect(pdf.get_x(), y, width, BAR_HEIGHT_MM, style="F")
        pdf.set_x(pdf.get_x() + width + 1)
        pdf.cell(0, BAR_HEIGHT_MM, translate(format_count(count)), new_x="LMARGIN", new_y="NEXT")
        pdf.ln(1.5)
    pdf.ln(2)


def _write_table(pdf: FPDF, rows: Sequence[ExportRow]) -> None:
    from fpdf.fonts import FontFace

    kind = translatable("Kind of file")
    names = (translatable("File"), kind, translatable("Verdict"), "P(fake)", translatable("Reason"))
    pdf.set_font("Helvetica", "", 8)
    pdf.set_text_color(*TEXT_COLOUR)
    pdf.set_draw_color(*LINE_COLOUR)
    pdf.set_fill_color(*PAPER_COLOUR)
    with pdf.table(
        col_widths=COLUMN_MM,
        text_align=("RIGHT", "LEFT", "LEFT", "LEFT", "RIGHT", "LEFT"),
        borders_layout="HORIZONTAL_LINES",
        headings_style=FontFace(emphasis="BOLD", color=TEXT_COLOUR),
        line_height=4,
        padding=0.8,
    ) as table:
        table.row(["", *(typeset(translate(name)) for name in names)])
        for number, each in enumerate(rows, start=1):
            row = table.row()
            probability = "" if each.probability is None else translate(format_probability(each.probability))
            row.cell(str(number))
            row.cell(typeset(each.scan.path))
            row.cell(typeset(_medium(each.media)) if each.media else "")
            row.cell(typeset(translate(OUTCOME_NAMES[each.outcome])), style=FontFace(color=_colour(each.outcome)))
            row.cell(typeset(probability))
            row.cell(typeset(_reason(each))[:MAX_CELL_CHARACTERS])


def _medium(media: str) -> str:
    """Return the name of a medium in the page's language, as on the pages."""
    return capitalize_first(translate(MEDIA[media].item))


def _reason(row: ExportRow) -> str:
    """Return why a file has no result, or could not be checked, in the page's language; "" for a verdict."""
    if row.outcome is Outcome.UNCHECKED and row.scan.detection:
        sentence = " ".join(reason_sentence(reason) for reason in row.scan.detection.reasons)
    else:
        sentence = row.scan.error or ""
    translated: str = translate(sentence)
    return translated


def _colour(outcome: Outcome) -> tuple[int, int, int]:
    return {str(verdict): colour for verdict, colour in VERDICT_COLOURS.items()}.get(str(outcome), CAPTION_COLOUR)
