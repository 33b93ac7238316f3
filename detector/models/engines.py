"""The two ways to run a network; an engine is one method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from detector.models.sessions import Session
from detector.models.spec import ORIGIN_KEY, SPEC_KEY, ModelSpec, file_sha256, read_spec
from detector.results import ModelError

# Face crops at once, where many are scored: 12 add 93 MB to the process, 4 add 34 MB and 2 add 23 MB. A crop takes
# a tenth longer in batches of 20 than in batches of 4, which fit the cache of a core, and 5% longer in batches of 2.
CROPS_PER_BATCH = 2


class Engine(ABC):
    """A network ready to run.

    Attributes:
        spec: input, calibration and origin, as the weights file states them.
        model_sha256: of the .h5 file the logits come from, whichever file runs.
        streams: batches that can be run at once, in a thread each.
    """

    spec: ModelSpec
    model_sha256: str
    streams: int = 1

    @abstractmethod
    def run(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Score a batch.

        Args:
            batch: of a face network crops (N, S, S, 3) uint8 RGB, S = spec.face.size_px; of a voice network log
                spectrograms (N, T, rows) float32.

        Returns:
            Logits (N,) float32, positive means fake, and class maps (N, h, w) float32 whose mean is the logit; None
            instead of the maps for a network whose head has none.
        """


class FastEngine(Engine):
    """Runs the exported .onnx file in OpenVINO, without TensorFlow.

    Raises:
        ModelError: the file is missing, damaged or was not written by scripts/export.py.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None, streams: int = 1):
        self._session = Session(path, threads=threads, streams=streams)
        self.streams = streams
        metadata = self._session.metadata
        if SPEC_KEY not in metadata or ORIGIN_KEY not in metadata:
            raise ModelError(f"{Path(path).name} carries no spec; export it again with: python scripts/export.py")
        self.spec = ModelSpec.from_json(metadata[SPEC_KEY])
        self.model_sha256 = metadata[ORIGIN_KEY]

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return _split_outputs(self._session.run(batch.astype(np.float32, copy=False)))


class KerasEngine(Engine):
    """Runs the .h5 file in Keras: the reference for the fast engine, and the source of gradients.

    Raises:
        ModelError: the file is missing, carries no spec, or TensorFlow is not installed.
    """

    def __init__(self, path: str | Path):
        try:
            self.spec = read_spec(path)  # needs h5py, which comes with TensorFlow
            import keras
        except ImportError as error:
            raise ModelError("The Keras engine needs TensorFlow: pip install --no-deps -r requirements.txt") from error
        self.model_sha256 = file_sha256(path)
        try:
            self.network: Any = keras.models.load_model(path, compile=False)
        except (ValueError, TypeError, OSError, KeyError) as error:
            raise ModelError(f"Keras cannot load {Path(path).name}: {error}") from error

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        outputs = self._compute(batch.astype(np.float32))
        return _split_outputs([np.asarray(outputs[name]) for name in sorted(outputs)])

    @cached_property
    def _compute(self) -> Callable[[np.ndarray], dict[str, Any]]:
        """The network, compiled for any number of inputs.

        If the number is known and a map has as many rows, Keras takes a value for each input as a bias of the rows.
        """
        import tensorflow

        inputs = tensorflow.TensorSpec(self.network.input_shape, tensorflow.float32)
        return cast(
            Callable[[np.ndarray], dict[str, Any]],
            tensorflow.function(partial(self.network, training=False), input_signature=[inputs]),
        )


def load_engine(
    files: Mapping[str, Path],
    *,
    path: str | Path | None = None,
    engine: str = "onnx",
    threads: int | None = None,
    streams: int = 1,
) -> Engine:
    """Load a network for one of the engines.

    Args:
        files: the model files that come with the project, by engine.
        path: another model file.
        engine: "onnx" for the fast engine, "keras" for the reference.
        threads: inference threads of the fast engine; None takes every core.
        streams: batches that the fast engine can run at once, each with its share of the threads.

    Raises:
        ModelError: unknown engine, or a model file that is missing or foreign.
    """
    if engine not in files:
        raise ModelError(f"There is no engine called {engine!r}; choose from {', '.join(files)}.")
    path = Path(path or files[engine])
    return FastEngine(path, threads=threads, streams=streams) if engine == "onnx" else KerasEngine(path)


def score_in_batches(engine: Engine, make_crops: Callable[[slice], np.ndarray], count: int) -> np.ndarray:
    """Score many crops, CROPS_PER_BATCH at a time, so that they are never in memory together.

    Args:
        engine: a face network.
        make_crops: returns the crops (N, S, S, 3) uint8 RGB of a slice of range(count).
        count: how many crops there are.

    Returns:
        Logits (count,) float32.
    """
    starts = range(0, count, CROPS_PER_BATCH)
    slices = [slice(start, min(start + CROPS_PER_BATCH, count)) for start in starts]
    return np.concatenate([engine.run(make_crops(rows))[0] for rows in slices])


def _split_outputs(outputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray | None]:
    """Return logits and class maps, which the ranks (N, 1) and (N, h, w, 1) distinguish."""
    logits = next(values for values in outputs if values.ndim == 2)[:, 0]
    class_maps = next((values[..., 0] for values in outputs if values.ndim == 4), None)
    return logits, class_maps
