"""A network of a student project with its own input and output."""

import numpy as np
import pytest

from detector.results import ModelError
from scripts.adopt import main
from training.adopting import adopted_spec, wrap

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A small network as student projects save it: pixels in 0..1, a sigmoid at its end."""
    import keras

    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    path = tmp_path_factory.mktemp("foreign") / "theirs.keras"
    network.save(path)
    return path, network


@pytest.mark.parametrize(("positive", "sign"), [("fake", 1), ("real", -1)])
def test_the_logit_is_the_foreign_score_with_the_right_sign(foreign, positive, sign):
    path, theirs = foreign
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.float32)
    score = np.asarray(theirs(pixels / 255))[:, 0]
    logits = np.asarray(wrap(path, "0..1", positive)(pixels)["logit"])[:, 0]
    np.testing.assert_allclose(logits, sign * np.log(score / (1 - score)), atol=1e-4)


def test_a_network_with_a_list_of_one_output_gives_a_logit_for_each_picture(foreign, tmp_path):
    import keras

    path = tmp_path / "list.keras"
    keras.Model(foreign[1].inputs, foreign[1].outputs).save(path)
    assert wrap(path, "0..1", "fake")(np.zeros((5, 32, 32, 3), np.float32))["logit"].shape == (5, 1)


def test_a_network_of_another_shape_is_refused(tmp_path):
    import keras

    path = tmp_path / "classes.keras"
    keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]).save(path)
    with pytest.raises(ModelError, match="give one number"):
        wrap(path, "0..1", "fake")


def test_a_file_that_is_no_network_is_refused(tmp_path):
    path = tmp_path / "notes.h5"
    path.write_text("not a network")
    with pytest.raises(ModelError, match=r"cannot load notes\.h5"):
        wrap(path, "0..1", "fake")


def test_an_adopted_network_gets_a_spec(foreign):
    path, _ = foreign
    spec = adopted_spec(path, wrap(path, "0..1", "fake"), [])
    assert (spec.network, spec.face.size_px, spec.training["adopted_from"]) == ("adopted", 32, "theirs.keras")


def test_the_foreign_file_is_not_overwritten(foreign):
    path, _ = foreign
    with pytest.raises(SystemExit, match="overwrite"):
        main([str(path), "--manifest", "m.csv", "--positive", "real", "--out", str(path)])
