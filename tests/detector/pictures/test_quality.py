import cv2
import numpy as np
import pytest
from skimage.measure import blur_effect

from detector.media.degradations import TIERS, blur, recompress
from detector.pictures.quality import (
    MAX_ANALYSED_FACES,
    MIN_FACE_PX,
    face_exclusion_reasons,
    grey_face,
    measure_blur,
    measure_brightness,
    measure_edge_ratio,
    picture_exclusion_reasons,
)
from detector.results import Face, Reason


@pytest.fixture(scope="module")
def face(portrait, finder):
    return finder.find_faces(portrait)[0]


def darken(image, stops):
    return (255 * ((image / 255) ** 2.2 / 2**stops) ** (1 / 2.2)).astype(np.uint8)


def draw(image):
    """Four levels of flat paint, as on a poster."""
    flat = image
    for _ in range(4):
        flat = cv2.bilateralFilter(flat, 9, 60, 9)
    return (np.rint(flat / 85) * 85).astype(np.uint8)


@pytest.mark.parametrize(
    ("alter", "reasons"),
    [
        (lambda image: image, ()),
        *((degrade, ()) for degrade in TIERS.values() if degrade),
        (lambda image: darken(image, 2), ()),
        (lambda image: np.clip(image * 1.5, 0, 255).astype(np.uint8), ()),
        (lambda image: blur(image, 5), (Reason.TOO_BLURRED,)),
        (lambda image: darken(image, 7), (Reason.TOO_DARK,)),
        (draw, (Reason.DRAWING,)),
        (lambda image: recompress(draw(image), 75), (Reason.DRAWING,)),
    ],
)
def test_a_face_is_excluded_for_its_defects(alter, reasons, portrait, face):
    assert face_exclusion_reasons(alter(portrait), face.box) == reasons


def test_a_face_that_is_too_small_has_no_other_reason(portrait, face):
    factor = (MIN_FACE_PX - 1) / max(face.box[2:])
    small = cv2.resize(blur(portrait, 6), None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    assert face_exclusion_reasons(small, face.box * factor) == (Reason.TOO_SMALL,)
    factor = (MIN_FACE_PX + 1) / max(face.box[2:])
    small = cv2.resize(portrait, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    assert face_exclusion_reasons(small, face.box * factor) == ()


def some_face(*reasons):
    return Face((0, 0, 90, 90), None, None, (0, 0, 90, 90), logit=0.0, probability=0.5, reasons=reasons)


def test_no_face_and_too_many():
    assert picture_exclusion_reasons([]) == (Reason.NO_FACE,)
    assert picture_exclusion_reasons([some_face()] * MAX_ANALYSED_FACES) == ()
    assert picture_exclusion_reasons([some_face()] * (MAX_ANALYSED_FACES + 1)) == (Reason.TOO_MANY_FACES,)
    distant = some_face(Reason.TOO_SMALL)
    assert (
        picture_exclusion_reasons([some_face(), *[distant] * (MAX_ANALYSED_FACES + 1)]) == ()
    )  # distant people are not counted


def test_one_usable_face_is_enough():
    blurred, dark = some_face(Reason.TOO_BLURRED, Reason.TOO_DARK), some_face(Reason.TOO_DARK)
    assert picture_exclusion_reasons([blurred, some_face()]) == ()
    assert picture_exclusion_reasons([dark, blurred, some_face(Reason.TOO_SMALL)]) == (
        Reason.TOO_SMALL,
        Reason.TOO_BLURRED,
        Reason.TOO_DARK,
    )


def test_blur_is_the_published_measure(portrait, face):
    grey = grey_face(portrait, face.box)
    for picture in (grey, blur(grey, 3), grey[:, :90]):
        assert measure_blur(picture) == pytest.approx(blur_effect(picture / 255, h_size=11), abs=1e-3)


@pytest.mark.parametrize("measure", [measure_brightness, measure_edge_ratio])
def test_a_measure_is_the_same_at_every_size(measure, portrait, face):
    values = []
    for factor in (1, 2, 3):
        image = cv2.resize(portrait, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        values.append(measure(grey_face(image, face.box * factor)))
    assert max(values) < 1.15 * min(values)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_uniform_picture_is_blurred_and_no_drawing(level):
    nothing = np.full((80, 60, 3), level, np.uint8)
    reasons = face_exclusion_reasons(nothing, (-20, 10, 60, 90))
    assert Reason.TOO_BLURRED in reasons and Reason.DRAWING not in reasons
    assert (Reason.TOO_DARK in reasons) is (level == 0)
