"""Evaluation and plots on a few pictures and the shipped model."""

import csv
import hashlib
import json

import evaluate
import numpy as np
import plot
import pytest
from manifests import COLUMNS, Example, write_manifest

from detector.media import read_image
from detector.metrics import roc_auc


@pytest.fixture(scope="module")
def evaluated(astronaut, tmp_path_factory):
    """A folder of 6 pictures, judged: three of the portrait, three of it with a blurred face called fake."""
    folder = tmp_path_factory.mktemp("evaluated")
    examples = []
    for index in range(6):
        path = folder / f"{index}.jpg"
        astronaut.crop((100 - 8 * index, 0, 400, 300)).save(path, quality=95 - 5 * index)
        label, source = index % 2, ("a", "b")[index // 3]
        examples.append(Example(path, label, source, "camera", f"group{index}", "val"))
    write_manifest(folder / "manifest.csv", [*examples, Example(folder / "gone.jpg", 1, "a", "x", "other", "train")])
    evaluate.main(["--manifest", str(folder / "manifest.csv"), "--out", str(folder)])
    return folder


def read(folder):
    with open(folder / "scores.csv", newline="") as file:
        return list(csv.DictReader(file)), json.loads((folder / "metrics.json").read_text())


def test_every_picture_is_scored_in_every_delivery_with_its_own_path(evaluated):
    rows, metrics = read(evaluated)
    assert len(rows) == 6 * len(metrics["deliveries"])
    assert {row["path"] for row in rows} == {f"{index}.jpg" for index in range(6)}
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)


def test_figures_agree_with_the_scores(evaluated):
    rows, metrics = read(evaluated)
    stored = [row for row in rows if row["delivery"] == "stored"]
    labels, logits = (np.array([float(row[name]) for row in stored]) for name in ("label", "logit"))
    assert metrics["overall"]["auc"]["value"] == pytest.approx(roc_auc(labels, logits))
    called = sum(row["verdict"] == "deepfake" for row in stored if row["label"] == "0") / 3
    assert metrics["verdicts"]["deepfake"]["wrong"]["value"] == pytest.approx(called)
    assert sum(sum(counts.values()) for counts in metrics["confusion"].values()) == metrics["overall"]["n"] == 6
    assert {(row["source"], row["label"], row["n"]) for row in metrics["sources"]} == {
        ("a", 0, 2), ("a", 1, 1), ("b", 0, 1), ("b", 1, 2)
    }  # fmt: skip
    assert all(len(estimate) == 4 for row in metrics["sources"] for estimate in (row["auc"], row["wrong"]))


def test_plots_are_drawn_from_the_files_alone_and_alike_each_time(evaluated):
    _, metrics = read(evaluated)
    metrics["training"]["curve"] = [{"epoch": 1, "train_accuracy": 0.5, "tune_accuracy": 0.6}]
    (evaluated / "metrics.json").write_text(json.dumps(metrics))
    digests = []
    for _ in range(2):
        plot.main(["--folder", str(evaluated)])
        drawn = [(evaluated / f"{name}.png").read_bytes() for name in ("acc", "roc", "auc", "cm")]
        digests.append([hashlib.sha256(data).digest() for data in drawn])
    assert digests[0] == digests[1]
    assert all(min(read_image(data).shape[:2]) > 300 for data in drawn)


def test_plots_without_scores_say_how_to_get_them(tmp_path):
    with pytest.raises(SystemExit, match=r"python scripts/evaluate\.py"):
        plot.main(["--folder", str(tmp_path)])


def test_one_kind_only_is_refused(tmp_path, evaluated):
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(",".join(COLUMNS) + f"\n{evaluated / '0.jpg'},0,a,camera,g,val\n")
    with pytest.raises(SystemExit, match="both real and fake"):
        evaluate.main(["--manifest", str(manifest), "--out", str(tmp_path)])
