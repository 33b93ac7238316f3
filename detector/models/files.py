"""Where the model files are: beside the package in a checkout, inside the package where it is installed.

An installed package carries face.onnx, voice.onnx and both tables of reference scores in `detector/weights`. The Keras
files come with a checkout only.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
CHECKOUT, WEIGHTS = _PACKAGE.parent, _PACKAGE / "weights"


def find_model_file(path: str, *, checkout: Path = CHECKOUT, weights: Path = WEIGHTS) -> Path:
    """Return the file in the checkout, else the installed one of the same name, else where a checkout would have it.

    A missing file is an error only when it is opened, because another model may be in use.

    Args:
        path: relative to the root of a checkout.
        checkout: the folder that holds the package.
        weights: the folder inside the package.
    """
    beside, inside = checkout / path, weights / Path(path).name
    return inside if inside.is_file() and not beside.is_file() else beside


MODEL_FILES = {"onnx": find_model_file("models/face.onnx"), "keras": find_model_file("model.h5")}
VOICE_MODEL_FILES = {"onnx": find_model_file("models/voice.onnx"), "keras": find_model_file("models/voice.h5")}
# How the shipped models scored held-out pictures and recordings.
REFERENCE_SCORES_FILE = find_model_file("models/face.reference_scores.json")
VOICE_REFERENCE_SCORES_FILE = find_model_file("models/voice.reference_scores.json")
