import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from detector.evidence.robustness import (
    DEGRADATION_FUNCTIONS,
    DEGRADATION_LABELS,
    DEGRADATIONS,
    MAX_TESTED_FACES,
    TIGHT_CROP,
    TIGHT_MARGIN,
    UNDEGRADED,
    DegradedScore,
    RobustnessResult,
    measure_face_robustness,
    measure_robustness,
    robustness_sentence,
    tight_crop_box,
)
from detector.media.degradations import TIERS
from detector.models.calibration import Calibration
from detector.models.engines import CROPS_PER_BATCH, Engine
from detector.models.spec import FaceInput, ModelSpec
from detector.pictures.detect import PictureDetector
from detector.pictures.faces import crop_face, crop_square, cut_square
from detector.record import to_values
from detector.results import Reason, Verdict

pytestmark = pytest.mark.slow

SIZE_PX = 96
MARGIN = 1.3
R, D, I = Verdict.REAL, Verdict.DEEPFAKE, Verdict.INCONCLUSIVE  # noqa: E741


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


@pytest.fixture(scope="module")
def square(box):
    return crop_square(box, MARGIN, 512, 512)


@pytest.fixture(scope="module")
def detection(portrait, picture_detector):
    return picture_detector.detect(portrait)


def test_every_degradation_is_scored_and_the_first_is_what_detect_scores(portrait, square, finder):
    engine = ToyEngine(sharpness)
    found = measure_robustness(portrait, [square], engine)
    assert [score.name for score in found.scores] == list(DEGRADATIONS)
    assert max(map(len, engine.batches)) <= CROPS_PER_BATCH  # whose memory stays small
    stored = found.scores[0]
    detected = PictureDetector(engine, finder).detect(portrait)
    assert (stored.logit, stored.probability) == (detected.logit, detected.probability)
    assert set(TIERS) < set(DEGRADATIONS)


@pytest.mark.parametrize("corner", [(0, 0), (417, 263), (688, 388)], ids=["edge", "middle", "other edge"])
@pytest.mark.parametrize("name", DEGRADATION_FUNCTIONS)
def test_only_the_surroundings_are_degraded_but_as_in_the_whole_picture(name, corner, portrait):
    """In a picture far larger than the face, whose sides are no multiple of the block sizes."""
    image = np.tile(portrait, (2, 2, 1))[:701, :1001]
    square = crop_square(np.array([*corner, 240, 240], np.float32), MARGIN, 1001, 701)
    stored, degraded = (crop.astype(float) for crop in crops_of(image, square, UNDEGRADED, name))
    whole = crop_face(DEGRADATION_FUNCTIONS[name](image), square, SIZE_PX).astype(float)
    if name.startswith(("jpeg", "blur")):
        np.testing.assert_array_equal(degraded, whole)
    # WebP depends on its surroundings, and scaling on the grid of pixels; the loss is the same.
    assert np.abs(degraded - stored).mean() == pytest.approx(np.abs(whole - stored).mean(), rel=0.15)


def crops_of(image, square, *names):
    """Return the crops that the network gets for some degradations."""
    engine = ToyEngine(sharpness)
    measure_robustness(image, [square], engine)
    return [np.concatenate(engine.batches)[DEGRADATIONS.index(name)] for name in names]


def test_the_tight_crop_is_that_of_an_avatar(portrait, square):
    tight = tight_crop_box(square, MARGIN, 512, 512)
    avatar = cut_square(portrait, tight)
    face_px = len(avatar) / TIGHT_MARGIN
    inner = (len(avatar) - face_px) / 2
    again = crop_square(np.array([inner, inner, face_px, face_px]), MARGIN, len(avatar), len(avatar))
    (shown,) = crops_of(portrait, square, TIGHT_CROP)
    np.testing.assert_array_equal(shown, crop_face(avatar, again, SIZE_PX))


@pytest.mark.parametrize(
    ("square", "margin", "tight"),
    [
        ((100, 60, 260, 260), 1.3, (120, 80, 220, 220)),  # 260 / 1.3 * 1.1
        ((100, 60, 200, 200), 2.0, (145, 105, 110, 110)),
        ((100, 60, 200, 200), 1.1, (100, 60, 200, 200)),
        ((100, 60, 200, 200), 1.0, (100, 60, 200, 200)),  # never wider than the network's own crop
        ((-40, 0, 600, 600), 1.2, (0, 0, 512, 512)),
    ],
)
def test_the_tight_crop_leaves_a_tenth_around_the_face(square, margin, tight):
    assert tight_crop_box(square, margin, 512, 512) == tight


@pytest.fixture(scope="module")
def threshold(portrait, square):
    """A value that the face's sharpness falls below when the picture is blurred or shrunk."""
    return sharpness(crop_face(portrait, square, SIZE_PX)) * 0.8


def test_a_verdict_that_rests_on_what_degradations_remove_flips(portrait, square, threshold):
    found = measure_robustness(portrait, [square], ToyEngine(lambda crop: 3 * (sharpness(crop) - threshold)))
    verdicts = {score.name: score.verdict for score in found.scores}
    assert verdicts["stored"] is Verdict.DEEPFAKE and verdicts["quarter"] is verdicts["blur1"] is Verdict.REAL
    assert not found.is_robust and found.reasons == (Reason.UNSTABLE,) and found.spread > 3


@pytest.mark.parametrize("side", [1, -1], ids=["fake", "real"])
def test_a_verdict_that_becomes_inconclusive_is_robust(side, portrait, square, threshold):
    engine = ToyEngine(lambda crop: side * 2.0 * (sharpness(crop) > threshold))
    found = measure_robustness(portrait, [square], engine)
    stored = Verdict.DEEPFAKE if side > 0 else Verdict.REAL
    assert {score.verdict for score in found.scores} == {stored, Verdict.INCONCLUSIVE}
    assert found.is_robust and found.reasons == ()


def test_of_several_faces_the_most_suspicious_counts_in_each_degradation(portrait, square):
    blank = (388, 0, 104, 104)
    engine = ToyEngine(sharpness)
    alone, other = (measure_robustness(portrait, [one], engine) for one in (square, blank))
    both = measure_robustness(portrait, [blank, square], engine)
    assert [score.logit for score in both.scores] == [
        max(pair) for pair in zip(*([score.logit for score in found.scores] for found in (alone, other)), strict=True)
    ]
    engine.batches.clear()
    measure_robustness(portrait, [square] * 50, engine)
    assert sum(map(len, engine.batches)) == MAX_TESTED_FACES * len(DEGRADATIONS)


def test_without_a_face_there_is_nothing_to_test(portrait):
    with pytest.raises(ValueError, match="at least one face"):
        measure_robustness(portrait, [], ToyEngine(sharpness))


def test_the_smallest_face_and_one_at_the_edge_are_tested(portrait):
    tiny = cv2.resize(portrait, (33, 47))
    square = crop_square(np.array([-5, 30, 40, 30], np.float32), MARGIN, 33, 47)
    found = measure_robustness(tiny, [square], ToyEngine(sharpness))
    assert len(found.scores) == len(DEGRADATIONS)
    assert json.loads(json.dumps(to_values(found)))["scores"][0]["name"] == "stored"


def test_a_known_score_is_not_computed_again(portrait, square):
    engine = ToyEngine(sharpness)
    expected = measure_robustness(portrait, [square], engine)
    engine.batches.clear()
    found = measure_robustness(portrait, [square], engine, stored_logit=expected.scores[0].logit)
    assert found == expected and sum(map(len, engine.batches)) == len(DEGRADATIONS) - 1


def test_the_unchanged_picture_keeps_the_score_of_its_detection(detection, picture_detector):
    engine = ToyEngine(sharpness)
    engine.spec = picture_detector.engine.spec
    scores = measure_face_robustness(detection, engine).scores
    assert (scores[0].logit, scores[0].probability) == (detection.logit, detection.probability)
    assert sum(map(len, engine.batches)) == len(DEGRADATIONS) - 1


@pytest.mark.parametrize("moved_px", [0, 1, 3])
def test_degradations_use_the_crop_box_to_the_pixel(moved_px, detection, picture_detector):
    face = detection.faces[0]
    x, y, side, _ = face.crop_box
    engine = picture_detector.engine
    square = (x - moved_px, y + moved_px, side - moved_px, side - moved_px)
    changed = replace(detection, faces=(replace(face, crop_box=square, crop=None),))
    degraded = DEGRADATION_FUNCTIONS["jpeg50"](detection.image)
    expected = engine.run(crop_face(degraded, square, engine.spec.face.size_px)[None])[0][0]
    scores = {score.name: score.logit for score in measure_face_robustness(changed, engine).scores}
    assert scores["jpeg50"] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("reasons", "is_tested"),
    [((), True), ((Reason.BETWEEN_THRESHOLDS,), True), ((Reason.TOO_SMALL,), False), ((Reason.NO_FACE,), False)],
)
def test_only_a_face_that_passes_the_quality_gate_is_tested(reasons, is_tested, detection, picture_detector):
    changed = replace(detection, reasons=reasons)
    assert (measure_face_robustness(changed, picture_detector.engine) is not None) is is_tested


def test_every_degradation_has_a_label():
    assert tuple(DEGRADATION_LABELS) == DEGRADATIONS


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        ([R, R, R], "The result is the same for all 3 copies of the picture."),
        (
            [R, I, R],
            "In 1 of 3 copies of the picture the result became inconclusive. It never reversed.",
        ),
        (
            [I, D, I],
            "In 2 of 3 copies of the picture the result stayed inconclusive. In 1 it became a deepfake.",
        ),
        ([I, R, R], "In 1 of 3 copies of the picture the result stayed inconclusive. In 2 it became real."),
        (
            [R, D, I],
            "The result reversed. Of 3 copies of the picture, 1 became real, 1 a deepfake and 1 inconclusive.",
        ),
    ],
)
def test_the_result_in_words(verdicts, sentence):
    result = RobustnessResult(tuple(DegradedScore("stored", 0.0, 0.5, verdict) for verdict in verdicts))
    assert robustness_sentence(result) == sentence
