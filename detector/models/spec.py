"""The model's own account of itself: preprocessing, calibration and origin, kept inside the weights file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from detector.models.calibration import Calibration
from detector.results import ModelError

SPEC_KEY = "detector_spec"  # HDF5 attribute of model.h5 and metadata key of face.onnx
ORIGIN_KEY = "made_from_sha256"  # metadata key of face.onnx: the model.h5 it was exported from
SPEC_VERSION = 1


@dataclass(frozen=True)
class ModelSpec:
    """What must be known to feed a network and to read its logit.

    Attributes:
        network: architecture name, one of `networks.NETWORKS`, or "adopted".
        input_size_px: side of the square input; the network takes RGB in 0 to 255 as float32 and scales it itself.
        crop_margin: side of the face crop over the longer side of the face box.
        calibration: logit to probability and probability to verdict.
        training: where the weights come from: sources with counts, curve, settings, date.
    """

    network: str
    input_size_px: int
    crop_margin: float
    calibration: Calibration
    training: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the text that goes into a weights file."""
        return json.dumps({"version": SPEC_VERSION, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Read what `to_json` wrote.

        Raises:
            ModelError: not a spec, or of another version.
        """
        try:
            values = json.loads(text)
            if values.pop("version") != SPEC_VERSION:
                raise ModelError(f"The model's spec is not of version {SPEC_VERSION}; export the model again.")
            return cls(**{**values, "calibration": Calibration(**values["calibration"])})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError("The model's spec cannot be read; export the model again.") from error


def write_spec(path: str | Path, spec: ModelSpec) -> None:
    """Write `spec` into an HDF5 weights file; Keras still loads the file afterwards."""
    import h5py  # only training writes weights

    with h5py.File(path, "r+") as weights:
        weights.attrs[SPEC_KEY] = spec.to_json()


def read_spec(path: str | Path) -> ModelSpec:
    """Read the spec of an HDF5 weights file.

    Raises:
        ModelError: the file is missing, is no HDF5 file or carries no spec.
    """
    import h5py  # the server reads the exported file and never comes here

    path = Path(path)
    if not path.is_file():
        raise ModelError(f"The model file {path.name} is missing.")
    try:
        with h5py.File(path, "r") as weights:
            text = weights.attrs.get(SPEC_KEY)
    except OSError as error:
        raise ModelError(f"{path.name} is not an HDF5 weights file.") from error
    if text is None:
        raise ModelError(
            f"{path.name} carries no spec, so its input size, crop and thresholds are unknown. "
            f"Adopt it with: python scripts/adopt.py {path.name} --manifest MANIFEST --positive fake|real"
        )
    return ModelSpec.from_json(text)


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
