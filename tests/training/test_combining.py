import shutil
from pathlib import Path

import numpy as np
import pytest

from detector.models.engines import KerasEngine
from detector.models.spec import FaceInput, ModelSpec, file_sha256, read_spec
from detector.results import ModelError
from scripts import combine as command
from training import calibrating
from training.calibrating import UNCALIBRATED, save_model
from training.combining import combine, learned_sources
from training.networks import build_network
from training.settings import trained_network

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The files of three networks with other weights, the last for another margin."""
    import keras

    folder = tmp_path_factory.mktemp("built")
    for seed, margin in enumerate((1.3, 1.3, 2.0)):
        keras.utils.set_random_seed(seed)
        spec = ModelSpec(
            "mobilenet",
            FaceInput(64, margin),
            UNCALIBRATED,
            {"sources": {"s real": 3}, "seed": seed, "settings": {"network": "mobilenet"}},
        )
        save_model(folder / f"{seed}.h5", build_network("mobilenet", 64), spec)
    return [folder / f"{seed}.h5" for seed in range(3)]


@pytest.fixture
def models(built, tmp_path):
    """Copies of them for one test, in its folder."""
    return [Path(shutil.copy(path, tmp_path)) for path in built]


def test_the_combined_logit_is_the_mean_over_face_and_mirror_image_also_after_saving(models, tmp_path):
    save_model(tmp_path / "combined.h5", *combine(models[:2]))
    combined = KerasEngine(tmp_path / "combined.h5")
    crops = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    logits, class_maps = KerasEngine(models[0]).run(crops)
    mirrored_logits, mirrored_maps = KerasEngine(models[1]).run(np.ascontiguousarray(crops[:, :, ::-1]))
    found, maps = combined.run(crops)
    np.testing.assert_allclose(found, (logits + mirrored_logits) / 2, atol=1e-6)
    np.testing.assert_allclose(maps, (class_maps + mirrored_maps[:, :, ::-1]) / 2, atol=1e-6)
    np.testing.assert_allclose(maps.mean((1, 2)), found, atol=1e-5)
    assert combined.spec.network == "ensemble" and combined.spec.training["sources"] == {"s real": 3}
    assert [member["seed"] for member in combined.spec.training["members"]] == [0, 1]
    assert combined.spec.training["members"][1]["sha256"] == file_sha256(models[1])


def test_a_sharpness_offset_is_saved_and_belongs_to_one_combination(models, tmp_path):
    save_model(tmp_path / "offset.h5", *combine(models[:2], sharpness_offset=1.5))
    save_model(tmp_path / "again.h5", *combine([tmp_path / "offset.h5"]))
    crops = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    offset, again = KerasEngine(tmp_path / "offset.h5"), KerasEngine(tmp_path / "again.h5")
    np.testing.assert_allclose(offset.run(crops)[0] - again.run(crops)[0], 1.5, atol=0.01)  # noise is sharp
    assert offset.spec.training["sharpness_offset"] == 1.5 and "sharpness_offset" not in again.spec.training


def test_a_run_starts_from_the_last_member_of_a_combined_model(models, tmp_path):
    network, spec = combine(models[:2])
    save_model(tmp_path / "combined.h5", network, spec)
    found = build_network("mobilenet", 64, weights=tmp_path / "combined.h5").get_layer("body").get_weights()
    last = KerasEngine(models[1]).network.get_layer("body").get_weights()
    for mine, theirs in zip(found, last, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert trained_network(spec) == "mobilenet"


def test_models_of_other_crops_are_refused(models):
    with pytest.raises(ModelError, match="same margin"):
        combine(models[1:])


def test_members_of_a_combined_model_count_singly(models, tmp_path):
    save_model(tmp_path / "pair.h5", *combine(models[:2]))
    save_model(tmp_path / "three.h5", *combine([tmp_path / "pair.h5", models[0]]))
    three = KerasEngine(tmp_path / "three.h5")
    crops = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    plain = KerasEngine(models[0]).run(crops)[0]
    mirrored = KerasEngine(models[1]).run(np.ascontiguousarray(crops[:, :, ::-1]))[0]
    np.testing.assert_allclose(three.run(crops)[0], (plain + mirrored + plain) / 3, atol=1e-6)
    assert [member["seed"] for member in three.spec.training["members"]] == [0, 1, 0]


def test_learned_sources_are_found_in_members_and_earlier_weights():
    account = {
        "sources": {"new york real": 2, "swaps fake": 3},
        "members": [{"sources": {"first real": 1}, "before": {"sources": {"oldest fake": 1}}}, {"date": "today"}],
    }
    assert learned_sources(account) == {"new york", "swaps", "first", "oldest"}
    assert learned_sources({"sources": None, "before": None}) == set()


def test_a_combined_model_is_calibrated_on_scores_of_kinds_left_out(models, tmp_path, monkeypatch):
    rows, calibrated = [{"logit": 1.0}], []
    monkeypatch.setattr(command, "read_unseen_scores", lambda path: rows)
    monkeypatch.setattr(
        calibrating, "calibrate_from_scores", lambda path, found, reference_scores: calibrated.append(found)
    )
    out = tmp_path / "out.h5"
    command.main([*map(str, models[:2]), "--scores", "unseen_scores.csv", "--out", str(out)])
    assert calibrated == [rows]
    assert read_spec(out).network == "ensemble" and len(read_spec(out).training["members"]) == 2


def test_a_model_stays_if_the_new_one_cannot_be_calibrated(models, tmp_path):
    before = models[0].read_bytes()
    with pytest.raises(SystemExit, match="There is no"):
        command.main([*map(str, models[:2]), "--scores", str(tmp_path / "none.csv"), "--out", str(models[0])])
    assert models[0].read_bytes() == before


def test_networks_are_chosen_by_their_number_over_all_models(models, tmp_path):
    save_model(tmp_path / "pair.h5", *combine(models[:2]))
    _, spec = combine([tmp_path / "pair.h5", models[0]], (1, 2))
    assert [member["seed"] for member in spec.training["members"]] == [1, 0]
    with pytest.raises(ModelError, match="There is no network 3; the models hold 3"):
        combine([tmp_path / "pair.h5", models[0]], (0, 3))
