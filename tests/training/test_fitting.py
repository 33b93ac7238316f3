import csv
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from training_batches import SETTINGS, draw_batches

from detector.models.spec import file_sha256, read_spec
from detector.pictures.detect import load_picture_detector
from training import fitting
from training.batches import CROP_MARGIN, BatchGenerator
from training.calibrating import UNCALIBRATED
from training.fitting import averaged_weights, compile_model, dropout_generators, leave_out
from training.manifests import Example
from training.networks import build_network
from training.runs import replace_file

pytestmark = pytest.mark.slow

HEADS = ("--network", "efficientnet_lite0", "--head", "kinds", "--last-frozen", "block12_add", "--views", "1")


def curves(run):
    with open(run / "history.csv", newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_training_and_export_end_in_two_files_with_the_same_scores(whole_run, exported, astronaut):
    spec, portrait = read_spec(whole_run / "model.h5"), np.asarray(astronaut)
    assert (spec.network, spec.face.size_px, spec.face.crop_margin) == ("cnn", 64, CROP_MARGIN)
    assert spec.calibration.threshold_real <= spec.calibration.threshold_fake
    assert spec.training["sources"] == {"portrait fake": 3, "portrait real": 3} and spec.training["tune"] == 2
    assert str(whole_run.parent) not in spec.to_json()  # folders of the person's pictures stay private

    fast, reference = load_picture_detector(exported), load_picture_detector(whole_run / "model.h5", engine="keras")
    assert fast.engine.spec == reference.engine.spec == spec
    first, second = fast.detect(portrait), reference.detect(portrait)
    assert first.logit == pytest.approx(second.logit, abs=1e-3) and first.verdict == second.verdict
    assert first.model_sha256 == second.model_sha256 == file_sha256(whole_run / "model.h5")
    with h5py.File(whole_run / "model.h5") as file:
        assert "optimizer_weights" not in file


def test_the_curves_hold_every_epoch(whole_run):
    rows = curves(whole_run)
    assert [(row["epoch"], row["samples"]) for row in rows] == [(1, 24), (2, 48)]
    assert all(row["train_loss"] > 0 and 0 <= row["tune_auc"] <= 1 and 0 <= row["mixed_auc"] <= 1 for row in rows)
    assert not list(whole_run.glob("part-*"))


def test_averaged_weights_are_put_in_temporarily(located_examples, eagerly):
    network = build_network(SETTINGS.network, SETTINGS.input_size_px)
    model = compile_model(network, SETTINGS, steps=3)
    with eagerly():
        for pixels, labels in draw_batches(located_examples, SETTINGS, 0, 3):
            model.train_on_batch(pixels.astype(np.float32), labels)
    averages = [np.asarray(v.value) for v in model.optimizer.variables if v.path.endswith("_average")]
    current = model.get_weights()
    with averaged_weights(model):
        averaged = model.get_weights()
    for average, mine, kept, before in zip(averages, averaged, model.get_weights(), current, strict=True):
        np.testing.assert_array_equal(mine, average)
        np.testing.assert_array_equal(kept, before)
        assert not np.array_equal(mine, before)


class Stop:
    """Interrupts a training as Ctrl+C does: at a batch of the second epoch, or before a file is moved into place."""

    def __init__(self, patch, *, at_batch=None, at_file=None):
        batches, move, moved = BatchGenerator.batches, Path.replace, []

        def stopping(stream, start, stop, pool):
            for step, batch in enumerate(batches(stream, start, stop, pool), start):
                if step == at_batch:
                    raise KeyboardInterrupt
                yield batch

        def moving(path, target):
            moved.append(path)
            if len(moved) == at_file:
                raise KeyboardInterrupt
            return move(path, target)

        patch.setattr(BatchGenerator, "batches", stopping)
        patch.setattr(Path, "replace", moving)


def state_of(run):
    """Return everything a resumed run depends on: weights, moments, averages, step, rate and the best weights."""
    import keras

    model = keras.models.load_model(run / "checkpoint.keras")
    state = {f"weight {i}": values for i, values in enumerate(model.get_weights())}
    state |= {f"optimizer {i}": np.asarray(variable.value) for i, variable in enumerate(model.optimizer.variables)}
    state |= {"step": np.asarray(model.optimizer.iterations), "rate": np.asarray(model.optimizer.learning_rate)}
    with h5py.File(run / "best.weights.h5") as file:
        file.visititems(
            lambda name, it: state.update({f"best {name}": it[()]}) if isinstance(it, h5py.Dataset) else None
        )
    return state


@pytest.mark.parametrize("stop", [{"at_batch": 4}, {"at_file": 3}], ids=["in an epoch", "between two files"])
def test_a_stopped_run_resumes_exactly(stop, whole_run, train_in, tmp_path, eagerly):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt), eagerly():
        Stop(patch, **stop)
        train_in(tmp_path)
    assert not (tmp_path / "model.h5").exists()
    with eagerly():
        train_in(tmp_path)

    expected, found = state_of(whole_run), state_of(tmp_path)
    assert expected.keys() == found.keys() and found["step"] == 6
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5, err_msg=name)
    for row, other in zip(curves(whole_run), curves(tmp_path), strict=True):
        assert row == pytest.approx(other, abs=1e-5)
    first, second = read_spec(whole_run / "model.h5"), read_spec(tmp_path / "model.h5")
    assert vars(first.calibration) == pytest.approx(vars(second.calibration), abs=1e-4)
    assert replace(first, calibration=None) == replace(second, calibration=None)


@pytest.mark.parametrize("option", [("--seed", "2"), ("--size", "96"), ("--reconstruct", "0.1"), ("--undamaged",)])
def test_other_settings_in_the_same_folder_are_refused(option, whole_run, train_in):
    before = {path.name: path.read_bytes() for path in whole_run.iterdir() if path.is_file()}
    with pytest.raises(SystemExit, match="holds a run with other settings; give another --run"):
        train_in(whole_run, *option)
    assert before == {path.name: path.read_bytes() for path in whole_run.iterdir() if path.is_file()}


def test_missing_weights_end_with_a_sentence(train_in, tmp_path):
    with pytest.raises(SystemExit, match=r"weights file .*nowhere\.weights\.h5 is missing"):
        train_in(tmp_path, "--weights", "nowhere.weights.h5")


def test_generators_are_left_out_by_prefix_in_any_case():
    examples = [Example(Path("x"), 1, "s", generator, "g", "train") for generator in ("StyleGAN2", "sdxl", "stylegan")]
    assert [e.generator for e in leave_out(examples, ("stylegan",))] == ["sdxl"]
    assert [e.generator for e in leave_out(examples, ("SD", "Style"))] == []
    assert leave_out(examples, ()) == examples
    with pytest.raises(SystemExit, match="No generator begins with 'gan'"):
        leave_out(examples, ("gan",))


@pytest.mark.parametrize("options", [(), HEADS], ids=["whole network", "heads"])
def test_an_emphasis_on_an_unknown_source_is_refused(train_in, tmp_path, options):
    with pytest.raises(SystemExit, match="no pictures of the source nowhere"):
        train_in(tmp_path, "--emphasis", "nowhere=2", *options)


def test_heads_learn_from_every_picture_and_are_not_calibrated(train_in, tmp_path, capsys):
    train_in(tmp_path, *HEADS)
    spec = read_spec(tmp_path / "model.h5")
    assert (spec.training["fit"], spec.training["tune"]) == (8, 0)
    assert spec.calibration == UNCALIBRATED and "next: cross_validate.py" in capsys.readouterr().out


def test_the_best_epoch_on_mixed_batches_is_kept(train_in, tmp_path, monkeypatch, eagerly):
    found = iter([0.9, 0.6, 0.8, 0.7])  # of the plain and of the mixed calibration crops, epoch by epoch
    saved = []
    monkeypatch.setattr(fitting, "roc_auc", lambda labels, logits: next(found))
    monkeypatch.setattr(
        fitting, "replace_file", lambda path, write: saved.append(path.name) or replace_file(path, write)
    )
    with eagerly():
        train_in(tmp_path)
    assert saved.count("best.weights.h5") == 2  # the second epoch is worse on the plain crops, better on the mixed ones


def test_every_dropout_of_a_network_is_found():
    import keras

    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(4)], name="body")
    outer = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dropout(0.5)])
    assert len(dropout_generators(outer)) == 2
