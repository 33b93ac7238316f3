"""An instance folder of an earlier version: its row holds a record of version 1."""

import hashlib
import io
import json
import re
import sqlite3
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import detector
from detector.reports import verify_bundle
from webapp import page_files
from webapp.models import Analysis, db

RECORDS = Path(__file__).parents[1] / "data" / "records_v1.json"  # "image" is NASA's portrait, with its checks
ANALYSIS_ID = "A" * 22


@pytest.fixture
def old_client(app, tmp_path):
    """Return a visitor whose only analysis was stored by an earlier version."""
    png = Path(str(metadata.distribution("scikit-image").locate_file("skimage/data/astronaut.png"))).read_bytes()
    sha256, record = hashlib.sha256(png).hexdigest(), json.loads(RECORDS.read_text())["image"]
    with sqlite3.connect(Path(app.instance_path) / "deepfake.sqlite") as connection:
        connection.execute("INSERT INTO upload VALUES (?, 1, ?, 'image/png')", (sha256, len(png)))
        columns = {
            "id": ANALYSIS_ID,
            "visitor": "somebody",
            "upload_sha256": sha256,
            "filename": "astronaut.png",
            "created_at": "2026-11-20 12:00:00.000000",
            "media": "image",
            "verdict": record["verdict"],
            "probability": record["probability"],
            "threshold_real": 0.2,
            "threshold_fake": 0.9,
            "elapsed_ms": record["elapsed_ms"],
            "has_heatmaps": True,
            "result": json.dumps(record),
            "state": "done",
            "progress": 1.0,
            "attempts": 0,
        }
        marks = ", ".join("?" * len(columns))
        connection.execute(f"INSERT INTO analysis ({', '.join(columns)}) VALUES ({marks})", tuple(columns.values()))
    connection.close()
    grey = page_files.encode_png(np.full((192, 192, 3), 128, np.uint8))
    storage = app.extensions["storage"]
    storage.save(f"uploads/{sha256}", png)
    for name in ("picture.jpg", "crop.png", "heatmap-0.png", "lime.png", "lime-heat.png"):
        storage.save(f"analyses/{ANALYSIS_ID}/{name}", grey)
    client = app.test_client()
    with client.session_transaction() as session:
        session["visitor"] = "somebody"
    return client


@pytest.fixture
def record():
    return json.loads(RECORDS.read_text())["image"]


def test_an_old_result_is_shown_with_all_its_evidence(old_client, record):
    page = old_client.get(f"/analyses/{ANALYSIS_ID}").text
    assert record["explanation"]["sentence"] in page and record["examination"]["lime"]["sentence"] in page
    assert page.count("<polyline") == 4 and page.count("<circle") == 11  # ten scores, and the verdict's icon
    probability = record["stability"]["deliveries"][3]["probability"]
    assert f'cx="{round(100 * probability, 2)}%"' in page
    for address in set(re.findall(r'href="(/analyses/[^"#]+/files/[^"]+)"', page)):
        assert old_client.get(address).status_code == 200, address


def test_old_evidence_is_not_computed_again(old_client, app, monkeypatch):
    monkeypatch.setattr(detector.evidence, "explain_face", lambda *_, **__: pytest.fail("It ran again."))
    monkeypatch.setattr(detector.evidence, "measure_face_robustness", lambda *_: pytest.fail("It ran again."))
    for test in ("explanation-checks", "robustness"):
        assert old_client.submit(f"/analyses/{ANALYSIS_ID}/{test}").status_code == 303
    with app.app_context():
        assert "record_version" not in db.session.get_one(Analysis, ANALYSIS_ID).result  # the row is as it was


def attribute_to(model_sha256):
    """Note another model for the old result: results of a replaced model are neither bundled nor explained again."""
    analysis = db.session.get_one(Analysis, ANALYSIS_ID)
    analysis.result = {**analysis.result, "model_sha256": model_sha256}
    db.session.commit()


def test_an_old_result_becomes_a_bundle_that_can_be_verified(old_client, app, record, real_detector):
    with app.app_context():
        attribute_to(real_detector.pictures.engine.model_sha256)
    response = old_client.get(f"/analyses/{ANALYSIS_ID}/evidence.zip")
    differences = verify_bundle(response.data, real_detector).differences
    # The model has been replaced since, so its scores differ; what does not depend on it is the same.
    assert not any(re.match(r"SHA|\"|input|provenance|detection\.(width|height)", said) for said in differences)
    with zipfile.ZipFile(io.BytesIO(response.data)) as archive:
        bundled = json.loads(archive.read("detection.json"))
        assert "maps/02-face-1-lime.png" in archive.namelist()
    assert len(bundled["robustness_scores"]) == 10
    scores = {score["name"]: score["logit"] for score in bundled["robustness_scores"]}
    assert scores == {score["name"]: score["logit"] for score in record["stability"]["deliveries"]}


@pytest.mark.slow
def test_old_explanations_are_checked_on_request(old_client, app, record, monkeypatch):
    monkeypatch.setattr("detector.evidence.explanations.LIME_SAMPLES", 8)
    shipped = app.extensions["detector"].call(lambda loaded: loaded.pictures.engine.model_sha256)
    with app.app_context():
        analysis = db.session.get_one(Analysis, ANALYSIS_ID)
        analysis.result = {name: value for name, value in analysis.result.items() if name != "examination"}
        attribute_to(shipped)
    old_client.submit(f"/analyses/{ANALYSIS_ID}/explanation-checks")
    with app.app_context():
        upgraded = db.session.get_one(Analysis, ANALYSIS_ID).result
    assert upgraded["record_version"] == 3 and "stability" not in upgraded
    class_map, lime = upgraded["explanations"]
    assert class_map["sentence"] == record["explanation"]["sentence"] and class_map["check"]["shares"][0] == 0
    assert lime["method"] == "lime" and lime["check"]["logits"][0] == class_map["check"]["logits"][0]
