"""Make a Keras network from elsewhere usable here: calibrate it and write it, with a spec, as model.h5.

    python scripts/adopt.py THEIRS.h5 --manifest FACES.csv --pixels 0..1 --positive real

The network must take one RGB picture and give one number, with or without a sigmoid at its end. What its file does
not say must be told: the range of its pixels, and whether a large number means fake or real (folders read in the order
df, real give networks for which it means real). Export and evaluate afterwards, as after training.
"""

from __future__ import annotations

import argparse
import os
from datetime import date
from pathlib import Path
from typing import Any

from detector.models.spec import FaceInput, ModelSpec
from detector.results import ModelError
from training.calibrating import UNCALIBRATED, write_calibrated
from training.fitting import CROP_MARGIN
from training.manifests import ROOT, read_manifest, split_train_calibration

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

PIXEL_RANGES = {"0..1": (1 / 255, 0.0), "-1..1": (1 / 127.5, -1.0), "0..255": (1.0, 0.0)}  # scale and offset


def wrap(path: Path, pixels: str, positive: str) -> Any:
    """Load a foreign network and give it our ends: pixels in 0 to 255 in, a logit that is positive for fakes out.

    Raises:
        ModelError: Keras cannot load it, or its ends do not fit.
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
            "a square RGB picture of a fixed size in and one number out are needed."
        )
    last = foreign.layers[-1]
    if getattr(last, "activation", None) is keras.activations.sigmoid:
        last.activation = keras.activations.linear
    scale, offset = PIXEL_RANGES[pixels]
    picture = keras.Input((height, width, 3), name="pixels")
    score = foreign(keras.layers.Rescaling(scale, offset, name="scale")(picture))
    logit = keras.layers.Rescaling(1.0 if positive == "fake" else -1.0, name="logit")(score)
    return keras.Model(picture, {"logit": logit}, name="adopted")


def main(argv: list[str] | None = None) -> None:
    """Load, calibrate, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a Keras .h5 or .keras file")
    parser.add_argument("--manifest", type=Path, required=True, help="pictures to calibrate on")
    parser.add_argument("--pixels", choices=PIXEL_RANGES, default="0..1", help="what the network takes (default 0..1)")
    parser.add_argument("--positive", choices=("fake", "real"), required=True, help="what a large output means")
    parser.add_argument("--out", type=Path, default=ROOT / "model.h5")
    options = parser.parse_args(argv)
    if options.model.resolve() == options.out.resolve():
        raise SystemExit(f"The result would overwrite {options.model}; move that file elsewhere first or give --out.")
    try:
        network = wrap(options.model, options.pixels, options.positive)
    except ModelError as error:
        raise SystemExit(str(error)) from error
    size_px = network.input_shape[1]
    _, tune = split_train_calibration(read_manifest(options.manifest))
    origin = {"adopted_from": options.model.name, "tune": len(tune), "date": date.today().isoformat()}
    write_calibrated(
        options.out, network, ModelSpec("adopted", FaceInput(size_px, CROP_MARGIN), UNCALIBRATED, origin), tune
    )
    print(f"wrote {options.out}; next: python scripts/export.py")


if __name__ == "__main__":
    main()
