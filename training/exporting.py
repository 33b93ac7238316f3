"""Export model.h5 to models/face.onnx, which is what the server runs, and check that both give the same logits.

    python scripts/export.py

The exported file carries the spec and the SHA-256 of the model.h5 it was made from.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np

from detector.models.engines import FastEngine, KerasEngine
from detector.models.spec import ORIGIN_KEY, SPEC_KEY, file_sha256, read_spec
from detector.results import ModelError
from training.manifests import ROOT

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

OPSET = 15
TOLERANCE = 1e-3  # largest difference of logits between the engines
CHECK_CROPS = 8  # random pictures to compare them on


def can_export() -> bool:
    """Tell whether Keras runs on the backend whose export writes the operations OpenVINO and the tests know."""
    import keras

    return keras.backend.backend() == "tensorflow"


def export(source: Path, target: Path, *, batch: np.ndarray | None = None, tolerance: float | None = None) -> float:
    """Write the .onnx file of a model, with its spec and its origin inside.

    Args:
        source: the model.h5.
        target: the file to write.
        batch: what the two engines are compared on; None takes random face crops.
        tolerance: how far their logits may lie apart; None takes TOLERANCE.

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
        for key, value in ((SPEC_KEY, spec.to_json()), (ORIGIN_KEY, reference.model_sha256)):
            network.metadata_props.add(key=key, value=value)
        onnx.save(network, part)
        logits, _ = FastEngine(part).run(batch)
        difference = float(np.abs(logits - expected).max())
        if difference > tolerance:
            raise ModelError(f"The engines' logits differ by {difference:.2g}; at most {tolerance} is allowed.")
        part.replace(target)
    return difference


def main(argv: list[str] | None = None) -> None:
    """Export, check, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "model.h5")
    parser.add_argument("--out", type=Path, default=ROOT / "models" / "face.onnx")
    options = parser.parse_args(argv)
    try:
        difference = export(options.model, options.out)
    except ModelError as error:
        raise SystemExit(str(error)) from error
    print(f"wrote {options.out} ({options.out.stat().st_size / 1e6:.1f} MB), sha256 {file_sha256(options.out)}")
    print(f"made from {options.model.name} {file_sha256(options.model)}, network {read_spec(options.model).network}")
    print(f"largest difference of logits between the engines on {CHECK_CROPS} random pictures: {difference:.2g}")


if __name__ == "__main__":
    main()
