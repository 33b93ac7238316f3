"""Keras networks for faces: RGB in 0 to 255 in, one linear logit and, if the head allows it, its class map out."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detector.pictures.faces import resize
from detector.results import ModelError
from training.clip_vit import CLIP_SCALING, build_clip_vit, load_clip_weights
from training.efficientnet_lite import MULTIPLIERS, PIXEL_SCALING, build_efficientnet_lite, load_imagenet_weights

if TYPE_CHECKING:
    import keras

# Scale and offset per channel, from RGB in 0 to 255 to the range of an architecture's published weights.
SIGNED = (1 / 127.5, -1.0)
STANDARD = tuple(1 / (255 * std) for std in (0.229, 0.224, 0.225)), (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225)
CENTRED = (1.0, (-123.68, -116.779, -103.939))


@dataclass(frozen=True)
class Architecture:
    """A body from `keras.applications`, an EfficientNet-Lite, or the lower part of CLIP's vision transformer.

    Attributes:
        application: the function of `keras.applications` that builds it; empty for the others.
        scaling: scale and offset of the pixels, for all channels or for each.
        bgr: whether its ImageNet weights expect the channels in this order; they are reversed on loading.
        last: the layer it ends with; None keeps all layers.
        options: further arguments of the function.
        build: the function that builds a body of this project from the shape of its input; None for the others.
        load: the function that gives such a body its published weights.
        published: name of these weights, one of PUBLISHED.
    """

    application: str
    scaling: tuple[Any, Any] = SIGNED
    bgr: bool = False
    last: str | None = None
    options: tuple[tuple[str, Any], ...] = ()
    build: Callable[[tuple[int, int, int]], keras.Model] | None = None
    load: Callable[[keras.Model], None] | None = None
    published: str = "imagenet"


def _lite(variant: int) -> Architecture:
    build, load = (partial(function, variant) for function in (build_efficientnet_lite, load_imagenet_weights))
    return Architecture("", PIXEL_SCALING, build=build, load=load)


ARCHITECTURES = {
    "mobilenet": Architecture("MobileNet", last="conv_pw_12_relu"),
    "mobilenet_v2": Architecture("MobileNetV2"),
    # Its built-in scaling is a Normalization layer, whose constants the export turns into extra inputs.
    "efficientnetv2b0": Architecture("EfficientNetV2B0", STANDARD, options=(("include_preprocessing", False),)),
    "xception": Architecture("Xception"),
    "vgg19": Architecture("VGG19", CENTRED, bgr=True),
    "inception_v3": Architecture("InceptionV3"),
    "resnet50": Architecture("ResNet50", CENTRED, bgr=True),
    "densenet121": Architecture("DenseNet121", STANDARD),
    **{f"efficientnet_lite{variant}": _lite(variant) for variant in MULTIPLIERS},
    "clip_vit_b16": Architecture(
        "", CLIP_SCALING, build=partial(build_clip_vit, (5, 7)), load=load_clip_weights, published="clip"
    ),
}
NETWORKS = ("cnn", *ARCHITECTURES)
PUBLISHED = ("imagenet", "clip")  # names of weights
MEMBER = "member"  # begins the names of the networks inside a combined one
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue
LAPLACIAN = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]], np.float32)
HALF_SHARP_POWER = 10.0  # half sharp: mean square of four times a pixel less its neighbours, in grey levels
CNN_CHANNELS = (32, 64, 128)
# Kinds of upsampling, and how many times an autoencoder of each halves and doubles the picture.
DECODERS = {"nearest": 3, "transposed": 2, "shuffle": 3}
AUTOENCODER_CHANNELS = 24  # of the first convolution; each halving doubles them, up to four times as many
CODE_CHANNELS = 2  # of the code in the middle, doubled with each halving


def build_network(
    network: str, input_size_px: int, *, weights: str | Path = "none", dropout: float = 0.2
) -> keras.Model:
    """Build a network with the outputs `logit` (N, 1) and, except for "cnn", `class_map` (N, h, w, 1).

    The head is a 1x1 convolution to one channel followed by the mean over the map. The map therefore shows what each
    place adds to the logit, and its mean is the logit (Zhou et al., arXiv 1512.04150).

    Args:
        network: a name of NETWORKS; "mobilenet" is MobileNet v1 up to its twelfth block (arXiv 1704.04861), "cnn" has
            the three convolutions and two dense layers of many student projects and no class map.
        input_size_px: side of the square input.
        weights: "none" for random ones, "imagenet" to download them, "clip" for those of CLIP, or a file that
            `load_body` reads.
        dropout: rate before the head.

    Returns:
        keras.Model from (N, S, S, 3) float32 RGB in 0 to 255.

    Raises:
        ModelError: unknown network, or weights that do not fit it.
    """
    import keras

    if network not in NETWORKS:
        raise ModelError(f"There is no network called {network!r}; choose from {', '.join(NETWORKS)}.")
    layers, shape = keras.layers, (input_size_px, input_size_px, 3)
    pixels = keras.Input(shape, name="pixels")
    if network == "cnn":
        features = _cnn_body(shape, weights)(layers.Rescaling(1 / 255, name="scale")(pixels))
        features = layers.Dense(CNN_CHANNELS[-1], activation="relu", name="hidden")(layers.Flatten()(features))
        features = layers.Dropout(dropout, name="dropout")(features)
        return keras.Model(pixels, {"logit": layers.Dense(1, dtype="float32", name="logit")(features)}, name=network)

    architecture = ARCHITECTURES[network]
    if weights in PUBLISHED and weights != architecture.published:
        raise ModelError(f"The weights {weights!r} do not belong to the network {network}.")
    scaled = layers.Rescaling(*architecture.scaling, name="scale")(pixels)
    features = _pretrained_body(architecture, shape, weights)(scaled)
    features = layers.SpatialDropout2D(dropout, name="dropout")(features)
    class_map = layers.Conv2D(1, 1, dtype="float32", name="class_map")(features)
    logit = layers.GlobalAveragePooling2D(dtype="float32", name="logit")(class_map)
    return keras.Model(pixels, {"logit": logit, "class_map": class_map}, name=network)


def split_network(network: keras.Model, last_frozen: str) -> tuple[keras.Model, keras.Model]:
    """Split a network of `build_network` after a layer of its body, in two parts that share its layers.

    Args:
        network: one with a body.
        last_frozen: name of the last layer of the lower part.

    Returns:
        The lower part, from pixels to a feature map (N, h, w, C), and the upper part, from that map to the network's
        outputs. Training the upper part changes the network.

    Raises:
        ModelError: the network has no such layer, or not all features pass through it.
    """
    import keras

    names = [layer.name for layer in network.layers]
    body = network.get_layer("body") if "body" in names else None
    cut = next((layer for layer in _cut_layers(body) if layer.name == last_frozen), None) if body else None
    if body is None or cut is None:
        raise ModelError(f"The network {network.name} cannot be split after a layer {last_frozen!r}.")
    scaled = network.get_layer("scale")(network.input)
    lower = keras.Model(network.input, keras.Model(body.input, cut.output)(scaled), name="lower")
    features = keras.Input(cut.output.shape[1:], name="features")
    outputs = {cut.name: features}
    for layer in body.layers[body.layers.index(cut) + 1 :]:
        inputs = [outputs[name] for name in _input_names(layer)]
        outputs[layer.name] = layer(inputs if len(inputs) > 1 else inputs[0])
    values = outputs[body.layers[-1].name]
    for name in names[names.index("body") + 1 :]:
        values = outputs[name] = network.get_layer(name)(values)
    return lower, keras.Model(features, {name: outputs[name] for name in network.output}, name="upper")


def average_networks(networks: list[keras.Model], sharpness_offset: float = 0.0) -> keras.Model:
    """Combine networks into one whose logit, and whose class map if all have one, is the mean of theirs.

    The input has the size of the largest; a smaller network sees it reduced. Every second network sees the mirror
    image, which averages two views of a face without extra cost. The class map is as fine as the finest of theirs.

    Args:
        networks: of `build_network`, or with the same outputs.
        sharpness_offset: added to the logit, and to each place of the class map, of the sharpest crops, and
            proportionally less to softer ones: blur alone should not make a crop look fake.
    """
    import keras

    layers = keras.layers
    size_px = max(network.input_shape[1] for network in networks)
    pixels = keras.Input((size_px, size_px, 3), name="pixels")
    members = []
    for number, network in enumerate(networks):
        member = keras.Model(network.input, network.output, name=f"{MEMBER}{number}")
        view = _shrink(pixels, network.input_shape[1])
        members.append(_apply_mirrored(member, view) if number % 2 else member(view))
    outputs = {"logit": _mean([member["logit"] for member in members])}
    if all("class_map" in member for member in members):
        # Repeating places to a common grid and averaging them keeps the mean of each map, and so the logit.
        sides = [member["class_map"].shape[1] for member in members]
        common = math.lcm(*sides)
        maps = [
            layers.UpSampling2D(common // side)(member["class_map"])
            for side, member in zip(sides, members, strict=True)
        ]
        outputs["class_map"] = layers.AveragePooling2D(common // max(sides))(_mean(maps))
    if sharpness_offset:
        offset = layers.Rescaling(sharpness_offset)(_sharpness(pixels))
        outputs["logit"] = layers.Add()([outputs["logit"], offset])
        if "class_map" in outputs:
            outputs["class_map"] = layers.Add()([outputs["class_map"], layers.Reshape((1, 1, 1))(offset)])
    named = {name: layers.Identity(name=name)(values) for name, values in outputs.items()}
    return keras.Model(pixels, named, name="ensemble")


def member_networks(network: keras.Model) -> list[keras.Model]:
    """Return the networks that `average_networks` combined, or the network itself."""
    members = [layer for layer in network.layers if layer.name.startswith(MEMBER)]
    return sorted(members, key=lambda layer: layer.name) or [network]


def build_autoencoder(decoder: str, size_px: int) -> keras.Model:
    """Build a small autoencoder, whose reconstructions carry the traces of its decoder's upsampling.

    Args:
        decoder: a name of DECODERS. "nearest" repeats pixels and convolves, as in latent diffusion; "transposed" is a
            transposed convolution, as in early GANs; "shuffle" turns channels into pixels.
        size_px: side of the square pictures, a multiple of 8.

    Returns:
        keras.Model from (N, S, S, 3) float32 RGB in 0 to 255 to the same.
    """
    import keras

    layers, halvings = keras.layers, DECODERS[decoder]
    widths = [min(AUTOENCODER_CHANNELS << halving, 4 * AUTOENCODER_CHANNELS) for halving in range(halvings + 1)]

    def convolve(values: Any, width: int, **options: Any) -> Any:
        return layers.Conv2D(width, 3, padding="same", activation="relu", **options)(values)

    pixels = keras.Input((size_px, size_px, 3), name="pixels")
    values = convolve(layers.Rescaling(1 / 127.5, -1.0)(pixels), widths[0])
    for width in widths[1:]:
        values = convolve(values, width, strides=2)
    values = layers.Conv2D(CODE_CHANNELS << halvings, 1, name="code")(values)
    values = convolve(values, widths[-1])
    for width in widths[-2::-1]:
        if decoder == "nearest":
            values = convolve(layers.UpSampling2D()(values), width)
        elif decoder == "transposed":
            values = layers.Conv2DTranspose(width, 4, strides=2, padding="same", activation="relu")(values)
        else:
            values = keras.ops.depth_to_space(convolve(values, 4 * width), 2)
    values = layers.Conv2D(3, 3, padding="same")(values)
    return keras.Model(pixels, layers.Rescaling(127.5, 127.5, name="reconstruction")(values), name=decoder)


def load_body(body: keras.Model, path: str | Path) -> None:
    """Load weights into a body.

    Args:
        body: the network without its head.
        path: a .weights.h5 file of a body, or a model.h5 of this project; of a combined model the last member that fits
            is used.

    Raises:
        ModelError: the file is missing or belongs to another network.
    """
    import keras

    if not Path(path).is_file():
        raise ModelError(f"The weights file {path} is missing.")
    try:
        if not str(path).endswith(".weights.h5"):
            members = member_networks(keras.models.load_model(path, compile=False))
            bodies = [member.get_layer("body").get_weights() for member in members]
            shapes = [values.shape for values in body.get_weights()]
            fitting = [weights for weights in bodies if [values.shape for values in weights] == shapes]
            body.set_weights((fitting or bodies)[-1])
            return
        with warnings.catch_warnings():
            # Keras only warns about some layers missing in the file, and leaves them random.
            warnings.simplefilter("error", UserWarning)
            body.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        reason = re.split(r"[.\n]", str(error))[0]
        raise ModelError(f"The weights in {Path(path).name} do not fit the network's body: {reason}.") from error


def _pretrained_body(architecture: Architecture, shape: tuple[int, int, int], weights: str | Path) -> keras.Model:
    import keras

    if architecture.build is not None and architecture.load is not None:
        body = architecture.build(shape)
        if weights == architecture.published:
            architecture.load(body)
        elif weights != "none":
            load_body(body, weights)
        return body
    whole = getattr(keras.applications, architecture.application)(
        include_top=False,
        weights="imagenet" if weights == "imagenet" else None,
        input_shape=shape,
        **dict(architecture.options),
    )
    end = whole.get_layer(architecture.last).output if architecture.last else whole.output
    body = keras.Model(whole.input, end, name="body")
    if weights == "imagenet" and architecture.bgr:
        first = next(layer for layer in body.layers if layer.weights)
        kernel, *rest = first.get_weights()
        first.set_weights([kernel[:, :, ::-1], *rest])
    elif weights not in ("none", "imagenet"):
        load_body(body, weights)
    return body


def _cut_layers(body: keras.Model) -> list[Any]:
    """Return the layers through whose output alone all later layers get their input."""
    last_use = {name: place for place, layer in enumerate(body.layers) for name in _input_names(layer)}
    cuts, waiting = [], -1  # the last layer that needs an output seen so far
    for place, layer in enumerate(body.layers):
        if waiting <= place and 0 < place < len(body.layers) - 1:
            cuts.append(layer)
        waiting = max(waiting, last_use.get(layer.name, -1))
    return cuts


def _input_names(layer: Any) -> list[str]:
    """Return the names of the layers that a layer gets its input from."""
    inputs = layer.input if isinstance(layer.input, list) else [layer.input]
    return [tensor._keras_history.operation.name for tensor in inputs if tensor._keras_history.operation is not layer]


def _cnn_body(shape: tuple[int, int, int], weights: str | Path) -> keras.Model:
    import keras

    if weights in PUBLISHED:
        raise ModelError("There are no published weights for the network cnn; use --weights none.")
    body = keras.Sequential([keras.Input(shape)], name="body")
    for channels in CNN_CHANNELS:
        body.add(keras.layers.Conv2D(channels, 3, padding="same", activation="relu"))
        body.add(keras.layers.MaxPooling2D())
    if weights != "none":
        load_body(body, weights)
    return body


def _apply_mirrored(network: keras.Model, pixels: Any) -> dict[str, Any]:
    """Apply a network to the mirror image, and mirror its class map back."""
    outputs = network(_mirror(pixels))
    return {name: _mirror(values) if len(values.shape) == 4 else values for name, values in outputs.items()}


def _mirror(values: Any) -> Any:
    """Reverse the columns of (N, H, W, C)."""
    return _map_places(values, "nhwc,wv->nhvc", np.eye(values.shape[2], dtype=np.float32)[::-1])


def _shrink(values: Any, side: int) -> Any:
    """Reduce (N, S, S, C) to (N, side, side, C) as `detector.pictures.faces.resize` does."""
    if values.shape[1] == side:
        return values
    matrix = resize(np.eye(values.shape[1], dtype=np.float32), side, values.shape[1])
    return _map_places(_map_places(values, "nhwc,wv->nhvc", matrix), "nhwc,hv->nvwc", matrix)


def _map_places(values: Any, equation: str, matrix: np.ndarray) -> Any:
    """Map the rows or columns of (N, H, W, C) by a fixed matrix, since Keras loads only layers from HDF5."""
    import keras

    height, width, channels = values.shape[1:]
    shape = (height, matrix.shape[1], channels) if equation.endswith("nhvc") else (matrix.shape[1], width, channels)
    layer = keras.layers.EinsumDense(equation, shape, trainable=False)
    mapped = layer(values)
    layer.set_weights([matrix])
    return mapped


def _mean(values: list[Any]) -> Any:
    import keras

    return keras.layers.Average()(values) if len(values) > 1 else values[0]  # Average needs at least two inputs


def _sharpness(pixels: Any) -> Any:
    """Return the sharpness (N, 1) of RGB pixels (N, H, W, 3), from 0 for a single colour to 1."""
    from keras import layers

    convolution = layers.Conv2D(1, 3, use_bias=False, trainable=False)
    edges = layers.Flatten()(convolution(pixels))
    convolution.set_weights([LAPLACIAN[:, :, None, None] * LUMINANCE[:, None]])
    # The sum as a product of vectors: OpenVINO takes as long for a sum over a map of one channel as of sixteen.
    power = layers.Rescaling(1 / edges.shape[1])(layers.Dot(1)([edges, edges]))
    return layers.Activation("softsign")(layers.Rescaling(1 / HALF_SHARP_POWER)(power))
