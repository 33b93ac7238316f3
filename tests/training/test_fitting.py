import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from PIL import Image

from detector.media.degradations import adjust_light
from detector.models.spec import file_sha256, read_spec
from detector.pictures.detect import load_picture_detector
from detector.pictures.faces import crop_faces
from training import exporting as export
from training import fitting as train
from training import manifests
from training.manifests import Example, LocatedFace, locate_faces, read_manifest, replace_file, write_manifest

SETTINGS = train.TrainingSettings(
    "", "", "cnn", "none", "", 64, epochs=2, epoch_samples=24, batch=8, self_blend=0.5, seed=1
)
COMMAND = ["--network=cnn", "--size=64", "--epochs=2", "--epoch-samples=24", "--batch=8"]
COMMAND += ["--self-blend=0.4", "--reconstruct=0.2"]
MADE = replace(SETTINGS, self_blend=0.5, reconstruct=0.3)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    threads = cv2.getNumThreads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifests, "CACHE", tmp_path_factory.mktemp("cache"))
        yield
    cv2.setNumThreads(threads)


@pytest.fixture(scope="module")
def manifest(astronaut, tmp_path_factory):
    """Four real cuts of the portrait, four fakes in other colours, and a picture that must never be looked at."""
    folder, portrait = tmp_path_factory.mktemp("pictures"), np.asarray(astronaut)
    examples = [Example(folder / "secret.png", 1, "held out", "ours", "secret", "val")]
    for i in range(8):
        picture = portrait[10 * (i % 4) : 230, 100 + 10 * (i % 4) : 330]
        if label := i // 4:
            picture = adjust_light(picture, gain=1.3, offset=20, saturation=0.3)
        examples.append(Example(folder / f"{i}.png", label, "portrait", "ours" if label else "camera", str(i), "train"))
        Image.fromarray(picture).save(examples[-1].path)
    write_manifest(folder / "manifest.csv", examples)
    return folder / "manifest.csv"


def train_in(folder, manifest, *options):
    train.main(
        ["--manifest", str(manifest), "--run", str(folder), "--out", str(folder / "model.h5"), *COMMAND, *options]
    )


@pytest.fixture(scope="module")
def whole_run(manifest, tmp_path_factory):
    """A run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    train_in(folder, manifest)
    return folder


@pytest.fixture(scope="module")
def exported(whole_run):
    export.main(["--model", str(whole_run / "model.h5"), "--out", str(whole_run / "onnx" / "face.onnx")])
    return whole_run / "onnx" / "face.onnx"


@pytest.fixture(scope="module")
def material(manifest):
    examples = [example for example in read_manifest(manifest) if example.split == "train"]
    return examples, locate_faces(examples)


def batches(material, settings, start, stop, threads=2):
    with ThreadPoolExecutor(threads) as pool:
        return list(train.BatchGenerator(*material, settings).batches(start, stop, pool))


def curves(run):
    with open(run / "history.csv", newline="") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_the_chain_ends_in_two_files_that_judge_alike(whole_run, exported, astronaut):
    spec, portrait = read_spec(whole_run / "model.h5"), np.asarray(astronaut)
    assert (spec.network, spec.face.size_px, spec.face.crop_margin) == ("cnn", 64, train.CROP_MARGIN)
    assert spec.calibration.threshold_real <= spec.calibration.threshold_fake
    assert spec.training["sources"] == {"portrait fake": 3, "portrait real": 3} and spec.training["tune"] == 2
    assert str(whole_run.parent) not in spec.to_json()  # nobody needs to know where somebody keeps pictures

    fast, reference = load_picture_detector(exported), load_picture_detector(whole_run / "model.h5", engine="keras")
    assert fast.engine.spec == reference.engine.spec == spec
    first, second = fast.detect(portrait), reference.detect(portrait)
    assert first.logit == pytest.approx(second.logit, abs=1e-3) and first.verdict == second.verdict
    assert first.model_sha256 == second.model_sha256 == file_sha256(whole_run / "model.h5")
    with h5py.File(whole_run / "model.h5") as file:
        assert "optimizer_weights" not in file


def test_the_curves_tell_every_epoch(whole_run):
    rows = curves(whole_run)
    assert [(row["epoch"], row["samples"]) for row in rows] == [(1, 24), (2, 48)]
    assert all(row["train_loss"] > 0 and 0 <= row["tune_auc"] <= 1 and 0 <= row["mixed_auc"] <= 1 for row in rows)
    assert not list(whole_run.glob("part-*"))


def test_training_sees_a_picture_as_the_server_does(exported, astronaut, tmp_path):
    astronaut.save(tmp_path / "face.png")
    example = Example(tmp_path / "face.png", 0, "s", "g", "a", "train")
    (crop,) = train.tune_crops([example], locate_faces([example]), 64)
    detection = load_picture_detector(exported).detect(tmp_path / "face.png")
    np.testing.assert_array_equal(crop, crop_faces(detection.image, [detection.faces[0].crop_box], 64)[0])


def test_the_average_of_the_weights_is_lent_and_not_kept(material):
    model = train.compile_model(SETTINGS, steps=3)
    for pixels, labels in batches(material, SETTINGS, 0, 3):
        model.train_on_batch(pixels.astype(np.float32), labels)
    averages = [np.asarray(v.value) for v in model.optimizer.variables if v.path.endswith("_average")]
    current = model.get_weights()
    with train.averaged_weights(model):
        lent = model.get_weights()
    for average, mine, kept, before in zip(averages, lent, model.get_weights(), current, strict=True):
        np.testing.assert_array_equal(mine, average)
        np.testing.assert_array_equal(kept, before)
        assert not np.array_equal(mine, before)


class Stop:
    """Interrupts a training like Ctrl+C does: at a batch of the second epoch, or before a file is moved into place."""

    def __init__(self, patch, *, at_batch=None, at_file=None):
        batches, move, moved = train.BatchGenerator.batches, Path.replace, []

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

        patch.setattr(train.BatchGenerator, "batches", stopping)
        patch.setattr(Path, "replace", moving)


def state_of(run):
    """Everything a run that goes on depends on: weights, moments and averages, step, rate, and the best weights."""
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
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(stop, whole_run, manifest, tmp_path):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        Stop(patch, **stop)
        train_in(tmp_path, manifest)
    assert not (tmp_path / "model.h5").exists()
    train_in(tmp_path, manifest)

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
def test_other_settings_in_the_same_folder_are_refused(option, whole_run, manifest):
    before = {path.name: path.read_bytes() for path in whole_run.iterdir() if path.is_file()}
    with pytest.raises(SystemExit, match="holds a run with other settings; give another --run"):
        train_in(whole_run, manifest, *option)
    assert before == {path.name: path.read_bytes() for path in whole_run.iterdir() if path.is_file()}


def test_weights_that_are_missing_end_with_a_sentence(manifest, tmp_path):
    with pytest.raises(SystemExit, match=r"weights file .*nowhere\.weights\.h5 is missing"):
        train_in(tmp_path, manifest, "--weights", "nowhere.weights.h5")


def test_a_batch_depends_on_seed_and_step_alone(material):
    one_by_one = batches(material, SETTINGS, 0, 6, threads=1)
    from_the_middle = batches(material, SETTINGS, 4, 6, threads=4)
    for (pixels, labels), (others, same) in zip(one_by_one[4:], from_the_middle, strict=True):
        np.testing.assert_array_equal(pixels, others)
        np.testing.assert_array_equal(labels, same)
    (reseeded, _), *_ = batches(material, replace(SETTINGS, seed=2), 0, 1)
    assert not np.array_equal(reseeded, one_by_one[0][0])
    assert not np.array_equal(one_by_one[0][0], one_by_one[1][0])


def test_every_picture_is_seen_in_time(material, monkeypatch):
    seen = set()
    monkeypatch.setattr(train, "read_image", lambda path: seen.add(path) or manifests.read_image(path))
    batches(material, SETTINGS, 0, 12)
    assert seen == {example.path for example in material[0]}


def test_half_of_a_batch_is_fake(material):
    for pixels, labels in batches(material, SETTINGS, 0, 4):
        assert pixels.shape == (8, 64, 64, 3) and pixels.dtype == np.uint8
        assert labels.shape == (8, 1) and labels.ravel().tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("kind", ["blend", "graft", "reconstruction"])
def test_a_fake_differs_from_its_real_in_nothing_but_its_traces(kind, material, monkeypatch):
    def leave(crop, *more):
        more[-1].random()  # what making a fake draws must not change the damage that comes after
        return (crop, None) if kind != "reconstruction" else crop

    if kind == "reconstruction":
        monkeypatch.setattr(train.Reconstructor, "reconstruct", lambda self, crop, rng: leave(crop, rng))
        shares = {"self_blend": 0.0, "reconstruct": 1.0}
    else:
        monkeypatch.setattr(train, "self_blend", leave)
        monkeypatch.setattr(train, "graft", leave)
        monkeypatch.setattr(train, "GRAFT_CHANCE", float(kind == "graft"))
        shares = {"self_blend": 1.0}
    for pixels, _ in batches(material, replace(SETTINGS, **shares), 0, 6):
        np.testing.assert_array_equal(pixels[:4], pixels[4:])


def test_every_kind_of_fake_is_made_of_a_real(material):
    examples, faces = material
    views = [view for step in range(40) for view in train.BatchGenerator(examples, faces, MADE)._views(step)]
    assert {view.fake for view in views} == {"", "blend", "graft", "reconstruction"}
    assert all(examples[view.index].label == 0 for view in views if view.fake)
    assert all(examples[view.donor].group != examples[view.index].group for view in views if view.fake == "graft")


def test_a_reconstruction_looks_like_its_real(material):
    for pixels, labels in batches(material, replace(SETTINGS, self_blend=0.0, reconstruct=1.0, damaged=False), 0, 2):
        difference = np.abs(pixels[:4].astype(int) - pixels[4:]).mean((1, 2, 3))
        assert np.all((difference > 0.1) & (difference < 12)) and labels[4:].all()


def test_a_blend_is_made_where_the_face_lies_in_the_crop(material, monkeypatch):
    seen = []
    monkeypatch.setattr(train, "GRAFT_CHANCE", 0.0)
    monkeypatch.setattr(
        train, "self_blend", lambda crop, marks, rng: seen.append(marks / crop.shape[0]) or (crop, None)
    )
    batches(material, replace(SETTINGS, self_blend=1.0), 0, 4)
    assert len(seen) == 16
    for left_eye, right_eye, nose, left_mouth, right_mouth in seen:
        assert 0.1 < left_eye[0] < nose[0] < right_eye[0] < 0.9 and left_mouth[0] < right_mouth[0]
        assert 0.1 < left_eye[1] < nose[1] < left_mouth[1] < 0.9


@pytest.mark.parametrize("fault", ["foreign", "engines differ", "missing"])
def test_an_export_that_fails_leaves_the_old_file(fault, whole_run, tmp_path, monkeypatch):
    source, target = tmp_path / "model.h5", tmp_path / "out" / "face.onnx"
    target.parent.mkdir()
    target.write_bytes(b"yesterday's")
    if fault != "missing":
        source.write_bytes((whole_run / "model.h5").read_bytes())
    if fault == "foreign":
        with h5py.File(source, "r+") as file:
            file.attrs.clear()
    monkeypatch.setattr(export, "TOLERANCE", -1 if fault == "engines differ" else 1e-3)
    seen = {"foreign": "carries no spec", "engines differ": "logits differ by", "missing": "is missing"}[fault]
    with pytest.raises(SystemExit, match=seen):
        export.main(["--model", str(source), "--out", str(target)])
    assert target.read_bytes() == b"yesterday's" and list(target.parent.iterdir()) == [target]


def shares(sources, emphasis=None, **options):
    """Return how often each source is drawn among the reals of many batches."""
    examples = [Example(Path("x"), 0, source, "camera", str(i), "train") for i, source in enumerate(sources)]
    examples.append(Example(Path("x"), 1, "fakes", "ours", "fake", "train"))
    settings = replace(SETTINGS, batch=64, self_blend=0.0, emphasis=emphasis or {}, **options)
    stream = train.BatchGenerator(examples, [LocatedFace(np.zeros(4), None)] * len(examples), settings)
    drawn = [examples[view.index].source for step in range(100) for view in stream._views(step)[:32]]
    return {source: drawn.count(source) / len(drawn) for source in set(sources)}


def test_sources_weigh_as_the_root_of_their_pictures():
    found = shares(["large"] * 90 + ["small"] * 10)
    assert found == pytest.approx({"large": 0.75, "small": 0.25}, abs=0.03)


def test_unbalanced_every_picture_weighs_the_same():
    found = shares(["large"] * 90 + ["small"] * 10, balanced=False)
    assert found == pytest.approx({"large": 0.9, "small": 0.1}, abs=0.03)


def test_generators_are_left_out_by_how_they_begin_in_any_case():
    examples = [Example(Path("x"), 1, "s", generator, "g", "train") for generator in ("StyleGAN2", "sdxl", "stylegan")]
    assert [e.generator for e in train.leave_out(examples, ("stylegan",))] == ["sdxl"]
    assert [e.generator for e in train.leave_out(examples, ("SD", "Style"))] == []
    assert train.leave_out(examples, ()) == examples
    with pytest.raises(SystemExit, match="No generator begins with 'gan'"):
        train.leave_out(examples, ("gan",))


def test_what_was_learned_cannot_be_left_out(manifest, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train_in(tmp_path, manifest, "--leave-out", "ours", "--weights", "model.h5")
    assert "weights that have not learned from what is left out" in capsys.readouterr().err


def test_a_source_that_is_not_there_cannot_be_shown_more_often(manifest, tmp_path):
    with pytest.raises(SystemExit, match="no pictures of the source nowhere"):
        train_in(tmp_path, manifest, "--emphasis", "nowhere=2")


def test_the_epoch_that_is_best_on_mixed_batches_is_kept(manifest, tmp_path, monkeypatch):
    found = iter([0.9, 0.6, 0.8, 0.7])  # of the tuning pictures and of the mixed batches, epoch by epoch
    saved = []
    monkeypatch.setattr(train, "roc_auc", lambda labels, logits: next(found))
    monkeypatch.setattr(train, "replace_file", lambda path, write: saved.append(path.name) or replace_file(path, write))
    train_in(tmp_path, manifest)
    assert saved.count("best.weights.h5") == 2  # the second epoch is worse on the pictures, better on the batches


def test_every_dropout_of_a_network_is_found():
    import keras

    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(4)], name="body")
    outer = keras.Sequential([keras.Input((4,)), inner, keras.layers.Dropout(0.5)])
    assert len(train.dropout_generators(outer)) == 2


def test_large_crops_of_a_pair_are_damaged_at_one_scale(astronaut, tmp_path, monkeypatch):
    astronaut.save(tmp_path / "face.png")
    astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "fake.png")
    examples = [
        Example(tmp_path / name, label, "s", "g", name, "train") for label, name in enumerate(("face.png", "fake.png"))
    ]
    faces = [
        replace(face, box=face.box * [1, 1, 2, 2] - [80, 80, 0, 0]) for face in locate_faces(examples)
    ]  # over 224 px
    made, sizes = set(), []
    monkeypatch.setattr(train, "self_blend", lambda crop, marks, rng: made.add(crop.shape) or (crop, None))
    monkeypatch.setattr(train, "damage", lambda crop, rng: sizes.append(crop.shape[0]) or crop)
    batches((examples, faces), replace(SETTINGS, self_blend=0.6, reconstruct=0.4), 0, 8, threads=1)
    assert made == {(224, 224, 3)}
    pairs = np.array(sizes).reshape(8, 2, 4)  # batches, reals and fakes, places
    np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1])
    assert pairs.min() < 40 and pairs.max() > 70  # about an input of 64 px


def test_an_emphasis_shows_a_source_more_often():
    found = shares(["large"] * 90 + ["small"] * 10, {"small": 3.0})
    assert found == pytest.approx({"large": 0.5, "small": 0.5}, abs=0.03)


@pytest.mark.parametrize("emphasis", ["ffhq", "=2", "ffhq=0", "ffhq=much"])
def test_an_emphasis_that_makes_no_sense_is_refused(emphasis, manifest, capsys):
    with pytest.raises(SystemExit):
        train.main(["--manifest", str(manifest), "--emphasis", emphasis])
    assert "SOURCE=FACTOR" in capsys.readouterr().err
