from dataclasses import replace

import numpy as np
import pytest

from detector.evidence.explanation_checks import (
    DEGRADATION_LABELS,
    explain_face,
    face_crop,
    measure_face_robustness,
    robustness_sentence,
)
from detector.evidence.explanations import explain
from detector.evidence.robustness import DEGRADATIONS, DegradedScore, RobustnessResult
from detector.results import Reason, Verdict

R, D, I = Verdict.REAL, Verdict.DEEPFAKE, Verdict.INCONCLUSIVE  # noqa: E741


@pytest.fixture(scope="module")
def detection(portrait, picture_detector):
    return picture_detector.detect(portrait)


def test_every_delivery_has_a_label():
    assert tuple(DEGRADATION_LABELS) == DEGRADATIONS


def test_the_crop_is_what_was_judged(detection, picture_detector):
    engine = picture_detector.engine
    logits, maps = engine.run(face_crop(detection, engine)[None])
    assert logits[0] == pytest.approx(detection.logit, abs=1e-4)
    for found in (explain_face(detection, engine), explain(face_crop(detection, engine), engine)):
        np.testing.assert_allclose(found.heatmap, detection.faces[0].heatmap, atol=1e-4)


def test_the_map_that_came_with_the_score_is_not_made_again(detection, picture_detector):
    class Spent:
        spec = picture_detector.engine.spec  # and no way to run

    expected = explain_face(detection, picture_detector.engine)
    assert explain_face(detection, Spent()).sentence == expected.sentence
    without = replace(detection, faces=(replace(detection.faces[0], heatmap=None),))
    assert explain_face(without, picture_detector.engine).sentence == expected.sentence


def test_the_sentence_names_parts_of_the_face_where_they_are_known(detection, picture_detector):
    engine = picture_detector.engine
    without = replace(detection, faces=(replace(detection.faces[0], landmarks=None),))
    assert explain_face(without, engine).sentence == explain(face_crop(detection, engine), engine).sentence
    assert "face" in explain_face(detection, engine).sentence and "right" in explain_face(without, engine).sentence


@pytest.mark.parametrize("moved_px", [0, 1, 3])
def test_the_first_delivery_is_the_judged_crop_to_the_pixel(moved_px, detection, picture_detector):
    face = detection.faces[0]
    x, y, side, _ = face.crop_box
    engine = picture_detector.engine
    moved = replace(face, crop_box=(x - moved_px, y + moved_px, side - moved_px, side - moved_px))
    changed = replace(detection, faces=(moved,))
    expected = engine.run(face_crop(changed, engine)[None])[0][0]
    assert measure_face_robustness(changed, engine).deliveries[0].logit == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("reasons", "is_tested"),
    [((), True), ((Reason.BETWEEN_THRESHOLDS,), True), ((Reason.TOO_SMALL,), False), ((Reason.NO_FACE,), False)],
)
def test_only_a_face_that_was_judged_is_delivered(reasons, is_tested, detection, picture_detector):
    changed = replace(detection, reasons=reasons)
    assert (measure_face_robustness(changed, picture_detector.engine) is not None) is is_tested


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        ([R, R, R], "The verdict is the same in all 3 deliveries."),
        ([R, I, R], "The verdict is lost, to inconclusive, in 1 of 3 deliveries; it never becomes the opposite."),
        ([I, D, I], "It stays inconclusive in 2 of 3 deliveries and is called a deepfake in 1."),
        ([I, R, R], "It stays inconclusive in 1 of 3 deliveries and is called real in 2."),
        (
            [R, D, I],
            "The verdict flips on the way: of 3 deliveries 1 are called real, 1 a deepfake and 1 inconclusive.",
        ),
    ],
)
def test_what_became_of_the_verdict_in_words(verdicts, said):
    assert (
        robustness_sentence(RobustnessResult(tuple(DegradedScore("stored", 0.0, 0.5, verdict) for verdict in verdicts)))
        == said
    )
