"""Settings of a tiny training, and its batches."""

from concurrent.futures import ThreadPoolExecutor

from training.batches import BatchGenerator
from training.settings import TrainingSettings

SETTINGS = TrainingSettings("", "", "cnn", "none", "", 64, epochs=2, epoch_samples=24, batch=8, self_blend=0.5, seed=1)


def draw_batches(material, settings, start, stop, threads=2):
    """Return the batches `start` to `stop` of (examples, faces)."""
    with ThreadPoolExecutor(threads) as pool:
        return list(BatchGenerator(*material, settings).batches(start, stop, pool))
