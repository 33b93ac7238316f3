import numpy as np
import pytest

from detector.models.engines import KerasEngine
from detector.models.spec import FaceInput, ModelSpec, file_sha256
from detector.results import ModelError
from training import calibrating as calibrate
from training import combining as combine
from training import fitting as train
from training.networks import build_network


@pytest.fixture
def models(tmp_path):
    import keras

    for seed, margin in enumerate((1.3, 1.3, 2.0)):
        keras.utils.set_random_seed(seed)
        spec = ModelSpec(
            "mobilenet",
            FaceInput(64, margin),
            calibrate.UNCALIBRATED,
            {"sources": {"s real": 3}, "seed": seed, "settings": {"network": "mobilenet"}},
        )
        calibrate.save_model(tmp_path / f"{seed}.h5", build_network("mobilenet", 64), spec)
    return [tmp_path / f"{seed}.h5" for seed in range(3)]


def test_the_joined_logit_is_the_mean_of_the_face_and_its_mirror_image_also_after_saving(models, tmp_path):
    calibrate.save_model(tmp_path / "joined.h5", *combine.combine(models[:2]))
    joined = KerasEngine(tmp_path / "joined.h5")
    crops = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    logits, class_maps = KerasEngine(models[0]).run(crops)
    mirrored_logits, mirrored_maps = KerasEngine(models[1]).run(np.ascontiguousarray(crops[:, :, ::-1]))
    found, maps = joined.run(crops)
    np.testing.assert_allclose(found, (logits + mirrored_logits) / 2, atol=1e-6)
    np.testing.assert_allclose(maps, (class_maps + mirrored_maps[:, :, ::-1]) / 2, atol=1e-6)
    np.testing.assert_allclose(maps.mean((1, 2)), found, atol=1e-5)
    assert joined.spec.network == "ensemble" and joined.spec.training["sources"] == {"s real": 3}
    assert [member["seed"] for member in joined.spec.training["members"]] == [0, 1]
    assert joined.spec.training["members"][1]["sha256"] == file_sha256(models[1])


def test_a_run_goes_on_from_the_last_of_a_joined_model(models, tmp_path):
    network, spec = combine.combine(models[:2])
    calibrate.save_model(tmp_path / "joined.h5", network, spec)
    found = build_network("mobilenet", 64, weights=tmp_path / "joined.h5").get_layer("body").get_weights()
    last = KerasEngine(models[1]).network.get_layer("body").get_weights()
    for mine, theirs in zip(found, last, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert train.network_of(spec) == "mobilenet"


def test_models_of_other_crops_are_refused(models):
    with pytest.raises(ModelError, match="same margin"):
        combine.combine(models[1:])
