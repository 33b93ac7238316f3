"""Export a Keras model to the .onnx file that the server runs, and check that both give the same logits."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from detector.models.engines import FastEngine, KerasEngine
from detector.models.spec import ORIGIN_KEY, SPEC_KEY
from detector.results import ModelError
from training.compact_files import store_matrices_in_bytes

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

OPSET = 15
TOLERANCE = 1e-3  # largest allowed difference of logits between the engines
CHECK_CROPS = 8  # random pictures to compare the engines on


def can_export() -> bool:
    """Return whether the Keras backend is the one whose export OpenVINO and the tests support."""
    import keras

    return bool(keras.backend.backend() == "tensorflow")


def export(source: Path, target: Path, *, batch: np.ndarray | None = None, tolerance: float | None = None) -> float:
    """Write the .onnx file of a model, with its spec and the SHA-256 of the model in its metadata.

    Args:
        source: the model.h5.
        target: the file to write; an earlier one stays if the export fails.
        batch: input on which the two engines are compared; None takes random face crops.
        tolerance: largest allowed difference of their logits; None takes TOLERANCE.

    Returns:
        The largest difference of logits between the two engines.

    Raises:
        ModelError: the source has no spec, or the engines differ by more than the tolerance.
    """
    import onnx

    tolerance = TOLERANCE if tolerance is None else tolerance
    reference = KerasEngine(source)
    spec = reference.spec
    if batch is None:
        shape = (CHECK_CROPS, spec.face.size_px, spec.face.size_px, 3)
        batch = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    expected, _ = reference.run(batch)  # Keras exports only a network that was called once
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        part = Path(folder) / target.name
        reference.network.export(part, format="onnx", opset_version=OPSET, verbose=False)
        network = onnx.load(part)
        inputs = [node.name for node in network.graph.input]
        if len(inputs) != 1:
            raise ModelError(f"The exported network has the inputs {inputs}; it must have one.")
        store_matrices_in_bytes(network)
        for key, value in ((SPEC_KEY, spec.to_json()), (ORIGIN_KEY, reference.model_sha256)):
            network.metadata_props.add(key=key, value=value)
        onnx.save(network, part)
        logits, _ = FastEngine(part).run(batch)
        difference = float(np.abs(logits - expected).max())
        if difference > tolerance:
            raise ModelError(f"The engines' logits differ by {difference:.2g}; at most {tolerance} is allowed.")
        part.replace(target)
    return difference
