import pytest

from detector.models import files
from detector.models.engines import FastEngine
from detector.models.files import find_model_file
from detector.pictures import detect as pictures
from detector.results import ModelError
from detector.voices import detect as voices


@pytest.fixture
def folders(tmp_path):
    """A checkout and the folder inside an installed package."""
    found = {"checkout": tmp_path / "checkout", "weights": tmp_path / "package" / "weights"}
    (found["checkout"] / "models").mkdir(parents=True)
    found["weights"].mkdir(parents=True)
    return found


def test_a_checkout_comes_before_an_installed_package(folders):
    beside, inside = folders["checkout"] / "models" / "face.onnx", folders["weights"] / "face.onnx"
    inside.write_bytes(b"installed")
    assert find_model_file("models/face.onnx", **folders) == inside
    beside.write_bytes(b"checked out")
    assert find_model_file("models/face.onnx", **folders) == beside


def test_a_missing_file_gives_one_sentence(folders):
    path = find_model_file("models/face.onnx", **folders)
    assert path == folders["checkout"] / "models" / "face.onnx"
    with pytest.raises(ModelError, match=r"^The model file face\.onnx is missing\.$"):
        FastEngine(path)


def test_the_shipped_files_are_found():
    paths = [*files.MODEL_FILES.values(), *files.VOICE_MODEL_FILES.values()]
    paths += [files.REFERENCE_SCORES_FILE, files.VOICE_REFERENCE_SCORES_FILE]
    assert all(path.is_file() for path in paths)
    assert pictures.MODEL_FILES is files.MODEL_FILES and voices.VOICE_MODEL_FILES is files.VOICE_MODEL_FILES
