import warnings

import cv2
import numpy as np
import pytest

from detector.results import ModelError
from training.clip_vit import DEVIATION, MEAN
from training.networks import (
    ARCHITECTURES,
    DECODERS,
    HALF_SHARP_POWER,
    NETWORKS,
    average_networks,
    build_autoencoder,
    build_network,
    split_network,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def networks():
    import keras

    keras.utils.set_random_seed(1)
    return {name: build_network(name, 96) for name in NETWORKS}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_class_map_s_mean_is_the_logit(name, networks):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3)).astype(np.float32)
    outputs = {key: np.asarray(value) for key, value in networks[name](pixels, training=False).items()}
    logit, class_map = outputs["logit"], outputs["class_map"]
    assert logit.shape == (3, 1) and class_map.shape[0] == 3 and class_map.shape[3] == 1
    assert class_map.shape[1] == class_map.shape[2]
    np.testing.assert_allclose(class_map.mean((1, 2)), logit, atol=1e-5)
    assert np.ptp(logit) > 0 and np.abs(logit).max() < 100  # 0 to 255 is scaled inside


def test_the_head_is_linear_to_the_end():
    network = build_network("mobilenet", 32)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)
    before = np.asarray(network(pixels, training=False)["logit"])
    kernel, bias = network.get_layer("class_map").get_weights()
    network.get_layer("class_map").set_weights([kernel * -1e4, bias])
    np.testing.assert_allclose(network(pixels, training=False)["logit"], before * -1e4, rtol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_body_s_weights_are_loaded(name, networks, tmp_path):
    body = networks[name].get_layer("body")
    body.save_weights(tmp_path / "body.weights.h5")
    # At another size as well, unless the body has weights for each position.
    copy = build_network(name, 96 if name == "clip_vit_b16" else 128, weights=tmp_path / "body.weights.h5")
    for mine, theirs in zip(copy.get_layer("body").get_weights(), body.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_weights_that_do_not_fit_are_refused(networks, tmp_path):
    networks["cnn"].get_layer("body").save_weights(tmp_path / "cnn.weights.h5")
    # Keras warns once for each layer that it leaves random; the error's one sentence is enough.
    with (
        warnings.catch_warnings(record=True) as said,
        pytest.raises(ModelError, match=r"in cnn\.weights\.h5 do not fit"),
    ):
        warnings.simplefilter("always", UserWarning)
        build_network("mobilenet", 64, weights=tmp_path / "cnn.weights.h5")
    assert not [warning for warning in said if warning.category is UserWarning]
    (tmp_path / "empty.weights.h5").write_bytes(b"")
    with pytest.raises(ModelError, match=r"weights in empty\.weights\.h5 do not fit"):
        build_network("cnn", 64, weights=str(tmp_path / "empty.weights.h5"))
    with pytest.raises(ModelError, match="is missing"):
        build_network("cnn", 64, weights=tmp_path / "nowhere.weights.h5")


def test_an_unknown_network_is_refused_with_a_list():
    with pytest.raises(ModelError, match="'resnet'; choose from cnn, mobilenet, "):
        build_network("resnet", 64)


def test_a_body_starts_from_a_whole_model(tmp_path):
    first = build_network("cnn", 64)
    first.save(tmp_path / "model.h5")
    second = build_network("cnn", 64, weights=tmp_path / "model.h5")
    for ours, theirs in zip(second.get_layer("body").get_weights(), first.get_layer("body").get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_whole_model_of_another_network_is_refused(tmp_path):
    build_network("cnn", 64).save(tmp_path / "model.h5")
    with pytest.raises(ModelError, match="do not fit"):
        build_network("mobilenet", 64, weights=tmp_path / "model.h5")


def test_the_small_network_has_a_dropout_and_no_class_map():
    network = build_network("cnn", 32, dropout=0.5)
    assert list(network.output) == ["logit"] and network.get_layer("dropout").rate == 0.5


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_pixels_are_scaled_as_the_published_weights_need(name, networks):
    import keras

    module = {"efficientnetv2b0": "imagenet_utils", "densenet121": "densenet", "resnet50": "resnet"}.get(name, name)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3)).astype(np.float32)
    if name.startswith("efficientnet_lite"):
        wanted = (pixels - 127) / 128
    elif name == "clip_vit_b16":
        wanted = (pixels / 255 - MEAN) / DEVIATION
    elif name == "efficientnetv2b0":
        wanted = keras.src.applications.imagenet_utils.preprocess_input(pixels.copy(), mode="torch")
    else:
        wanted = getattr(keras.applications, module).preprocess_input(pixels.copy())
    scale = networks[name].get_layer("scale")
    scaled = np.asarray(keras.layers.Rescaling(scale.scale, scale.offset)(pixels))
    np.testing.assert_allclose(scaled, wanted[..., ::-1] if ARCHITECTURES[name].bgr else wanted, atol=1e-4)


@pytest.mark.parametrize("name", [name for name, architecture in ARCHITECTURES.items() if architecture.bgr])
def test_published_weights_for_bgr_are_reversed(name, monkeypatch):
    import keras

    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 5)).astype(np.float32)

    def published(*, include_top, weights, input_shape):
        picture, convolution = keras.Input(input_shape), keras.layers.Conv2D(5, 3)
        body = keras.Model(picture, convolution(picture))
        convolution.set_weights([kernel, np.zeros(5, np.float32)])
        return body

    monkeypatch.setattr(keras.applications, ARCHITECTURES[name].application, published)
    pixels = np.random.default_rng(1).integers(0, 256, (1, 8, 8, 3)).astype(np.float32)
    network = build_network(name, 8, weights="imagenet")
    scaled = np.asarray(network.get_layer("scale")(pixels))
    wanted = keras.ops.conv(scaled[..., ::-1], kernel)
    np.testing.assert_allclose(network.get_layer("body")(scaled), wanted, atol=1e-3)


def test_averaged_networks_give_the_mean_logit_and_a_map_with_that_mean(networks):
    members = [networks[name] for name in ("mobilenet", "inception_v3")]  # maps of 3 x 3 and 1 x 1 places
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3)).astype(np.float32)
    views = pixels, pixels[:, :, ::-1]  # the second sees the mirror image
    logits = [np.asarray(m(view, training=False)["logit"]) for m, view in zip(members, views, strict=True)]
    outputs = average_networks(members)(pixels, training=False)
    np.testing.assert_allclose(outputs["logit"], np.mean(logits, axis=0), atol=1e-6)
    np.testing.assert_allclose(np.asarray(outputs["class_map"]).mean((1, 2)), outputs["logit"], atol=1e-5)
    assert list(average_networks([members[0], networks["cnn"]]).output) == ["logit"]
    alone = average_networks(members[:1])(pixels, training=False)
    np.testing.assert_allclose(alone["logit"], logits[0], atol=1e-6)


def test_a_smaller_network_sees_the_crop_reduced(networks):
    small = build_network("mobilenet", 64)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 96, 96, 3)).astype(np.float32)
    together = average_networks([small, networks["mobilenet"]])
    outputs = together(pixels, training=False)
    reduced = cv2.resize(pixels[0], (64, 64), interpolation=cv2.INTER_AREA)[None]
    views = (small, reduced), (networks["mobilenet"], pixels[:, :, ::-1])
    logits = [np.asarray(network(view, training=False)["logit"]) for network, view in views]
    np.testing.assert_allclose(outputs["logit"], np.mean(logits, axis=0), atol=1e-5)
    assert together.input_shape[1] == 96 and outputs["class_map"].shape == (1, 3, 3, 1)  # 2 x 2 and 3 x 3 places
    np.testing.assert_allclose(np.asarray(outputs["class_map"]).mean((1, 2)), outputs["logit"], atol=1e-5)


def test_the_sharpness_offset_raises_logit_and_class_map_of_sharp_crops_most(networks):
    rng = np.random.default_rng(0)
    sharp = rng.normal(128, 20, (96, 96, 1)).clip(0, 255).repeat(3, 2).astype(np.float32)
    crops = np.stack([sharp, cv2.GaussianBlur(sharp, (0, 0), 1.5), np.full_like(sharp, 128), sharp[:, ::-1]])
    plain = average_networks([networks["mobilenet"]])(crops, training=False)
    outputs = average_networks([networks["mobilenet"]], sharpness_offset=2.0)(crops, training=False)
    added = np.asarray(outputs["logit"] - plain["logit"])[:, 0]

    # The filter's weights have a sum of squares of 20, so white noise of deviation 20 has a power of about 8,000.
    np.testing.assert_allclose(added[0], 2 * 8_000 / (8_000 + HALF_SHARP_POWER), atol=0.01)
    assert 0.1 < added[1] < 1.9
    np.testing.assert_allclose(added[[2, 3]], [0, added[0]], atol=1e-5)
    np.testing.assert_allclose(np.asarray(outputs["class_map"]).mean((1, 2)), outputs["logit"], atol=1e-5)


@pytest.mark.parametrize("decoder", DECODERS)
def test_an_autoencoder_keeps_the_size(decoder):
    network = build_autoencoder(decoder, 64)
    assert network.output_shape == (None, 64, 64, 3) and network.count_params() < 1_000_000


@pytest.mark.parametrize(
    ("name", "layer"),
    [("efficientnet_lite0", "block4_add"), ("mobilenet", "conv_pw_11_relu"), ("resnet50", "conv3_block4_out")],
)
def test_the_parts_of_a_split_network_give_what_the_whole_gives(name, layer, networks):
    lower, upper = split_network(networks[name], layer)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3)).astype(np.float32)
    whole, parts = networks[name](pixels, training=False), upper(lower(pixels, training=False), training=False)
    assert set(whole) == set(parts)
    for key, values in whole.items():
        np.testing.assert_allclose(np.asarray(parts[key]), np.asarray(values), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("efficientnet_lite0", "nowhere"),
        ("efficientnet_lite0", "block12_expand"),
        ("densenet121", "conv2_block1_1_conv"),
    ],
)
def test_a_network_is_split_only_where_all_features_pass(name, layer, networks):
    with pytest.raises(ModelError, match=f"cannot be split after a layer '{layer}'"):
        split_network(networks[name], layer)
