"""Evaluation of a few pictures by the shipped model."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from score_rows import complete_row, make_row, with_own_groups
from sklearn.metrics import accuracy_score

from detector import metrics as estimates
from detector.media.degradations import TIERS
from detector.media.images import read_image
from detector.metrics import roc_auc
from detector.models.reference_scores import read_reference_scores
from detector.pictures.detect import MODEL_FILES
from scripts import evaluate as command
from training import scoring
from training.image_statistics import sharpness
from training.manifests import MANIFEST_COLUMNS, Example, split_train_calibration, write_manifest
from training.tables import reference_scores_from

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "RESAMPLES", 50)
        yield


@pytest.fixture(scope="module")
def evaluated(astronaut, tmp_path_factory):
    """A folder with 6 crops of the portrait and their scores; every second one is labelled fake."""
    folder = tmp_path_factory.mktemp("evaluated")
    examples = []
    for index in range(6):
        path = folder / f"{index}.{'png' if index == 5 else 'jpg'}"
        astronaut.crop((100 - 8 * index, 0, 400, 300)).save(path, quality=95 - 15 * index)
        label, source, generator = index % 2, ("a", "b")[index // 3], ("camera", "face-swap", "sdxl")[index % 3]
        named = {"kind": ("photograph", "swap")[label], "family": source, "fold": index % 3}
        examples.append(Example(path, label, source, generator if label else "camera", f"group{index}", "val", **named))
    write_manifest(folder / "manifest.csv", [*examples, Example(folder / "gone.jpg", 1, "a", "x", "other", "train")])
    arguments = ["--manifest", str(folder / "manifest.csv"), "--out", str(folder)]
    command.main([*arguments, "--held-out", str(folder / "table.json")])
    return folder


def read(folder):
    with open(folder / "scores.csv", newline="") as file:
        return list(csv.DictReader(file)), json.loads((folder / "metrics.json").read_text())


def test_a_picture_is_scored_on_each_core(monkeypatch, picture_detector):
    monkeypatch.setattr(scoring.os, "cpu_count", lambda: 3)
    loaded = {}

    def load(model, **options):
        loaded.update(options, model=model)
        return picture_detector

    monkeypatch.setattr(scoring, "load_picture_detector", load)
    assert scoring.load_scoring_detector(Path("face.onnx")) is picture_detector
    assert loaded == {"model": Path("face.onnx"), "engine": "onnx", "threads": 3, "streams": 3}


def test_every_picture_is_scored_after_every_degradation_with_its_own_path(evaluated):
    rows, metrics = read(evaluated)
    assert len(rows) == 6 * len(metrics["deliveries"])
    assert {row["path"] for row in rows} == {"0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.png"}
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)


def test_tables_alone_decide_again_on_the_same_scores(evaluated, tmp_path):
    rows = scoring.read_scores(evaluated / "scores.csv")
    scoring.write_scores([{**row, "verdict": "real", "probability": 0.5} for row in rows], tmp_path / "scores.csv")
    arguments = ["--manifest", str(evaluated / "manifest.csv"), "--out", str(tmp_path), "--only-tables"]
    command.main(arguments)
    for row, decided in zip(rows, scoring.read_scores(tmp_path / "scores.csv"), strict=True):
        assert decided == {**row, "probability": pytest.approx(row["probability"], abs=1e-5)}
    scoring.write_scores(rows[4:], tmp_path / "scores.csv")
    with pytest.raises(SystemExit, match="not those of this split"):
        command.main(arguments)


def test_rows_hold_size_quality_and_face_of_the_stored_picture(evaluated, picture_detector):
    rows = {(row["path"], row["delivery"]): row for row in read(evaluated)[0]}
    for index, quality in enumerate(("95", "80", "65", "50", "35", "")):
        name = f"{index}.{'jpg' if quality else 'png'}"
        row = rows[name, "jpeg50"]
        assert (row["width_px"], row["height_px"]) == (str(300 + 8 * index), "300")
        assert row["jpeg_quality"] == quality
        faces = picture_detector.detect(read_image(evaluated / name)).faces
        assert rows[name, "stored"]["face_px"] == str(max(faces[0].box[2:]))


def test_rows_hold_kind_family_fold_and_sharpness_of_the_unscaled_face(evaluated, picture_detector):
    rows = {(row["path"], row["delivery"]): row for row in scoring.read_scores(evaluated / "scores.csv")}
    assert [(rows[f"{n}.jpg", "half"][name]) for n in (1, 3) for name in ("kind", "family", "fold")] == [
        "swap", "a", 1, "swap", "b", 0
    ]  # fmt: skip
    image = read_image(evaluated / "2.jpg")
    (x, y, side, _) = picture_detector.detect(image).faces[0].crop_box
    assert min(x, y) >= 0 and y + side <= 300  # inside of the picture
    expected = sharpness(image[y : y + side, x : x + side])
    assert rows["2.jpg", "stored"]["sharpness"] == pytest.approx(expected, abs=1e-3)
    assert rows["2.jpg", "blur1"]["sharpness"] < expected - 1


def test_a_face_too_small_for_a_spectrum_has_no_sharpness(picture_detector):
    found = picture_detector.detect(np.zeros((5, 7, 3), np.uint8))
    assert scoring.face_sharpness(found) is None


def test_scores_are_read_as_written(tmp_path):
    texts = dict.fromkeys(scoring.SCORE_COLUMNS, "1") | {"path": "é, ,.png"}
    row = {name: scoring._value(name, text) for name, text in texts.items()} | {"logit": -0.5}
    rows = [row, row | {"fold": None, "sharpness": None, "jpeg_quality": None, "reasons": ""}]
    scoring.write_scores(rows, tmp_path / "scores.csv")
    for row, decided in zip(rows, scoring.read_scores(tmp_path / "scores.csv"), strict=True):
        assert decided == {**row, "probability": pytest.approx(row["probability"], abs=1e-5)}
    assert isinstance(rows[0]["fold"], int) and isinstance(rows[0]["sharpness"], float)


def test_scores_of_an_earlier_version_are_refused(tmp_path):
    with pytest.raises(SystemExit, match=r"no file of scores .*cross_validate\.py"):
        scoring.read_scores(tmp_path / "scores.csv")
    (tmp_path / "scores.csv").write_text("path,label\n")
    with pytest.raises(SystemExit, match="lack the columns .*sharpness"):
        scoring.read_scores(tmp_path / "scores.csv")


@pytest.mark.parametrize(("rows", "sentence"), [([], "is empty"), ([complete_row(faces="")], "than a number: .*''")])
def test_scores_without_rows_or_with_a_wrong_number_are_refused(rows, sentence, tmp_path):
    scoring.write_scores(rows, tmp_path / "scores.csv")
    with pytest.raises(SystemExit, match=sentence):
        scoring.read_scores(tmp_path / "scores.csv")


def test_a_table_of_no_known_encoder_gets_the_nearest_quality(astronaut, tmp_path):
    astronaut.save(tmp_path / "a.jpg", quality=70)
    with Image.open(tmp_path / "a.jpg") as picture:
        tables = picture.quantization
    tables[0][5] += 2
    astronaut.save(tmp_path / "b.jpg", qtables=tables)
    assert scoring.jpeg_quality(tmp_path / "b.jpg") == 70


def test_figures_agree_with_the_scores(evaluated):
    rows, metrics = read(evaluated)
    stored = [row for row in rows if row["delivery"] == "stored"]
    labels, logits, probabilities = (
        np.array([float(row[name]) for row in stored]) for name in ("label", "logit", "probability")
    )
    overall = metrics["overall"]
    assert overall["auc"]["value"] == pytest.approx(roc_auc(labels, logits))
    assert overall["accuracy_all"]["value"] == pytest.approx(accuracy_score(labels, probabilities >= 0.5))
    assert 0 < overall["ece_perfect"] < 1
    called = sum(row["verdict"] == "deepfake" for row in stored if row["label"] == "0") / 3
    assert metrics["verdicts"]["deepfake"]["wrong"]["value"] == pytest.approx(called)
    assert sum(sum(counts.values()) for counts in metrics["confusion"].values()) == overall["n"] == 6
    assert {(row["source"], row["label"], row["n"]) for row in metrics["sources"]} == {
        ("a", 0, 2), ("a", 1, 1), ("b", 0, 1), ("b", 1, 2)
    }  # fmt: skip
    assert all(len(estimate) == 4 for row in metrics["sources"] for estimate in (row["auc"], row["wrong"]))


def test_tune_is_the_part_of_train_that_no_network_learns_from(tmp_path):
    examples = [
        Example(tmp_path / f"{n}.jpg", n % 2, "a", "x", f"group{n}", "val" if n > 79 else "train", family="x")
        for n in range(100)
    ]
    write_manifest(tmp_path / "manifest.csv", examples)
    train, tune = split_train_calibration(examples)
    assert scoring.read_split(tmp_path / "manifest.csv", "tune") == tune != []
    assert scoring.read_split(tmp_path / "manifest.csv", "train") == [e for e in examples if e in train or e in tune]
    assert scoring.read_split(tmp_path / "manifest.csv", "val") == examples[80:]


def test_reference_scores_name_the_split_and_the_model(evaluated, picture_detector):
    table = read_reference_scores(evaluated / "table.json")
    assert (table.split, table.model_sha256) == ("val", picture_detector.engine.model_sha256)


@pytest.fixture
def evaluate_made_rows(tmp_path, monkeypatch):
    """Return the command with scores made by hand; its working folder holds manifest.csv and visualizations."""
    monkeypatch.chdir(tmp_path)
    rows = with_own_groups([make_row(n % 2, "x", n, delivery=name) for name in TIERS for n in range(4)])
    examples = [Example(tmp_path / f"{n}.jpg", n % 2, "a", "x", f"{n}", ("train", "val")[n > 9]) for n in range(20)]
    write_manifest(tmp_path / "manifest.csv", examples)
    monkeypatch.setattr(scoring, "score", lambda *_: rows)
    monkeypatch.setattr(scoring, "VISUALIZATIONS", tmp_path / "visualizations")
    monkeypatch.setattr(scoring, "REFERENCE_SCORES_FILE", tmp_path / "reference_scores.json")
    return lambda *options: command.main(["--manifest", "manifest.csv", "--out", "visualizations", *map(str, options)])


@pytest.mark.parametrize(
    ("options", "is_written"),
    [([], True), (["--split", "tune"], False), (["--model", MODEL_FILES["onnx"]], False), (["--out", "other"], False)],
)
def test_only_the_shipped_model_on_val_replaces_the_shipped_reference_scores(options, is_written, evaluate_made_rows):
    evaluate_made_rows(*options)
    assert Path("reference_scores.json").is_file() is is_written


def test_reference_scores_of_more_pictures_are_kept(evaluate_made_rows, picture_detector):
    rows = with_own_groups([make_row(n % 2, "x", n / 10) for n in range(100)])
    kept = reference_scores_from(rows, "val", picture_detector.engine.model_sha256)
    kept.write("reference_scores.json")
    before = Path("reference_scores.json").read_bytes()
    evaluate_made_rows()
    assert Path("reference_scores.json").read_bytes() == before
    evaluate_made_rows("--held-out", "reference_scores.json")
    assert Path("reference_scores.json").read_bytes() != before


@pytest.mark.parametrize(("is_this_model", "is_kept"), [(True, True), (False, False)])
def test_reference_scores_of_kinds_left_out_are_kept(is_this_model, is_kept, evaluate_made_rows, picture_detector):
    rows = with_own_groups([make_row(n % 2, "x", n / 10) for n in range(2)])  # fewer than are evaluated
    sha256 = picture_detector.engine.model_sha256 if is_this_model else "0" * 64
    replace(reference_scores_from(rows, "folds", sha256), unseen=True).write("reference_scores.json")
    before = Path("reference_scores.json").read_bytes()
    evaluate_made_rows()
    assert (Path("reference_scores.json").read_bytes() == before) is is_kept


@pytest.mark.parametrize("split", ["train", "tune"])
def test_reference_scores_of_a_split_that_is_not_held_out_are_refused(split, capsys):
    with pytest.raises(SystemExit):
        command.main(["--split", split, "--held-out", "table.json"])
    assert "is not held out" in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_single_label_is_refused(tmp_path, evaluated):
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(",".join(MANIFEST_COLUMNS) + f"\n{evaluated / '0.jpg'},0,a,camera,g,val\n")
    with pytest.raises(SystemExit, match="both real and fake"):
        command.main(["--manifest", str(manifest), "--out", str(tmp_path)])
