import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.pictures import faces
from detector.pictures.faces import FaceFinder, crop_square, whole_square
from training import manifests
from training.manifests import (
    Example,
    LocatedFace,
    face_square,
    locate_faces,
    read_manifest,
    remember_faces,
    split_by_group,
    split_train_calibration,
    without_fold,
    write_manifest,
)

HEADER = "path,label,source,generator,group,split\n"


def drawn_examples(seed, groups):
    """Groups with a real picture, a fake, or some of both, as self-blends share the group of their parent."""
    rng = random.Random(seed)
    return [
        Example(Path(f"{seed}-{group}-{i}.png"), label, "drawn", "ours", f"{seed}-{group}", "train")
        for group in range(groups)
        for label in rng.choice([(0,), (1,), (0, 1)])
        for i in range(rng.randint(1, 3))
    ]


def enough(examples):
    return all(len({e.group for e in examples if e.label == label}) >= 2 for label in (0, 1))


def test_no_group_is_split_and_both_sides_have_both_labels():
    cuts = 0
    for seed in range(400):
        examples = drawn_examples(seed, groups=2 + seed % 7)
        if enough(examples):
            first, second = split_by_group(examples, 0.1 + 0.8 * (seed % 3) / 2, seed)
            cuts += 1
            assert not {e.group for e in first} & {e.group for e in second}
            assert sorted(first + second, key=str) == sorted(examples, key=str)
            assert {e.label for e in first} == {e.label for e in second} == {0, 1}
    assert cuts > 200


def test_the_second_part_has_about_the_proportion_and_the_seed_selects_it():
    examples = drawn_examples(0, groups=2000)
    _, second = split_by_group(examples, 0.1, 1)
    _, other = split_by_group(examples, 0.1, 2)
    assert 0.08 < len({e.group for e in second}) / 2000 < 0.12
    assert len({e.group for e in second} & {e.group for e in other}) < 60


def test_new_pictures_move_no_old_ones():
    old, new = drawn_examples(0, groups=300), drawn_examples(1, groups=200)
    first, second = split_by_group(old, 0.1, 1)
    more_first, more_second = split_by_group(new + old, 0.1, 1)
    assert set(first) <= set(more_first) and set(second) <= set(more_second)


def test_a_label_needs_two_groups():
    examples = [Example(Path(f"{g}.png"), int(g == "c"), "s", "g", g, "train") for g in "abc"]
    with pytest.raises(SystemExit, match="At least 2 different fake pictures are needed, 1 found"):
        split_by_group(examples, 0.1, 1)


def test_a_manifest_is_read_as_written(tmp_path):
    examples = [
        Example(tmp_path / "real" / 'a, "b".png', 0, "möbel", "camera", "a", "train"),
        Example(tmp_path.parent / "elsewhere.png", 1, "s", "swap", "b", "val"),
    ]
    write_manifest(tmp_path / "manifest.csv", iter(examples))
    assert (tmp_path / "manifest.csv").read_text(encoding="utf-8").splitlines()[0] + "\n" == HEADER
    read = read_manifest(tmp_path / "manifest.csv")
    assert [e.path.resolve() for e in read] == [e.path.resolve() for e in examples]
    assert [(e.label, e.source, e.generator, e.group, e.split) for e in read] == [
        (0, "möbel", "camera", "a", "train"),
        (1, "s", "swap", "b", "val"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.csv"]


def test_optional_columns_are_read_as_written_and_absent_without_values(tmp_path):
    path, picture = tmp_path / "manifest.csv", tmp_path / "a.png"
    examples = [
        Example(picture, 1, "s", "SDXL turbo", "a", "train", kind="text-to-image", family="sdxl", fold=0),
        Example(picture, 0, "s", "camera", "b", "train", family="camera"),
    ]
    write_manifest(path, examples)
    assert path.read_text().splitlines()[0] == "path,label,source,generator,group,split,kind,family,fold"
    assert read_manifest(path) == examples
    write_manifest(path, [Example(picture, 0, "s", "camera", "b", "train", family="camera", fold=3)])
    assert path.read_text().splitlines()[0] == "path,label,source,generator,group,split,fold"


def test_without_a_family_the_generator_is_the_family(tmp_path):
    rows = "a.png,1,s,swap,a,train,,\nb.png,0,s,camera,b,train,photograph,shop\n"
    (tmp_path / "manifest.csv").write_text("path,label,source,generator,group,split,kind,family\n" + rows)
    read = read_manifest(tmp_path / "manifest.csv")
    assert [(e.kind, e.family, e.fold) for e in read] == [("", "swap", None), ("photograph", "shop", None)]


def test_a_fold_is_left_out_of_both_parts():
    examples = [
        Example(Path(f"{n}.png"), n % 2, "s", "g", f"group{n}", "val" if n > 399 else "train", fold=n // 2 % 3)
        for n in range(420)
    ]
    assert without_fold(examples, None) == examples
    for fold in range(3):
        parts = split_train_calibration(without_fold(examples, fold))
        assert [{e.fold for e in part} for part in parts] == [{0, 1, 2} - {fold}] * 2
    with pytest.raises(SystemExit, match="lies in fold 3"):
        without_fold(examples, 3)


def test_an_interrupted_write_leaves_the_old_manifest(tmp_path):
    path = tmp_path / "manifest.csv"
    write_manifest(path, [Example(tmp_path / "a.png", 0, "s", "g", "a", "train")])
    before = path.read_bytes()

    def stopped():
        yield Example(tmp_path / "b.png", 1, "s", "g", "b", "train")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_manifest(path, stopped())
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (None, "no manifest .*generate_synthetic_data.py"),
        ("", "empty or lacks one of the columns path, label"),
        (HEADER, "empty or lacks"),
        ("path,label,split\na.png,0,train\n", "empty or lacks"),
        (HEADER + "a.png,fake,s,g,a,train\n", "Labels are 0 .* has fake"),
        (HEADER + "a.png,,s,g,a,train\n", "Labels are 0 .* has nothing"),
        (HEADER + "a.png,0,s,g,,train\n", "needs a path, a group and a split"),
        (HEADER + "a.png,1\n", "needs a path, a group and a split"),
        (HEADER.replace("split", "split,fold") + "a.png,1,s,g,a,train,-1\n", "whole numbers from 0 up; .* has -1"),
    ],
)
def test_a_faulty_manifest_ends_with_a_sentence(text, seen, tmp_path):
    if text is not None:
        (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(SystemExit, match=seen):
        read_manifest(tmp_path / "manifest.csv")


@pytest.fixture
def searches(tmp_path, monkeypatch):
    """A face cache of the test's own, and a list that counts the searches for faces."""
    monkeypatch.setattr(manifests, "CACHE", tmp_path / "cache")
    find_faces, searches = FaceFinder.find_faces, []
    monkeypatch.setattr(FaceFinder, "find_faces", lambda self, image: searches.append(1) or find_faces(self, image))
    return searches


@pytest.fixture
def portrait_example(astronaut, tmp_path):
    astronaut.save(tmp_path / "face.png")
    return Example(tmp_path / "face.png", 0, "s", "g", "a", "train")


@pytest.mark.slow
def test_faces_are_searched_once(astronaut, portrait_example, tmp_path, searches):
    Image.new("RGB", (90, 60), (99, 99, 99)).save(tmp_path / "none.png")
    examples = [portrait_example, Example(tmp_path / "none.png", 0, "s", "g", "none", "train")]
    face, none = locate_faces(examples)
    expected = FaceFinder(threads=1).find_faces(np.asarray(astronaut))[0]
    np.testing.assert_array_equal(face.box, expected.box)
    np.testing.assert_array_equal(face.landmarks, expected.landmarks)
    assert face_square(face, 1.3, 512, 512) == crop_square(expected.box, 1.3, 512, 512)
    assert none.landmarks is None and face_square(none, 1.3, 90, 60) == whole_square(90, 60)

    searches.clear()
    again, _ = locate_faces(examples)
    assert searches == [] and again.box.tolist() == face.box.tolist()
    Image.new("RGB", (90, 61)).save(tmp_path / "face.png")  # another picture under the same name
    changed, _ = locate_faces(examples)
    assert len(searches) == 1 and changed.landmarks is None


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["MIN_DETECTION_SCORE", "COARSE_SIDE_PX", "SMALL_FACE", "OVERLAP_LIMIT"])
def test_faces_of_another_face_finder_are_not_used(setting, portrait_example, searches, monkeypatch):
    locate_faces([portrait_example])
    with monkeypatch.context() as patch:
        patch.setattr(faces, setting, getattr(faces, setting) * 2)
        locate_faces([portrait_example])
        assert len(searches) == 2
    locate_faces([portrait_example])
    assert len(searches) == 2  # both results are cached


def test_remembered_faces_are_not_searched_and_do_not_replace_others(portrait_example, searches):
    first, second = (LocatedFace(np.full(4, i, np.float32), np.full((5, 2), i, np.float32)) for i in (1, 2))
    for face in (first, second):
        remember_faces({portrait_example.path: face})
        (located,) = locate_faces([portrait_example])
        np.testing.assert_array_equal(located.box, first.box)
        np.testing.assert_array_equal(located.landmarks, first.landmarks)
    assert searches == []


def test_an_unreadable_picture_stops_the_run_and_is_named(tmp_path, searches):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(SystemExit, match=r"broken\.png: .*cannot be read"):
        locate_faces([Example(tmp_path / "broken.png", 0, "s", "g", "a", "train")])
