import json

import cv2
import numpy as np
import pytest

import detector
from detector.media.images import encode_png
from webapp import artifacts
from webapp.artifacts import analyse

PARTS = {"heatmaps", "explanation", "stability", "provenance"}


@pytest.fixture(scope="module")
def one(face_jpeg, real_detector):
    return analyse(face_jpeg, real_detector)


def beside(portrait, side):
    """Return the portrait with a copy of it, `side` pixels wide, to its right."""
    image = np.full((512, 1024, 3), 128, np.uint8)
    image[:, :512] = portrait
    image[40 : 40 + side, 520 : 520 + side] = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
    return encode_png(image)


def test_of_a_face_the_evidence_is_kept(one, face_jpeg, real_detector):
    detection, engine = real_detector.detect(face_jpeg), real_detector.pictures.engine
    result = one.columns["result"]
    assert result.items() >= {**detection.to_dict(), "elapsed_ms": result["elapsed_ms"]}.items()
    assert set(result) - set(detection.to_dict()) == PARTS
    assert json.loads(json.dumps(result))["explanation"] == result["explanation"]
    np.testing.assert_allclose(result["heatmaps"], [detection.faces[0].heatmap], atol=1e-4)
    found = detector.evidence.explain_face(detection, engine)
    assert result["explanation"]["sentence"] == found.sentence and result["explanation"]["size_px"] == 192
    assert result["provenance"]["sha256"] == detector.provenance.read_provenance(face_jpeg).sha256
    assert set(one.files) == {artifacts.PICTURE, artifacts.THUMBNAIL, artifacts.CROP, "heatmap-0.png"}
    np.testing.assert_array_equal(
        detector.media.read_image(one.files[artifacts.CROP]), detector.evidence.face_crop(detection, engine)
    )


def test_what_is_delivered_first_is_what_was_judged(one):
    result = one.columns["result"]
    stored = result["stability"]["deliveries"][0]
    assert stored["logit"] == pytest.approx(result["logit"], abs=1e-4) and stored["verdict"] == result["verdict"]


def test_without_a_face_only_the_file_speaks(real_detector):
    judged = analyse(encode_png(np.full((80, 90, 3), 120, np.uint8)), real_detector)
    result = judged.columns["result"]
    assert result["explanation"] is result["stability"] is None and result["heatmaps"] == []
    assert result["provenance"]["findings"] and set(judged.files) == {artifacts.PICTURE, artifacts.THUMBNAIL}


def test_of_two_faces_the_most_suspicious_is_explained_and_delivered(portrait, real_detector, monkeypatch):
    batches = []
    run = real_detector.pictures.engine.run
    monkeypatch.setattr(real_detector.pictures.engine, "run", lambda crops: batches.append(len(crops)) or run(crops))
    judged = analyse(beside(portrait, 400), real_detector)
    result = judged.columns["result"]
    assert len(result["faces"]) == len(result["heatmaps"]) == 2 and not result["faces"][1]["reasons"]
    assert result["stability"]["deliveries"][0]["logit"] == pytest.approx(result["faces"][0]["logit"], abs=1e-4)
    assert sorted(batches) == [2, 10]  # the faces, with what explains them, and ten crops however many the faces are


def test_a_face_that_is_not_judged_is_not_explained(portrait, real_detector):
    image = detector.media.read_image(beside(portrait, 96))[:, 512:]
    result = analyse(encode_png(image), real_detector).columns["result"]
    assert result["faces"][0]["reasons"] == ["too_small"]
    assert result["explanation"] is result["stability"] is None
