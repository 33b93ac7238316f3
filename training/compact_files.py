"""Store models in less room without changing a value: matrices that fit in eight bits, and compressed HDF5 files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from training.clip_vit import column_steps
from training.runs import replace_file

LEAST_VALUES = 100_000  # of a large array


def store_matrices_in_bytes(network: Any) -> None:
    """Store each large matrix of an ONNX network as bytes and a step for each column, where that is exact.

    Args:
        network: onnx.ModelProto, changed in place. A DequantizeLinear node gives each such matrix its values again.
    """
    from onnx import helper, numpy_helper

    graph = network.graph
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.ndim != 2 or values.size < LEAST_VALUES:
            continue
        steps = exact_steps(values)
        if steps is not None:
            names = [f"{tensor.name}/bytes", f"{tensor.name}/steps"]
            for name, array in zip(names, ((values / steps).astype(np.int8), steps), strict=True):
                graph.initializer.append(numpy_helper.from_array(array, name))
            graph.node.insert(0, helper.make_node("DequantizeLinear", names, [tensor.name], axis=1))
            graph.initializer.remove(tensor)


def exact_steps(values: np.ndarray) -> np.ndarray | None:
    """Return the steps (C,) float32, powers of two, of which a matrix (N, C) float32 has whole multiples.

    Returns:
        None if a value is no multiple.
    """
    steps = column_steps(values)
    multiples = values / steps
    return steps if np.array_equal(multiples, np.rint(multiples)) else None


def compress_hdf5(path: Path) -> None:
    """Write the large arrays of an HDF5 file again, compressed; readers need nothing but the HDF5 library."""
    import h5py

    def copy(source: Any, target: Any) -> None:
        for name, value in source.attrs.items():
            target.attrs[name] = value
        for name, item in source.items():
            if isinstance(item, h5py.Group):
                copy(item, target.create_group(name))
            elif item.size < LEAST_VALUES:
                source.copy(item, target, name)
            else:
                compressed = target.create_dataset(name, data=item[()], compression="gzip", shuffle=True)
                for key, value in item.attrs.items():
                    compressed.attrs[key] = value

    def rewrite(part: Path) -> None:
        with h5py.File(path, "r") as source, h5py.File(part, "w") as target:
            copy(source, target)

    replace_file(path, rewrite)
