import json

import cv2
import numpy as np
import pytest

from detector.evidence.explanations import (
    CROPS_PER_BATCH,
    EXPLANATION_METHODS,
    LIME_SAMPLES,
    RANDOM_DELETIONS,
    explain,
    landmarks_in_crop,
    run_deletion_check,
)
from detector.models.calibration import Calibration
from detector.models.engines import Engine, FastEngine, KerasEngine
from detector.models.heatmaps import MAP_TEMPERATURE, activation_heatmap, colour_heatmap
from detector.models.spec import FaceInput, ModelSpec, write_spec
from detector.pictures.detect import MODEL_FILES
from detector.pictures.faces import crop_faces
from detector.results import ModelError

NEUTRAL = 0.5

CALIBRATION = Calibration(1.5, -0.75, 0.2, 0.8)  # neutral at a logit of 0.5
SIZE_PX = 96
# Of the face in the toy's crop: eyes, nose tip, mouth corners.
LANDMARKS = np.array([[34, 40], [62, 40], [48, 55], [38, 70], [58, 70]], np.float32)
BLUE = np.array([0, 0, 255], np.uint8)


class BlueEngine(Engine):
    """A toy that takes blue for a sign of a fake, and nothing else.

    Args:
        has_map: whether its head has a class map.
        gain: logit of a place that is all blue; elsewhere it is -1.
    """

    model_sha256 = "toy"

    def __init__(self, *, has_map=True, gain=40.0):
        self.spec = ModelSpec("toy", FaceInput(SIZE_PX, 1.3), Calibration(1.0, 0.0, 0.2, 0.8))
        self.has_map, self.gain = has_map, gain
        self.batches = []

    def run(self, batch):
        assert batch.dtype == np.uint8 and batch.shape[1:] == (SIZE_PX, SIZE_PX, 3)
        self.batches.append(len(batch))
        pixels = batch.astype(np.float32)
        blueness = np.clip(pixels[..., 2] - pixels[..., :2].max(axis=-1), 0, None) / 255
        maps = np.stack([cv2.resize(b, (6, 6), interpolation=cv2.INTER_AREA) for b in blueness]) * self.gain - 1
        return maps.mean(axis=(1, 2)), maps if self.has_map else None


@pytest.fixture(scope="module")
def face(portrait):
    """The portrait's face, without any blue in it."""
    crop = crop_faces(portrait, [(145, 38, 160, 160)], SIZE_PX)[0]
    return np.minimum(crop, crop[..., :1])


def plant(crop, x, y, side=20):
    """Return the crop with a blue patch around a point."""
    planted = crop.copy()
    planted[max(0, y - side // 2) : y + side // 2, max(0, x - side // 2) : x + side // 2] = BLUE
    return planted


def centre(heatmap):
    """Return x and y of the middle of what speaks for a fake, in pixels of the crop."""
    heat = np.clip(cv2.resize(heatmap, (SIZE_PX, SIZE_PX)) - NEUTRAL, 0, None)
    rows, columns = np.mgrid[:SIZE_PX, :SIZE_PX]
    return float((columns * heat).sum() / heat.sum()), float((rows * heat).sum() / heat.sum())


@pytest.mark.parametrize("method", ["class_map", "lime"])
@pytest.mark.parametrize(("x", "y"), [(24, 24), (72, 40), (40, 72)])
def test_a_planted_patch_is_found(method, x, y, face):
    engine = BlueEngine()
    found = explain(plant(face, x, y), engine, method=method)
    assert found.method == method and found.heatmap.dtype == np.float32
    assert centre(found.heatmap) == pytest.approx((x, y), abs=8)
    left, top, width, height = found.regions[0].box
    assert left <= x < left + width and top <= y < top + height and width * height < SIZE_PX**2 / 6
    assert found.regions[0].share >= NEUTRAL
    assert run_deletion_check(plant(face, x, y), found.heatmap, engine).matters


@pytest.mark.parametrize("method", ["class_map", "lime"])
def test_where_nothing_speaks_for_a_fake_nothing_is_marked(method, face):
    found = explain(face, BlueEngine(), method=method, landmarks=LANDMARKS)
    assert found.regions == () and found.sentence == "No part of the face speaks for a fake."


@pytest.mark.parametrize("method", ["class_map", "lime"])
def test_a_map_is_never_stretched_to_its_own_maximum(method, face):
    crop = plant(face, 48, 48)
    strong, faint = (explain(crop, BlueEngine(gain=gain), method=method).heatmap.max() for gain in (40, 8))
    assert NEUTRAL < faint < strong - 0.1


def test_lime_needs_only_logits_and_the_same_seed_gives_the_same_map(face):
    engine, crop = BlueEngine(has_map=False), plant(face, 30, 60)
    first, second = (explain(crop, engine, method="lime") for _ in range(2))
    np.testing.assert_array_equal(first.heatmap, second.heatmap)
    assert first.heatmap.shape == (SIZE_PX, SIZE_PX)
    assert sum(engine.batches) == 2 * LIME_SAMPLES and max(engine.batches) == CROPS_PER_BATCH


@pytest.mark.parametrize(
    ("part", "x", "y"),
    [
        ("the eye on the left", 34, 40),
        ("the eye on the right", 62, 40),
        ("the nose", 48, 56),
        ("the mouth", 48, 71),
        ("the forehead", 48, 20),
        ("what surrounds the face", 4, 90),
    ],
)
def test_the_sentence_names_the_part_of_the_face(part, x, y, face):
    found = explain(plant(face, x, y, side=10), BlueEngine(gain=200), landmarks=LANDMARKS)
    assert found.sentence in (
        f"Mostly {part} speaks for a fake.",
        f"What little speaks for a fake lies mostly in {part}.",
    )


def test_the_sentence_names_several_parts_or_none(face):
    both = plant(plant(face, 34, 40, side=16), 62, 40, side=16)
    sentence = explain(both, BlueEngine(gain=200), landmarks=LANDMARKS).sentence
    assert "the eye on the left" in sentence and "the eye on the right" in sentence and " and " in sentence
    everywhere = np.full_like(face, BLUE)
    assert explain(everywhere, BlueEngine(), landmarks=LANDMARKS).sentence == (
        "The signs of a fake are spread over the whole face."
    )
    assert "the upper left" in explain(plant(face, 12, 12, side=16), BlueEngine(gain=200)).sentence


def test_landmarks_follow_the_crop():
    moved = landmarks_in_crop(LANDMARKS * 2 + [100, 50], (100, 50, 2 * SIZE_PX, 2 * SIZE_PX), SIZE_PX)
    np.testing.assert_allclose(moved, LANDMARKS)


def test_a_map_of_another_place_does_not_matter_to_the_score(face):
    crop, engine = plant(face, 24, 24), BlueEngine()
    right = explain(crop, engine).heatmap
    good, bad = (run_deletion_check(crop, heatmap, engine) for heatmap in (right, right[::-1, ::-1]))
    assert good.matters and "lowers the score more" in good.sentence
    assert not bad.matters and "does not show what this score rests on" in bad.sentence
    assert good.area < good.random_area and bad.area > bad.random_area
    assert good.random_logits[0] == good.logits[0] == bad.logits[0] == pytest.approx(engine.run(crop[None])[0][0])
    assert good.logits[1] < bad.logits[1]
    json.dumps(good.to_dict())


def test_no_map_matters_to_a_score_that_never_changes(face):
    check = run_deletion_check(face, np.random.default_rng(0).random((6, 6), np.float32), BlueEngine(gain=0))
    assert not check.matters and check.area == pytest.approx(check.random_area)


def test_a_map_of_noise_passes_about_as_often_as_the_rule_says(face):
    """Noise over noise: 1 in 20 passes, so more than 3 of 20 would do so once in 60 times."""
    rng = np.random.default_rng(1)
    crop = face.copy()
    crop[..., 2] = rng.integers(0, 256, crop.shape[:2])
    passed = [run_deletion_check(crop, rng.random((6, 6), np.float32), BlueEngine()).matters for _ in range(20)]
    assert sum(passed) <= 3 and RANDOM_DELETIONS == 19


def test_what_cannot_be_explained_is_a_sentence(face):
    with pytest.raises(ModelError, match="no explanation called 'shap'.*class_map, grad_cam, lime"):
        explain(face, BlueEngine(), method="shap")
    with pytest.raises(ModelError, match="no class activation map"):
        explain(face, BlueEngine(has_map=False))
    with pytest.raises(ModelError, match='engine="keras"'):
        explain(face, BlueEngine(), method="grad_cam")


@pytest.fixture(scope="module")
def keras_engine():
    return KerasEngine(MODEL_FILES["keras"])


@pytest.fixture(scope="module")
def crop(portrait, keras_engine):
    return crop_faces(portrait, [(145, 38, 160, 160)], keras_engine.spec.face.size_px)[0]


def test_grad_cam_of_the_shipped_network_is_its_class_map(keras_engine, crop):
    logits, maps = keras_engine.run(crop[None])
    cam = explain(crop, keras_engine, method="grad_cam").heatmap
    assert np.ptp(cam) > 0.05
    np.testing.assert_allclose(cam, activation_heatmap(maps[0], keras_engine.spec.calibration), atol=1e-3)
    fast = explain(crop, FastEngine(MODEL_FILES["onnx"], threads=1))
    np.testing.assert_allclose(cam, fast.heatmap, atol=1e-3)


@pytest.mark.parametrize("method", ["class_map", "grad_cam"])
def test_random_weights_give_another_map(method, keras_engine, crop):
    """Adebayo et al., arXiv 1810.03292: a map that survives it shows the picture and not the network."""
    heat = explain(crop, keras_engine, method=method).heatmap
    weights, rng = keras_engine.network.get_weights(), np.random.default_rng(0)
    try:
        keras_engine.network.set_weights([rng.permutation(w.ravel()).reshape(w.shape) for w in weights])
        other = explain(crop, keras_engine, method=method).heatmap
    finally:
        keras_engine.network.set_weights(weights)
    assert abs(np.corrcoef(heat.ravel(), np.nan_to_num(other).ravel())[0, 1]) < 0.5


@pytest.mark.parametrize("kind", ["sequential", "functional"])
def test_grad_cam_finds_the_patch_in_an_adopted_network_without_a_class_map(kind, tmp_path, face):
    import keras

    from training.adopting import wrap

    layers = [
        keras.layers.Conv2D(2, 1, activation="relu"),
        keras.layers.MaxPooling2D(8),
        keras.layers.Flatten(),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
    foreign = keras.Sequential([keras.Input((SIZE_PX, SIZE_PX, 3)), *layers])
    if kind == "functional":
        foreign = keras.Model(foreign.inputs, foreign.outputs)
    # One channel sees blue without red, the other brightness, which counts for nothing.
    layers[0].set_weights([np.array([[[[-1, 1], [0, 1], [1, 1]]]], np.float32), np.zeros(2, np.float32)])
    weights = np.tile([[0.5], [0.0]], (SIZE_PX**2 // 64, 1)).astype(np.float32)
    layers[-1].set_weights([weights, np.array([-1], np.float32)])
    foreign.save(tmp_path / "foreign.keras")
    wrap(tmp_path / "foreign.keras", "0..1", "fake").save(tmp_path / "model.h5", include_optimizer=False)
    write_spec(tmp_path / "model.h5", ModelSpec("adopted", FaceInput(SIZE_PX, 1.3), Calibration(1.0, 0.0, 0.2, 0.8)))

    found = explain(plant(face, 28, 68), KerasEngine(tmp_path / "model.h5"), method="grad_cam")
    assert found.heatmap.shape == (12, 12) and centre(found.heatmap) == pytest.approx((28, 68), abs=8)


def test_every_method_is_named():
    assert list(EXPLANATION_METHODS) == ["class_map", "grad_cam", "lime"]


def test_heat_is_the_tempered_probability_a_place_would_give_alone():
    class_map = np.array([[-80.0, 0.5], [0.5 + 0.5 * MAP_TEMPERATURE, 80.0]], np.float32)
    heat = activation_heatmap(class_map, CALIBRATION)
    assert heat.shape == (2, 2) and heat.dtype == np.float32
    np.testing.assert_allclose(heat, [[0, NEUTRAL], [CALIBRATION.probability(1.0), 1]], atol=1e-6)


def test_the_scale_does_not_depend_on_the_rest_of_the_map():
    class_map = np.random.default_rng(0).normal(0, 2, (6, 6)).astype(np.float32)
    stronger = class_map.copy()
    stronger[0, 0] = 30
    heat, other = (activation_heatmap(values, CALIBRATION) for values in (class_map, stronger))
    np.testing.assert_array_equal(heat.ravel()[1:], other.ravel()[1:])
    faint = activation_heatmap(np.full((6, 6), 0.6, np.float32), CALIBRATION)
    assert 0.5 < faint.min() == faint.max() < 0.6  # not stretched to 1


@pytest.mark.parametrize("size_px", [1, 40, 256])
@pytest.mark.parametrize("heat", [0.0, 0.3, NEUTRAL])
def test_what_does_not_speak_for_a_fake_is_transparent(heat, size_px):
    painted = colour_heatmap(np.full((6, 6), heat, np.float32), size_px)
    assert painted.shape == (size_px, size_px, 4) and painted.dtype == np.uint8
    assert np.all(painted[..., 3] == 0)


def test_more_heat_is_redder_and_more_opaque():
    levels = [colour_heatmap(np.full((6, 6), heat, np.float32), 8)[4, 4].astype(int) for heat in (0.55, 0.7, 0.85, 1)]
    reds_over_greens = [red - green for red, green, _, _ in levels]
    assert reds_over_greens == sorted(set(reds_over_greens))
    opacities = [alpha for *_, alpha in levels]
    assert opacities == sorted(set(opacities)) and opacities[0] > 0 and opacities[-1] < 255  # the face shines through


def test_colours_lie_where_the_heat_is():
    heat = np.zeros((6, 6), np.float32)
    heat[1, 4] = 1
    painted = colour_heatmap(heat, 60)
    y, x = np.argwhere(painted[..., 3] == painted[..., 3].max()).mean(0)
    assert (y, x) == pytest.approx((14.5, 44.5), abs=1)
    assert np.all(painted[30:, :30, 3] == 0)
