"""Kernels and biases from models/*.npz, which training builds into a network and leaves as they are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from detector import ModelError


def read_fixed_weights(path: Path, names: Iterable[str], content: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return kernel and bias, float32, of each name.

    Args:
        path: an .npz file with the arrays NAME/kernel and NAME/bias.
        names: of the layers.
        content: what the file holds, for the error message.

    Raises:
        ModelError: the file is missing or holds something else.
    """
    try:
        with np.load(path) as arrays:
            return {name: (arrays[f"{name}/kernel"], arrays[f"{name}/bias"]) for name in names}
    except (OSError, KeyError, ValueError) as error:
        raise ModelError(f"{content} cannot be read from {path}.") from error
