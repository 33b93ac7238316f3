"""Feedback: nothing is kept without consent, a case can be withdrawn, and its file lives as long as was agreed."""

import csv
import os
import re
import subprocess
import sys

import pytest
from project import ROOT
from stored_results import voice

from training.manifests import read_manifest
from training.video_scoring import CLIP_COLUMNS
from training.voice_manifest import SPEECH_MANIFEST_COLUMNS
from webapp.feedback.cases import MAX_NOTE_CHARACTERS, FeedbackCase, store_case
from webapp.feedback.export import CASE_COLUMNS, export_cases
from webapp.models import Analysis, Upload, db

CONSENT = {"truth": "real", "note": "I took it.", "consent": "yes"}


@pytest.fixture
def address(client, face_jpeg):
    return client.upload(face_jpeg, "me.jpg").location


def stored_cases(app):
    with app.app_context():
        return list(db.session.scalars(db.select(FeedbackCase)))


def references(app):
    with app.app_context():
        return list(db.session.scalars(db.select(Upload.reference_count)))


def withdraw(client):
    return client.submit(re.search(r'action="(/feedback/[\w-]{22}/withdraw)"', client.get("/feedback").text)[1])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"consent": ""}, "Nothing was kept, because the box of your consent is not ticked."),
        ({"truth": ""}, "Choose what the file is"),
        ({"truth": "perhaps"}, "Choose what the file is"),
        ({"note": "x" * (MAX_NOTE_CHARACTERS + 1)}, "The note has 1,001 characters; at most 1,000 are kept."),
    ],
)
def test_without_consent_or_with_a_mistake_nothing_is_kept_and_nothing_is_lost(change, sentence, app, client, address):
    response = client.submit(f"{address}/feedback", **{**CONSENT, "is_kept": "yes", **change})
    assert response.status_code == 400 and sentence in response.text
    assert stored_cases(app) == [] and references(app) == [1]
    assert {**CONSENT, **change}["note"] in re.search("<textarea.*?</textarea>", response.text, re.DOTALL)[0]
    assert ('value="real" required checked' in response.text) is ("truth" not in change)
    assert re.search('name="is_kept" value="yes" checked', response.text)
    assert not re.search('name="consent"[^>]*checked', response.text)


def test_a_case_is_kept_shown_and_withdrawn(app, client, address):
    assert client.submit(f"{address}/feedback", **CONSENT).status_code == 303
    (case,) = stored_cases(app)
    with app.app_context():
        analysis = db.session.scalars(db.select(Analysis)).one()
        assert (case.visitor, case.result_id, case.upload_sha256) == (
            *(analysis.visitor, analysis.id, analysis.upload_sha256),
        )
        assert (case.verdict, case.probability) == (analysis.verdict, analysis.probability)
        assert case.model_sha256 == analysis.record["model_sha256"]
    assert (case.truth, case.note, case.deleted_with) == ("real", "I took it.", case.result_id)
    page = client.get(address).text
    assert "You said that it is real." in page and "deleted together with this result" in page
    assert "I took it." in client.get("/feedback").text
    assert "I took it." not in app.test_client().get("/feedback").text
    assert app.test_client().submit(f"/feedback/{case.id}/withdraw").status_code == 404
    assert withdraw(client).status_code == 303
    assert stored_cases(app) == [] and references(app) == [1] and "Is this verdict wrong?" in client.get(address).text


def test_a_case_goes_with_its_result(app, client, address, stored_files):
    client.submit(f"{address}/feedback", **CONSENT)
    assert client.submit(f"{address}/delete").status_code == 303
    assert stored_cases(app) == [] and references(app) == [] and stored_files() == []


def test_a_case_stays_with_its_file_if_consent_said_so(app, client, address, stored_files):
    client.submit(f"{address}/feedback", **CONSENT, is_kept="yes")
    assert references(app) == [2] and "The case is kept until you withdraw it." in client.get(address).text
    client.submit(f"{address}/delete")
    (case,) = stored_cases(app)
    assert references(app) == [1] and stored_files() == [f"uploads/{case.upload_sha256}"]
    page = client.get("/feedback").text
    assert "I took it." in page and address not in page
    withdraw(client)
    assert (stored_cases(app), references(app), stored_files()) == ([], [], [])


def test_a_second_case_on_a_result_replaces_the_first(app, client, address):
    client.submit(f"{address}/feedback", **CONSENT, is_kept="yes")
    client.submit(f"{address}/feedback", **{**CONSENT, "truth": "fake"})
    (case,) = stored_cases(app)
    assert case.truth == "fake" and case.deleted_with and references(app) == [1]


def test_nobody_sends_feedback_on_the_result_of_another(app, client, address):
    assert app.test_client().submit(f"{address}/feedback", **CONSENT).status_code == 404
    assert client.post(f"{address}/feedback", data=CONSENT).status_code == 400  # without the form's token
    assert stored_cases(app) == []


def send_as(app, visitor, truth):
    """Store feedback of another visitor on the same file."""
    with app.app_context():
        first = db.session.scalars(db.select(Analysis)).first()
        columns = {
            c.name: getattr(first, c.name) for c in Analysis.__table__.columns if c.name not in ("id", "visitor")
        }
        db.session.add(other := Analysis(**columns, visitor=visitor))
        db.session.execute(db.update(Upload).values(reference_count=Upload.reference_count + 1))
        db.session.flush()
        store_case(other, truth=truth, note="", is_kept=False)


def test_cases_are_exported_as_a_manifest_that_training_reads(app, client, address, face_jpeg, tmp_path):
    client.submit(f"{address}/feedback", truth="fake", note="A swap,\r\nby me", consent="yes")
    send_as(app, "another", "fake")
    with app.app_context():
        exported = export_cases(tmp_path / "out")
        assert (exported.counts, exported.contradicted, exported.missing) == ({"image": 1}, 0, 0)
        with pytest.raises(FileExistsError, match="not empty"):
            export_cases(tmp_path / "out")
    (example,) = read_manifest(tmp_path / "out/image.csv")
    assert example.path.read_bytes() == face_jpeg and example.path.suffix == ".jpg"
    assert (example.label, example.source, example.generator, example.split) == (1, "feedback", "unknown", "val")
    with open(tmp_path / "out/image.csv", newline="") as file:
        assert next(csv.DictReader(file))["note"] == "A swap, by me"


def test_contradicting_and_missing_files_are_left_out_and_counted(app, client, address, tmp_path):
    client.submit(f"{address}/feedback", **CONSENT)
    with app.app_context():
        sha256 = db.session.scalars(db.select(Upload.sha256)).one()
        stored = app.extensions["storage"].open(f"uploads/{sha256}").read()
        app.extensions["storage"].delete(f"uploads/{sha256}")
        assert export_cases(tmp_path / "gone").missing == 1 and not list(tmp_path.glob("gone/*.csv"))
        app.extensions["storage"].save(f"uploads/{sha256}", stored)
    send_as(app, "another", "fake")
    with app.app_context():
        exported = export_cases(tmp_path / "out")
    assert (exported.counts, exported.contradicted) == ({}, 1)


def test_the_columns_are_those_of_the_manifests_of_all_media(app, show, tmp_path):
    show(voice("real"))
    assert {*CLIP_COLUMNS, *SPEECH_MANIFEST_COLUMNS} <= set(CASE_COLUMNS)
    with app.app_context():
        analysis = db.session.scalars(db.select(Analysis)).one()
        app.extensions["storage"].save(f"uploads/{analysis.upload_sha256}", b"RIFF")
        store_case(analysis, truth="real", note="", is_kept=False)
        assert export_cases(tmp_path / "out").counts == {"audio": 1}
    assert next((tmp_path / "out/audio").iterdir()).suffix == ".wav"


@pytest.mark.slow
def test_the_script_exports_from_the_server_s_settings(app, client, address, parts, tmp_path):
    client.submit(f"{address}/feedback", **CONSENT)
    command = [sys.executable, "scripts/export_feedback.py", "--out", str(tmp_path / "out")]
    settings = {f"DEEPFAKE_{name}": value for name, value in {**parts, "INSTANCE_PATH": app.instance_path}.items()}
    keys = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    environment = {"PATH": "", "PYTHONPATH": str(ROOT), **keys, **settings}
    runs = [
        subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        for _ in range(2)
    ]
    assert runs[0].returncode == 0, runs[0].stderr
    assert f"{tmp_path}/out/image.csv: 1 file\n" in runs[0].stdout and (tmp_path / "out/image.csv").is_file()
    assert runs[1].returncode == 1 and "is not empty" in runs[1].stderr and "Traceback" not in runs[1].stderr
