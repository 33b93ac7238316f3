"""The first two convolutions of a pretrained speech encoder, with which the voice network is trained.

Whisper learned its encoder from 680,000 hours of speech. Smart Turn, which predicts when a speaker has finished,
refined the smallest one. The package pipecat-ai carries the result, and models/speech_encoder.npz holds what is used of
it. Both licences (MIT and BSD-2-Clause) permit that.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from detector import ModelError
from training.fixed_weights import read_fixed_weights
from training.manifests import ROOT

ENCODER_FILE = ROOT / "models" / "speech_encoder.npz"
ENCODER_CONVOLUTIONS = ("conv1", "conv2")
GELU_SCALE = 1.702  # GELU(x) is close to SiLU(1.702 x) / 1.702, which can be exported


@cache
def read_encoder_weights(path: Path = ENCODER_FILE) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return kernel (width, channels in, channels out) and bias of each of ENCODER_CONVOLUTIONS, float32.

    Raises:
        ModelError: the file is missing or holds something else.

    Source:
        Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", arXiv 2212.04356.
    """
    return read_fixed_weights(path, ENCODER_CONVOLUTIONS, "The weights of the speech encoder")


def convert_encoder(source: Path, target: Path = ENCODER_FILE) -> None:
    """Write the encoder's weights from Smart Turn's quantised ONNX file, for SiLU instead of GELU.

    Each convolution's output is GELU_SCALE times as large as the original's.

    Args:
        source: smart-turn-v3.2-cpu.onnx.
        target: the .npz file to write.

    Raises:
        ModelError: the source is not that file.

    Source:
        Hendrycks and Gimpel, "Gaussian Error Linear Units", arXiv 1606.08415, for the approximation.
    """
    import onnx

    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(source).graph.initializer}
    arrays: dict[str, Any] = {}
    try:
        for name in ENCODER_CONVOLUTIONS:
            quantised = tensors[f"inner.encoder.{name}.weight_quantized"]
            scale = tensors[f"inner.encoder.{name}.weight_scale"]
            kernel = quantised.astype(np.float32) * scale[:, None, None]  # the zero points are 0
            # The second convolution's input is as much larger as its output.
            arrays[f"{name}/kernel"] = kernel.transpose(2, 1, 0) * np.float32(GELU_SCALE if not arrays else 1)
            bias = tensors[f"inner.encoder.{name}.bias_quantized"].astype(np.float32)
            scale = tensors[f"inner.encoder.{name}.bias_quantized_scale"]
            arrays[f"{name}/bias"] = bias * scale * np.float32(GELU_SCALE)
    except KeyError as error:
        raise ModelError(f"{source} is not Smart Turn's file smart-turn-v3.2-cpu.onnx.") from error
    np.savez_compressed(target, **arrays)
