import h5py
import pytest

from scripts.export import main as export
from training import exporting

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("fault", ["foreign", "engines differ", "missing"])
def test_a_failed_export_leaves_the_old_file(fault, whole_run, tmp_path, monkeypatch):
    source, target = tmp_path / "model.h5", tmp_path / "out" / "face.onnx"
    target.parent.mkdir()
    target.write_bytes(b"yesterday's")
    if fault != "missing":
        source.write_bytes((whole_run / "model.h5").read_bytes())
    if fault == "foreign":
        with h5py.File(source, "r+") as file:
            file.attrs.clear()
    monkeypatch.setattr(exporting, "TOLERANCE", -1 if fault == "engines differ" else 1e-3)
    seen = {"foreign": "carries no spec", "engines differ": "logits differ by", "missing": "is missing"}[fault]
    with pytest.raises(SystemExit, match=seen):
        export(["--model", str(source), "--out", str(target)])
    assert target.read_bytes() == b"yesterday's" and list(target.parent.iterdir()) == [target]
