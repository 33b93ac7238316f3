"""Results of many files as CSV, JSON, XLSX and PDF: the same rows, and nothing that a spreadsheet would compute."""

import csv
import io
import json
import re
import zipfile
import zlib
from datetime import UTC, datetime

import pytest
from defusedxml import ElementTree
from stored_results import picture, video, voice

from detector.record import to_record
from detector.reports import SCAN_COLUMNS, ScanRow
from detector.results import Reason
from webapp.exports import EXPORT_COLUMNS, FORMATS, export, export_analyses, row_of, row_of_refused
from webapp.models import Analysis, State
from webapp.performance import read_metrics

FORMULA = "=cmd|'/C calc'!A0.jpg"
SENT_AT = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)
SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


@pytest.fixture
def context(app):
    with app.app_context():
        yield


def stored(detection, filename, **columns):
    values = {"id": f"id-{filename}", "visitor": "v", "filename": filename, "media": detection.media}
    values |= {"created_at": SENT_AT, "state": State.DONE, "verdict": str(detection.verdict)}
    return Analysis(**{**values, "probability": detection.probability, "result": to_record(detection), **columns})


@pytest.fixture
def analyses():
    """A result of each medium, with a name that is a formula, and one of each kind without a result."""
    nothing = {"result": {}, "verdict": None, "probability": None}
    return [
        stored(picture("deepfake", probability=0.97), FORMULA),
        stored(video("inconclusive", sound=voice("real")), "Ordner/Größe 你.mp4"),
        stored(picture(faces=[], reasons=[Reason.NO_FACE]), "wall.png"),
        stored(voice(), "voice.wav", state=State.FAILED, error="The file is damaged.", **nothing),
        stored(voice(), "later.wav", state=State.WAITING, **nothing),
    ]


def read_csv(data):
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))


def read_xlsx(data):
    """Return the cells of the first sheet as (type, text) pairs by row, and whether a sheet has a formula."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        strings = ["".join(part.itertext()) for part in ElementTree.fromstring(archive.read("xl/sharedStrings.xml"))]
        sheets = [ElementTree.fromstring(archive.read(f"xl/worksheets/sheet{n}.xml")) for n in (1, 2)]
    rows = []
    for row in sheets[0].iter(f"{SHEET}row"):
        cells = {}
        for cell in row:
            value = cell.find(f"{SHEET}v")
            is_text = cell.get("t") == "s"
            column = re.match("[A-Z]+", cell.get("r"))[0]
            cells[column] = (is_text, strings[int(value.text)] if is_text else value.text)
        rows.append(cells)
    return rows, any(list(sheet.iter(f"{SHEET}f")) for sheet in sheets)


def pdf_text(data):
    """Return the words of a PDF whose fonts are its own."""
    streams = re.findall(rb"stream\n(.*?)\nendstream", data, re.DOTALL)
    pages = b"".join(zlib.decompress(each) for each in streams if each[:1] == b"\x78")
    return " ".join(re.findall(r"\(((?:\\.|[^()\\])*)\) Tj", pages.decode("windows-1252")))


def test_the_columns_are_those_of_the_command_line_and_three_more(context, analyses):
    rows = read_csv(export_analyses(analyses, "csv", title="t"))
    assert tuple(rows[0]) == EXPORT_COLUMNS == (*SCAN_COLUMNS, "outcome", "sent_at", "id")
    scanned = dict(
        zip(SCAN_COLUMNS, ScanRow("wall.png", picture(faces=[], reasons=[Reason.NO_FACE])).to_csv(), strict=True)
    )
    assert rows[2] == {**scanned, "outcome": "unchecked", "sent_at": "2026-11-22T01:02:03+00:00", "id": "id-wall.png"}
    assert [row["outcome"] for row in rows] == ["deepfake", "inconclusive", "unchecked", "failed", "waiting"]
    assert (rows[1]["path"], rows[1]["sound_verdict"]) == ("Ordner/Größe 你.mp4", "real")
    assert (rows[3]["media"], rows[3]["error"], rows[3]["verdict"]) == ("audio", "The file is damaged.", "")


@pytest.mark.parametrize("name", [FORMULA, "+1.jpg", "-2+3.jpg", "@SUM(A1).jpg", "\t=1.jpg", "a;=1.jpg", 'a",=1.jpg'])
def test_no_name_becomes_a_formula_or_a_second_cell(context, name):
    rows = [row_of_refused(name, "=1 is no file")]
    (row,) = read_csv(export(rows, "csv", title="t"))
    assert row["path"] == (name if name[0] == "a" else f"'{name}") and row["error"] == "'=1 is no file"
    line = export(rows, "csv", title="t").decode("utf-8-sig").splitlines()[1]
    assert re.fullmatch(r'"(?:[^"]|"")*"(?:,"(?:[^"]|"")*")*', line)  # every value stands in quotes
    cells, has_formula = read_xlsx(export(rows, "xlsx", title=name))
    assert cells[1]["A"] == (True, name) and not has_formula


def test_numbers_stay_numbers(context):
    negative = stored(picture("real", probability=0.01), "a.jpg")
    negative.result = {**negative.result, "logit": -4.5}
    (row,) = read_csv(export_analyses([negative], "csv", title="t"))
    assert row["logit"] == "-4.5"
    cells, _ = read_xlsx(export_analyses([negative], "xlsx", title="t"))
    by_name = {cells[0][column][1]: value for column, value in cells[1].items()}
    assert by_name["logit"] == (False, "-4.5") and by_name["probability"] == (False, "0.01")
    assert by_name["path"] == (True, "a.jpg")


def test_json_holds_the_whole_records(context, analyses):
    values = json.loads(export([*map(row_of, analyses), row_of_refused("x.txt", "No.")], "json", title="Urlaub.zip"))
    assert values["title"] == "Urlaub.zip"
    assert values["counts"] == {"deepfake": 1, "inconclusive": 1, "unchecked": 1, "failed": 2, "waiting": 1}
    deepfake, *_, refused = values["results"]
    assert deepfake["path"] == FORMULA and deepfake["faces"][0]["box"] == [100, 80, 120, 150]
    assert (refused["path"], refused["error"], refused["verdict"], refused["id"]) == ("x.txt", "No.", None, None)


def test_the_pdf_has_a_table_a_chart_and_how_often_it_is_wrong(context, app, analyses):
    metrics = read_metrics(app.config["VISUALIZATIONS"])
    analyses[0].result = {**analyses[0].result, "model_sha256": metrics["model"]["sha256_h5"]}
    data = export_analyses(analyses, "pdf", title="Urlaub.zip")
    words = pdf_text(data)
    assert data.startswith(b"%PDF-") and "Urlaub.zip" in words and "5 files" in words
    for said in ("Deepfake", "97.0%", "Could not be checked", "No face was found", "The file is damaged", "later.wav"):
        assert said in words, said
    assert "from sources it had not seen" in words and "wrongly called a" in words
    assert "experimental" in words and "A verdict is a hint, not proof" in words
    assert words.count("43%") == 1  # the score of a file without a face says nothing
    assert "Größe \\\\u4f60" in words  # what the fonts lack


def test_the_pdf_is_in_the_pages_language(app, analyses):
    with app.test_request_context(headers={"Accept-Language": "de"}):
        words = pdf_text(export_analyses(analyses, "pdf", title="x"))
    assert "Nicht prüfbar" in words and "der Detektor kennt nur Gesichter" in words


def test_a_damaged_record_is_a_row_with_the_reason(context, analyses):
    analyses[0].result = {**analyses[0].result, "record_version": 99}
    (row,) = read_csv(export_analyses(analyses[:1], "csv", title="t"))
    assert "version 99" in row["error"] and row["probability"] == ""


@pytest.mark.parametrize("ending", FORMATS)
def test_nothing_can_be_exported_too(context, ending):
    assert export_analyses([], ending, title="t")


def test_a_long_table_goes_on_over_pages_with_its_heading(context):
    rows = [row_of(stored(picture(), f"{'folder/' * (i % 9)}{i}.jpg")) for i in range(90)]
    words = pdf_text(export(rows, "pdf", title="t"))
    assert (
        words.count("Kind of") >= 2 and "Picture" in words and "Image" not in words
    )  # a long name is broken where its cell ends
    assert all(f"{i}.jpg" in words.replace(" ", "") for i in range(90))
