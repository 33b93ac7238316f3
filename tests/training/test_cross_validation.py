"""Cross-validation of a tiny network over two folds of a few crops."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.media.degradations import TIERS, adjust_light
from detector.models.calibration import Calibration
from detector.models.spec import file_sha256, read_spec, write_spec
from scripts import cross_validate as command
from training import ablation, cross_validation, unseen_tables
from training.cross_validation import (
    CrossValidationOptions,
    describe_cross_validation,
    draw_per_source,
    exclude_learned,
    leave_out,
    read_folds,
)
from training.fitting import load_training_data
from training.manifests import Example, read_manifest, write_manifest
from training.scoring import SCORE_COLUMNS, read_scores
from training.settings import DEFAULT_SETTINGS, TrainingSettings

pytestmark = pytest.mark.slow

SIZES = ["--network=cnn", "--weights=none", "--size=64", "--epochs=1", "--epoch-samples=8", "--batch=8"]
SIZES += ["--self-blend=0.4", "--reconstruct=0"]
FAMILIES = (("swap", "ghost"), ("gan", "style"))


@pytest.fixture(scope="module", autouse=True)
def few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unseen_tables, "UNSEEN_RESAMPLES", 20)
        patch.setattr(unseen_tables, "MIN_FAMILY", 4)
        yield


@pytest.fixture(scope="module")
def folds_manifest(astronaut, tmp_path_factory):
    """Two folds with four real crops and four fakes of one family each; a val picture whose file is missing."""
    folder, portrait = tmp_path_factory.mktemp("folds"), np.asarray(astronaut)
    examples = [Example(folder / "secret.png", 1, "val", "x", "secret", "val", "swap", "ghost", 0)]
    for index in range(16):
        fold, label, step = index // 8, index // 4 % 2, 10 * (index % 4)
        picture = portrait[step : 230 + 5 * fold, 100 + step : 330]
        if label:
            picture = adjust_light(picture, gain=1.3, offset=20, saturation=0.3)
        (kind, family), source = FAMILIES[fold], f"{'fakes' if label else 'reals'}{fold}"
        names = (kind, family) if label else ("photograph", source)
        examples.append(Example(folder / f"{index}.png", label, source, "ours", f"group{index}", "train", *names, fold))
        Image.fromarray(picture).save(examples[-1].path)
    write_manifest(folder / "manifest.csv", examples)
    return folder / "manifest.csv"


@pytest.fixture(scope="module")
def cross_validated(folds_manifest, tmp_path_factory, eagerly):
    """The folder of a finished cross-validation, with its runs."""
    folder = tmp_path_factory.mktemp("cross_validated")
    with eagerly():
        run(folds_manifest, folder)
    return folder


def run(manifest, folder, *options):
    files = ["--manifest", str(manifest), "--runs", str(folder / "runs"), "--out", str(folder / "out")]
    command.main([*files, *SIZES, *options])


def read(folder):
    out = folder / "out"
    return read_scores(out / "unseen_scores.csv"), json.loads((out / "unseen_metrics.json").read_text())


def test_every_training_picture_is_scored_by_the_network_that_did_not_learn_from_its_fold(cross_validated):
    rows, metrics = read(cross_validated)
    assert [(row["path"], row["delivery"]) for row in rows] == [(f"{n}.png", t) for n in range(16) for t in TIERS]
    for fold in (0, 1):
        path = cross_validated / "runs" / f"fold{fold}"
        own = [row for row in rows if row["fold"] == fold]
        assert own == json.loads((path / "scores.json").read_text()) and len(own) == 8 * len(TIERS)
        sources = read_spec(path / "model.h5").training["sources"]
        assert set(sources) == {f"fakes{1 - fold} fake", f"reals{1 - fold} real"}
    assert list(rows[0]) == list(SCORE_COLUMNS) and metrics["n"] == 16


def test_the_figures_name_families_sources_and_settings_without_folders(cross_validated, folds_manifest):
    rows, metrics = read(cross_validated)
    assert [(f["family"], f["kind"], f["fold"], f["n"]) for f in metrics["families"]] == [
        ("style", "gan", 1, 4), ("ghost", "swap", 0, 4)
    ]  # fmt: skip
    assert [(f["source"], f["fold"], f["n"]) for f in metrics["real_sources"]] == [("reals0", 0, 4), ("reals1", 1, 4)]
    assert metrics["macro_family"]["n"] == 2 and len(metrics["trade_off"]) == 10
    assert (metrics["settings"]["network"], metrics["settings"]["manifest"]) == ("cnn", "manifest.csv")
    assert metrics["settings"]["leave_out_fold"] is None and metrics["model_sha256"] is None
    assert str(folds_manifest.parent) not in json.dumps(metrics)


def test_the_figures_name_the_networks_that_were_averaged(tmp_path):
    member = tmp_path / "earlier.h5"
    member.write_bytes(b"any")
    options = CrossValidationOptions(DEFAULT_SETTINGS, member=member, members=(0, 2), most_per_source=40)
    described = describe_cross_validation(DEFAULT_SETTINGS, options)
    assert (described["members"], described["most_per_source"]) == ((0, 2), 40)
    assert described["member_sha256"] == file_sha256(member) and str(tmp_path) not in str(described)
    assert "members" not in describe_cross_validation(DEFAULT_SETTINGS, replace(options, member=None))
    assert "sharpness_offset" not in described
    offset = replace(options, sharpness_offset=0.8)
    assert describe_cross_validation(DEFAULT_SETTINGS, offset)["sharpness_offset"] == 0.8
    with pytest.raises(ValueError, match="--member"):
        replace(offset, member=None)


def test_a_left_out_fold_never_reaches_training(folds_manifest, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(folds_manifest.parent, folder)
    for example in read_manifest(folder / "manifest.csv"):
        if example.fold == 0:
            example.path.unlink(missing_ok=True)
    settings = TrainingSettings(
        str(folder / "manifest.csv"), "", "cnn", "none", "", 64, 1, 8, 8, self_blend=0.4, seed=1, leave_out_fold=0
    )
    data = load_training_data(settings)
    used = data.training + data.calibration
    assert len(used) == 8 and {(example.fold, example.split) for example in used} == {(1, "train")}
    assert {example.source for example in data.batches.examples} == {"reals1", "fakes1"}


def test_a_stopped_call_resumes_without_training_or_scoring_a_finished_fold(
    cross_validated, folds_manifest, tmp_path, monkeypatch, eagerly
):
    shutil.copytree(cross_validated / "runs", tmp_path / "runs")
    train, score = ablation.train, ablation.score
    trained, scored = [], []
    monkeypatch.setattr(ablation, "train", lambda s, run: trained.append(s.leave_out_fold) or train(s, run))
    monkeypatch.setattr(ablation, "score", lambda d, e, folder: scored.append(e[0].fold) or score(d, e, folder))
    run(folds_manifest, tmp_path)
    assert (trained, scored) == ([], [])
    assert read(tmp_path) == read(cross_validated)

    (tmp_path / "runs" / "fold1" / "scores.json").unlink()
    run(folds_manifest, tmp_path)
    assert (trained, scored) == ([], [1])
    shutil.rmtree(tmp_path / "runs" / "fold0")
    with eagerly():
        run(folds_manifest, tmp_path, "--folds", "0")
    assert (trained, scored) == ([0], [1, 0])
    rows, metrics = read(tmp_path)
    assert {row["fold"] for row in rows} == {0} and metrics["n"] == 8
    with pytest.raises(SystemExit, match="holds a run with other settings"):
        run(folds_manifest, tmp_path, "--seed", "2")


def test_the_tables_are_computed_again_with_the_calibration_of_a_model(cross_validated, tmp_path, monkeypatch, capsys):
    shutil.copytree(cross_validated / "out", tmp_path / "out")
    shutil.copy(cross_validated / "runs" / "fold0" / "model.h5", tmp_path / "model.h5")
    everything_fake = Calibration(1.0, 0.0, 0.0, 1e-9)
    write_spec(tmp_path / "model.h5", replace(read_spec(tmp_path / "model.h5"), calibration=everything_fake))
    monkeypatch.setattr(cross_validation, "score_folds", None)
    rows, before = read(tmp_path)
    command.main(["--only-tables", "--out", str(tmp_path / "out"), "--model", str(tmp_path / "model.h5")])
    again, metrics = read(tmp_path)
    usable = [row for row in rows if row["delivery"] == "stored" and row["reasons"] == "between_thresholds"]
    assert usable and again == rows
    tier = metrics["tiers"]["stored"]
    n_real = sum(row["label"] == 0 for row in usable)
    assert tier["called_real"]["value"] == 0 and tier["false_alarms"]["value"] == n_real / 8
    assert metrics["model_sha256"] == file_sha256(tmp_path / "model.h5")
    assert metrics["settings"] == before["settings"] and metrics["macro_family"] == before["macro_family"]
    assert "| ghost | swap | 0 | 4 |" in capsys.readouterr().out


def change(manifest, path, **changes):
    """Write a manifest with the pictures of another, in which the first fake and the first real picture differ."""
    rows = read_manifest(manifest)
    for label in (0, 1):
        first = next(place for place, row in enumerate(rows) if row.label == label and row.split == "train")
        rows[first] = replace(rows[first], **changes)
    write_manifest(path, rows)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"family": "style"}, "The family 'style' of .* lies in the folds 0, 1. It must be in one"),
        ({"source": "reals1"}, "The source of real pictures 'reals1' of .* lies in the folds 0, 1"),
        ({"group": "group15"}, "The group 'group15' of .* lies in the folds 0, 1"),
        ({"fold": None}, "The .* lies in the folds none, 0"),
    ],
)
def test_what_is_left_out_must_lie_in_one_fold(changes, sentence, folds_manifest, tmp_path):
    assert {fold: len(examples) for fold, examples in read_folds(folds_manifest).items()} == {0: 8, 1: 8}
    change(folds_manifest, tmp_path / "manifest.csv", **changes)
    with pytest.raises(SystemExit, match=sentence):
        read_folds(tmp_path / "manifest.csv")


def test_a_manifest_without_folds_ends_with_a_sentence(training_manifest, tmp_path):
    with pytest.raises(SystemExit, match="needs a manifest with a column fold and at least two folds .* has 0"):
        run(training_manifest, tmp_path)


def test_an_unknown_fold_ends_with_a_sentence(folds_manifest, tmp_path):
    with pytest.raises(SystemExit, match="has no fold 7; its folds are 0, 1"):
        run(folds_manifest, tmp_path, "--folds", "0", "7")


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (["--weights", "model.h5"], "a model.h5 may have learned from it"),
        (["--leave-out-fold", "0"], "name them with --folds"),
    ],
)
def test_wrong_options_get_a_sentence(option, sentence, folds_manifest, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as stop:
        run(folds_manifest, tmp_path, *option)
    assert stop.value.code == 2 and sentence in capsys.readouterr().err


def test_without_weights_no_run_starts_from_the_project_model(folds_manifest, monkeypatch):
    monkeypatch.setattr("training.settings._own_weights", lambda network: "model.h5")
    settings = replace(DEFAULT_SETTINGS, manifest=str(folds_manifest))
    assert CrossValidationOptions(settings).complete().weights == "none"


def test_a_source_is_emphasized_only_where_it_is_learned_from(folds_manifest):
    settings = replace(DEFAULT_SETTINGS, emphasis={"reals0": 2.0, "reals1": 3.0, "typo": 4.0})
    found = [leave_out(settings, read_folds(folds_manifest), fold) for fold in (0, 1)]
    assert [each.emphasis for each in found] == [{"reals1": 3.0, "typo": 4.0}, {"reals0": 2.0, "typo": 4.0}]
    assert [each.leave_out_fold for each in found] == [0, 1]


def test_whole_groups_are_drawn_up_to_a_number_per_source():
    pictures = [
        Example(Path(f"{number}.png"), number % 2, f"source{number % 4 // 2}", "any", f"group{number // 12}", "train")
        for number in range(240)
    ]
    drawn = draw_per_source(pictures, 10)
    counts = Counter((picture.source, picture.label) for picture in drawn)
    assert set(counts) == {("source0", 0), ("source0", 1), ("source1", 0), ("source1", 1)}
    assert all(10 <= count <= 12 for count in counts.values())  # groups hold three pictures of each
    whole = {picture.group for picture in drawn}
    assert [p for p in pictures if p.group in whole] == drawn == draw_per_source(pictures, 10)
    assert draw_per_source(pictures, 0) == pictures


def picture(label, source, family, fold):
    return Example(Path(f"{source}-{family}.png"), label, source, family, source, "train", "", family, fold)


def test_what_a_member_has_learned_from_is_not_scored():
    seen, other, new = picture(1, "faces", "swap", 0), picture(1, "web", "swap", 0), picture(1, "web", "gan", 1)
    reals = [picture(0, "faces", "", 0), picture(0, "faces_clips", "", 0), picture(0, "street", "", 1)]
    folds = {0: [seen, other, *reals[:2]], 1: [new, reals[2]]}
    account = {"members": [{"sources": {"faces real": 3, "faces fake": 2}}]}
    assert exclude_learned(folds, account) == {0: [], 1: [new, reals[2]]}
    with pytest.raises(SystemExit, match="what it has not seen is unknown"):
        exclude_learned(folds, {"date": "today"})
