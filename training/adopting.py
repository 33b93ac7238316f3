"""Adopt a Keras network from elsewhere: adapt its input and output to this project's models."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Any

from detector.models.spec import FaceInput, ModelSpec
from detector.results import ModelError
from training.batches import CROP_MARGIN
from training.calibrating import UNCALIBRATED
from training.manifests import Example

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

PIXEL_RANGES = {"0..1": (1 / 255, 0.0), "-1..1": (1 / 127.5, -1.0), "0..255": (1.0, 0.0)}  # scale and offset


def wrap(path: Path, pixels: str, positive: str) -> Any:
    """Load a foreign network and adapt it: RGB pixels in 0 to 255 in, a logit that is positive for fakes out.

    Args:
        path: a Keras .h5 or .keras file of a network with one number as output, with or without a sigmoid.
        pixels: the range of its input, a name of PIXEL_RANGES.
        positive: what a large output means, "fake" or "real".

    Raises:
        ModelError: Keras cannot load the file, or input or output has another shape.
    """
    import keras

    try:
        foreign = keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise ModelError(f"Keras cannot load {path.name}: {error}") from error
    height, width, channels = foreign.input_shape[1:]
    if height is None or height != width or channels != 3 or foreign.output_shape[1:] != (1,):
        raise ModelError(
            f"{path.name} takes {foreign.input_shape[1:]} and gives {foreign.output_shape[1:]}; "
            "it must take a square RGB picture of a fixed size and give one number."
        )
    last = foreign.layers[-1]
    if getattr(last, "activation", None) is keras.activations.sigmoid:
        last.activation = keras.activations.linear
    scale, offset = PIXEL_RANGES[pixels]
    picture = keras.Input((height, width, 3), name="pixels")
    # A network may have been built with a list of one output.
    [score] = keras.tree.flatten(foreign(keras.layers.Rescaling(scale, offset, name="scale")(picture)))
    logit = keras.layers.Rescaling(1.0 if positive == "fake" else -1.0, name="logit")(score)
    return keras.Model(picture, {"logit": logit}, name="adopted")


def adopted_spec(path: Path, network: Any, examples: list[Example]) -> ModelSpec:
    """Return the spec of a wrapped network, not calibrated yet.

    Args:
        path: file of the foreign network.
        network: the wrapped network.
        examples: the calibration pictures.
    """
    account = {"adopted_from": path.name, "tune": len(examples), "date": date.today().isoformat()}
    return ModelSpec("adopted", FaceInput(network.input_shape[1], CROP_MARGIN), UNCALIBRATED, account)
