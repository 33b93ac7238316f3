import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from detector.models.calibration import Calibration
from detector.models.engines import FastEngine, KerasEngine
from detector.models.spec import (
    ORIGIN_KEY,
    SPEC_KEY,
    FaceInput,
    ModelSpec,
    VoiceInput,
    file_sha256,
    read_spec,
    write_spec,
)
from detector.pictures.detect import MODEL_FILES, load_picture_detector
from detector.results import ModelError

pytestmark = pytest.mark.slow

SPEC = ModelSpec(
    "cnn", FaceInput(64, 1.3), Calibration(1.25, -0.1, 0.2, 0.875), {"sources": {"drawn real": 4}, "seed": 1}
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small file as Keras writes it, without a spec."""
    import keras

    path = tmp_path_factory.mktemp("keras") / "small.h5"
    pixels = keras.Input((8, 8, 3))
    class_map = keras.layers.Conv2D(1, 1, name="class_map")(pixels)
    logit = keras.layers.GlobalAveragePooling2D(name="logit")(class_map)
    keras.Model(pixels, {"logit": logit, "class_map": class_map}).save(path, include_optimizer=False)
    return path


@pytest.fixture
def model(weights, tmp_path):
    path = tmp_path / "model.h5"
    path.write_bytes(weights.read_bytes())
    write_spec(path, SPEC)
    return path


def test_a_spec_comes_back_from_the_file_it_was_written_into(model):
    assert read_spec(model) == SPEC
    write_spec(model, replace(SPEC, input=FaceInput(96, 1.3)))
    assert read_spec(model) == replace(SPEC, input=FaceInput(96, 1.3))


def test_keras_still_loads_the_file(model, weights):
    import keras

    pixels = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    with_spec, without = (keras.models.load_model(path, compile=False) for path in (model, weights))
    np.testing.assert_array_equal(with_spec(pixels)["logit"], without(pixels)["logit"])
    assert KerasEngine(model).spec == SPEC and KerasEngine(model).model_sha256 == file_sha256(model)


def test_the_hash_is_of_the_bytes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def other_version():
    return json.dumps({**json.loads(SPEC.to_json()), "version": 4})


@pytest.mark.parametrize("engine", [read_spec, KerasEngine])
@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        ("missing", "The model file model.h5 is missing"),
        ("folder", "The model file model.h5 is missing"),
        ("no HDF5", "model.h5 is not an HDF5 weights file"),
        ("cut off", "model.h5 is not an HDF5 weights file"),
        ("foreign", "model.h5 carries no spec.* Adopt it with: python scripts/"),
        ("other version", "not of version 3; export the model again"),
    ],
)
def test_an_unusable_file_is_refused_with_advice(engine, fault, advice, weights, tmp_path):
    import h5py

    path = tmp_path / "model.h5"
    if fault == "folder":
        path.mkdir()
    elif fault != "missing":
        data = weights.read_bytes()
        path.write_bytes({"no HDF5": b"PK\x03\x04" * 99, "cut off": data[: len(data) // 2]}.get(fault, data))
    if fault == "other version":
        with h5py.File(path, "r+") as file:
            file.attrs[SPEC_KEY] = other_version()
    with pytest.raises(ModelError, match=advice):
        engine(path)


def test_a_face_spec_of_version_1_is_read():
    values = json.loads(SPEC.to_json())
    face = values.pop("input")
    old = {**values, "version": 1, "input_size_px": face["size_px"], "crop_margin": face["crop_margin"]}
    assert ModelSpec.from_json(json.dumps(old)) == SPEC


def test_a_spec_of_version_2_is_read_unless_its_logit_needs_a_correction():
    values = json.loads(SPEC.to_json())

    def of_version_2(slope):
        return json.dumps({**values, "version": 2, "input": {**values["input"], "blur_slope": slope}})

    assert ModelSpec.from_json(of_version_2(0.0)) == SPEC
    with pytest.raises(ModelError, match="train it again"):
        ModelSpec.from_json(of_version_2(0.5))


def test_a_voice_spec_of_version_1_is_read():
    audio = {"sample_rate_hz": 16_000, "level": 0.1, "window_s": 2.0, "hop_s": 1.0, "bands": 80, "floor_db": -60.0}
    old = {
        "version": 1,
        "network": "voice",
        "input_size_px": 1,
        "crop_margin": 1.0,
        "calibration": {"slope": 1.0, "intercept": 0.0, "threshold_real": 0.2, "threshold_fake": 0.8},
        "training": {"seed": 1, "audio": {**audio, "frame": 400, "step": 160}},
    }
    spec = ModelSpec.from_json(json.dumps(old))
    assert spec.voice == VoiceInput(**audio, fft_length=400, fft_hop_length=160) and spec.training == {"seed": 1}
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_a_spec_of_the_other_medium_is_refused():
    with pytest.raises(ModelError, match="'cnn'; a network for voices is needed"):
        _ = SPEC.voice
    voice = replace(SPEC, network="voice", input=VoiceInput(16_000, 0.1, 2.0, 1.0, 400, 160, 80, -60.0))
    with pytest.raises(ModelError, match="'voice'; a network for faces is needed"):
        _ = voice.face


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        json.dumps({"version": 1}),
        json.dumps({**json.loads(SPEC.to_json()), "calibration": {"slope": 1}}),
        json.dumps({**json.loads(SPEC.to_json()), "calibration": None}),
        json.dumps({**json.loads(SPEC.to_json()), "colour": "BGR"}),
    ],
)
def test_text_that_is_no_spec_is_refused(text):
    with pytest.raises(ModelError, match="cannot be read; export the model again"):
        ModelSpec.from_json(text)


def write_onnx(path, metadata):
    import onnx
    from onnx import TensorProto, helper

    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 8, 8, 3])
    logit = helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n", 8, 8, 3])
    graph = helper.make_graph([helper.make_node("Identity", ["pixels"], ["logit"])], "small", [pixels], [logit])
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    helper.set_model_props(network, metadata)
    onnx.save(network, path)


@pytest.mark.parametrize(
    ("fault", "advice"),
    [
        ("missing", "The model file face.onnx is missing"),
        ("folder", "The model file face.onnx is missing"),
        ("no onnx", "The model file face.onnx cannot be read"),
        ("empty", "The model file face.onnx cannot be read"),
        ("cut off", "The model file face.onnx cannot be read"),
        ("no metadata", "face.onnx carries no spec; export it again with: python scripts/export.py"),
        ("no origin", "face.onnx carries no spec; export it again"),
        ("no spec", "face.onnx carries no spec; export it again"),
        ("other version", "not of version 3; export the model again"),
    ],
)
def test_an_unusable_exported_file_is_refused(fault, advice, tmp_path):
    path = tmp_path / "face.onnx"
    origin = {ORIGIN_KEY: "0" * 64}
    written = {
        "no metadata": {},
        "no origin": {SPEC_KEY: SPEC.to_json()},
        "no spec": origin,
        "other version": {SPEC_KEY: other_version(), **origin},
    }
    if fault in written:
        write_onnx(path, written[fault])
    elif fault == "folder":
        path.mkdir()
    elif fault != "missing":
        data = MODEL_FILES["onnx"].read_bytes()
        path.write_bytes({"no onnx": b"<!doctype html>", "empty": b"", "cut off": data[: len(data) // 2]}[fault])
    with pytest.raises(ModelError, match=advice):
        FastEngine(path)


def test_the_spec_of_an_exported_file_is_read(tmp_path):
    write_onnx(tmp_path / "face.onnx", {SPEC_KEY: SPEC.to_json(), ORIGIN_KEY: "a" * 64})
    engine = FastEngine(tmp_path / "face.onnx")
    assert engine.spec == SPEC and engine.model_sha256 == "a" * 64


def test_an_engine_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(ModelError, match=r"'torch'; choose from onnx, keras"):
        load_picture_detector(engine="torch")


@pytest.mark.parametrize("package", ["keras", "h5py"])
def test_the_keras_engine_without_tensorflow_says_what_to_install(package, model, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match="needs TensorFlow: pip install"):
        KerasEngine(model)
