"""Linear heads for kinds of fakes, on mean features of many depths of a frozen body, fitted in closed form.

Fakes of different kinds differ from real pictures in different directions, often in opposite ones. One linear head
averages these directions; heads for kinds, and the logarithm of their summed exponentials, keep them. Kinds that are
made alike share one.

The features are the means over the whole crop, and contrasts: how far the means over its centre exceed them. The
history of a picture (blur, noise, compression) changes both alike; a swapped or generated face changes its centre more.
The heads learn from degraded copies of each crop too, so that a copy scores about as its original does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from detector.results import ModelError
from training.batches import source_weights
from training.frozen_features import PLAIN, FeatureStore
from training.settings import TrainingSettings

if TYPE_CHECKING:
    import keras

# Kinds that share a head: one of both separates families that it has not seen better than one of each.
HEADS = {
    "swap": "swap or talking head",
    "talking head": "swap or talking head",
    "gan": "GAN or diffusion",
    "diffusion": "GAN or diffusion",
}
MADE_KIND = "made in training"  # the head of self-blends and reconstructions
MADE_WEIGHT = 0.1  # of this head in the logit, beside 1 of the others: blur and noise move it more than them
UNNAMED_KIND = "fake"  # the head of a manifest's fakes that names no kind
SOURCE_POWER = 0.25  # of `source_weights`
PLAIN_WEIGHT = 4.0  # of a crop as the detector cuts it, beside 1 of a degraded copy or an augmented view
RIDGE = 0.1  # penalty on the weights of standardised features
GRID_STRIDE = 16  # pixels of the input for each cell of the class map
LOGIT_SCALE = 8.0  # of the standardised logits, beside those of a combined network's other members


@dataclass(frozen=True)
class KindHeads:
    """Heads whose values have mean 0 and deviation 1 over real pictures.

    Attributes:
        kinds: of the fakes, or what HEADS calls several, sorted.
        weights: (C, K), of the features of `build_pooled`.
        biases: (K,).
    """

    kinds: tuple[str, ...]
    weights: np.ndarray
    biases: np.ndarray


def fit_kind_heads(store: FeatureStore, chosen: np.ndarray, settings: TrainingSettings) -> KindHeads:
    """Fit a ridge regression of the fakes of each head against all real pictures.

    Args:
        store: features of `build_pooled` of all pictures' views, plain ones among them.
        chosen: (N,) whether each of the store's examples may be learned from.
        settings: of the run.

    Raises:
        SystemExit: there are no real pictures, or no fakes.
    """
    rows = np.flatnonzero(chosen[[view.index for view in store.views]])
    views = [store.views[row] for row in rows]
    examples = [store.examples[view.index] for view in views]
    kinds = np.array(
        [
            MADE_KIND if view.fake else HEADS.get(example.kind, example.kind or UNNAMED_KIND) if example.label else ""
            for view, example in zip(views, examples, strict=True)
        ]
    )
    names = sorted(set(kinds.tolist()) - {""})
    if not names or "" not in kinds:
        raise SystemExit("Heads for kinds of fakes need real pictures and fakes in the split train.")
    features = store.features[rows].astype(np.float32)
    centre, deviation = features.mean(0), features.std(0) + 1e-4
    features = np.concatenate([(features - centre) / deviation, np.ones((len(rows), 1), np.float32)], axis=1)
    plain = np.array([view.number == PLAIN for view in views])
    sources = np.array([example.source for example in examples])

    def moments(members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weights = source_weights(sources[members].tolist(), settings, SOURCE_POWER)
        weights = weights * np.where(plain[members], PLAIN_WEIGHT, 1.0)
        weighted = features[members] * (weights / weights.sum())[:, None].astype(np.float32)
        return weighted.T @ features[members], weighted.sum(0)

    second_real, first_real = moments(np.flatnonzero(kinds == ""))
    real_plain = np.flatnonzero((kinds == "") & plain)
    balance = source_weights(sources[real_plain].tolist(), settings, power=1.0)
    solved = []
    for name in names:
        second, first = moments(np.flatnonzero(kinds == name))
        penalised = (second_real + second) / 2 + RIDGE * np.eye(len(second))
        head = np.linalg.solve(penalised.astype(np.float64), (first - first_real).astype(np.float64) / 2)
        values = features[real_plain] @ head
        mean = balance @ values
        head[-1] -= mean
        solved.append(head / math.sqrt(balance @ (values - mean) ** 2))
    heads = np.stack(solved, axis=1)
    weights = heads[:-1] / deviation[:, None]
    return KindHeads(tuple(names), weights, heads[-1] - centre @ weights)


def build_pooled(network: keras.Model, last: str) -> keras.Model:
    """Build the network of the means and contrasts at each depth of a body.

    Args:
        network: of `build_network`, with a body that scales its input first.
        last: name of the last layer whose output is used.

    Returns:
        keras.Model from (N, S, S, 3) float32 RGB in 0 to 255 to (N, C): the means of all depths, then the contrasts of
        those that are not coarser than the class map.

    Raises:
        ModelError: the body has no such layer among its blocks.
    """
    import keras

    layers = keras.layers
    pixels, maps, fine = _depth_maps(network, last)
    means = {name: layers.GlobalAveragePooling2D()(features) for name, features in maps.items()}
    centres = {name: layers.GlobalAveragePooling2D()(_crop_centre(maps[name])) for name in fine}
    contrasts = [layers.Subtract()([centres[name], means[name]]) for name in fine]
    return keras.Model(pixels, layers.Concatenate()([*means.values(), *contrasts]), name="pooled")


def build_kind_network(network: keras.Model, last: str, heads: KindHeads) -> keras.Model:
    """Build the network of a body and heads, with the outputs `logit` and `class_map` of `build_network`.

    The logit is LOGIT_SCALE times the logarithm of the weighted mean exponential of the heads. In the class map each
    head's map weighs as much as the head does in the logit, so that its mean is the logit here as well.

    Args:
        network: of `build_network`.
        last: name of the last layer whose output is used.
        heads: for the features of `build_pooled`.

    Raises:
        ModelError: the body has no such layer among its blocks.
    """
    import keras

    layers, count = keras.layers, len(heads.kinds)
    pixels, maps, fine = _depth_maps(network, last)
    mean_maps: list[Any] = []
    contrast_maps: list[Any] = []
    for name, features in maps.items():
        mean_maps.append(layers.Conv2D(count, 1, use_bias=False, name=f"heads_{name}")(features))
        if name in fine:
            contrast_maps.append(layers.Conv2D(count, 1, use_bias=False, name=f"contrast_{name}")(features))
    contrast_map = layers.Add()(contrast_maps) if len(contrast_maps) > 1 else contrast_maps[0]
    summed_maps = layers.Add()([*mean_maps, _spread_contrast(contrast_map)])
    # Not a bias of a convolution: TensorFlow would fuse convolution, bias and sum, and crash.
    proportions = np.array([MADE_WEIGHT if kind == MADE_KIND else 1.0 for kind in heads.kinds])
    biases = heads.biases + np.log(proportions / proportions.sum())
    kind_maps = layers.Rescaling(1.0, tuple(biases.tolist()), name="kind_maps")(summed_maps)
    kind_logits = layers.GlobalAveragePooling2D(name="kind_logits")(kind_maps)
    log_shares = layers.Activation("log_softmax")(kind_logits)
    shares = layers.Activation("exponential")(log_shares)
    # A logit less its logarithmic share is the logarithm of the summed exponentials, the same for every kind.
    summed = layers.Subtract()([kind_logits, log_shares])
    logit = layers.Dense(1, use_bias=False, name="logit")(summed)
    weighted = layers.Multiply()([kind_maps, layers.Reshape((1, 1, count))(shares)])
    shown = layers.Conv2D(1, 1, use_bias=False, name="shown")(weighted)
    rest = layers.Subtract()([logit, layers.GlobalAveragePooling2D()(shown)])
    class_map = layers.Add(name="class_map")([shown, layers.Reshape((1, 1, 1))(rest)])
    built = keras.Model(pixels, {"logit": logit, "class_map": class_map}, name=f"{network.name}_kinds")

    names = [f"heads_{name}" for name in maps] + [f"contrast_{name}" for name in fine]
    ends = np.cumsum([maps[name].shape[-1] for name in [*maps, *fine]])
    for name, kernel in zip(names, np.split(heads.weights, ends[:-1]), strict=True):
        built.get_layer(name).set_weights([kernel[None, None]])
    scale = np.full((count, 1), LOGIT_SCALE)
    built.get_layer("logit").set_weights([scale / count])
    built.get_layer("shown").set_weights([scale[None, None]])
    return built


def _depth_maps(network: keras.Model, last: str) -> tuple[Any, dict[str, Any], list[str]]:
    """Return the maps at each depth of a network's body, with one place for each GRID_STRIDE pixels of the input.

    Args:
        network: of `build_network`.
        last: name of the last layer whose output is used.

    Returns:
        a new input; by name, the output (N, h, h, C) of each block, averaged or repeated to this size; the names of
        those that were as fine before.
    """
    import keras

    body = network.get_layer("body")
    names = _block_ends([layer.name for layer in body.layers])
    if last not in names:
        raise ModelError(f"The body of {network.name} has no block that ends with {last!r}; it has {', '.join(names)}.")
    names = names[: names.index(last) + 1]
    pixels = keras.Input(network.input_shape[1:], name="pixels")
    scaled = network.get_layer("scale")(pixels)
    outputs = keras.Model(body.input, [body.get_layer(name).output for name in names], name="body")(scaled)
    maps = dict(zip(names, outputs, strict=True))
    grid = network.input_shape[1] // GRID_STRIDE
    fine = [name for name, features in maps.items() if features.shape[1] >= grid]
    return pixels, {name: _resize(features, grid) for name, features in maps.items()}, fine


def _resize(features: Any, grid: int) -> Any:
    """Return features (N, h, h, C) averaged or repeated to (N, grid, grid, C)."""
    from keras import layers

    side = features.shape[1]
    features = layers.AveragePooling2D(side // grid)(features) if side > grid else features
    return layers.UpSampling2D(grid // side)(features) if side < grid else features


def _crop_centre(features: Any) -> Any:
    """Return the middle of features (N, h, h, C), half as wide and high: eyes, nose and mouth of a face crop."""
    from keras import layers

    return layers.Cropping2D(features.shape[1] // 4)(features)


def _spread_contrast(values: Any) -> Any:
    """Return maps (N, h, h, K) whose mean is the contrast of a map, and that show where it comes from.

    A place of the centre shows by how much it exceeds the mean of the whole map; outside there is nothing to show.
    """
    from keras import layers

    mean = layers.GlobalAveragePooling2D(keepdims=True)(values)
    centre = _crop_centre(layers.Subtract()([values, mean]))
    side, inner = values.shape[1], centre.shape[1]
    return layers.ZeroPadding2D((side - inner) // 2)(layers.Rescaling((side / inner) ** 2)(centre))


def _block_ends(names: Sequence[str]) -> list[str]:
    """Return the last layer of each block whose maps heads can read.

    That is the sum of an EfficientNet-Lite's block, its projection where it has none, or the places of a transformer.
    """
    ends: dict[str, str] = {}
    for name in names:
        block, _, part = name.partition("_")
        if block.startswith("block") and part in ("project", "add", "places"):
            ends[block] = name
    return list(ends.values())
