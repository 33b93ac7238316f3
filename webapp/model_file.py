"""The face network that the settings name: the shipped one, or a file from elsewhere with a known SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec

import detector
from detector import Detector, ModelError
from webapp.config import PREFIX
from webapp.instance import write_atomically


def load_configured_detector(config: Mapping[str, Any]) -> Detector:
    """Load the detector with the face network of the setting `MODEL`.

    Args:
        config: the application's settings.

    Raises:
        ModelError: the file is missing, or has another SHA-256, or is no network of this project.
    """
    path = None
    if config["MODEL"]:
        path = fetch_model(config["MODEL"], config["MODEL_SHA256"], Path(config["MODEL_CACHE"]))
    return detector.load_detector(path, threads=config["THREADS"] or None)


def fetch_model(url: str, sha256: str, folder: Path) -> Path:
    """Return the path of a copy of a model's file in `folder`, which is kept for the next start.

    Args:
        url: a path or an fsspec address such as s3://bucket/face.onnx.
        sha256: of the file, in hexadecimal digits.
        folder: where copies are kept, by their SHA-256.

    Raises:
        ModelError: the file cannot be read, or it is another one.
    """
    copy = folder / f"{sha256}.onnx"
    if copy.is_file() and hashlib.sha256(copy.read_bytes()).hexdigest() == sha256:
        return copy
    try:
        with fsspec.open(url, "rb") as file:
            data = file.read()
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"The model of {PREFIX}MODEL cannot be read: {error}.") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ModelError(f"The model of {PREFIX}MODEL has the SHA-256 {found}, not {sha256}.")
    write_atomically(copy, data)
    return copy
