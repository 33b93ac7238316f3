import json
from dataclasses import replace

import numpy as np
import pytest
from project import ROOT

from detector.evidence import DegradedScore, DeletionCheck, Explanation, Region, RobustnessResult
from detector.provenance.findings import read_provenance
from detector.record import (
    MAX_HEATMAP_VALUES,
    RECORD_VERSION,
    CheckedExplanation,
    evidence_to_record,
    from_record,
    restore_evidence,
    to_record,
    to_values,
    upgrade,
)
from detector.results import (
    DetectorError,
    ErrorRate,
    Face,
    PictureDetection,
    Reason,
    RecordError,
    TrackFrame,
    Verdict,
    VideoDetection,
    VoiceDetection,
)

RECORDS_V1 = json.loads((ROOT / "tests/data/records_v1.json").read_text())
CHECK = DeletionCheck((0.0, 0.5), (1.234, -4.567), (1.234, 0.891), area=-1.6, random_area=1.0, matters=True)
ROBUSTNESS = RobustnessResult(
    (DegradedScore("stored", 1.5, 0.7, Verdict.REAL), DegradedScore("half", 3.0, 0.96, Verdict.DEEPFAKE))
)


def as_json(values):
    """What a database gives back."""
    return json.loads(json.dumps(values, allow_nan=False))


@pytest.fixture
def picture():
    landmarks = np.array([[1.25, 2], [3, 4], [5, 6], [7, 8], [9, 10.5]], np.float32)
    heatmap = np.linspace(0, 1, 36, dtype=np.float32).reshape(6, 6)
    face = Face((1, 2, 30, 40), landmarks, 0.99, (-3, 0, 44, 44), 1.25, 0.875, heatmap=heatmap)
    excluded = Face((5, 6, 7, 8), None, None, (5, 6, 7, 8), -1.0, 0.25, reasons=(Reason.TOO_DARK, Reason.TOO_SMALL))
    return PictureDetection(
        verdict=Verdict.INCONCLUSIVE,
        probability=0.875,
        logit=1.25,
        reasons=(Reason.BETWEEN_THRESHOLDS,),
        elapsed_ms=12.345,
        model_sha256="0" * 64,
        error_rates=(ErrorRate("real", 1204, 0.0213, 0.0142, 0.0311, 96, None, (1100, 104)),),
        faces=(face, excluded),
        width_px=200,
        height_px=100,
        image=np.full((100, 200, 3), 7, np.uint8),
    )


@pytest.fixture
def evidence(picture):
    lime = Explanation("lime", np.full((64, 64), 0.5, np.float32), (), "The nose.")
    class_map = Explanation("class_map", picture.faces[0].heatmap, (Region((1, 2, 3, 4), 0.5),), "The mouth.")
    return (
        CheckedExplanation.of(class_map, size_px=64, check=CHECK),
        CheckedExplanation.of(lime, size_px=64),
    )


def test_a_picture_s_record_holds_json_values_of_the_present_version(picture):
    record = to_record(picture)
    assert as_json(record) == record and record["record_version"] == RECORD_VERSION == 3
    assert (record["media"], record["verdict"], record["reasons"]) == ("image", "inconclusive", ["between_thresholds"])
    assert record["elapsed_ms"] == 12.3 and record["error_rates"][0]["histogram"] == [1100, 104]
    first, second = record["faces"]
    assert first["landmarks"][0] == [1.2, 2.0] and first["crop_box"] == [-3, 0, 44, 44]
    assert second["landmarks"] is None and second["reasons"] == ["too_dark", "too_small"]
    assert "image" not in record and "heatmap" not in first


def test_a_picture_comes_back_with_its_heat_maps_and_pixels(picture):
    record = as_json(to_record(picture) | {"heatmaps": [picture.faces[0].heatmap.tolist(), None]})
    found = from_record(record, image=picture.image)
    assert isinstance(found, PictureDetection) and found.image is picture.image
    assert (found.verdict, found.reasons, found.error_rates) == (picture.verdict, picture.reasons, picture.error_rates)
    assert found.verdict is Verdict.INCONCLUSIVE and found.faces[1].reasons[0] is Reason.TOO_DARK
    assert (found.faces[0].box, found.faces[0].crop_box) == ((1, 2, 30, 40), (-3, 0, 44, 44))
    np.testing.assert_allclose(found.faces[0].heatmap, picture.faces[0].heatmap)
    np.testing.assert_allclose(found.faces[0].landmarks, picture.faces[0].landmarks, atol=0.051)
    assert found.faces[0].heatmap.dtype == found.faces[0].landmarks.dtype == np.float32
    assert found.faces[1].heatmap is None and from_record(to_record(picture)).image.size == 0


@pytest.mark.parametrize("medium", sorted(RECORDS_V1))
def test_records_of_version_1_upgrade_restore_and_serialise_to_themselves(medium):
    old = RECORDS_V1[medium]
    kept = as_json(old)
    upgraded = upgrade(old)
    assert old == kept  # the argument is left alone
    assert upgrade(upgraded) is upgraded and as_json(upgraded) == upgraded
    detection = from_record(old)
    assert type(detection).media == old["media"]
    record = to_record(detection)
    assert record.items() <= upgraded.items()
    unchanged = old.keys() - {"stability", "explanation", "examination", "error_rates", "sound"}
    assert {key: upgraded[key] for key in unchanged} == {key: old[key] for key in unchanged}
    evidence_keys = {"heatmaps", "explanations", "robustness", "provenance"} if old["media"] == "image" else set()
    assert upgraded.keys() - record.keys() == evidence_keys


def test_error_rates_of_earlier_versions_are_of_known_collections(picture):
    new = as_json(to_record(picture))
    assert new["error_rates"][0].pop("unseen") is False
    old = {**new, "record_version": 2}
    kept = as_json(old)
    assert upgrade(old) == to_record(picture) and old == kept
    assert from_record(old).error_rates == picture.error_rates
    unseen = replace(picture, error_rates=(replace(picture.error_rates[0], unseen=True),))
    assert from_record(as_json(to_record(unseen))).error_rates[0].unseen is True


def test_error_rates_of_a_videos_sound_are_upgraded_too(picture):
    rate = as_json(to_values(picture.error_rates[0]))
    del rate["unseen"]
    old = upgrade(RECORDS_V1["video"]) | {"record_version": 2}
    old["sound"] = {**old["sound"], "error_rates": [rate]}
    assert upgrade(old)["sound"]["error_rates"] == [{**rate, "unseen": False}]


@pytest.mark.parametrize("rates", [7, [7], {"real": 1}])
def test_damaged_error_rates_of_version_2_end_in_a_sentence(picture, rates):
    with pytest.raises(RecordError, match="damaged"):
        upgrade({**to_record(picture), "record_version": 2, "error_rates": rates})


def test_evidence_of_version_1_is_upgraded():
    old = RECORDS_V1["image"]
    upgraded = upgrade(old)
    assert upgraded["robustness"]["scores"] == old["stability"]["deliveries"]
    assert upgraded["robustness"]["is_robust"] is True and upgraded["robustness"]["sentence"].endswith(".")
    class_map, lime = upgraded["explanations"]
    assert set(class_map) == set(lime) == {"method", "heatmap", "regions", "sentence", "size_px", "check"}
    assert class_map["method"] == "class_map" and class_map["heatmap"] == old["heatmaps"][0]
    assert class_map["sentence"] == old["explanation"]["sentence"] and class_map["size_px"] == lime["size_px"] == 192
    old_checks = old["examination"]["check"], old["examination"]["lime"]["check"]
    for check, old_check in zip((class_map["check"], lime["check"]), old_checks, strict=True):
        assert check.pop("sentence").endswith(".") and check.items() <= old_check.items() and len(check) == 6
    assert lime["heatmap"] is None and lime["regions"] == old["examination"]["lime"]["regions"]


def test_an_explanation_of_version_1_without_a_check_has_none():
    old = {key: value for key, value in RECORDS_V1["image"].items() if key != "examination"}
    (class_map,) = upgrade(old)["explanations"]
    assert class_map["check"] is None
    assert upgrade(RECORDS_V1["noface"])["explanations"] == [] and upgrade(RECORDS_V1["noface"])["robustness"] is None


def test_evidence_of_version_1_is_restored():
    heatmap = np.full((192, 192), 0.25, np.float32)
    found = restore_evidence(RECORDS_V1["image"], heatmaps={"lime": heatmap})
    class_map, lime = found.explanations
    assert lime.heatmap is heatmap and class_map.heatmap.shape == (6, 6) and lime.check.matters
    assert found.robustness.is_robust and found.robustness.scores[0].verdict is Verdict.REAL
    upgraded = upgrade(RECORDS_V1["image"])
    assert [to_values(explanation) for explanation in found.explanations] == upgraded["explanations"]
    assert to_values(found.robustness) == upgraded["robustness"]
    empty = restore_evidence(RECORDS_V1["noface"])
    assert empty.explanations == () and empty.robustness is None


def test_evidence_comes_back_from_its_record(picture, evidence, face_jpeg):
    provenance = read_provenance(face_jpeg)
    parts = evidence_to_record(picture, explanations=evidence, robustness=ROBUSTNESS, provenance=provenance)
    assert as_json(parts) == parts and set(parts) == {"heatmaps", "explanations", "robustness", "provenance"}
    assert parts["heatmaps"][1] is None and parts["heatmaps"][0][0][:2] == [0.0, 0.0286]
    assert parts["robustness"]["is_robust"] is False and parts["robustness"]["spread"] == 1.5
    assert parts["provenance"]["sha256"] == provenance.sha256 and parts["provenance"]["findings"][0]["cannot_mean"]
    assert parts["explanations"][0]["check"]["sentence"] == CHECK.sentence
    found = restore_evidence(to_record(picture) | parts)
    assert found.robustness == ROBUSTNESS and found.explanations[0].check == CHECK
    assert found.explanations[0].regions == evidence[0].regions and found.explanations[1].check is None


def test_heat_maps_of_every_pixel_are_left_to_a_picture_beside_the_record(evidence):
    class_map, lime = map(to_values, evidence)
    assert len(class_map["heatmap"]) == 6 and lime["heatmap"] is None
    assert lime["method"] == "lime" and evidence[1].heatmap.size > MAX_HEATMAP_VALUES


def test_videos_and_recordings_keep_which_pictures_there_were():
    common = {"probability": 0.25, "logit": -1.5, "reasons": (), "elapsed_ms": 1.0, "model_sha256": "0" * 64}
    found = from_record(to_record(from_record(RECORDS_V1["video"])))
    assert isinstance(found, VideoDetection) and isinstance(found.sound, VoiceDetection)
    frames = [frame for track in found.tracks for frame in track.frames]
    kept = [frame["has_crop"] for track in RECORDS_V1["video"]["tracks"] for frame in track["frames"]]
    assert [frame.crop is not None for frame in frames] == kept and any(kept) and not all(kept)
    assert found.tracks[0].votes.keys() == set(Verdict)
    silent = VoiceDetection(verdict=Verdict.REAL, segments=(), duration_s=2.5, **common)
    assert to_record(silent)["has_spectrogram"] is False and from_record(to_record(silent)).spectrogram is None
    assert to_values(TrackFrame(0.12345, 0, (1, 2, 3, 4), 0.5, 0.25, Verdict.REAL))["timestamp_s"] == 0.123


@pytest.mark.parametrize("version", [RECORD_VERSION + 1, 0, -1, "2", 2.0, True, None])
def test_an_unknown_version_ends_in_a_sentence(version):
    record = upgrade(RECORDS_V1["audio"]) | {"record_version": version}
    for read in (upgrade, from_record, restore_evidence):
        with pytest.raises(DetectorError, match="reads versions 1 to 3") as caught:
            read(record)
        assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"media": "smell"}, "unknown medium: 'smell'"),
        ({"media": None}, "unknown medium"),
        ({"media": ["image"]}, "unknown medium"),
        ({"logit": "1.5"}, "record.logit"),
        ({"logit": True}, "record.logit"),
        ({"logit": None}, "record.logit"),
        ({"width_px": 1.5}, "record.width_px"),
        ({"verdict": "maybe"}, "record.verdict"),
        ({"reasons": ["bored"]}, r"record.reasons\[0\]"),
        ({"reasons": 7}, "record.reasons"),
        ({"faces": None}, "damaged"),
        ({"faces": [7]}, "damaged"),
        ({"faces": [{"box": [1, 2, 3]}]}, "damaged"),
        ({"heatmaps": [[[1, 2], [3]]]}, "damaged"),
        ({"heatmaps": [None, None]}, "damaged"),
        ({"error_rates": {"real": 1}}, "damaged"),
    ],
)
def test_garbage_ends_in_a_sentence(change, seen):
    with pytest.raises(RecordError, match=seen) as caught:
        from_record(upgrade(RECORDS_V1["image"]) | change)
    assert str(caught.value).endswith(".") and len(str(caught.value)) < 400


@pytest.mark.parametrize("record", [None, [], "{}", 7])
def test_a_record_is_an_object(record):
    with pytest.raises(RecordError, match="JSON object"):
        from_record(record)


@pytest.mark.parametrize(
    "change",
    [
        {"stability": 7},
        {"stability": {"deliveries": [{"name": "stored"}]}},
        {"explanation": 7},
        {"explanation": {"method": "class_map"}},
        {"examination": {}},
        {"examination": None},
        {"examination": {"check": {"matters": True}, "lime": {}}},
    ],
)
def test_damaged_evidence_of_version_1_ends_in_a_sentence(change):
    with pytest.raises(RecordError, match="damaged"):
        upgrade(RECORDS_V1["image"] | change)


def test_damaged_evidence_ends_in_a_sentence():
    record = upgrade(RECORDS_V1["image"])
    for change in ({"explanations": [7]}, {"explanations": 7}, {"robustness": {"scores": 7}}):
        with pytest.raises(RecordError, match="damaged"):
            restore_evidence(record | change)


def test_a_detection_with_a_new_verdict_has_another_record(picture):
    changed = replace(picture, verdict=Verdict.DEEPFAKE, reasons=())
    assert to_record(changed)["verdict"] == "deepfake" and to_record(changed) != to_record(picture)
