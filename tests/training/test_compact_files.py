import numpy as np

from detector.models.sessions import Session
from training.clip_vit import round_matrix
from training.compact_files import compress_hdf5, exact_steps, store_matrices_in_bytes


def made_up_matrix(seed=0, shape=(400, 300)):
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)


def save_product(path, matrices):
    """Write the network x -> x @ A @ B ... as an ONNX file, and return it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    names = [f"matrix{number}" for number in range(len(matrices))]
    inputs = ["x", *(f"product{number}" for number in range(len(matrices) - 1)), "y"]
    nodes = [helper.make_node("MatMul", [a, n], [b]) for a, n, b in zip(inputs, names, inputs[1:], strict=False)]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s]) for n, s in (("x", 400), ("y", 300))]
    tensors = [numpy_helper.from_array(matrix, name) for name, matrix in zip(names, matrices, strict=True)]
    network = helper.make_model(
        helper.make_graph(nodes, "product", values[:1], values[1:], tensors),
        opset_imports=[helper.make_opsetid("", 15)],
    )
    onnx.save(network, path)
    return network


def test_a_matrix_of_eight_bits_is_stored_as_bytes_without_a_change(tmp_path):
    import onnx

    network = save_product(tmp_path / "before.onnx", [round_matrix(made_up_matrix())])
    store_matrices_in_bytes(network)
    onnx.checker.check_model(network)
    onnx.save(network, tmp_path / "after.onnx")
    sizes = [(tmp_path / name).stat().st_size for name in ("before.onnx", "after.onnx")]
    assert sizes[1] < 0.27 * sizes[0]
    x = np.random.default_rng(1).normal(size=(1, 400)).astype(np.float32)
    before, after = (Session(tmp_path / name).run(x)[0] for name in ("before.onnx", "after.onnx"))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6)


def test_other_matrices_stay(tmp_path):
    matrices = [made_up_matrix(), round_matrix(made_up_matrix(1, (300, 300)))]
    network = save_product(tmp_path / "network.onnx", matrices)
    store_matrices_in_bytes(network)
    assert "DequantizeLinear" not in {node.op_type for node in network.graph.node}  # one is no such, one is small
    assert len(network.graph.initializer) == 2


def test_steps_are_found_where_they_exist():
    rounded = round_matrix(made_up_matrix())
    steps = exact_steps(rounded)
    assert steps is not None and np.abs(rounded / steps).max() <= 127
    assert exact_steps(made_up_matrix()) is None
    assert exact_steps(np.zeros((3, 2), np.float32)) is not None


def test_a_compressed_model_is_smaller_and_the_same(tmp_path):
    import h5py

    path = tmp_path / "model.h5"
    matrix = round_matrix(made_up_matrix())
    with h5py.File(path, "w") as file:
        file.attrs["spec"] = "about"
        group = file.create_group("layers/dense")
        group.attrs["names"] = [b"kernel", b"bias"]
        group["kernel"], group["bias"] = matrix, np.arange(3.0)
        group["kernel"].attrs["note"] = "kept"
        names = list(group.attrs["names"])
    before = path.stat().st_size
    compress_hdf5(path)
    assert path.stat().st_size < 0.4 * before
    with h5py.File(path) as file:
        group = file["layers/dense"]
        np.testing.assert_array_equal(group["kernel"][()], matrix)
        np.testing.assert_array_equal(group["bias"][()], np.arange(3.0))
        assert file.attrs["spec"] == "about" and group["kernel"].attrs["note"] == "kept"
        assert list(group.attrs["names"]) == names
