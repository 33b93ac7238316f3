import numpy as np
import pytest

from detector.results import ModelError
from training.clip_vit import (
    ATTENTION_HEADS,
    GRID,
    HIDDEN,
    LAYER_NORM_EPSILON,
    MOST_STEPS,
    TOKEN_PX,
    WIDTH,
    assign_weights,
    build_clip_vit,
    read_tensors,
    round_matrix,
)
from training.networks import build_network
from training.speech_encoder import GELU_SCALE

pytestmark = pytest.mark.slow


def made_up_tensors(blocks):
    """Return tensors with the names and shapes of CLIP's, random, the matrices already rounded."""
    rng = np.random.default_rng(0)

    def draw(*shape, scale=0.02, mean=0.0):
        return rng.normal(mean, scale, shape).astype(np.float32)

    embeddings = "vision_model.embeddings"
    tensors = {
        f"{embeddings}.class_embedding": draw(WIDTH, scale=1),
        f"{embeddings}.position_embedding.weight": draw(1 + GRID * GRID, WIDTH, scale=1),
        f"{embeddings}.patch_embedding.weight": draw(WIDTH, 3, TOKEN_PX, TOKEN_PX),
    }
    norms = ["vision_model.pre_layrnorm"]
    for number in range(blocks):
        block = f"vision_model.encoder.layers.{number}"
        norms += [f"{block}.layer_norm1", f"{block}.layer_norm2"]
        sizes = {f"self_attn.{part}_proj": (WIDTH, WIDTH) for part in ("q", "k", "v", "out")}
        sizes |= {"mlp.fc1": (WIDTH, HIDDEN), "mlp.fc2": (HIDDEN, WIDTH)}
        for name, size in sizes.items():
            factor = {"mlp.fc1": GELU_SCALE, "mlp.fc2": 1 / GELU_SCALE}.get(name, 1.0)
            tensors[f"{block}.{name}.weight"] = round_matrix(factor * draw(*size)) / factor
            tensors[f"{block}.{name}.bias"] = draw(size[1], scale=0.1)
    for norm in norms:
        tensors |= {f"{norm}.weight": draw(WIDTH, mean=1, scale=0.1), f"{norm}.bias": draw(WIDTH, scale=0.1)}
    return tensors


def compute(tensors, blocks, pixels):
    """Return what CLIP's blocks give for pictures (N, 224, 224, 3), in NumPy: all tokens (N, 197, 768)."""

    def normalise(values, name):
        centred = values - values.mean(-1, keepdims=True)
        scaled = centred / np.sqrt(centred.var(-1, keepdims=True) + LAYER_NORM_EPSILON)
        return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def transform(values, name):
        return values @ tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    count = len(pixels)
    patches = pixels.reshape(count, GRID, TOKEN_PX, GRID, TOKEN_PX, 3).transpose(0, 1, 3, 5, 2, 4)
    kernel = tensors["vision_model.embeddings.patch_embedding.weight"].reshape(WIDTH, -1)
    tokens = patches.reshape(count, GRID * GRID, -1) @ kernel.T
    first = np.broadcast_to(tensors["vision_model.embeddings.class_embedding"], (count, 1, WIDTH))
    tokens = np.concatenate([first, tokens], 1) + tensors["vision_model.embeddings.position_embedding.weight"]
    tokens = normalise(tokens, "vision_model.pre_layrnorm")
    for number in range(blocks):
        block = f"vision_model.encoder.layers.{number}"
        values = normalise(tokens, f"{block}.layer_norm1")
        query, key, value = (
            transform(values, f"{block}.self_attn.{part}_proj")
            .reshape(count, -1, ATTENTION_HEADS, 64)
            .transpose(0, 2, 1, 3)
            for part in ("q", "k", "v")
        )
        shares = np.exp(query @ key.transpose(0, 1, 3, 2) / 8)
        read = shares / shares.sum(-1, keepdims=True) @ value
        read = read.transpose(0, 2, 1, 3).reshape(count, -1, WIDTH)
        tokens = tokens + transform(read, f"{block}.self_attn.out_proj")
        hidden = transform(normalise(tokens, f"{block}.layer_norm2"), f"{block}.mlp.fc1")
        hidden = hidden / (1 + np.exp(-1.702 * hidden))
        tokens = tokens + transform(hidden, f"{block}.mlp.fc2")
    return tokens


def test_the_body_computes_what_clip_does():
    tensors = made_up_tensors(2)
    body = build_clip_vit([1], (224, 224, 3))
    assign_weights(body, tensors)
    pixels = np.random.default_rng(1).normal(size=(2, 224, 224, 3)).astype(np.float32)
    expected = compute(tensors, 2, pixels)
    found = body.predict_on_batch(pixels)
    np.testing.assert_allclose(found[..., :WIDTH].reshape(2, -1, WIDTH), expected[:, 1:], atol=2e-3)
    np.testing.assert_allclose(
        found[..., WIDTH:], np.broadcast_to(expected[:, None, :1], found[..., WIDTH:].shape), atol=2e-3
    )


def test_the_tokens_of_several_blocks_are_read():
    tensors = made_up_tensors(2)
    pixels = np.random.default_rng(1).normal(size=(2, 224, 224, 3)).astype(np.float32)
    found = {}
    for blocks in ((0,), (1,), (0, 1)):
        body = build_clip_vit(blocks, (224, 224, 3))
        assign_weights(body, tensors)
        found[blocks] = body.predict_on_batch(pixels)
    assert {f"block{number}_places" for number in (0, 1)} <= {layer.name for layer in body.layers}
    np.testing.assert_allclose(found[0, 1], np.concatenate([found[0,], found[1,]], axis=-1), atol=1e-4)


def test_other_sizes_get_the_positions_in_between():
    tensors = made_up_tensors(1)
    positions = tensors["vision_model.embeddings.position_embedding.weight"]
    ramp = np.arange(GRID, dtype=np.float32)
    positions[1:] = np.repeat(ramp, GRID)[:, None]  # each row of patches has the same value
    body = build_clip_vit([0], (112, 112, 3))
    assign_weights(body, tensors)
    found = body.get_layer("patches").get_weights()[1]
    assert found.shape == (50, WIDTH)
    np.testing.assert_allclose(found[0], positions[0] + tensors["vision_model.embeddings.class_embedding"])
    rows = found[1:, 0].reshape(7, 7)
    np.testing.assert_allclose(rows[1:-1], np.repeat(0.5 + 2 * np.arange(1, 6), 7).reshape(5, 7), atol=1e-4)


def test_weights_of_another_network_are_refused():
    tensors = made_up_tensors(1)
    with pytest.raises(ModelError, match="do not belong to CLIP"):
        assign_weights(build_clip_vit([1], (32, 32, 3)), tensors)  # it lacks the second block
    tensors["vision_model.encoder.layers.0.mlp.fc1.weight"] = np.ones((WIDTH, 8), np.float32)
    with pytest.raises(ModelError, match="do not belong to CLIP"):
        assign_weights(build_clip_vit([0], (32, 32, 3)), tensors)


def test_a_matrix_is_rounded_to_steps_that_are_powers_of_two():
    values = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32) * [0.01, 0.1, 1, 7, 300]
    rounded = round_matrix(values)
    largest = np.abs(values).max(0)
    for column, most in enumerate(largest):
        steps = np.unique(np.abs(rounded[:, column]))
        step = steps[steps > 0].min()
        assert np.log2(step) == round(np.log2(step)) and most / MOST_STEPS <= step < 2 * most / MOST_STEPS
        assert np.abs(rounded[:, column] - values[:, column]).max() <= step / 2
    np.testing.assert_array_equal(round_matrix(rounded), rounded)


def test_quantised_matrices_are_multiplied_out(tmp_path):
    import onnx
    from onnx import helper, numpy_helper

    bytes_ = np.array([[1, -2], [3, 127]], np.int8)
    arrays = {
        "onnx::MatMul_7_quantized": bytes_,
        "onnx::MatMul_7_zero_point": np.array([0, 1], np.int8),
        "onnx::MatMul_7_scale": np.array([0.5, 0.25], np.float32),
        "vision_model.some.bias": np.array([1, 2], np.float32),
    }
    node = helper.make_node(
        "MatMulInteger",
        ["x", "onnx::MatMul_7_quantized", "zero", "onnx::MatMul_7_zero_point"],
        ["y"],
        name="/vision_model/encoder/layers.0/mlp/fc1/MatMul_quant",
    )
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    onnx.save(helper.make_model(helper.make_graph([node], "clip", [], [], tensors)), tmp_path / "clip.onnx")
    found = read_tensors(tmp_path / "clip.onnx")
    np.testing.assert_array_equal(found["vision_model.encoder.layers.0.mlp.fc1.weight"], [[0.5, -0.75], [1.5, 31.5]])
    np.testing.assert_array_equal(found["vision_model.some.bias"], [1, 2])


def test_other_files_are_refused(tmp_path):
    (tmp_path / "other.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match=r"other\.onnx cannot be read as an ONNX file"):
        read_tensors(tmp_path / "other.onnx")


@pytest.mark.parametrize(("network", "weights"), [("clip_vit_b16", "imagenet"), ("mobilenet", "clip")])
def test_published_weights_of_another_network_are_refused(network, weights):
    with pytest.raises(ModelError, match=f"The weights '{weights}' do not belong to the network {network}"):
        build_network(network, 32, weights=weights)
