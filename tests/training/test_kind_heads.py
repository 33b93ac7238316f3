from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import logsumexp

from detector.metrics import roc_auc
from detector.models.engines import KerasEngine
from detector.results import ModelError
from training import networks
from training.ablation import train_into
from training.clip_vit import WIDTH, build_clip_vit
from training.frozen_features import COMPRESSED, PLAIN, View
from training.kind_heads import (
    LOGIT_SCALE,
    MADE_KIND,
    MADE_WEIGHT,
    UNNAMED_KIND,
    KindHeads,
    build_kind_network,
    build_pooled,
    fit_kind_heads,
)
from training.manifests import Example
from training.networks import build_network
from training.settings import DEFAULT_SETTINGS, complete_settings

pytestmark = pytest.mark.slow

LAST = "block12_add"
SETTINGS = replace(
    DEFAULT_SETTINGS,
    network="efficientnet_lite0",
    weights="none",
    input_size_px=64,
    self_blend=0.4,
    reconstruct=0.0,
    head="kinds",
    last_frozen=LAST,
    views=1,
)


@pytest.fixture(scope="module")
def network():
    import keras

    keras.utils.set_random_seed(1)
    return build_network("efficientnet_lite0", 64)


def some_heads(count, kinds=("gan", "swap", "talking head")):
    rng = np.random.default_rng(0)
    return KindHeads(kinds, rng.normal(0, 0.05, (count, len(kinds))), rng.normal(size=len(kinds)))


def made_up_store(shifts):
    """Features in which each kind of fakes is shifted along its own direction; reals are of two sources."""
    rng = np.random.default_rng(0)
    examples, features = [], []
    for kind, shift in [("", 0.0), *shifts.items()]:
        for number in range(300):
            source = f"source{number % 2}"
            label = int(shift != 0)
            examples.append(Example(None, label, source, "", f"{kind}{number}", "train", kind if label else "", "", 0))
            # The second source is a third of a deviation away, in a direction that no kind has.
            features.append(rng.normal(size=4) + [0, shift, 0, number % 2 / 3])
    views = [View(index, PLAIN) for index in range(len(examples))]
    return SimpleNamespace(examples=examples, views=views, features=np.array(features, np.float16))


def values_of(heads, features):
    return features.astype(np.float64) @ heads.weights + heads.biases


@pytest.mark.parametrize(
    ("kinds", "weights"),
    [
        (("gan", "swap", "talking head"), (1, 1, 1)),
        (("gan", MADE_KIND), (1, MADE_WEIGHT)),
    ],
    ids=["kinds", "made fakes count less"],
)
def test_the_logit_is_the_log_mean_exponential_of_the_heads_and_the_mean_of_the_class_map(network, kinds, weights):
    pooled = build_pooled(network, LAST)
    heads = some_heads(pooled.output_shape[1], kinds)
    crops = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3)).astype(np.float32)
    outputs = build_kind_network(network, LAST, heads).predict_on_batch(crops)
    values = values_of(heads, pooled.predict_on_batch(crops))
    expected = LOGIT_SCALE * (logsumexp(values, axis=1, b=weights) - np.log(sum(weights)))
    np.testing.assert_allclose(outputs["logit"][:, 0], expected, rtol=1e-3)
    assert outputs["class_map"].shape == (3, 4, 4, 1)
    np.testing.assert_allclose(outputs["class_map"].mean((1, 2, 3)), expected, rtol=1e-3)


def test_heads_read_the_places_of_a_transformer(monkeypatch):
    architecture = replace(networks.ARCHITECTURES["clip_vit_b16"], build=partial(build_clip_vit, [0]))
    monkeypatch.setitem(networks.ARCHITECTURES, "clip_vit_b16", architecture)
    network = build_network("clip_vit_b16", 64)
    pooled = build_pooled(network, "block0_places")
    crops = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    means, contrasts = np.split(pooled.predict_on_batch(crops), 2, axis=1)
    assert means.shape == (2, 2 * WIDTH)
    np.testing.assert_allclose(contrasts[:, WIDTH:], 0, atol=1e-6)  # the class token is the same in the centre
    assert np.abs(contrasts[:, :WIDTH]).mean() > 1e-3
    heads = some_heads(4 * WIDTH)
    outputs = build_kind_network(network, "block0_places", heads).predict_on_batch(crops)
    values = values_of(heads, np.concatenate([means, contrasts], axis=1))
    expected = LOGIT_SCALE * (logsumexp(values, axis=1) - np.log(3))
    np.testing.assert_allclose(outputs["logit"][:, 0], expected, rtol=1e-3)
    np.testing.assert_allclose(outputs["class_map"].mean((1, 2, 3)), expected, rtol=1e-3)


def test_features_are_means_and_how_far_the_centre_exceeds_them(network):
    import keras

    body = network.get_layer("body")
    last = keras.Model(body.input, body.get_layer("block10_add").output)
    crops = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    features = last.predict_on_batch(network.get_layer("scale")(crops))
    assert features.shape[1:3] == (4, 4)
    pooled = build_pooled(network, "block10_add").predict_on_batch(crops)
    channels = features.shape[3]
    means, contrasts = (part[:, -channels:] for part in np.split(pooled, 2, axis=1))
    np.testing.assert_allclose(means, features.mean((1, 2)), rtol=1e-4, atol=1e-5)
    expected = features[:, 1:3, 1:3].mean((1, 2)) - features.mean((1, 2))
    np.testing.assert_allclose(contrasts, expected, rtol=1e-3, atol=1e-5)


def test_kinds_that_differ_from_reals_in_opposite_directions_are_both_found():
    store = made_up_store({"gan": 2.0, "talking head": -2.0})
    heads = fit_kind_heads(store, np.ones(900, bool), SETTINGS)
    assert heads.kinds == ("GAN or diffusion", "swap or talking head")
    values = values_of(heads, store.features)
    labels = np.array([example.label for example in store.examples])
    assert roc_auc(labels, logsumexp(values, axis=1)) > 0.85
    real = values[labels == 0]
    np.testing.assert_allclose(real.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(real.std(0), 1, atol=0.02)


def test_a_degraded_copy_scores_about_as_its_original():
    store = made_up_store({"gan": 1.0})
    # The third feature separates the classes too, but a degradation removes it.
    store.features[:, 2] += [2.0 * example.label for example in store.examples]
    degraded = store.features.copy()
    degraded[:, 2] = 0
    changes = []
    for views, features in [([], []), ([View(index, COMPRESSED) for index in range(600)], [degraded])]:
        shown = np.concatenate([store.features, *features])
        learned = SimpleNamespace(examples=store.examples, views=store.views + views, features=shown)
        heads = fit_kind_heads(learned, np.ones(600, bool), SETTINGS)
        changes.append(np.abs(values_of(heads, degraded) - values_of(heads, store.features)).mean())
    assert changes[1] < 0.95 * changes[0]


def test_kinds_that_are_made_alike_share_a_head():
    store = made_up_store({"gan": 2.0, "diffusion": 1.5, "swap": -2.0, "talking head": -1.5, "text-to-image": 3.0})
    heads = fit_kind_heads(store, np.ones(1800, bool), SETTINGS)
    assert heads.kinds == ("GAN or diffusion", "swap or talking head", "text-to-image")


def test_heads_learn_from_the_chosen_pictures_alone():
    store = made_up_store({"gan": 2.0, "swap": 1.0})
    chosen = np.array([example.kind != "swap" for example in store.examples])
    heads = fit_kind_heads(store, chosen, SETTINGS)
    assert heads.kinds == ("GAN or diffusion",)
    store.features[~chosen] = 99
    again = fit_kind_heads(store, chosen, SETTINGS)
    np.testing.assert_array_equal(again.weights, heads.weights)


def test_made_fakes_and_fakes_without_a_kind_have_heads_of_their_own():
    store = made_up_store({"gan": 2.0})
    store.examples = [replace(example, kind="") for example in store.examples]
    store.views += [View(index, 0, "blend") for index in range(300)]
    store.features = np.concatenate([store.features, store.features[:300] + np.float16(1)])
    assert fit_kind_heads(store, np.ones(600, bool), SETTINGS).kinds == (UNNAMED_KIND, MADE_KIND)


def test_heads_need_both_labels():
    store = made_up_store({"gan": 2.0})
    with pytest.raises(SystemExit, match="real pictures and fakes"):
        fit_kind_heads(store, np.array([example.label == 0 for example in store.examples]), SETTINGS)


def test_heads_read_the_ends_of_blocks_alone(network):
    with pytest.raises(ModelError, match="block12_expand"):
        build_pooled(network, "block12_expand")


def test_heads_need_a_last_layer():
    with pytest.raises(ValueError, match="--last-frozen"):
        replace(SETTINGS, last_frozen=None)


def test_a_run_with_heads_writes_a_model_that_names_its_kinds(training_manifest, tmp_path):
    settings = complete_settings(replace(SETTINGS, manifest=str(training_manifest), self_blend=0.0))
    engine = KerasEngine(train_into(tmp_path / "run", settings))
    assert engine.spec.training["kinds"] == [UNNAMED_KIND]
    logits, maps = engine.run(np.zeros((1, 64, 64, 3), np.uint8))
    assert logits.shape == (1,) and np.isclose(maps.mean(), logits[0], rtol=1e-3, atol=1e-3)
