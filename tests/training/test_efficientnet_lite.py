import io
import os
import pickle
import sys
from types import ModuleType

import numpy as np
import pytest

from detector.results import ModelError
from training.efficientnet_lite import (
    CHECKPOINT_MAGIC,
    NORM_EPSILON,
    assign_weights,
    build_efficientnet_lite,
    read_checkpoint,
)

pytestmark = pytest.mark.slow


def layout(body, rng):
    """Return tensors with the names and shapes of a checkpoint for a body, all random."""
    tensors = {}

    def add(layer, kernel, norm):
        values = body.get_layer(layer).get_weights()[0]
        axes = (2, 3, 0, 1) if layer.endswith("_depthwise") else (3, 2, 0, 1)
        tensors[f"{kernel}.weight"] = rng.normal(size=values.transpose(axes).shape).astype(np.float32) * 0.1
        channels = tensors[f"{kernel}.weight"].shape[0]
        for name, low, high in (("weight", 0.5, 2), ("bias", -1, 1), ("running_mean", -1, 1), ("running_var", 0.5, 2)):
            tensors[f"{norm}.{name}"] = rng.uniform(low, high, channels).astype(np.float32)

    add("stem", "_conv_stem", "_bn0")
    add("head", "_conv_head", "_bn1")
    names = {layer.name for layer in body.layers}
    for number in range(16):
        convolutions = [name for name in ("expand", "depthwise", "project") if f"block{number}_{name}" in names]
        for place, name in enumerate(convolutions, 3 - len(convolutions)):
            add(f"block{number}_{name}", f"_blocks.{number}._{name}_conv", f"_blocks.{number}._bn{place}")
    return tensors


@pytest.mark.parametrize(("variant", "parameters"), [(0, 3_350_000), (2, 4_782_024)])
def test_variants_have_the_published_size(variant, parameters):
    body = build_efficientnet_lite(variant, (64, 64, 3))
    assert body.count_params() == parameters and body.output_shape == (None, 2, 2, 1280)


@pytest.mark.parametrize("name", ["stem", "block3_depthwise", "block5_project"])
def test_folded_weights_give_what_convolution_and_normalisation_give(name):
    import keras

    body = build_efficientnet_lite(0, (32, 32, 3))
    tensors = layout(body, np.random.default_rng(0))
    assign_weights(body, tensors)
    layer = body.get_layer(name)
    block, _, part = name.removeprefix("block").partition("_")
    kernel, norm = (
        ("_conv_stem", "_bn0") if name == "stem" else (f"_blocks.{block}._{part}_conv", f"_blocks.{block}._bn")
    )
    if part:
        norm += {"expand": "0", "depthwise": "1", "project": "2"}[part]
    plain = type(layer).from_config(layer.get_config() | {"use_bias": False})
    values = np.random.default_rng(1).normal(size=(2, *layer.input.shape[1:])).astype(np.float32)
    plain.build(values.shape)
    axes = (2, 3, 0, 1) if part == "depthwise" else (2, 3, 1, 0)
    plain.set_weights([tensors[f"{kernel}.weight"].transpose(axes)])
    normalise = keras.layers.BatchNormalization(epsilon=NORM_EPSILON)
    normalise.build(plain(values).shape)
    normalise.set_weights([tensors[f"{norm}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")])
    expected = np.asarray(normalise(plain(values), training=False))
    np.testing.assert_allclose(np.asarray(layer(values)), expected, atol=1e-4)


class Storage:
    """Stands for a storage of PyTorch: pickled as a persistent id."""

    def __init__(self, key, values):
        self.key, self.values = key, values


class Tensor:
    """Pickled as PyTorch pickles a tensor."""

    rebuild = None

    def __init__(self, storage, offset, shape, strides):
        self.parts = (storage, offset, shape, strides, False, {})

    def __reduce__(self):
        return Tensor.rebuild, self.parts


def write_checkpoint(path, tensors, monkeypatch):
    """Write arrays in the first file format of PyTorch's checkpoints; arrays of two axes as transposed views."""
    utils, torch = ModuleType("torch._utils"), ModuleType("torch")

    def _rebuild_tensor_v2():
        pass

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    kinds = {}
    for name in ("FloatStorage", "LongStorage"):
        kinds[name] = type(name, (), {"__module__": "torch", "__qualname__": name})
        setattr(torch, name, kinds[name])
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    monkeypatch.setattr(Tensor, "rebuild", _rebuild_tensor_v2)

    class Pickler(pickle.Pickler):
        def persistent_id(self, thing):
            if isinstance(thing, Storage):
                kind = kinds["FloatStorage" if thing.values.dtype == np.float32 else "LongStorage"]
                return ("storage", kind, thing.key, "cpu", thing.values.size)
            return None

    described, storages = {}, []
    for number, (name, values) in enumerate(tensors.items()):
        flat = values.T.ravel() if values.ndim == 2 else values.ravel()
        storages.append(Storage(str(number), np.concatenate([flat[:0], flat])))
        strides = (1, values.shape[0]) if values.ndim == 2 else tuple(s // values.itemsize for s in values.strides)
        described[name] = Tensor(storages[-1], 0, values.shape, strides)
    with open(path, "wb") as file:
        for entry in (CHECKPOINT_MAGIC, 1001, {"little_endian": True}):
            pickle.dump(entry, file, protocol=2)
        Pickler(file, protocol=2).dump(described)
        pickle.dump([storage.key for storage in storages], file, protocol=2)
        for storage in storages:
            file.write(storage.values.size.to_bytes(8, "little") + storage.values.tobytes())


def test_checkpoints_are_read_without_pytorch(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    tensors = {
        "kernel": rng.normal(size=(4, 3, 2, 2)).astype(np.float32),
        "transposed": rng.normal(size=(3, 5)).astype(np.float32),
        "count": np.array([7], np.int64),
    }
    write_checkpoint(tmp_path / "made.pth", tensors, monkeypatch)
    found = read_checkpoint(tmp_path / "made.pth")
    assert found.keys() == tensors.keys()
    for name, values in tensors.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype


class Harmful:
    def __reduce__(self):
        return os.system, ("echo harm",)


@pytest.mark.parametrize("place", ["first", "names", "keys"])
def test_a_checkpoint_cannot_run_code(place, tmp_path, monkeypatch, capfd):
    entries = [CHECKPOINT_MAGIC, 1001, {}, {}, []]
    entries[{"first": 0, "names": 3, "keys": 4}[place]] = Harmful()
    file = io.BytesIO()
    for entry in entries:
        pickle.dump(entry, file, protocol=2)
    (tmp_path / "bad.pth").write_bytes(file.getvalue())
    with pytest.raises(ModelError, match=r"bad\.pth cannot be read as a PyTorch checkpoint"):
        read_checkpoint(tmp_path / "bad.pth")
    assert "harm" not in capfd.readouterr().out


def test_other_files_are_refused(tmp_path):
    (tmp_path / "other.pth").write_bytes(pickle.dumps(12))
    with pytest.raises(ModelError, match="not a PyTorch checkpoint of the first file format"):
        read_checkpoint(tmp_path / "other.pth")
