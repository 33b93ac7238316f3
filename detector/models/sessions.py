"""Open a model file in OpenVINO, the runtime of the face finder and the fast engine."""

from __future__ import annotations

import importlib
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from detector.results import ModelError

METADATA_SECTION = "framework"  # where OpenVINO's ONNX reader puts the file's metadata_props


def import_openvino() -> ModuleType:
    """Import OpenVINO without its model converter, which takes 0.1 s and 10 MB and which no model file here needs.

    OpenVINO skips the converter when it cannot be imported. A converter that is already imported is left alone.
    """
    converter = "openvino.tools.ovc"
    is_blocked = "openvino" not in sys.modules and converter not in sys.modules
    if is_blocked:
        sys.modules[converter] = ModuleType(converter)  # empty, so that importing a name from it fails
    try:
        return importlib.import_module("openvino")
    finally:
        if is_blocked:
            del sys.modules[converter]


openvino: Any = import_openvino()


class Session:
    """A compiled network on the CPU, in float32 unless asked otherwise, whatever the processor's default precision.

    Args:
        path: an .onnx or .tflite file.
        threads: inference threads; None lets the runtime take every core.
        input_shape: replaces the input's own shape where a file carries a placeholder.
        streams: inputs that can be run at once, each by its share of the inference threads; more take more memory.
        precision: "f32", or "bf16", which takes about half the time where the processor has it.

    Raises:
        ModelError: the file is missing or the runtime cannot read it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        threads: int | None = None,
        input_shape: tuple[int, ...] | None = None,
        streams: int = 1,
        precision: str = "f32",
    ):
        if not Path(path).is_file():
            raise ModelError(f"The model file {Path(path).name} is missing.")
        # Without the first two a processor with bf16 rounds logits in the second decimal, and matrices that are stored
        # as bytes multiply rounded inputs.
        settings: dict[str, str | int] = {
            "INFERENCE_PRECISION_HINT": precision,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if streams > 1:
            settings["NUM_STREAMS"] = streams
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        runtime = openvino.Core()
        try:
            network = runtime.read_model(path)
            if input_shape is not None:
                network.reshape(list(input_shape))
            self.metadata = _metadata(network)
            self._compiled = runtime.compile_model(network, "CPU", settings)
        except RuntimeError as error:
            raise ModelError(f"The model file {Path(path).name} cannot be read by OpenVINO.") from error
        self._requests = threading.local()
        # OpenVINO's binding hangs when two threads make a process's first inference at once, hence one here.
        shape = [1 if side.is_dynamic else side.get_length() for side in self._compiled.inputs[0].partial_shape]
        self.run(np.zeros(shape, np.float32))

    def run(self, batch: np.ndarray) -> list[np.ndarray]:
        """Run the network on one input and return its outputs in the file's order."""
        # A request for each thread, so that threads of one server may share the session.
        if not hasattr(self._requests, "own"):
            self._requests.own = self._compiled.create_infer_request()
        try:
            outputs = self._requests.own.infer([batch])
        except RuntimeError as error:
            raise ModelError(f"The network could not be run on a batch of shape {batch.shape}.") from error
        return [outputs[output] for output in self._compiled.outputs]


def _metadata(network: Any) -> dict[str, str]:
    """Return the key-value pairs of an .onnx file; empty for other kinds."""
    if METADATA_SECTION not in network.get_rt_info():
        return {}
    section = network.get_rt_info(METADATA_SECTION)
    return {key: str(network.get_rt_info([METADATA_SECTION, key]).value) for key in section.value}
