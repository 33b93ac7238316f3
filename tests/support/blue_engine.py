"""A network for tests of explanations whose evidence is known: it scores the blue of a crop."""

import cv2
import numpy as np

from detector.models.calibration import Calibration
from detector.models.engines import Engine
from detector.models.spec import FaceInput, ModelSpec
from detector.pictures.faces import crop_faces

SIZE_PX = 96
BLUE = np.array([0, 0, 255], np.uint8)


class BlueEngine(Engine):
    """Takes blue as evidence of a fake, and nothing else.

    Args:
        has_map: whether the head has a class map.
        gain: logit of a place that is all blue, plus 1; the logit elsewhere is -1.
    """

    model_sha256 = "toy"

    def __init__(self, *, has_map=True, gain=40.0):
        self.spec = ModelSpec("toy", FaceInput(SIZE_PX, 1.3), Calibration(1.0, 0.0, 0.2, 0.8))
        self.has_map, self.gain = has_map, gain
        self.batches = []

    def run(self, batch):
        assert batch.dtype == np.uint8 and batch.shape[1:] == (SIZE_PX, SIZE_PX, 3)
        self.batches.append(len(batch))
        pixels = batch.astype(np.float32)
        blueness = np.clip(pixels[..., 2] - pixels[..., :2].max(axis=-1), 0, None) / 255
        maps = np.stack([cv2.resize(b, (6, 6), interpolation=cv2.INTER_AREA) for b in blueness]) * self.gain - 1
        return maps.mean(axis=(1, 2)), maps if self.has_map else None


def crop_without_blue(portrait):
    """Return the portrait's face, without any blue in it."""
    crop = crop_faces(portrait, [(145, 38, 160, 160)], SIZE_PX)[0]
    return np.minimum(crop, crop[..., :1])


def plant(crop, x, y, side=20):
    """Return the crop with a blue patch around a point."""
    planted = crop.copy()
    planted[max(0, y - side // 2) : y + side // 2, max(0, x - side // 2) : x + side // 2] = BLUE
    return planted
