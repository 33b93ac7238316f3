import warnings

import numpy as np
import pytest

from detector.networks import NETWORKS, build_network
from detector.results import ModelError


@pytest.fixture(scope="module")
def networks():
    import keras

    keras.utils.set_random_seed(1)
    return {name: build_network(name, 64) for name in NETWORKS}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_class_map_s_mean_is_the_logit(name, networks):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3)).astype(np.float32)
    outputs = {key: np.asarray(value) for key, value in networks[name](pixels, training=False).items()}
    logit, class_map = outputs["logit"], outputs["class_map"]
    assert logit.shape == (3, 1) and class_map.shape[0] == 3 and class_map.shape[3] == 1
    assert class_map.shape[1] == class_map.shape[2] > 1
    np.testing.assert_allclose(class_map.mean((1, 2)), logit, atol=1e-5)
    assert np.ptp(logit) > 0 and np.abs(logit).max() < 100  # 0 to 255 is scaled inside


def test_the_head_is_linear_to_the_end():
    network = build_network("cnn", 32)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)
    before = np.asarray(network(pixels, training=False)["logit"])
    kernel, bias = network.get_layer("class_map").get_weights()
    network.get_layer("class_map").set_weights([kernel * -1e4, bias])
    np.testing.assert_allclose(network(pixels, training=False)["logit"], before * -1e4, rtol=1e-3)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_body_s_weights_are_taken_over(name, networks, tmp_path):
    body = networks[name].get_layer("body")
    body.save_weights(tmp_path / "body.weights.h5")
    copy = build_network(name, 96, weights=tmp_path / "body.weights.h5")  # at another size as well
    for mine, theirs in zip(copy.get_layer("body").get_weights(), body.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_weights_that_do_not_fit_are_refused(networks, tmp_path):
    networks["cnn"].get_layer("body").save_weights(tmp_path / "cnn.weights.h5")
    # Keras warns once a layer of what it leaves random; the one sentence is enough.
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


def test_an_unknown_network_is_named_with_those_there_are():
    with pytest.raises(ModelError, match="'resnet'; choose from mobilenet, cnn"):
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
