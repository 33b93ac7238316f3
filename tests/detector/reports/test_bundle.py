import copy
import hashlib
import io
import json
import re
import struct
import zipfile
import zlib
from dataclasses import replace

import numpy as np
import pytest
from bundles import changed_record, members, packed
from project import ROOT

from detector.evidence import measure_face_robustness
from detector.media.images import encode_png
from detector.pictures.detect import PictureDetector
from detector.pipeline import Detector
from detector.provenance.findings import read_provenance
from detector.record import HEATMAP_DIGITS, CheckedExplanation
from detector.reports import verification
from detector.reports.bundle import build_bundle
from detector.reports.evidence import Evidence
from detector.reports.verification import (
    LOGIT_TOLERANCE,
    MAX_BUNDLE_BYTES,
    MAX_MEMBERS,
    verify_bundle,
)
from detector.results import MediaTooLarge, UnreadableMedia
from training.synthesis import make_sample_fake

pytestmark = pytest.mark.slow


def collect_evidence(detector, data, **more):
    detection = detector.detect(data)
    provenance = read_provenance(data, image=detection.image)
    robustness = measure_face_robustness(detection, detector.engine)
    return Evidence(
        data=data,
        detection=detection,
        provenance=provenance,
        spec=detector.engine.spec,
        robustness=robustness,
        **more,
    )


@pytest.fixture(scope="module")
def evidence(face_jpeg, picture_detector):
    return collect_evidence(picture_detector, face_jpeg, filename="portrait.jpg")


@pytest.fixture(scope="module")
def bundle(evidence):
    return build_bundle(evidence)


def test_a_bundle_holds_everything(bundle, evidence):
    files = members(bundle)
    assert set(files) == {
        *("README.txt", "report.html", "report.pdf", "detection.json", "original.jpg"),
        "maps/01-face-1-class-activation-map.png",
    }
    assert files["original.jpg"] == evidence.data and files["README.txt"].decode().count(".\n") == 2
    assert files["report.pdf"].startswith(b"%PDF-") and files["report.html"].startswith(b"<!doctype html>")
    record = json.loads(files["detection.json"])
    face = evidence.detection.faces[0]
    assert record["input"]["sha256"] == hashlib.sha256(evidence.data).hexdigest()
    assert record["record_version"] == 3 and "record_version" not in record["detection"]
    assert record["model"]["sha256"] == evidence.detection.model_sha256 and record["version"]
    assert record["preprocessing"]["squares"] == [list(face.crop_box)]
    assert record["preprocessing"]["input_size_px"] == evidence.spec.face.size_px
    assert record["detection"]["logit"] == evidence.detection.logit and "elapsed_ms" not in record["detection"]
    np.testing.assert_allclose(record["heatmaps"][0], face.heatmap, atol=10**-HEATMAP_DIGITS)
    assert record["provenance"]["findings"][0]["cannot_mean"]
    assert {name: hashlib.sha256(files[name]).hexdigest() for name in record["files"]} == record["files"]
    assert set(files) - set(record["files"]) == {"detection.json", "original.jpg"}


def test_equal_evidence_makes_equal_bytes(bundle, evidence, picture_detector):
    again = collect_evidence(picture_detector, evidence.data, filename="portrait.jpg")
    assert again.detection.elapsed_ms != evidence.detection.elapsed_ms
    assert build_bundle(again) == bundle


@pytest.mark.parametrize("kind", ["real", "fake", "faceless"])
def test_a_bundle_verifies_as_the_same(kind, portrait, picture_detector, real_detector):
    image = {
        "real": portrait,
        "fake": make_sample_fake(portrait, 3),
        "faceless": np.full((80, 90, 3), 120, np.uint8),
    }[kind]
    checked = verify_bundle(build_bundle(collect_evidence(picture_detector, encode_png(image))), real_detector)
    assert checked.differences == () and checked.detection.image.shape == image.shape


def test_without_the_original_it_has_to_be_given(evidence, real_detector):
    short = build_bundle(evidence, include_original=False)
    assert "original.jpg" not in members(short)
    assert verify_bundle(short, real_detector, original=evidence.data).differences == ()
    with pytest.raises(UnreadableMedia, match="--file"):
        verify_bundle(short, real_detector)


def moved(values, step):
    return [value + step for value in values]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda r: r["detection"].update(logit=r["detection"]["logit"] + 0.01), ["logit"]),
        (lambda r: r["detection"].update(probability=0.01), ["probability"]),
        (lambda r: r["detection"].update(verdict="real?"), ["verdict"]),
        (lambda r: r["detection"]["faces"][0].update(logit=0.5), ["detection.faces[0].logit"]),
        (lambda r: r["detection"]["faces"][0].update(box=[1, 2, 3, 4]), ["detection.faces[0].box"]),
        (lambda r: r["detection"].update(faces=[]), ["detection.faces"]),
        (lambda r: r["detection"]["error_rates"][0].update(n=7), ["detection.error_rates[0].n"]),
        (lambda r: r["heatmaps"][0][1].__setitem__(2, 0.123), ["heatmaps[0][1]"]),
        (lambda r: r["provenance"]["findings"].pop(), ["provenance.findings"]),
        (lambda r: r["preprocessing"].update(finder="another"), ["preprocessing.finder"]),
        (lambda r: r["robustness_scores"][4].update(logit=9.0), ["robustness_scores[4].logit"]),
        (lambda r: r.update(robustness_scores=[]), ["robustness_scores"]),
        (lambda r: r.pop("robustness_scores"), []),
        (lambda r: r.update(version="0.0.1"), ["version of the detector"]),
        (lambda r: r["input"].update(sha256="0" * 64), ["SHA-256 of the original"]),
        (lambda r: r["model"].update(sha256="0" * 64), ["SHA-256 of the model"]),
        (lambda r: r["detection"].pop("logit"), ["logit"]),
        (lambda r: r.update(more=1), ["more"]),
        (lambda r: r["detection"].update(logit=True), ["logit"]),
        (lambda r: r["detection"].update(logit="1.2"), ["logit"]),
        (lambda r: r["detection"].update(logit=1e308 * 10), None),
        (lambda r: r["detection"]["faces"][0].update(box=moved(r["detection"]["faces"][0]["box"], 1)), []),
        (lambda r: r["detection"].update(logit=r["detection"]["logit"] + LOGIT_TOLERANCE / 2), []),
        (lambda r: r["about"].update(filename="another", engine="keras"), []),
    ],
)
def test_each_altered_value_is_named(change, named, bundle, real_detector):
    altered = changed_record(bundle, change)
    if named is None:
        with pytest.raises(UnreadableMedia, match="JSON"):
            verify_bundle(altered, real_detector)
        return
    differences = verify_bundle(altered, real_detector).differences
    assert [sentence.partition(":")[0] for sentence in differences] == named
    assert all(" in the bundle, " in sentence and sentence.endswith(" now.") for sentence in differences)


def test_one_altered_byte_of_the_original_is_named(bundle, evidence, real_detector):
    changed = bytearray(evidence.data)
    changed[len(changed) // 2] ^= 0x10
    inside = packed({**members(bundle), "original.jpg": bytes(changed)})
    for checked in (
        verify_bundle(inside, real_detector),
        verify_bundle(bundle, real_detector, original=bytes(changed)),
    ):
        assert checked.differences[0].startswith("SHA-256 of the original")


def test_an_original_that_cannot_be_read_is_named(bundle, real_detector):
    checked = verify_bundle(bundle, real_detector, original=b"%PDF-1.7 hello")
    assert checked.detection is None and checked.differences[0].startswith("SHA-256 of the original")
    assert "a PDF document" in checked.differences[1]


def test_other_weights_are_named(bundle, picture_detector):
    engine = copy.copy(picture_detector.engine)
    engine.model_sha256 = "f" * 64
    engine.run = lambda batch: (picture_detector.engine.run(batch)[0] + 1, picture_detector.engine.run(batch)[1])
    other = Detector(PictureDetector(engine, picture_detector._finder), lambda: None)
    names = [sentence.partition(":")[0] for sentence in verify_bundle(bundle, other).differences]
    assert names[:1] == ["SHA-256 of the model"] and {"logit", "probability"} <= set(names)


def test_altered_missing_and_added_files_are_named(bundle, real_detector):
    files = members(bundle)
    files["report.html"] += b" "
    del files["report.pdf"]
    files["../../evil\x1b.exe"] = b"MZ"
    assert verify_bundle(packed(files), real_detector).differences == (
        '"report.pdf" is missing from the bundle.',
        '"../../evil\\u001b.exe" was not put into the bundle when it was made.',
        '"report.html" is not the file that was put into the bundle: its SHA-256 differs.',
    )


def test_further_maps_are_kept(evidence, real_detector):
    heatmap = np.full((64, 64), 0.9, np.float32)
    class_map, lime = (CheckedExplanation(method, heatmap, (), "The nose.", 64) for method in ("class_map", "lime"))
    made = build_bundle(replace(evidence, explanations=(class_map, lime)))
    maps = {name for name in members(made) if name.startswith("maps/")}
    assert maps == {"maps/01-face-1-class-activation-map.png", "maps/02-face-1-lime.png"}
    about = json.loads(members(made)["detection.json"])["about"]
    assert [kept["method"] for kept in about["explanations"]] == ["class_map", "lime"]
    assert about["explanations"][0]["sentence"] == "The nose." and about["explanations"][0]["check"] is None
    assert verify_bundle(made, real_detector).differences == ()


def with_record(text):
    return packed({"detection.json": text})


def lying(size):
    """A member that unpacks to far more than it states."""
    data = bytearray(packed({"detection.json": b" " * 50_000_000}, zipfile.ZIP_DEFLATED))
    for signature, offset in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        struct.pack_into("<I", data, data.index(signature) + offset, size)
    return bytes(data)


def encrypted():
    data = bytearray(with_record("{}"))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


def twice():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("detection.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("detection.json", "{}")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", UnreadableMedia, "not an evidence bundle"),
        (b"PK\5\6", UnreadableMedia, "not an evidence bundle"),
        (b"\x89PNG" + b"x" * 100, UnreadableMedia, "not an evidence bundle"),
        (b"x" * 10 + b"PK\5\6" + b"\xff" * 4 + b"\1\0\1\0" + b"\xff" * 8 + b"\0\0", MediaTooLarge, "list of files"),
        (packed({"a.txt": b"hello"}), UnreadableMedia, "detection.json is missing"),
        (packed({str(number): b"" for number in range(MAX_MEMBERS + 1)}), MediaTooLarge, "at most 500"),
        (with_record("{"), UnreadableMedia, "JSON"),
        (with_record("[" * 100_000), UnreadableMedia, "JSON"),
        (with_record('{"bundle_version": NaN}'), UnreadableMedia, "JSON"),
        (with_record('{"bundle_version": ' + "1" * 100_000 + "}"), UnreadableMedia, "JSON"),
        (with_record(b"\xff\xfe\x00"), UnreadableMedia, "JSON"),
        (with_record("[]"), UnreadableMedia, "unknown version"),
        (with_record('{"bundle_version": "1"}'), UnreadableMedia, "unknown version"),
        (with_record('{"record_version": 4, "about": {}, "files": {}}'), UnreadableMedia, "reads versions 1 to 3"),
        (with_record('{"record_version": true, "bundle_version": 1}'), UnreadableMedia, "unknown version"),
        (with_record('{"bundle_version": 1, "about": {}, "files": []}'), UnreadableMedia, "does not list"),
        (with_record('{"bundle_version": 1, "about": {}, "files": {}}'), UnreadableMedia, "--file"),
        (with_record('{"record_version": 2, "about": {}, "files": {}}'), UnreadableMedia, "--file"),
        (lying(1000), UnreadableMedia, "damaged"),
        (lying(MAX_BUNDLE_BYTES + 1), MediaTooLarge, "unpack"),
        (encrypted(), UnreadableMedia, "encrypted"),
        (twice(), UnreadableMedia, "two files"),
        (packed({"detection.json": b"{}"}, zipfile.ZIP_LZMA), UnreadableMedia, "unsupported method"),
    ],
)
def test_hostile_bundles_end_in_a_sentence(data, error, words, real_detector):
    with pytest.raises(error, match=words) as caught:
        verify_bundle(data, real_detector)
    assert str(caught.value).endswith(".") and len(str(caught.value)) < 200


def test_no_more_is_unpacked_than_stated(real_detector, monkeypatch):
    made = []
    factory = zlib.decompressobj

    class Counting:
        def __init__(self, *arguments):
            self._real = factory(*arguments)

        def decompress(self, data, limit=0):
            made.append(self._real.decompress(data, limit))
            return made[-1]

        def __getattr__(self, name):
            return getattr(self._real, name)

    monkeypatch.setattr(zipfile.zlib, "decompressobj", Counting)
    with pytest.raises(UnreadableMedia):
        verify_bundle(lying(1000), real_detector)
    assert 1000 <= sum(map(len, made)) < 100_000


def test_a_bundle_over_the_limit_is_not_opened(bundle, real_detector, monkeypatch):
    monkeypatch.setattr(verification, "MAX_BUNDLE_BYTES", len(bundle) - 1)
    with pytest.raises(MediaTooLarge, match="at most"):
        verify_bundle(bundle, real_detector)


@pytest.mark.parametrize("version", [{"bundle_version": 1}, {"record_version": 2}, {"record_version": 3}])
def test_a_record_of_nonsense_is_all_differences(version, real_detector, evidence):
    nonsense = {**version, "about": {}, "files": {}, "input": 7, "detection": [[[]]], "\x1b[31m" * 50: None}
    nonsense["provenance"] = {"findings": [7, {}, []]}
    bundle = packed({"detection.json": json.dumps(nonsense), "original.jpg": evidence.data})
    differences = verify_bundle(bundle, real_detector).differences
    assert len(differences) >= 6 and all(line.isprintable() and len(line) < 400 for line in differences)
    assert verify_bundle(bundle, real_detector, original=b"").detection is None


def test_a_bundle_of_version_2_verifies_as_the_same(bundle, picture_detector, monkeypatch, real_detector):
    def age(record):
        record["record_version"] = 2
        for rate in record["detection"]["error_rates"]:
            del rate["unseen"]

    known = replace(picture_detector.reference_scores, unseen=False)
    monkeypatch.setattr(picture_detector, "reference_scores", known)
    assert verify_bundle(changed_record(bundle, age), real_detector).differences == ()
    monkeypatch.setattr(picture_detector, "reference_scores", replace(known, unseen=True))
    differences = verify_bundle(changed_record(bundle, age), real_detector).differences
    assert differences and all(".unseen" in sentence for sentence in differences)


@pytest.fixture(scope="module")
def old_bundle():
    """A bundle of version 1, with LIME and checked explanations, of the portrait at 256 x 256 pixels."""
    return (ROOT / "tests/data/evidence_v1.zip").read_bytes()


MODEL_DEPENDENT = re.compile(
    r"SHA-256 of the model|model\..*|verdict|probability|logit|detection\.(reasons|model_sha256|error_rates.*|faces.*)"
    r"|heatmaps.*|robustness_scores\[\d+\]\.(logit|probability|verdict)|preprocessing\.input_size_px"
)


@pytest.fixture(scope="module")
def old_differences(old_bundle, real_detector):
    """What the model of today gives otherwise than the one that made the bundle."""
    return verify_bundle(old_bundle, real_detector).differences


def test_a_bundle_of_version_1_differs_only_in_what_depends_on_the_model(old_bundle, old_differences):
    record = json.loads(members(old_bundle)["detection.json"])
    assert record["bundle_version"] == 1 and len(record["deliveries"]) == 10 and "record_version" not in record
    assert [sentence for sentence in old_differences if not MODEL_DEPENDENT.fullmatch(sentence.partition(":")[0])] == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda r: r["deliveries"][4].update(logit=9.0), ["robustness_scores[4].logit"]),
        (lambda r: r.pop("deliveries"), []),
        (lambda r: r["detection"].update(logit=9.0), ["logit"]),
        (lambda r: r["provenance"]["findings"].pop(), ["provenance.findings"]),
        (lambda r: r["provenance"]["findings"][0].update(kind="camera"), ["provenance.findings[0].kind"]),
        (lambda r: r["provenance"]["findings"][0].update(fact="In other words."), []),
    ],
)
def test_altered_values_of_version_1_are_named(change, named, old_bundle, old_differences, real_detector):
    differences = verify_bundle(changed_record(old_bundle, change), real_detector).differences
    added = [sentence for sentence in differences if sentence not in old_differences]
    assert [sentence.partition(":")[0] for sentence in added] == named
