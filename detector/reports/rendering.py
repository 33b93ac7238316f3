"""Reports rendered as HTML and as PDF; both say the same."""

from __future__ import annotations

import io
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from PIL import Image

from detector.reports.drawings import VERDICT_COLOURS
from detector.reports.structure import Report, Section

if TYPE_CHECKING:
    from fpdf import FPDF

TEMPLATE_NAME = "report.html"  # beside this file
TEXT_COLOUR, CAPTION_COLOUR = (23, 32, 46), (86, 96, 114)
PDF_ENCODING = "windows-1252"  # all that a PDF's own fonts can write; they need no font file
PDF_PICTURE_MM = 80  # height at most, so that two fit on a page below the headline
# A PDF states its creation time; without one it gets this time, so that equal reports are equal bytes.
PDF_EPOCH = datetime(1980, 1, 1, tzinfo=UTC)


def render_html(report: Report) -> str:
    """Render a report as one HTML page without scripts and without other files."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # slow to import, and only reports need it

    folder = FileSystemLoader(Path(__file__).parent)
    templates = Environment(
        loader=folder, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    colour = "#{:02x}{:02x}{:02x}".format(*VERDICT_COLOURS[report.verdict])
    return templates.get_template(TEMPLATE_NAME).render(report=report, colour=colour)


def render_pdf(report: Report) -> bytes:
    """Render a report as PDF; a letter that its fonts lack is written as an escape, such as \\u4f60."""
    from fpdf import FPDF  # as slow to import as the network, and only reports need it

    pdf = FPDF(format="A4")
    pdf.core_fonts_encoding = PDF_ENCODING
    pdf.set_title(typeset(report.headline))
    pdf.set_lang("en")
    pdf.set_creation_date(report.checked_at or PDF_EPOCH)
    pdf.set_margin(18)
    pdf.set_auto_page_break(True, margin=18)
    pdf.add_page()

    write_text(pdf, report.headline, 24, style="B", colour=VERDICT_COLOURS[report.verdict])
    for paragraph in report.paragraphs:
        write_text(pdf, paragraph, 11)
    for section in report.sections:
        _write_section(pdf, section)
    return bytes(pdf.output())


def _write_section(pdf: FPDF, section: Section) -> None:
    pdf.ln(4)
    write_text(pdf, section.title, 15, style="B")
    for paragraph in section.paragraphs:
        write_text(pdf, paragraph, 11)
    for picture in section.pictures:
        with Image.open(io.BytesIO(picture.jpeg), formats=["JPEG"]) as image:
            height_mm = min(PDF_PICTURE_MM, pdf.epw * image.height / image.width)
        if pdf.will_page_break(height_mm + 10):
            pdf.add_page()
        pdf.image(io.BytesIO(picture.jpeg), h=height_mm, alt_text=typeset(picture.caption))
        pdf.ln(1)
        write_text(pdf, picture.caption, 9, colour=CAPTION_COLOUR)
    for name, value in section.facts:
        write_text(pdf, name, 9, colour=CAPTION_COLOUR)
        write_text(pdf, value, 11)
    for entry in section.entries:
        write_text(pdf, entry.title, 11, style="B")
        for line in entry.lines:
            write_text(pdf, line, 10)


def write_text(
    pdf: FPDF, text: str, size_pt: int, *, style: Literal["", "B"] = "", colour: tuple[int, int, int] = TEXT_COLOUR
) -> None:
    """Write a paragraph into a PDF, in its own font, across the page."""
    pdf.set_font("Helvetica", style, size_pt)
    pdf.set_text_color(*colour)
    pdf.multi_cell(0, size_pt * 0.5, typeset(text), align="L", new_x="LMARGIN", new_y="NEXT")
    pdf.ln(1)


def typeset(text: str) -> str:
    """Return a text with every letter that a PDF's own fonts lack as an escape, such as \\u4f60."""
    composed = unicodedata.normalize("NFC", text)
    return composed.encode(PDF_ENCODING, errors="backslashreplace").decode(PDF_ENCODING)
