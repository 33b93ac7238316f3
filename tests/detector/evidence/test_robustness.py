import json

import cv2
import numpy as np
import pytest

from detector.evidence.robustness import (
    DEGRADATION_FUNCTIONS,
    DEGRADATIONS,
    MAX_TESTED_FACES,
    STORED,
    TIGHT_CROP,
    TIGHT_MARGIN,
    measure_robustness,
)
from detector.media.degradations import TIERS
from detector.models.calibration import Calibration
from detector.models.engines import Engine
from detector.models.spec import FaceInput, ModelSpec
from detector.pictures.detect import PictureDetector
from detector.pictures.faces import crop_faces, crop_square, cut_square
from detector.results import Reason, Verdict

SIZE_PX = 96
MARGIN = 1.3


class ToyEngine(Engine):
    """Scores crops by a function of each and remembers the batches."""

    model_sha256 = "toy"

    def __init__(self, score):
        self.spec = ModelSpec("toy", FaceInput(SIZE_PX, MARGIN), Calibration(1.0, 0.0, 0.2, 0.8))
        self._score = score
        self.batches = []

    def run(self, batch):
        self.batches.append(batch)
        return np.array([self._score(crop) for crop in batch], np.float32), None


def sharpness(crop):
    return cv2.Laplacian(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY).astype(np.float32), cv2.CV_32F).std()


@pytest.fixture(scope="module")
def box(portrait, finder):
    return finder.find_faces(portrait)[0].box


def test_every_delivery_is_scored_in_one_batch_and_the_first_is_what_detect_scores(portrait, box, finder):
    engine = ToyEngine(sharpness)
    found = measure_robustness(portrait, [box], engine)
    assert [delivery.name for delivery in found.deliveries] == list(DEGRADATIONS) and len(engine.batches) == 1
    stored = found.deliveries[0]
    detected = PictureDetector(engine, finder).detect(portrait)
    assert (stored.logit, stored.probability) == (detected.logit, detected.probability)
    assert set(TIERS) < set(DEGRADATIONS)


@pytest.mark.parametrize("corner", [(0, 0), (417, 263), (688, 388)], ids=["edge", "middle", "other edge"])
@pytest.mark.parametrize("name", DEGRADATION_FUNCTIONS)
def test_only_what_the_face_depends_on_is_damaged_but_as_if_it_were_all(name, corner, portrait):
    """In a picture far larger than the face, whose sides are no multiple of anything."""
    image = np.tile(portrait, (2, 2, 1))[:701, :1001]
    box = np.array([*corner, 240, 240], np.float32)
    engine = ToyEngine(sharpness)
    measure_robustness(image, [box], engine)
    square = crop_square(box, MARGIN, 1001, 701)
    whole = crop_faces(DEGRADATION_FUNCTIONS[name](image), [square], SIZE_PX)[0].astype(float)
    stored, damaged = (engine.batches[0][DEGRADATIONS.index(delivery)].astype(float) for delivery in (STORED, name))
    if name.startswith(("jpeg", "blur")):
        np.testing.assert_array_equal(damaged, whole)
    # WebP looks around while it compresses, and what is shrunk falls on other pixels; the loss is the same.
    assert np.abs(damaged - stored).mean() == pytest.approx(np.abs(whole - stored).mean(), rel=0.15)


def test_a_tight_picture_shows_what_an_avatar_would(portrait, box):
    engine = ToyEngine(sharpness)
    measure_robustness(portrait, [box], engine)
    avatar = cut_square(portrait, crop_square(box, TIGHT_MARGIN, 512, 512))
    again = crop_square(np.array([4, 4, 90, 90]) * len(avatar) / 96, MARGIN, len(avatar), len(avatar))
    shown = crop_faces(avatar, [again], SIZE_PX)[0]
    np.testing.assert_array_equal(engine.batches[0][DEGRADATIONS.index(TIGHT_CROP)], shown)


@pytest.fixture(scope="module")
def threshold(portrait, box):
    """What the face's sharpness falls under when the picture is blurred or shrunk."""
    return sharpness(crop_faces(portrait, [crop_square(box, MARGIN, 512, 512)], SIZE_PX)[0]) * 0.8


def test_a_verdict_that_rests_on_what_damage_removes_flips(portrait, box, threshold):
    found = measure_robustness(portrait, [box], ToyEngine(lambda crop: 3 * (sharpness(crop) - threshold)))
    verdicts = {delivery.name: delivery.verdict for delivery in found.deliveries}
    assert verdicts["stored"] is Verdict.DEEPFAKE and verdicts["quarter"] is verdicts["blur1"] is Verdict.REAL
    assert not found.is_robust and found.reasons == (Reason.UNSTABLE,) and found.spread > 3


@pytest.mark.parametrize("side", [1, -1], ids=["fake", "real"])
def test_a_verdict_that_is_only_lost_is_stable(side, portrait, box, threshold):
    engine = ToyEngine(lambda crop: side * 2.0 * (sharpness(crop) > threshold))
    found = measure_robustness(portrait, [box], engine)
    stored = Verdict.DEEPFAKE if side > 0 else Verdict.REAL
    assert {delivery.verdict for delivery in found.deliveries} == {stored, Verdict.INCONCLUSIVE}
    assert found.is_robust and found.reasons == ()


def test_of_several_faces_the_most_suspicious_counts_in_each_delivery(portrait, box):
    blank = np.array([400, 10, 80, 80], np.float32)
    engine = ToyEngine(sharpness)
    alone, other = (measure_robustness(portrait, [found], engine) for found in (box, blank))
    both = measure_robustness(portrait, [blank, box], engine)
    assert [delivery.logit for delivery in both.deliveries] == [
        max(pair)
        for pair in zip(*([delivery.logit for delivery in found.deliveries] for found in (alone, other)), strict=True)
    ]
    measure_robustness(portrait, [box] * 50, engine)
    assert len(engine.batches[-1]) == MAX_TESTED_FACES * len(DEGRADATIONS)


def test_without_a_face_there_is_nothing_to_deliver(portrait):
    with pytest.raises(ValueError, match="at least one face"):
        measure_robustness(portrait, [], ToyEngine(sharpness))


def test_the_smallest_face_and_one_at_the_edge_are_delivered(portrait):
    tiny = cv2.resize(portrait, (33, 47))
    found = measure_robustness(tiny, [np.array([-5, 30, 40, 30], np.float32)], ToyEngine(sharpness))
    assert len(found.deliveries) == len(DEGRADATIONS)
    assert json.loads(json.dumps(found.to_dict()))["deliveries"][0]["name"] == "stored"
