"""Evaluation on a few pictures and the shipped model, and its figures on scores made by hand."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score

from detector import metrics as estimates
from detector.media.degradations import TIERS
from detector.media.images import read_image
from detector.metrics import roc_auc
from detector.models.reference_scores import read_reference_scores
from detector.pictures.detect import MODEL_FILES
from training import scoring as evaluate
from training.manifests import MANIFEST_COLUMNS, Example, split_train_calibration, write_manifest


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimates, "RESAMPLES", 50)
        yield


@pytest.fixture(scope="module")
def evaluated(astronaut, tmp_path_factory):
    """A folder of 6 pictures of the portrait, judged; every second one is said to be a fake."""
    folder = tmp_path_factory.mktemp("evaluated")
    examples = []
    for index in range(6):
        path = folder / f"{index}.{'png' if index == 5 else 'jpg'}"
        astronaut.crop((100 - 8 * index, 0, 400, 300)).save(path, quality=95 - 15 * index)
        label, source, generator = index % 2, ("a", "b")[index // 3], ("camera", "face-swap", "sdxl")[index % 3]
        examples.append(Example(path, label, source, generator if label else "camera", f"group{index}", "val"))
    write_manifest(folder / "manifest.csv", [*examples, Example(folder / "gone.jpg", 1, "a", "x", "other", "train")])
    asked = ["--manifest", str(folder / "manifest.csv"), "--out", str(folder)]
    evaluate.main([*asked, "--held-out", str(folder / "table.json")])
    return folder


def read(folder):
    with open(folder / "scores.csv", newline="") as file:
        return list(csv.DictReader(file)), json.loads((folder / "metrics.json").read_text())


def made_row(label, generator, logit, verdict="inconclusive", **others):
    probability = 1 / (1 + np.exp(-logit))
    row = {"label": label, "generator": generator, "source": generator, "logit": logit, "probability": probability}
    return {**row, "verdict": verdict, "delivery": "stored", "faces": 1, "face_px": 200, **others}


def grouped(rows):
    return [row | {"group": f"group{number}"} for number, row in enumerate(rows)]


def test_every_picture_is_scored_in_every_delivery_with_its_own_path(evaluated):
    rows, metrics = read(evaluated)
    assert len(rows) == 6 * len(metrics["deliveries"])
    assert {row["path"] for row in rows} == {"0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.png"}
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)


def test_scores_tell_what_kind_of_picture_it_was(evaluated, picture_detector):
    rows = {(row["path"], row["delivery"]): row for row in read(evaluated)[0]}
    for index, quality in enumerate(("95", "80", "65", "50", "35", "")):
        name = f"{index}.{'jpg' if quality else 'png'}"
        row = rows[name, "jpeg50"]
        assert (row["width_px"], row["height_px"]) == (str(300 + 8 * index), "300")
        assert row["jpeg_quality"] == quality
        faces = picture_detector.detect(read_image(evaluated / name)).faces
        assert rows[name, "stored"]["face_px"] == str(max(faces[0].box[2:]))


def test_a_table_that_is_not_of_the_formula_gets_the_nearest_quality(astronaut, tmp_path):
    astronaut.save(tmp_path / "a.jpg", quality=70)
    with Image.open(tmp_path / "a.jpg") as picture:
        tables = picture.quantization
    tables[0][5] += 2
    astronaut.save(tmp_path / "b.jpg", qtables=tables)
    assert evaluate.jpeg_quality(tmp_path / "b.jpg") == 70


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


def test_forced_figures_count_every_picture_also_the_inconclusive():
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 2, 40), rng.normal(0.4, 1, 40)
    measured = evaluate.measure_rows(
        grouped([made_row(int(label), "x", logit) for label, logit in zip(labels, logits, strict=True)])
    )
    assert measured["inconclusive"]["value"] == 1
    assert measured["accuracy_all"]["value"] == pytest.approx(accuracy_score(labels, logits >= 0))
    assert measured["f1"]["value"] == pytest.approx(f1_score(labels, logits >= 0))
    assert all(
        measured[name]["low"] < measured[name]["value"] < measured[name]["high"] for name in ("accuracy_all", "f1")
    )


@pytest.mark.parametrize(
    ("generator", "family"),
    [
        ("face-swap", "face swaps"),
        ("stylegan-type", "StyleGAN"),
        ("StyleGAN2", "StyleGAN"),
        ("SDXL", "SDXL"),
        ("never heard of", "never heard of"),
    ],
)
def test_generators_that_are_the_same_thing_are_one_family(generator, family):
    assert evaluate.family_of(generator) == family


def test_swaps_and_generated_faces_are_each_measured_against_every_real():
    reals = [made_row(0, "camera", logit, "real") for logit in (-3, -2, -1)]
    reals += [made_row(0, "camera (phone)", 1.5, "inconclusive")]
    fakes = [made_row(1, "face-swap", logit, verdict) for logit, verdict in ((-2.5, "real"), (2, "deepfake"))]
    fakes += [made_row(1, "stylegan-type", 3, "deepfake"), made_row(1, "stylegan2", 1), made_row(1, "SDXL", 4)]
    rows = {row["family"]: row for row in evaluate.measure_families(grouped(reals + fakes))}
    assert {name: row["n"] for name, row in rows.items()} == {
        "face swaps": 2, "generated faces": 3, "SDXL": 1, "StyleGAN": 2
    }  # fmt: skip
    assert rows["StyleGAN"]["generators"] == ["stylegan-type", "stylegan2"]
    assert rows["face swaps"]["auc"]["value"] == pytest.approx(5 / 8)
    assert rows["generated faces"]["auc"]["value"] == pytest.approx(11 / 12)
    assert (rows["face swaps"]["misses"]["value"], rows["face swaps"]["inconclusive"]["value"]) == (0.5, 0)
    assert rows["StyleGAN"]["inconclusive"]["value"] == 0.5


def test_tune_is_what_training_does_not_learn_from(tmp_path):
    examples = [
        Example(tmp_path / f"{n}.jpg", n % 2, "a", "x", f"group{n}", "val" if n > 79 else "train") for n in range(100)
    ]
    write_manifest(tmp_path / "manifest.csv", examples)
    fit, tune = split_train_calibration(examples)
    assert evaluate.read_split(tmp_path / "manifest.csv", "tune") == tune != []
    assert evaluate.read_split(tmp_path / "manifest.csv", "train") == [e for e in examples if e in fit or e in tune]
    assert evaluate.read_split(tmp_path / "manifest.csv", "val") == examples[80:]


def test_the_table_for_the_person_holds_the_faces_that_were_judged(evaluated, picture_detector):
    table = read_reference_scores(evaluated / "table.json")
    assert (table.split, table.model_sha256) == ("val", picture_detector.engine.model_sha256)
    rows = [made_row(n % 2, "x", n / 10, face_px=(200, 200, 200, 39, 0)[n % 5]) for n in range(100)]
    sizes = evaluate.reference_scores_from(grouped(rows), "tune", "a" * 64).sizes
    assert [(size.kind, len(size.probabilities)) for size in sizes] == [("real", 30), ("fake", 30)]


@pytest.mark.parametrize(
    ("options", "written"),
    [([], True), (["--split", "tune"], False), (["--model", MODEL_FILES["onnx"]], False), (["--out", "other"], False)],
)
def test_only_the_shipped_model_on_val_replaces_the_table_that_ships(options, written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [made_row(n % 2, "x", n, delivery=delivery) for delivery in TIERS for n in range(4)]
    examples = [Example(tmp_path / f"{n}.jpg", n % 2, "a", "x", f"{n}", ("train", "val")[n > 9]) for n in range(20)]
    write_manifest(tmp_path / "manifest.csv", examples)
    monkeypatch.setattr(evaluate, "score", lambda *_: grouped(rows))
    monkeypatch.setattr(evaluate, "OUT", tmp_path / "visualizations")
    monkeypatch.setattr(evaluate, "REFERENCE_SCORES_FILE", tmp_path / "held_out.json")
    evaluate.main(["--manifest", "manifest.csv", *map(str, options)])
    assert (tmp_path / "held_out.json").is_file() is written


def test_one_kind_only_is_refused(tmp_path, evaluated):
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(",".join(MANIFEST_COLUMNS) + f"\n{evaluated / '0.jpg'},0,a,camera,g,val\n")
    with pytest.raises(SystemExit, match="both real and fake"):
        evaluate.main(["--manifest", str(manifest), "--out", str(tmp_path)])
