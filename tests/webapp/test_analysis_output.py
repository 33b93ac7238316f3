import json

import cv2
import numpy as np
import pytest

import detector
from detector.media.images import encode_png
from detector.record import to_record
from webapp import page_files
from webapp.analysis_output import analyse
from webapp.uploads import FileFacts

EVIDENCE_KEYS = {"heatmaps", "explanations", "robustness", "provenance"}


@pytest.fixture(scope="module")
def output(face_jpeg, real_detector):
    return analyse(face_jpeg, real_detector)


def beside(portrait, side):
    """Return the portrait with a copy of it, `side` pixels wide, to its right."""
    image = np.full((512, 1024, 3), 128, np.uint8)
    image[:, :512] = portrait
    image[40 : 40 + side, 520 : 520 + side] = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
    return encode_png(image)


def test_the_record_of_a_face_holds_its_evidence(output, face_jpeg, real_detector):
    detection, engine = real_detector.detect(face_jpeg), real_detector.pictures.engine
    record = output.columns["result"]
    assert record.items() >= {**to_record(detection), "elapsed_ms": record["elapsed_ms"]}.items()
    assert set(record) - set(to_record(detection)) == EVIDENCE_KEYS
    assert json.loads(json.dumps(record)) == record
    np.testing.assert_allclose(record["heatmaps"], [detection.faces[0].heatmap], atol=1e-4)
    explanation = record["explanations"][0]
    assert explanation["sentence"] == detector.evidence.explain_face(detection, engine).sentence
    assert (explanation["size_px"], explanation["check"]) == (engine.spec.face.size_px, None)
    assert record["provenance"]["sha256"] == detector.provenance.read_provenance(face_jpeg).sha256
    assert set(output.files) == {page_files.PICTURE, page_files.THUMBNAIL, page_files.CROP, "heatmap-0.png"}
    np.testing.assert_array_equal(
        detector.media.read_image(output.files[page_files.CROP]), detector.evidence.face_crop(detection, engine)
    )


def test_an_upload_does_not_run_the_robustness_test(output):
    assert output.columns["result"]["robustness"] is None


def test_the_facts_of_the_upload_are_not_computed_again(face_jpeg, real_detector):
    facts = FileFacts("0" * 64, len(face_jpeg), "image/png")
    provenance = analyse(face_jpeg, real_detector, facts=facts).columns["result"]["provenance"]
    assert (provenance["sha256"], provenance["media_type"]) == ("0" * 64, "image/png")


def test_without_a_face_there_is_only_provenance(real_detector):
    output = analyse(encode_png(np.full((80, 90, 3), 120, np.uint8)), real_detector)
    record = output.columns["result"]
    assert (record["explanations"], record["robustness"], record["heatmaps"]) == ([], None, [])
    assert record["provenance"]["findings"] and set(output.files) == {page_files.PICTURE, page_files.THUMBNAIL}


def test_both_faces_are_scored_in_one_batch(portrait, real_detector, monkeypatch):
    batches = []
    run = real_detector.pictures.engine.run
    monkeypatch.setattr(real_detector.pictures.engine, "run", lambda crops: batches.append(len(crops)) or run(crops))
    record = analyse(beside(portrait, 400), real_detector).columns["result"]
    assert len(record["faces"]) == len(record["heatmaps"]) == 2 and not record["faces"][1]["reasons"]
    assert len(record["explanations"]) == 1
    assert batches == [2]


def test_an_excluded_face_is_not_explained(portrait, real_detector):
    image = detector.media.read_image(beside(portrait, 96))[:, 512:]
    record = analyse(encode_png(image), real_detector).columns["result"]
    assert record["faces"][0]["reasons"] == ["too_small"] and record["explanations"] == []
