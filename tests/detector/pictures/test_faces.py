from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import files

import numpy as np
import pytest

from detector.media.images import read_image
from detector.pictures import faces
from detector.pictures.faces import FaceFinder, crop_faces, crop_square, cut_square, resize, whole_square
from detector.results import ModelError

PEOPLE = {"astronaut.png", "camera.png"}
TOO_SMALL = {"multipage.tif", "multipage_rgb.tif", "no_time_for_that_tiny.gif"}
# A cat, coins, text, textures, streets, stars, flowers: every other picture in the two wheels.
WITHOUT_A_FACE = [
    path.locate()
    for package in ("scikit-image", "scikit-learn")
    for path in files(package)
    if path.suffix in {".png", ".jpg", ".gif", ".tif"} and path.name not in PEOPLE | TOO_SMALL
]


@pytest.fixture(scope="module")
def face(finder, portrait):
    return finder.find_faces(portrait)[0]


def overlap(box, other):
    """Intersection over union of two boxes."""
    (x, y, w, h), (u, v, s, t) = box, other
    shared = max(0, min(x + w, u + s) - max(x, u)) * max(0, min(y + h, v + t) - max(y, v))
    return shared / (w * h + s * t - shared)


def test_the_portrait_has_one_face_with_its_parts_in_place(face, finder, portrait):
    assert len(finder.find_faces(portrait)) == 1 and 0.5 < face.detection_score <= 1
    x, y, w, h = face.box
    assert 150 < x < x + w < 300 and 30 < y < y + h < 200
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert np.all(face.landmarks > [x, y]) and np.all(face.landmarks < [x + w, y + h])
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
    assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < nose[0] < right_mouth[0]


@pytest.mark.parametrize("scale", [0.1, 0.25, 0.5, 2.0, 4.0])
def test_the_size_of_a_portrait_does_not_matter(scale, face, finder, portrait):
    side = round(512 * scale)
    (found,) = finder.find_faces(resize(portrait, side, side))
    assert overlap(found.box / scale, face.box) > 0.7
    np.testing.assert_allclose(found.landmarks / scale, face.landmarks, atol=12)


@pytest.mark.parametrize("view", [np.s_[:, ::-1], np.s_[::2, ::2], np.s_[40:, 100:400]], ids=str)
def test_any_memory_layout_gives_the_same_faces(view, finder, portrait):
    (found,), (again,) = finder.find_faces(portrait[view]), finder.find_faces(portrait[view].copy())
    np.testing.assert_array_equal(found.box, again.box)


def test_a_distant_face_is_found_by_the_fine_pass(finder, portrait, monkeypatch):
    large = np.full((2048, 3072, 3), 128, np.uint8)
    large[900:1105, 2000:2205] = resize(portrait, 205, 205)
    (found,) = finder.find_faces(large)
    x, y, w, h = found.box
    assert 2050 < x < x + w < 2130 and 900 < y < y + h < 1000
    monkeypatch.setattr(faces, "SMALL_FACE", 0.0)  # accepts any result of the coarse pass
    assert finder.find_faces(large) == []


@pytest.mark.parametrize("count", [2, 3, 5])
def test_everyone_in_a_group_is_found_once_and_the_largest_comes_first(count, finder, portrait):
    group = np.tile(portrait[:400, 50:450], (count, count, 1))
    group[:200, :300] = 0  # one head less
    found = finder.find_faces(group)
    assert len(found) == count**2 - 1
    areas = [face.box[2] * face.box[3] for face in found]
    assert areas == sorted(areas, reverse=True)


@pytest.mark.parametrize(("margin", "least"), [(-0.2, 0.4), (0.0, 0.7), (0.4, 0.7)])
def test_a_tight_crop_of_a_face_is_a_face(margin, least, face, finder, portrait):
    x, y, w, h = face.box
    left, top = int(x - margin * w), int(y - margin * h)
    (found,) = finder.find_faces(portrait[top : int(y + h + margin * h), left : int(x + w + margin * w)])
    assert overlap(found.box + [left, top, 0, 0], face.box) > least


@pytest.mark.slow
def test_at_most_one_picture_in_twenty_without_a_face_gives_one(finder):
    assert len(WITHOUT_A_FACE) >= 20
    false_finds = [path.name for path in WITHOUT_A_FACE if finder.find_faces(read_image(path))]
    assert len(false_finds) <= len(WITHOUT_A_FACE) / 20, false_finds


def test_the_package_that_carries_the_weights_may_be_missing(monkeypatch):
    monkeypatch.setattr(faces, "files", lambda package: [])
    with pytest.raises(ModelError, match="make setup"):
        FaceFinder()


@pytest.mark.slow
def test_the_fine_pass_is_compiled_when_first_needed_and_once(portrait, monkeypatch):
    compiled = []

    class CountedSession(faces.Session):
        def __init__(self, path, **settings):
            compiled.append(settings["input_shape"][-1])
            super().__init__(path, **settings)

    monkeypatch.setattr(faces, "Session", CountedSession)
    finder = FaceFinder(threads=1)
    finder.find_faces(portrait)
    assert compiled == [faces.COARSE_SIDE_PX]
    group = np.tile(resize(portrait, 200, 200), (3, 3, 1))
    with ThreadPoolExecutor(4) as pool:
        counts = set(pool.map(lambda _: len(finder.find_faces(group)), range(4)))
    assert counts == {9} and compiled == [faces.COARSE_SIDE_PX, faces.FINE_SIDE_PX]


def drawn_boxes():
    """Boxes in and partly outside of pictures of many shapes, with a margin and the picture's size."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        width, height = (int(side) for side in np.exp(rng.uniform(np.log(40), np.log(3000), 2)))
        centre, size = rng.uniform(-0.1, 1.1, 2) * [width, height], rng.uniform(0.01, 1, 2) * min(width, height)
        yield np.concatenate([centre - size / 2, size]), float(rng.uniform(0.8, 2)), width, height


def test_a_crop_square_has_the_requested_size_and_is_moved_inside():
    kept = 0
    for box, margin, width, height in drawn_boxes():
        x, y, side, same = crop_square(box, margin, width, height)
        assert side == same == min(max(1, round(max(box[2:]) * margin)), max(width, height))
        for start, length, centre in ((x, width, box[0] + box[2] / 2), (y, height, box[1] + box[3] / 2)):
            if side > length:
                assert start == (length - side) // 2
            else:
                assert 0 <= start <= length - side
                if side / 2 + 1 < centre < length - side / 2 - 1:
                    kept += 1
                    assert abs(start + side / 2 - centre) <= 1
    assert kept > 100


@pytest.mark.parametrize(("width", "height"), [(100, 100), (640, 427), (33, 60), (1, 1)])
def test_the_whole_picture_fits_its_square(width, height):
    x, y, side, _ = whole_square(width, height)
    assert side == max(width, height)
    assert (x, y) == ((width - side) // 2, (height - side) // 2)


def test_a_square_is_cut_at_its_own_resolution_with_mirrored_borders():
    rng = np.random.default_rng(0)
    for _ in range(100):
        height, width, side = (int(value) for value in rng.integers(2, 40, 3))
        left, top = int(rng.integers(1 - side, width)), int(rng.integers(1 - side, height))
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        cut = cut_square(image, (left, top, side, side))
        assert cut.shape == (side, side, 3)
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
        borders = ((y0 - top, top + side - y1), (x0 - left, left + side - x1), (0, 0))
        np.testing.assert_array_equal(cut, np.pad(image[y0:y1, x0:x1], borders, "reflect"))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_crops_have_the_network_s_size(count, portrait):
    squares = [(0, 0, 512, 512), (-40, 300, 300, 300), (200, 80, 7, 7)][:count]
    crops = crop_faces(portrait, squares, 96)
    assert crops.shape == (count, 96, 96, 3) and crops.dtype == np.uint8
    for crop, square in zip(crops, squares, strict=True):
        np.testing.assert_allclose(crop.mean((0, 1)), cut_square(portrait, square).mean((0, 1)), atol=3)


def test_shrinking_averages_over_areas():
    noise = np.random.default_rng(0).integers(0, 256, (960, 960, 3), np.uint8)
    assert noise.std() / 11 < resize(noise, 96, 96).std() < noise.std() / 9  # each pixel the mean of 100


def test_a_strip_takes_no_more_memory_than_a_picture_of_its_pixels():
    side = whole_square(32_000, 40)[2]
    assert side**2 < 1_000_000
