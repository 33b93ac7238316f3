"""The Keras graphs: RGB in 0 to 255 in, one linear logit and, where the head allows it, its class map out."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from detector.results import ModelError

if TYPE_CHECKING:
    import keras

NETWORKS = ("mobilenet", "cnn")


def build_network(network: str, input_size_px: int, *, weights: str | Path = "none", dropout: float = 0.2):
    """Build a network with the outputs `logit` (N, 1) and `class_map` (N, h, w, 1).

    The head is a 1x1 convolution to one channel and then the mean over the map, so the map says what each place
    adds to the logit and its mean is the logit (Zhou et al., arXiv 1512.04150).

    Args:
        network: a name of NETWORKS; "mobilenet" is MobileNet v1 up to its twelfth block (arXiv 1704.04861), "cnn" the
            small three-convolution network many student projects use, with this head instead of theirs.
        input_size_px: side of the square input.
        weights: "none" for random ones, "imagenet" to download them, or what `load_body` reads.
        dropout: rate before the head.

    Returns:
        keras.Model from (N, S, S, 3) float32 RGB in 0 to 255.

    Raises:
        ModelError: unknown network, or weights that do not fit it.
    """
    import keras

    shape = (input_size_px, input_size_px, 3)
    body = _body(network, shape, weights)
    pixels = keras.Input(shape, name="pixels")
    features = body(keras.layers.Rescaling(1 / 127.5, -1.0, name="scale")(pixels))
    features = keras.layers.SpatialDropout2D(dropout, name="dropout")(features)
    class_map = keras.layers.Conv2D(1, 1, dtype="float32", name="class_map")(features)
    logit = keras.layers.GlobalAveragePooling2D(dtype="float32", name="logit")(class_map)
    return keras.Model(pixels, {"logit": logit, "class_map": class_map}, name=network)


def _body(network: str, shape: tuple[int, int, int], weights: str | Path) -> keras.Model:
    import keras

    if network == "mobilenet":
        whole = keras.applications.MobileNet(
            include_top=False, weights="imagenet" if weights == "imagenet" else None, input_shape=shape
        )
        body = keras.Model(whole.input, whole.get_layer("conv_pw_12_relu").output, name="body")
    elif network == "cnn" and weights == "imagenet":
        raise ModelError("There are no ImageNet weights for the network cnn; use --weights none.")
    elif network == "cnn":
        layers = keras.layers
        body = keras.Sequential([keras.Input(shape)], name="body")
        for channels in (32, 64, 128):
            body.add(layers.Conv2D(channels, 3, padding="same", activation="relu"))
            body.add(layers.MaxPooling2D())
    else:
        raise ModelError(f"There is no network called {network!r}; choose from {', '.join(NETWORKS)}.")
    if weights not in ("none", "imagenet"):
        load_body(body, weights)
    return body


def load_body(body: keras.Model, path: str | Path) -> None:
    """Load a body's .weights.h5 file, or the body of a whole model.h5 of ours, with a sentence when it does not fit.

    Raises:
        ModelError: the file is missing or belongs to another network.
    """
    import keras

    if not Path(path).is_file():
        raise ModelError(f"The weights file {path} is missing.")
    try:
        if not str(path).endswith(".weights.h5"):
            body.set_weights(keras.models.load_model(path, compile=False).get_layer("body").get_weights())
            return
        with warnings.catch_warnings():
            # Of some layers that are missing in the file Keras only warns, and leaves them random.
            warnings.simplefilter("error", UserWarning)
            body.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        reason = re.split(r"[.\n]", str(error))[0]
        raise ModelError(f"The weights in {Path(path).name} do not fit the network's body: {reason}.") from error
