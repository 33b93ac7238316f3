"""The downloads of a result: report and bundle of pictures, videos and recordings."""

import io
import json
import re
import zipfile

import pytest
from clips import make_sound, make_video, pan_over
from voices import speak

from detector.reports import verify_bundle
from detector.voices.detect import VOICE_MODEL_FILES
from webapp import analyses, evidence, jobs
from webapp.models import Analysis, db

needs_voice_model = pytest.mark.skipif(
    not VOICE_MODEL_FILES["onnx"].is_file(), reason="Videos and recordings need the voice model."
)
FILES = [
    "image",
    pytest.param("video", marks=[needs_voice_model, pytest.mark.slow]),
    pytest.param("audio", marks=[needs_voice_model, pytest.mark.slow]),
]


@pytest.fixture(scope="module")
def data_of(face_jpeg, portrait):
    return {
        "image": lambda: face_jpeg,
        "video": lambda: make_video(pan_over(portrait, 20), fps=5, waveform=speak(4.0)),
        "audio": lambda: make_sound(speak(4.0)),
    }


@pytest.fixture
def upload(app, client, data_of, real_detector):
    """Return a function that uploads a file of a medium, has it analysed, and returns its bytes and its address."""

    def send(media):
        data = data_of[media]()
        address = client.upload(data, "it.file").location
        with app.app_context():
            if (waiting := analyses.claim()) is not None:
                jobs.run(waiting, lambda: real_detector)
        return data, address

    return send


def change_row(app, **columns):
    with app.app_context():
        analysis = db.session.scalars(db.select(Analysis)).one()
        for name, value in columns.items():
            setattr(analysis, name, value)
        db.session.commit()


@pytest.mark.parametrize("media", FILES)
def test_a_result_leads_to_its_report_and_a_bundle_that_verifies(media, app, client, upload, real_detector):
    data, address = upload(media)
    page = client.get(address).text
    for name in ("report.pdf", "report.json", "report.html", "evidence.zip"):
        assert page.count(f'<a class="button" href="{address}/{name}">') == 2  # at the top and at the bottom

    pdf = client.get(f"{address}/report.pdf")
    assert pdf.mimetype == "application/pdf" and pdf.data.startswith(b"%PDF-")
    assert re.fullmatch(r"attachment; filename=report-[0-9a-f]{8}\.pdf", pdf.headers["Content-Disposition"])
    report = client.get(f"{address}/report.html")
    headline = re.search(r"<h1>(.*?)</h1>", page)[1]
    assert f"<h1>{headline}</h1>" in report.text and "it.file" in report.text
    if sentence := re.search(r'<p class="verdict-error">(.*?)</p>', page):
        assert sentence[1] in report.text
    assert "style-src 'unsafe-inline'" in report.headers["Content-Security-Policy"]
    assert "script" not in report.headers["Content-Security-Policy"]

    bundle = client.get(f"{address}/evidence.zip").data
    checked = verify_bundle(bundle, real_detector)
    assert checked.differences == () and any("verdict is the same" in sentence for sentence in checked.matches)
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        original = next(name for name in archive.namelist() if name.startswith("original."))
        assert archive.read(original) == data
        bundled = json.loads(archive.read("detection.json"))
        report_pictures = archive.read("report.html").count(b"<img")
    assert report_pictures == {"image": 2, "video": 3, "audio": 2}[media]
    values = client.get(f"{address}/report.json").json
    assert {**values, "files": {}} == {**bundled, "files": {}} and values["detection"]["media"] == media
    assert not any(
        name.startswith("original")
        for name in zipfile.ZipFile(io.BytesIO(client.get(f"{address}/evidence.zip?original=no").data)).namelist()
    )


@pytest.mark.parametrize("media", FILES)
def test_a_result_of_another_model_has_no_report(media, app, client, upload):
    _, address = upload(media)
    with app.app_context():
        result = db.session.scalars(db.select(Analysis)).one().result
    change_row(app, result={**result, "model_sha256": "0" * 64})
    for name in ("report.html", "report.pdf", "report.json", "evidence.zip"):
        response = client.get(f"{address}/{name}")
        assert response.status_code == 400 and "was checked by an earlier model" in response.text


def test_nobody_else_gets_a_report_and_a_deleted_file_has_none(app, client, upload):
    _, address = upload("image")
    for name in ("report.html", "report.pdf", "report.json", "evidence.zip"):
        assert app.test_client().get(f"{address}/{name}").status_code == 404
        with app.test_request_context():
            stored = app.extensions["storage"].open(f"uploads/{_sha256(app)}").read()
            app.extensions["storage"].delete(f"uploads/{_sha256(app)}")
        assert client.get(f"{address}/{name}").status_code == 404
        app.extensions["storage"].save(f"uploads/{_sha256(app)}", stored)
        assert client.get(f"{address}/{name}").status_code == 200


def _sha256(app):
    with app.app_context():
        return db.session.scalars(db.select(Analysis.upload_sha256)).one()


def test_an_unfinished_analysis_has_no_report(app, client, upload):
    _, address = upload("image")
    change_row(app, state="running")
    assert client.get(f"{address}/report.pdf").status_code == 404


def test_a_large_bundle_waits_on_the_disk(app, client, upload, monkeypatch):
    _, address = upload("image")
    monkeypatch.setattr(evidence, "MAX_BUNDLE_MEMORY_BYTES", 1000)
    response = client.get(f"{address}/evidence.zip")
    assert response.content_length == len(response.data) and zipfile.is_zipfile(io.BytesIO(response.data))
