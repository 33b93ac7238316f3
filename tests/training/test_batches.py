from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training_batches import SETTINGS, draw_batches

from detector.media.images import read_image
from detector.pictures.detect import load_picture_detector
from detector.pictures.faces import crop_faces
from training import batches
from training.batches import BatchGenerator, SamplePlan, cut_faces, cut_out
from training.manifests import Example, LocatedFace, locate_faces

pytestmark = pytest.mark.slow

MADE = replace(SETTINGS, self_blend=0.5, reconstruct=0.3)


def test_a_batch_depends_on_seed_and_step_alone(located_examples):
    one_by_one = draw_batches(located_examples, SETTINGS, 0, 6, threads=1)
    from_the_middle = draw_batches(located_examples, SETTINGS, 4, 6, threads=4)
    for (pixels, labels), (others, same) in zip(one_by_one[4:], from_the_middle, strict=True):
        np.testing.assert_array_equal(pixels, others)
        np.testing.assert_array_equal(labels, same)
    (reseeded, _), *_ = draw_batches(located_examples, replace(SETTINGS, seed=2), 0, 1)
    assert not np.array_equal(reseeded, one_by_one[0][0])
    assert not np.array_equal(one_by_one[0][0], one_by_one[1][0])


def test_every_picture_is_drawn_in_time(located_examples, monkeypatch):
    seen = set()
    monkeypatch.setattr(batches, "read_image", lambda path: seen.add(path) or read_image(path))
    draw_batches(located_examples, SETTINGS, 0, 12)
    assert seen == {example.path for example in located_examples[0]}


def test_half_of_a_batch_is_fake(located_examples):
    for pixels, labels in draw_batches(located_examples, SETTINGS, 0, 4):
        assert pixels.shape == (8, 64, 64, 3) and pixels.dtype == np.uint8
        assert labels.shape == (8, 1) and labels.ravel().tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize("kind", ["blend", "graft", "reconstruction"])
def test_a_fake_differs_from_its_real_only_in_its_traces(kind, located_examples, monkeypatch):
    def leave(crop, *more):
        more[-1].random()  # draws of the forgery must not change the degradation that follows
        return (crop, None) if kind != "reconstruction" else crop

    if kind == "reconstruction":
        monkeypatch.setattr(batches.Reconstructor, "reconstruct", lambda self, crop, rng: leave(crop, rng))
        shares = {"self_blend": 0.0, "reconstruct": 1.0}
    else:
        monkeypatch.setattr(batches, "self_blend", leave)
        monkeypatch.setattr(batches, "graft", leave)
        monkeypatch.setattr(batches, "GRAFT_CHANCE", float(kind == "graft"))
        shares = {"self_blend": 1.0}
    for pixels, _ in draw_batches(located_examples, replace(SETTINGS, **shares), 0, 6):
        np.testing.assert_array_equal(pixels[:4], pixels[4:])


def test_every_kind_of_fake_is_made_of_a_real(located_examples):
    examples, faces = located_examples
    generator = BatchGenerator(examples, faces, MADE)
    plans = [plan for step in range(40) for plan in generator.plan_batch(step)]
    assert {plan.fake for plan in plans} == {"", "blend", "graft", "reconstruction"}
    assert all(examples[plan.index].label == 0 for plan in plans if plan.fake)
    assert all(examples[plan.donor].group != examples[plan.index].group for plan in plans if plan.fake == "graft")


def test_a_reconstruction_resembles_its_real(located_examples):
    for pixels, labels in draw_batches(
        located_examples, replace(SETTINGS, self_blend=0.0, reconstruct=1.0, damaged=False), 0, 2
    ):
        difference = np.abs(pixels[:4].astype(int) - pixels[4:]).mean((1, 2, 3))
        assert np.all((difference > 0.1) & (difference < 12)) and labels[4:].all()


def test_a_blend_is_made_at_the_face_s_place_in_the_crop(located_examples, monkeypatch):
    seen = []
    monkeypatch.setattr(batches, "GRAFT_CHANCE", 0.0)
    monkeypatch.setattr(
        batches, "self_blend", lambda crop, marks, rng: seen.append(marks / crop.shape[0]) or (crop, None)
    )
    draw_batches(located_examples, replace(SETTINGS, self_blend=1.0), 0, 4)
    assert len(seen) == 16
    for left_eye, right_eye, nose, left_mouth, right_mouth in seen:
        assert 0.1 < left_eye[0] < nose[0] < right_eye[0] < 0.9 and left_mouth[0] < right_mouth[0]
        assert 0.1 < left_eye[1] < nose[1] < left_mouth[1] < 0.9


def shares(sources, emphasis=None, **options):
    """Return how often each source is drawn among the reals of many batches."""
    examples = [Example(Path("x"), 0, source, "camera", str(i), "train") for i, source in enumerate(sources)]
    examples.append(Example(Path("x"), 1, "fakes", "ours", "fake", "train"))
    settings = replace(SETTINGS, batch=64, self_blend=0.0, emphasis=emphasis or {}, **options)
    generator = BatchGenerator(examples, [LocatedFace(np.zeros(4), None)] * len(examples), settings)
    drawn = [examples[plan.index].source for step in range(100) for plan in generator.plan_batch(step)[:32]]
    return {source: drawn.count(source) / len(drawn) for source in set(sources)}


def test_sources_weigh_as_the_square_root_of_their_pictures():
    found = shares(["large"] * 90 + ["small"] * 10)
    assert found == pytest.approx({"large": 0.75, "small": 0.25}, abs=0.03)


def test_unbalanced_every_picture_weighs_the_same():
    found = shares(["large"] * 90 + ["small"] * 10, balanced=False)
    assert found == pytest.approx({"large": 0.9, "small": 0.1}, abs=0.03)


def test_large_crops_of_a_pair_are_degraded_at_one_scale(astronaut, tmp_path, monkeypatch):
    astronaut.save(tmp_path / "face.png")
    astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "fake.png")
    examples = [
        Example(tmp_path / name, label, "s", "g", name, "train") for label, name in enumerate(("face.png", "fake.png"))
    ]
    faces = [
        replace(face, box=face.box * [1, 1, 2, 2] - [80, 80, 0, 0]) for face in locate_faces(examples)
    ]  # over 224 px
    made, sizes = set(), []
    monkeypatch.setattr(batches, "self_blend", lambda crop, marks, rng: made.add(crop.shape) or (crop, None))
    monkeypatch.setattr(batches, "degrade", lambda crop, rng: sizes.append(crop.shape[0]) or crop)
    draw_batches((examples, faces), replace(SETTINGS, self_blend=0.6, reconstruct=0.4), 0, 8, threads=1)
    assert made == {(224, 224, 3)}
    pairs = np.array(sizes).reshape(8, 2, 4)  # batches, reals and fakes, places
    np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1])
    assert pairs.min() < 40 and pairs.max() > 70  # about an input of 64 px


def test_an_emphasis_shows_a_source_more_often():
    found = shares(["large"] * 90 + ["small"] * 10, {"small": 3.0})
    assert found == pytest.approx({"large": 0.5, "small": 0.5}, abs=0.03)


def test_training_cuts_a_face_as_the_server_does(exported, astronaut, tmp_path):
    astronaut.save(tmp_path / "face.png")
    example = Example(tmp_path / "face.png", 0, "s", "g", "a", "train")
    (crop,) = cut_faces([example], locate_faces([example]), 64)
    detection = load_picture_detector(exported).detect(tmp_path / "face.png")
    np.testing.assert_array_equal(crop, crop_faces(detection.image, [detection.faces[0].crop_box], 64)[0])


def test_half_of_the_samples_are_mirrored_and_a_pair_is_mirrored_together(astronaut, tmp_path, monkeypatch):
    astronaut.save(tmp_path / "face.png")
    examples = [Example(tmp_path / "face.png", 0, "s", "camera", "a", "train")] * 2
    examples[1] = replace(examples[0], label=1)
    monkeypatch.setattr(batches, "self_blend", lambda crop, landmarks, rng: (crop, None))
    monkeypatch.setattr(batches, "MARGIN_JITTER", (1.0, 1.0))
    monkeypatch.setattr(batches, "SHIFT_JITTER", 0.0)
    monkeypatch.setattr(batches, "CUTOUT_CHANCE", 0.0)
    generator = BatchGenerator(examples, locate_faces(examples), replace(SETTINGS, damaged=False))
    (plain,) = cut_faces(examples[:1], generator.faces[:1], batches.CROP_PX)
    plain = np.asarray(Image.fromarray(plain).resize((64, 64))).astype(int)
    is_mirrored = []
    for number in range(60):
        crop, _ = generator.load_sample(SamplePlan(0, (1, number)))
        fake, _ = generator.load_sample(SamplePlan(0, (1, number), "blend"))
        np.testing.assert_array_equal(crop, fake)
        difference, mirrored = (np.abs(crop - wanted).mean() for wanted in (plain, plain[:, ::-1]))
        assert min(difference, mirrored) < 5 and max(difference, mirrored) > 15
        is_mirrored.append(mirrored < difference)
    assert 20 <= sum(is_mirrored) <= 40


def test_a_cutout_hides_a_rectangle_of_one_grey():
    crop = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    for seed in range(20):
        hidden = np.argwhere((cut_out(crop, np.random.default_rng(seed)) != crop).any(axis=2))
        height, width = np.ptp(hidden, axis=0) + 1
        assert min(height, width) >= 9 and max(height, width) <= 40
        (y, x) = hidden.min(axis=0)
        area = cut_out(crop, np.random.default_rng(seed))[y : y + height, x : x + width]
        assert len(np.unique(area)) == 1
