"""A small training set and one finished run, shared by the tests of training."""

from contextlib import contextmanager

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.media.degradations import adjust_light
from scripts.export import main as export
from scripts.train import main as train
from training import manifests
from training.manifests import Example, locate_faces, read_manifest, write_manifest

PORTRAIT_FACE = (150, 10, 310, 170)  # left, top, right, bottom in the portrait
COMMAND = ["--network=cnn", "--size=64", "--epochs=2", "--epoch-samples=24", "--batch=8"]
COMMAND += ["--self-blend=0.4", "--reconstruct=0.2"]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Keep the face cache out of the project, and restore OpenCV's threads."""
    threads = cv2.getNumThreads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifests, "CACHE", tmp_path_factory.mktemp("cache"))
        yield
    cv2.setNumThreads(threads)


@pytest.fixture(scope="session")
def eagerly():
    """Return a context manager in which Keras takes steps without tracing them first, which takes as long as hundreds.

    `whole_run`, the heads and the notebook train as a person does.
    """

    @contextmanager
    def run():
        import tensorflow as tf

        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(False)

    return run


@pytest.fixture(scope="session")
def training_manifest(astronaut, tmp_path_factory):
    """Four real crops of the portrait, four fakes in other colours, and a held-out picture whose file is missing."""
    folder, portrait = tmp_path_factory.mktemp("pictures"), np.asarray(astronaut)
    examples = [Example(folder / "secret.png", 1, "held out", "ours", "secret", "val")]
    for i in range(8):
        picture = portrait[10 * (i % 4) : 230, 100 + 10 * (i % 4) : 330]
        if label := i // 4:
            picture = adjust_light(picture, gain=1.3, offset=20, saturation=0.3)
        examples.append(Example(folder / f"{i}.png", label, "portrait", "ours" if label else "camera", str(i), "train"))
        Image.fromarray(picture).save(examples[-1].path)
    write_manifest(folder / "manifest.csv", examples)
    return folder / "manifest.csv"


@pytest.fixture(scope="session")
def located_examples(training_manifest):
    """The training examples and their faces."""
    examples = [example for example in read_manifest(training_manifest) if example.split == "train"]
    return examples, locate_faces(examples)


@pytest.fixture(scope="session")
def train_in(training_manifest):
    """Return a function that runs the training command in a folder."""

    def run(folder, *options):
        train(
            ["--manifest", str(training_manifest), "--run", str(folder), "--out", str(folder / "model.h5"), *COMMAND]
            + list(options)
        )

    return run


@pytest.fixture(scope="session")
def whole_run(train_in, tmp_path_factory):
    """The folder of a run without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    train_in(folder)
    return folder


@pytest.fixture(scope="session")
def exported(whole_run):
    """The exported model of that run."""
    export(["--model", str(whole_run / "model.h5"), "--out", str(whole_run / "onnx" / "face.onnx")])
    return whole_run / "onnx" / "face.onnx"


@pytest.fixture(scope="session")
def scene(astronaut):
    """Return a function that draws the same face before other clouds, somewhere else: (240, 320, 3) uint8 RGB."""

    def draw(number):
        rng = np.random.default_rng(number)
        clouds = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
        side = int(rng.integers(90, 140))
        left, top = rng.integers(0, (320 - side, 240 - side))
        clouds[top : top + side, left : left + side] = np.asarray(astronaut.resize((side, side), box=PORTRAIT_FACE))
        return clouds

    return draw
