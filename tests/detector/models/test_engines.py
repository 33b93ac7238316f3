import subprocess
import sys

import h5py
import numpy as np
import onnx
import pytest
from project import ROOT

from detector.models.engines import FastEngine, KerasEngine
from detector.models.spec import ORIGIN_KEY, file_sha256, read_spec
from detector.pictures.detect import MODEL_FILES, load_picture_detector
from detector.pictures.faces import crop_faces

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engines():
    return FastEngine(MODEL_FILES["onnx"], threads=2), KerasEngine(MODEL_FILES["keras"])


@pytest.fixture(scope="module")
def crops(astronaut, engines):
    """A face, its mirror image, a face that fills the crop, a cloth, noise and nothing."""
    portrait, size_px = np.asarray(astronaut), engines[0].spec.face.size_px
    faces = crop_faces(portrait, [(145, 38, 160, 160), (180, 70, 90, 90), (0, 300, 200, 200)], size_px)
    noise = np.random.default_rng(0).integers(0, 256, (1, size_px, size_px, 3), np.uint8)
    return np.concatenate([faces, faces[:1, :, ::-1], noise, np.zeros_like(noise)])


def test_both_engines_give_the_same_logits_and_class_maps(engines, crops):
    (fast, fast_maps), (reference, reference_maps) = (engine.run(crops) for engine in engines)
    assert fast.shape == reference.shape == (6,) and np.ptp(reference) > 0.01
    np.testing.assert_allclose(fast, reference, atol=1e-3, rtol=0)
    np.testing.assert_allclose(fast_maps, reference_maps, atol=1e-3 * max(1, np.abs(reference_maps).max()), rtol=0)


@pytest.mark.parametrize("which", [0, 1], ids=["fast", "keras"])
def test_the_mean_of_a_class_map_is_the_logit(which, engines, crops):
    logits, maps = engines[which].run(crops)
    assert maps.ndim == 3 and maps.shape[1] == maps.shape[2] > 1 and maps.dtype == logits.dtype == np.float32
    np.testing.assert_allclose(maps.mean((1, 2)), logits, atol=1e-4)


@pytest.mark.parametrize("which", [0, 1], ids=["fast", "keras"])
def test_as_many_crops_as_a_class_map_has_rows_keep_their_own_maps(which, engines, crops):
    rows = engines[which].run(crops[:1])[1].shape[1]
    logits, maps = engines[which].run(np.resize(crops, (rows, *crops.shape[1:])))
    np.testing.assert_allclose(maps.mean((1, 2)), logits, atol=1e-4)


@pytest.mark.parametrize("which", [0, 1], ids=["fast", "keras"])
def test_a_crop_s_logit_does_not_depend_on_its_neighbours(which, engines, crops):
    together, _ = engines[which].run(crops)
    alone = [engines[which].run(crops[i : i + 1])[0][0] for i in range(len(crops))]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_the_exported_file_was_made_from_the_weights_beside_it(engines):
    fast, reference = engines
    assert fast.model_sha256 == reference.model_sha256 == file_sha256(MODEL_FILES["keras"])
    assert fast.spec == reference.spec == read_spec(MODEL_FILES["keras"])


@pytest.mark.parametrize("name", MODEL_FILES)
def test_the_committed_files_fit_into_a_repository(name):
    assert 100_000 < MODEL_FILES[name].stat().st_size < 80_000_000  # GitHub refuses files from 100 MB up


def test_the_weights_file_carries_no_optimizer():
    with h5py.File(MODEL_FILES["keras"]) as file:
        assert "model_weights" in file and "optimizer_weights" not in file
        assert "training_config" not in file.attrs


def test_the_exported_file_has_one_input_of_pixels(engines):
    graph = onnx.load(MODEL_FILES["onnx"]).graph
    (pixels,) = graph.input
    batch, *shape = pixels.type.tensor_type.shape.dim
    assert batch.dim_value == 0  # as many faces as there are
    assert [axis.dim_value for axis in shape] == [engines[0].spec.face.size_px] * 2 + [3]


def test_the_values_of_the_spec_are_usable(engines):
    spec = engines[0].spec
    assert 0 <= spec.calibration.threshold_real <= spec.calibration.threshold_fake <= 1 and spec.calibration.slope > 0
    assert spec.face.size_px >= 32 and 1 <= spec.face.crop_margin <= 3 and spec.training["sources"]


def test_a_keras_detector_gives_the_same_detection(astronaut, picture_detector):
    portrait = np.asarray(astronaut)
    reference = load_picture_detector(engine="keras").detect(portrait)
    fast = picture_detector.detect(portrait)
    assert fast.logit == pytest.approx(reference.logit, abs=1e-3)
    assert fast.model_sha256 == reference.model_sha256 and fast.faces[0].box == reference.faces[0].box
    np.testing.assert_allclose(fast.faces[0].heatmap, reference.faces[0].heatmap, atol=1e-3)


def test_the_origin_is_written_where_any_tool_can_read_it():
    metadata = {entry.key: entry.value for entry in onnx.load(MODEL_FILES["onnx"]).metadata_props}
    assert metadata[ORIGIN_KEY] == file_sha256(MODEL_FILES["keras"])


def test_threads_may_make_the_first_inference_together():
    """OpenVINO's binding hung here once; a process of its own, since only the first inference counts."""
    source = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "import numpy as np\n"
        "from detector.pictures.detect import load_picture_detector\n"
        "engine = load_picture_detector(threads=1).engine\n"
        "side = engine.spec.face.size_px\n"
        "batch = np.zeros((1, side, side, 3), np.uint8)\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    print(len({float(logits[0]) for logits, _ in pool.map(lambda _: engine.run(batch), range(16))}))\n"
    )
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "1", done.stderr
