import numpy as np
import pytest
from project import ROOT

from detector.media.degradations import TIERS, adjust_light, recompress, rescale
from detector.results import ModelError, UnreadableMedia
from training import synthesis
from training.synthesis import AREAS, FACE, Reconstructor, degrade, graft, make_sample_fake, self_blend

pytestmark = pytest.mark.slow

# Eyes, nose tip and mouth corners that the face finder finds in the 300 x 300 crop of the portrait.
LANDMARKS = np.array([[83, 92], [128, 94], [103, 117], [85, 136], [122, 137]], np.float32)


@pytest.fixture(scope="module")
def picture(astronaut):
    return np.asarray(astronaut)[10:310, 120:420]


def blend(picture, seed, landmarks=LANDMARKS):
    return self_blend(picture, landmarks, np.random.default_rng(seed))


def test_a_seed_decides_everything(picture):
    first, again, other = blend(picture, 3), blend(picture, 3), blend(picture, 4)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    degraded = [degrade(picture, np.random.default_rng(seed)) for seed in (3, 3, 4)]
    np.testing.assert_array_equal(degraded[0], degraded[1])
    assert not np.array_equal(degraded[0], degraded[2])


@pytest.fixture
def without_gradients(monkeypatch):
    monkeypatch.setattr(synthesis, "GRADIENT_CHANCE", 0.0)


@pytest.fixture
def whole_faces(monkeypatch):
    monkeypatch.setattr(synthesis, "_choose_area", lambda rng: FACE)


@pytest.mark.usefixtures("without_gradients")
def test_outside_the_mask_a_blend_is_one_view_and_inside_it_is_another(picture):
    kept = 0
    for seed in range(24):
        fake, mask = blend(picture, seed)
        assert fake.shape == picture.shape and fake.dtype == np.uint8
        assert mask.shape == picture.shape[:2] and mask.dtype == np.float32
        outside, inside = mask == 0, mask > 0.2
        altered = synthesis._alter(picture, np.random.default_rng(seed))
        views = [view for view in (picture, altered) if np.array_equal(fake[outside], view[outside])]
        assert len(views) == 1
        kept += views[0] is picture
        assert np.mean(fake[inside] != views[0][inside]) > 0.5
    assert 4 < kept < 20  # a forger changes the background about as often as not


@pytest.mark.usefixtures("without_gradients", "whole_faces")
def test_the_mask_is_soft_and_lies_on_the_face(picture):
    for seed in range(24):
        _, mask = blend(picture, seed)
        assert 0.2 < mask.max() <= 1 and 0.02 < np.mean(mask > 0) < 0.6
        assert np.abs(np.diff(mask, axis=1)).max() < 0.5
        y, x = np.argwhere(mask > mask.max() / 2).mean(0)
        assert 80 < x < 130 and 75 < y < 150


@pytest.mark.parametrize(
    "landmarks",
    [
        LANDMARKS - [100, 0],
        LANDMARKS + [190, 200],
        LANDMARKS * 8 - 500,
        LANDMARKS + 5000,
        LANDMARKS * 0 + 50,
        LANDMARKS[:, ::-1],
    ],
    ids=["left half outside", "in the corner", "larger than the picture", "elsewhere", "all in one place", "turned"],
)
def test_a_face_may_lie_anywhere(landmarks, picture):
    for seed in range(6):
        fake, mask = blend(picture, seed, landmarks.astype(np.float32))
        assert fake.shape == picture.shape and np.all((mask >= 0) & (mask <= 1))


SHAPES = [(2, 2), (2, 97), (97, 2), (3, 5), (64, 48), (300, 300)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_degradation_keeps_the_size(shape):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*shape, 3), np.uint8)
    changed = 0
    for seed in range(40):
        degraded = degrade(image, np.random.default_rng(seed))
        assert degraded.shape == image.shape and degraded.dtype == np.uint8
        changed += not np.array_equal(degraded, image)
    assert changed > 30


@pytest.mark.parametrize("view", [np.s_[:, ::-1], np.s_[::2, ::3], np.s_[..., ::-1]], ids=str)
def test_any_memory_layout_is_accepted(view, picture):
    for seed in range(20):
        given = picture[view]
        degraded = degrade(given, np.random.default_rng(seed))
        np.testing.assert_array_equal(degraded, degrade(given.copy(), np.random.default_rng(seed)))
    np.testing.assert_array_equal(blend(picture[view], 1)[0], blend(picture[view].copy(), 1)[0])


@pytest.mark.parametrize("work", [blend, lambda image, seed: degrade(image, np.random.default_rng(seed))])
def test_the_input_is_not_changed(work, picture):
    given = picture.copy()
    for seed in range(20):
        work(given, seed)
    np.testing.assert_array_equal(given, picture)


@pytest.mark.parametrize("extension", [".jpg", ".webp"])
def test_recompression_keeps_the_colours_and_loses_more_at_lower_quality(extension, picture):
    errors = [np.abs(recompress(picture, quality, extension).astype(int) - picture).mean() for quality in (95, 60, 15)]
    assert errors == sorted(errors) and errors[0] < 4  # swapped red and blue would give far more


def test_light_changes_as_requested(picture):
    np.testing.assert_allclose(adjust_light(picture, gain=1, offset=0, saturation=1), picture, atol=1)
    grey = adjust_light(picture, gain=1, offset=0, saturation=0)
    assert np.ptp(grey.astype(int), axis=2).max() <= 1
    assert adjust_light(picture, gain=1, offset=9, saturation=1).mean() > picture.mean() + 5
    assert adjust_light(picture, gain=0.5, offset=0, saturation=1).std() < picture.std() * 0.6


@pytest.mark.parametrize("name", [name for name, degradation in TIERS.items() if degradation])
def test_each_degradation_loses_detail_and_keeps_the_size(name, picture):
    degraded = TIERS[name](picture)
    assert degraded.shape == picture.shape and degraded.dtype == np.uint8
    assert 0.5 < np.abs(degraded.astype(int) - picture).mean() < 12
    assert TIERS["stored"] is None


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rescaling_keeps_the_size(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for factor in (0.01, 0.25, 0.99, 1.0):
        assert rescale(image, factor).shape == image.shape


def test_rescaling_removes_fine_detail():
    checkers = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    assert rescale(checkers, 0.5).std() < 2 and rescale(checkers, 1.0).std() > 100


def test_the_sample_fake_changes_the_face_and_is_reproducible(astronaut):
    portrait = np.asarray(astronaut)
    fake = make_sample_fake(portrait, 7)
    assert fake.shape == portrait.shape and fake.dtype == np.uint8
    np.testing.assert_array_equal(fake, make_sample_fake(portrait, 7))
    changes = np.abs(fake.astype(int) - portrait).mean(2)
    assert changes[80:170, 190:260].mean() > 1
    with pytest.raises(UnreadableMedia, match="No face was found"):
        make_sample_fake(np.full((200, 200, 3), 90, np.uint8), 7)


def test_areas_are_drawn_with_their_chances():
    assert sum(area.chance for area in AREAS) == pytest.approx(1)
    rng = np.random.default_rng(0)
    chosen = [synthesis._choose_area(rng) for _ in range(2000)]
    for area in AREAS:
        assert chosen.count(area) / 2000 == pytest.approx(area.chance, abs=0.03)


@pytest.mark.parametrize(
    ("area", "place"),
    [
        (AREAS[2], [103, 137]),
        (AREAS[3], [105, 93]),
        (AREAS[4], [83, 93]),
        (AREAS[5], [128, 93]),
        (AREAS[6], [103, 117]),
    ],
    ids=["mouth", "eyes", "left eye", "right eye", "nose"],
)
def test_an_area_lies_on_its_part_of_the_face(area, place, picture):
    masks = [synthesis._area_mask((300, 300), LANDMARKS, area, np.random.default_rng(seed)) for seed in range(12)]
    y, x = np.argwhere(np.mean(masks, axis=0) > 0.4).mean(0)
    np.testing.assert_allclose([x, y], place, atol=9)
    whole = synthesis._area_mask((300, 300), LANDMARKS, FACE, np.random.default_rng(0))
    assert np.mean(masks[0] > 0.5) < np.mean(whole > 0.5) * 0.5


@pytest.mark.usefixtures("whole_faces", "without_gradients")
def test_a_graft_shows_the_donor_inside_and_the_face_outside(picture):
    donor = picture[:, ::-1][20:280, 10:290]
    marks = LANDMARKS[[1, 0, 2, 4, 3]] * [-1, 1] + [299, 0] - [10, 20]
    for seed in range(8):
        fake, mask = graft(picture, LANDMARKS, donor, marks, np.random.default_rng(seed))
        np.testing.assert_array_equal(fake[mask == 0], picture[mask == 0])
        assert np.abs(fake.astype(int) - picture)[mask > 0.2].mean() > 1
        inside = mask > mask.max() / 2
        assert np.abs(fake[inside].mean(0) - picture[inside].mean(0)).max() < 25  # matched in colour
    twice = [graft(picture, LANDMARKS, donor, marks, np.random.default_rng(5))[0] for _ in range(2)]
    np.testing.assert_array_equal(*twice)


@pytest.mark.parametrize("marks", [LANDMARKS * 0 + 50, LANDMARKS + 5000, LANDMARKS * 30])
def test_a_donor_s_landmarks_may_lie_anywhere(marks, picture):
    for seed in range(6):
        fake, _ = graft(picture, LANDMARKS, picture[:, ::-1], marks.astype(np.float32), np.random.default_rng(seed))
        assert fake.shape == picture.shape and fake.dtype == np.uint8


def test_gradients_hide_the_seam(picture, monkeypatch):
    monkeypatch.setattr(synthesis, "GRADIENT_CHANCE", 1.0)
    darker = (picture * 0.6).astype(np.uint8)
    mask = synthesis._area_mask((300, 300), LANDMARKS, FACE, np.random.default_rng(1))
    fake, _ = synthesis._blend(darker, picture, mask, np.random.default_rng(0))
    inside = mask > 0.9
    assert np.abs(fake.astype(int) - picture)[inside].mean() < np.abs(darker.astype(int) - picture)[inside].mean() / 3


@pytest.fixture(scope="module")
def reconstructor():
    return Reconstructor(ROOT / "models")


@pytest.mark.parametrize("shape", [(224, 224), (97, 97), (9, 8), (40, 63)], ids=str)
def test_a_reconstruction_is_close_to_its_picture(shape, picture, reconstructor):
    image = np.ascontiguousarray(picture[: shape[0], : shape[1]])
    for seed in range(4):
        rebuilt = reconstructor.reconstruct(image, np.random.default_rng(seed))
        np.testing.assert_array_equal(rebuilt, reconstructor.reconstruct(image, np.random.default_rng(seed)))
        assert rebuilt.dtype == np.uint8 and rebuilt.shape == image.shape
        assert 0.05 < np.abs(rebuilt.astype(int) - image).mean() < 20


def test_a_picture_larger_than_the_canvas_is_refused(picture, reconstructor):
    with pytest.raises(ValueError, match="300 x 300 does not fit the canvas of 224 px"):
        reconstructor.reconstruct(picture, np.random.default_rng(0))


def test_every_decoder_is_used(picture, reconstructor, monkeypatch):
    used = []
    monkeypatch.setattr(synthesis.Session, "run", lambda session, batch: used.append(id(session)) or [batch])
    for seed in range(12):
        reconstructor.reconstruct(picture[:64, :64], np.random.default_rng(seed))
    assert len(set(used)) == 3 and len(used) == 12


@pytest.mark.usefixtures("whole_faces", "without_gradients")
def test_a_large_donor_leaves_no_jags(picture):
    checkers = (np.indices((1200, 1200)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    fake, mask = graft(picture, LANDMARKS, checkers, LANDMARKS * 4, np.random.default_rng(0))
    inside = mask > mask.max() * 0.99
    assert fake[inside].std() < picture[inside].std() + 30


def test_aligned_frequencies_have_the_energy_of_the_picture(picture):
    canvas = picture[:224, :224].astype(np.float32)
    dull = synthesis.blur(picture[:224, :224], 1.0).astype(np.float32)
    aligned = synthesis._align_spectrum(dull, canvas, strength=1.0)
    np.testing.assert_allclose(synthesis._align_spectrum(dull, canvas, strength=0.0), dull, atol=0.01)
    assert np.abs(np.diff(aligned, axis=1)).mean() > np.abs(np.diff(dull, axis=1)).mean() * 1.3


def test_without_autoencoders_a_sentence_says_how_to_get_them(tmp_path):
    with pytest.raises(ModelError, match=r"train_autoencoders\.py"):
        Reconstructor(tmp_path)
