from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from detector.media.degradations import recompress
from detector.metrics import roc_auc
from training import frozen_features
from training.batches import BatchGenerator, SamplePlan, cut_faces
from training.fitting import train
from training.frozen_features import (
    COMPRESSED,
    DEFAULT_VIEWS,
    JPEG_BLOCK_PX,
    PLAIN,
    RESIZED,
    SAVED_SIDE,
    SHARPNESS_BINS,
    SOFTENED,
    FeatureBatches,
    FeatureStore,
    View,
    plan_views,
)
from training.image_statistics import sharpness
from training.manifests import Example, LocatedFace
from training.networks import build_network, split_network
from training.settings import DEFAULT_SETTINGS, complete_settings

pytestmark = pytest.mark.slow

LAST_FROZEN = "block4_add"
SETTINGS = replace(
    DEFAULT_SETTINGS,
    network="efficientnet_lite0",
    weights="none",
    input_size_px=64,
    epochs=1,
    epoch_samples=16,
    batch=8,
    self_blend=0.4,
    reconstruct=0.0,
    last_frozen=LAST_FROZEN,
)


@pytest.fixture(scope="module")
def network():
    import keras

    keras.utils.set_random_seed(1)
    return build_network("efficientnet_lite0", 64)


def face(has_landmarks=True):
    return LocatedFace(np.array([0, 0, 9, 9], np.float32), np.zeros((5, 2), np.float32) if has_landmarks else None)


def example(label, fold=0, group=""):
    return Example(None, label, "source", "generator", group, "train", "", "generator", fold)


def test_features_are_those_of_the_lower_part_and_are_computed_once(network, located_examples, monkeypatch):
    examples, faces = located_examples
    lower, _ = split_network(network, LAST_FROZEN)
    store = FeatureStore(examples, faces, SETTINGS, lower)
    assert store.features.shape == (len(store.views), 8, 8, 40)
    row = next(row for row, view in enumerate(store.views) if view.fake == "blend")
    view = store.views[row]
    assert store.labels[row] == 1 and examples[view.index].label == 0
    plan = SamplePlan(view.index, (SETTINGS.seed, view.number, view.index), "blend", view.donor)
    crop, _ = BatchGenerator(examples, faces, SETTINGS).load_sample(plan)
    expected = np.asarray(lower(crop[None].astype(np.float32), training=False))[0]
    np.testing.assert_allclose(store.features[row], expected, atol=0.01)

    def refuse(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(frozen_features, "_load_view", refuse)
    again = FeatureStore(examples, faces, replace(SETTINGS, learning_rate=0.1, epochs=9), lower)
    np.testing.assert_array_equal(again.features, store.features)


def test_a_stopped_computation_goes_on_where_it_was(network, located_examples, monkeypatch):
    examples, faces = located_examples
    lower, _ = split_network(network, LAST_FROZEN)
    settings, load, loaded = replace(SETTINGS, seed=5), frozen_features._load_view, []

    def stop_once(view, *rest):
        loaded.append(view)
        if len(loaded) == 7:
            raise KeyboardInterrupt
        return load(view, *rest)

    monkeypatch.setattr(frozen_features, "CHUNK", 4)
    monkeypatch.setattr(frozen_features, "_load_view", stop_once)
    with pytest.raises(KeyboardInterrupt):
        FeatureStore(examples, faces, settings, lower)
    loaded_before = len(loaded)
    store = FeatureStore(examples, faces, settings, lower)
    assert len(loaded) - loaded_before == len(store.views) - 4
    assert np.abs(np.asarray(store.features, np.float32)).sum((1, 2, 3)).min() > 0


def test_crops_as_the_detector_cuts_them_come_with_three_degraded_copies(network, located_examples):
    examples, faces = located_examples
    lower, _ = split_network(network, LAST_FROZEN)
    store = FeatureStore(examples, faces, SETTINGS, lower, as_detected=True)
    count = len(examples)
    numbers = [PLAIN] * count + [COMPRESSED] * count + [SOFTENED] * count + [RESIZED] * count
    assert [view.number for view in store.views[: 4 * count]] == numbers
    assert store.views[4 * count :] == plan_views(examples, faces, SETTINGS)
    plain, compressed, softened, resized = np.split(store.sharpness[: 4 * count], 4)
    np.testing.assert_allclose(plain, [sharpness(crop) for crop in cut_faces(examples, faces, 64)], rtol=1e-6)
    assert (softened < plain - 0.1).all() and (compressed != plain).all() and (resized != plain).all()


def test_a_crop_saved_at_another_size_has_blocks_at_other_places(located_examples, monkeypatch):
    """Saved at the input's size, every crop would have its blocks of 8 pixels at the same places."""
    examples, faces = located_examples
    batches = BatchGenerator(examples, faces, SETTINGS)
    saved = []

    def record(crop, quality, extension=".jpg"):
        saved.append((crop.shape[0], crop.shape[1], extension))
        return recompress(crop, quality, extension)

    monkeypatch.setattr(frozen_features, "recompress", record)
    least, most = (SAVED_SIDE[0] * 64, SAVED_SIDE[1] * 64 + JPEG_BLOCK_PX)
    for seed in range(20):
        crop = frozen_features._load_view(View(0, RESIZED), batches, seed)
        assert crop.shape == (64, 64, 3)
    heights, widths, extensions = zip(*saved, strict=True)
    assert set(extensions) == {".jpg"} and least - 1 <= min(heights) and max(widths) <= most
    assert max(heights) - min(heights) > 30
    assert len({height - width for height, width, _ in saved}) > 5  # a shift of its own in each direction


def test_other_degraded_copies_are_computed_again(network, located_examples, monkeypatch):
    examples, faces = located_examples
    lower, _ = split_network(network, LAST_FROZEN)
    settings = replace(SETTINGS, seed=6)
    mild = FeatureStore(examples, faces, settings, lower, as_detected=True)
    monkeypatch.setattr(frozen_features, "BLUR_SIGMA_PX", (2.5, 3.0))
    monkeypatch.setattr(frozen_features, "SCALE_FACTOR", (0.2, 0.25))
    strong = FeatureStore(examples, faces, settings, lower, as_detected=True)
    monkeypatch.setattr(frozen_features, "PRECISION", "f32")
    assert (FeatureStore(examples, faces, settings, lower, as_detected=True).features != strong.features).any()
    softened = [view.number == SOFTENED for view in strong.views]
    assert strong.sharpness[softened].mean() < mild.sharpness[softened].mean()


def test_grafts_stay_inside_a_fold():
    examples = [example(0, fold=number % 2, group=str(number)) for number in range(40)] + [example(1, fold=0)]
    views = plan_views(examples, [face()] * len(examples), replace(SETTINGS, views=3))
    grafts = [view for view in views if view.fake == "graft"]
    assert len(grafts) > 10 and all(examples[v.index].fold == examples[v.donor].fold for v in grafts)
    assert not [view for view in views if view.fake and examples[view.index].label == 1]


def test_without_landmarks_or_made_fakes_a_picture_has_its_views_alone():
    pair = [example(0), example(1)]
    assert plan_views(pair, [face(has_landmarks=False)] * 2, SETTINGS) == [
        View(0, 0),
        View(1, 0),
        View(0, 1),
        View(1, 1),
    ]
    views = plan_views(pair, [face()] * 2, replace(SETTINGS, self_blend=0.0, views=1))
    assert views == [View(0, 0), View(1, 0)]
    assert not plan_views(pair, [face()] * 2, replace(SETTINGS, views=0, head="kinds"))
    assert len(plan_views(pair, [face()] * 2, replace(SETTINGS, views=None, self_blend=0.0))) == 2 * DEFAULT_VIEWS


def made_up_store(count=4000):
    """Return a store in which fakes are much sharper than reals."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, count)
    return SimpleNamespace(
        examples=[example(int(label)) for label in labels],
        views=[View(row, 0) for row in range(count)],
        labels=labels,
        sharpness=(rng.normal(size=count) + 1.5 * labels).astype(np.float32),
        features=np.arange(count, dtype=np.float16)[:, None, None, None],
    )


def test_sharpness_does_not_predict_the_label_of_a_batch_and_left_out_pictures_are_not_shown():
    store = made_up_store()
    assert roc_auc(store.labels, store.sharpness) > 0.8
    chosen = np.arange(len(store.views)) % 3 > 0
    batches = FeatureBatches(store, chosen, replace(SETTINGS, batch=64, self_blend=0.0))
    rows = np.concatenate([batches.plan_batch(step) for step in range(60)])
    assert 0.45 < roc_auc(store.labels[rows], store.sharpness[rows]) < 0.55
    assert store.labels[rows].mean() == 0.5 and chosen[rows].all()
    with ThreadPoolExecutor(1) as pool:
        second = list(batches.batches(0, 3, pool))[1]
    again = batches.plan_batch(1)
    np.testing.assert_array_equal(second[1][:, 0], store.labels[again])
    assert SHARPNESS_BINS > 3


def test_only_the_upper_part_learns(training_manifest, tmp_path, eagerly):
    settings = complete_settings(replace(SETTINGS, manifest=str(training_manifest), learning_rate=0.01))
    with eagerly():
        network, calibration, account = train(settings, _folder(tmp_path / "run"))
    assert calibration and account["settings"]["last_frozen"] == LAST_FROZEN

    import keras

    keras.utils.set_random_seed(settings.seed)
    start = build_network("efficientnet_lite0", 64, dropout=settings.dropout)
    places = [layer.name for layer in start.get_layer("body").layers]
    for name in places[1:]:
        before, after = (net.get_layer("body").get_layer(name).get_weights() for net in (start, network))
        is_frozen = places.index(name) <= places.index(LAST_FROZEN)
        if before:
            assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)) == is_frozen, name


def _folder(path):
    path.mkdir()
    return path
