from dataclasses import replace

import cv2
import numpy as np
import pytest
from blue_engine import BLUE, SIZE_PX, BlueEngine, crop_without_blue, plant

from detector.evidence import explanations
from detector.evidence.explanation_checks import run_deletion_check
from detector.evidence.explanations import (
    EXPLANATION_METHODS,
    LIME_SAMPLES,
    explain,
    explain_face,
    face_crop,
    fit_superpixels,
    landmarks_in_crop,
    read_heatmap,
)
from detector.models.calibration import Calibration
from detector.models.engines import CROPS_PER_BATCH, FastEngine, KerasEngine
from detector.models.heatmaps import NEUTRAL, activation_heatmap
from detector.models.spec import FaceInput, ModelSpec, write_spec
from detector.pictures.detect import MODEL_FILES
from detector.pictures.faces import crop_faces
from detector.results import ModelError

pytestmark = pytest.mark.slow

# Of the face in the toy's crop: eyes, nose tip, mouth corners.
LANDMARKS = np.array([[34, 40], [62, 40], [48, 55], [38, 70], [58, 70]], np.float32)


@pytest.fixture(scope="module")
def face(portrait):
    return crop_without_blue(portrait)


@pytest.fixture(scope="module")
def detection(portrait, picture_detector):
    return picture_detector.detect(portrait)


def centre(heatmap):
    """Return x and y of the centre of the evidence of a fake, in pixels of the crop."""
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
def test_without_evidence_no_region_is_marked(method, face):
    found = explain(face, BlueEngine(), method=method, landmarks=LANDMARKS)
    assert found.regions == () and found.sentence == "No part of the face shows evidence of a fake."


@pytest.mark.parametrize("method", ["class_map", "lime"])
def test_a_map_is_never_scaled_to_its_own_maximum(method, face):
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
        ("the area around the face", 4, 90),
    ],
)
def test_the_sentence_names_the_part_of_the_face(part, x, y, face):
    found = explain(plant(face, x, y, side=10), BlueEngine(gain=200), landmarks=LANDMARKS)
    assert found.sentence in (
        f"The evidence of a fake lies mostly in {part}.",
        f"The weak evidence of a fake lies mostly in {part}.",
    )


def test_the_sentence_names_several_parts_or_none(face):
    both = plant(plant(face, 34, 40, side=16), 62, 40, side=16)
    sentence = explain(both, BlueEngine(gain=200), landmarks=LANDMARKS).sentence
    assert "both eyes" in sentence and " and " not in sentence
    everywhere = np.full_like(face, BLUE)
    assert explain(everywhere, BlueEngine(), landmarks=LANDMARKS).sentence == (
        "The evidence of a fake is spread over the whole face."
    )
    assert "the upper left" in explain(plant(face, 12, 12, side=16), BlueEngine(gain=200)).sentence


def test_faint_heat_around_the_face_does_not_outweigh_a_hot_mouth():
    heat = np.full((SIZE_PX, SIZE_PX), 0.545, np.float32)
    heat[60:82, 30:66] = 1.0
    found = read_heatmap(heat, SIZE_PX, landmarks=LANDMARKS)
    assert "the mouth" in found.sentence and "around the face" not in found.sentence
    assert found.regions[0].box == (30, 60, 36, 22)


def test_landmarks_follow_the_crop():
    moved = landmarks_in_crop(LANDMARKS * 2 + [100, 50], (100, 50, 2 * SIZE_PX, 2 * SIZE_PX), SIZE_PX)
    np.testing.assert_allclose(moved, LANDMARKS)


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


def test_a_new_method_is_one_function_and_one_entry(detection, picture_detector, monkeypatch):
    def corner(crop, engine):
        heat = np.full((4, 4), NEUTRAL, np.float32)
        heat[0, 0] = 1
        return heat

    monkeypatch.setitem(EXPLANATION_METHODS, "corner", corner)
    found = explain_face(detection, picture_detector.engine, method="corner")
    assert found.method == "corner" and found.heatmap.shape == (4, 4)
    (region,) = found.regions
    assert region.box[:2] == (0, 0) and found.sentence.endswith("lies mostly in the area around the face.")


def test_lime_weights_samples_by_their_nearness_to_the_whole_crop():
    """Near the whole crop the first superpixel raises the logit, far from the crop it lowers the logit."""
    kept = np.random.default_rng(0).random((2000, 10)) < 0.5
    near = kept.mean(axis=1) >= 0.6
    added = fit_superpixels(kept, np.where(near, 1.0, -1.0) * kept[:, 0])
    unweighted = np.linalg.lstsq(np.c_[kept, np.ones(len(kept))], np.where(near, 1.0, -1.0) * kept[:, 0])[0]
    assert added[0] > unweighted[0] + 0.15


def test_lime_is_the_weighted_fit(face, monkeypatch):
    fits = []
    fit = explanations.fit_superpixels
    monkeypatch.setattr(explanations, "fit_superpixels", lambda *values: fits.append(fit(*values)) or fits[-1])
    heat = explain(plant(face, 30, 60), BlueEngine(), method="lime").heatmap
    (added,) = fits
    assert len(np.unique(heat)) == len(np.unique(added.astype(np.float32)))


def test_the_crop_is_the_network_s_input(detection, picture_detector):
    engine = picture_detector.engine
    logits, maps = engine.run(face_crop(detection, engine)[None])
    assert logits[0] == pytest.approx(detection.logit, abs=1e-4)
    for found in (explain_face(detection, engine), explain(face_crop(detection, engine), engine)):
        np.testing.assert_allclose(found.heatmap, detection.faces[0].heatmap, atol=1e-4)


def test_a_restored_detection_gives_the_same_crop(detection, picture_detector):
    engine = picture_detector.engine
    restored = replace(detection, faces=(replace(detection.faces[0], crop=None),))
    np.testing.assert_array_equal(face_crop(restored, engine), face_crop(detection, engine))


def test_the_crop_of_a_detection_is_not_cut_again(detection, picture_detector):
    assert face_crop(replace(detection, image=None), picture_detector.engine) is detection.faces[0].crop


def test_the_class_map_of_a_detection_is_not_computed_again(detection, picture_detector):
    class SpecOnly:
        spec = picture_detector.engine.spec  # and no way to run

    expected = explain_face(detection, picture_detector.engine)
    assert explain_face(detection, SpecOnly()).sentence == expected.sentence
    without = replace(detection, faces=(replace(detection.faces[0], heatmap=None),))
    assert explain_face(without, picture_detector.engine).sentence == expected.sentence


def test_the_sentence_names_parts_of_the_face_where_landmarks_are_known(detection, picture_detector):
    engine = picture_detector.engine
    without = replace(detection, faces=(replace(detection.faces[0], landmarks=None),))
    sentences = [explain_face(found, engine).sentence for found in (detection, without)]
    assert sentences[1] == explain(face_crop(detection, engine), engine).sentence
    parts = ("the eye", "the nose", "the mouth", "the forehead", "the chin", "the cheek", "around the face")
    assert [any(part in sentence for part in parts) for sentence in sentences] == [True, False]
