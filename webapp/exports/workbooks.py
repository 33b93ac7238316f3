"""Results as an Excel workbook: a sheet with all of them, and a summary with a chart."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from detector.reports import VERDICT_COLOURS
from webapp.exports.documents import summary_sentences
from webapp.exports.rows import EXPORT_COLUMNS, TEXT_COLUMNS, ExportRow
from webapp.outcomes import OUTCOME_NAMES, count_outcomes

WIDTHS = {"path": 40, "reasons": 24, "error": 60, "sent_at": 26, "id": 26}  # of columns, in characters
OTHER_COLOUR = "#566072"


def write_xlsx(rows: Sequence[ExportRow], title: str) -> bytes:
    """Return a workbook; every text is written as text, so that no name can become a formula or a link."""
    from xlsxwriter import Workbook  # only exports need it

    file = io.BytesIO()
    workbook = Workbook(file, {"in_memory": True})
    workbook.set_properties({"title": title})
    results, summary = workbook.add_worksheet("Results"), workbook.add_worksheet("Summary")
    bold, wrapped = workbook.add_format({"bold": True}), workbook.add_format({"text_wrap": True})
    colours = {str(verdict): "#{:02x}{:02x}{:02x}".format(*colour) for verdict, colour in VERDICT_COLOURS.items()}
    formats = {name: workbook.add_format({"font_color": colour}) for name, colour in colours.items()}

    for column, name in enumerate(EXPORT_COLUMNS):
        results.write_string(0, column, name, bold)
        results.set_column(column, column, WIDTHS.get(name, 14))
    for number, row in enumerate(rows, start=1):
        for column, (name, text) in enumerate(_in_order(row)):
            colour = formats.get(text) if name in ("verdict", "outcome") else None
            if name in TEXT_COLUMNS:
                results.write_string(number, column, text, colour)
            elif text:
                results.write_number(number, column, float(text))
    results.freeze_panes(1, 1)
    results.autofilter(0, 0, max(len(rows), 1), len(EXPORT_COLUMNS) - 1)

    _write_summary(workbook, summary, rows, title, colours, bold, wrapped)
    workbook.close()
    return file.getvalue()


def _in_order(row: ExportRow) -> list[tuple[str, str]]:
    texts = row.to_texts()
    return [(name, texts[name]) for name in EXPORT_COLUMNS]


def _write_summary(
    workbook: Any, sheet: Any, rows: Sequence[ExportRow], title: str, colours: dict[str, str], bold: Any, wrapped: Any
) -> None:
    counts = count_outcomes(row.outcome for row in rows)
    sheet.set_column(0, 0, 90)
    sheet.write_string(0, 0, title, bold)
    sheet.write_string(2, 0, "Outcome", bold)
    sheet.write_string(2, 1, "Files", bold)
    for line, (outcome, count) in enumerate(counts.items(), start=3):
        sheet.write_string(line, 0, OUTCOME_NAMES[outcome])
        sheet.write_number(line, 1, count)
    end = 2 + len(counts)
    if counts:
        chart = workbook.add_chart({"type": "bar"})
        points = [{"fill": {"color": colours.get(str(outcome), OTHER_COLOUR)}} for outcome in counts]
        places = {"categories": ["Summary", 3, 0, end, 0], "values": ["Summary", 3, 1, end, 1], "points": points}
        chart.add_series({**places, "name": "Files", "data_labels": {"value": True}})
        chart.set_legend({"none": True})
        chart.set_title({"name": "Outcomes"})
        chart.set_y_axis({"reverse": True})
        sheet.insert_chart(end + 2, 0, chart)
    for line, sentence in enumerate(summary_sentences(rows), start=end + 19):
        sheet.write_string(line, 0, sentence, wrapped)
