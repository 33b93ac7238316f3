import csv
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.media.images import read_image
from detector.pictures.faces import FaceFinder, crop_faces, crop_square, cut_square
from detector.results import UnreadableMedia
from scripts.prepare_data import main
from training import batches, manifests, preparing
from training.manifests import (
    CALIBRATION_PROPORTION,
    CALIBRATION_SEED,
    MANIFEST_COLUMNS,
    Example,
    read_manifest,
    split_by_group,
    write_manifest,
)
from training.preparing import choose_splits, cut_wide


@pytest.fixture(autouse=True)
def searches(finder, monkeypatch, tmp_path):
    """One face finder for all runs, a face cache of the test's own, and a list that counts the searches."""
    threads, find_faces, searches = cv2.getNumThreads(), FaceFinder.find_faces, []
    monkeypatch.setattr(manifests, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(preparing, "FaceFinder", lambda threads: finder)
    monkeypatch.setattr(FaceFinder, "find_faces", lambda self, image: searches.append(1) or find_faces(self, image))
    yield searches
    cv2.setNumThreads(threads)


@pytest.fixture
def folder(scene, tmp_path):
    """Five real and five fake pictures in several formats, and copies: one re-saved, one of the same bytes."""
    for number in range(10):
        path = (
            tmp_path / "in" / "set" / ("real", "DF")[number // 5] / f"{number}{('.png', '.jpg', '.webp')[number % 3]}"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene(number)).save(path)
    inside = tmp_path / "in" / "set"
    (inside / "real" / "deeper").mkdir()
    Image.fromarray(scene(0)).resize((240, 180)).save(inside / "real" / "deeper" / "again.jpg", quality=60)
    (inside / "DF" / "same.jpg").write_bytes((inside / "DF" / "7.jpg").read_bytes())
    return tmp_path / "in"


def run(*arguments, out):
    main([*map(str, arguments), "--out", str(out), "--threads", "2"])
    return read_manifest(out / "manifest.csv")


def contents(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def write_video(path, images, rate_hz):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate_hz, images[0].shape[1::-1])
    for image in images:
        writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    writer.release()
    return path


@pytest.mark.slow
def test_folders_become_crops_and_a_manifest(folder, finder, tmp_path, capsys):
    (folder / "set" / "real" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    save(folder / "set" / "DF" / "wall.png", np.full((99, 99, 3), 128, np.uint8))
    (folder / "set" / "real" / "notes.txt").touch()
    examples = run(folder, out=tmp_path / "out")
    with open(tmp_path / "out" / "manifest.csv", newline="") as file:
        assert tuple(next(csv.reader(file))) == MANIFEST_COLUMNS
    assert Counter((e.label, e.source, e.generator) for e in examples) == {
        (0, "set", "camera"): 6,
        (1, "set", "unknown"): 5,
    }
    for label in (0, 1):
        assert {e.split for e in examples if e.label == label} == {"train", "val"}
        assert len({e.group for e in examples if e.label == label}) == 5
    (twins,) = [found for found in Counter(e.group for e in examples).items() if found[1] > 1]
    assert {e.path.name.split("-")[0] for e in examples if e.group == twins[0]} == {"0", "again"}
    for example in examples:
        with Image.open(example.path) as crop:
            assert crop.format == "PNG" and len(finder.find_faces(np.asarray(crop))) == 1

    printed = capsys.readouterr()
    assert "2 of 12 pictures have a near duplicate in another group" in printed.out
    skipped = (
        "skipped: 1 unreadable, 1 without a face of at least 40 px, 1 repeated, 1 neither picture nor video by name"
    )
    assert skipped in printed.out
    assert "broken.jpg': The JPEG picture cannot be read" in printed.err and "making: 100%" in printed.err


def test_a_second_run_makes_only_what_is_new(folder, scene, searches, tmp_path):
    first = run(folder, out=tmp_path / "out")
    assert len(searches) == 11  # one of the twelve files is there twice
    before = contents(tmp_path / "out")

    searches.clear()
    run(folder, out=tmp_path / "out")
    assert searches == [] and contents(tmp_path / "out") == before
    first[0].path.unlink()
    save(folder / "set" / "real" / "new.png", scene(10))
    again = run(folder, out=tmp_path / "out")
    assert len(searches) == 2 and len(again) == len(first) + 1
    assert before.items() - contents(tmp_path / "out").items() == {
        (name, before[name]) for name in ("manifest.csv", ".made.json")
    }


def test_unreadable_files_are_tried_again(scene, tmp_path, monkeypatch):
    for kind in ("real", "fake"):
        save(tmp_path / "in" / kind / "a.png", scene(ord(kind[0])))

    def read_one_kind(path):
        if path.parent.name == "real":
            raise UnreadableMedia("There is no memory left.")
        return read_image(path)

    with monkeypatch.context() as patch:
        patch.setattr(preparing, "read_image", read_one_kind)
        assert len(run(tmp_path / "in", out=tmp_path / "out")) == 1
    assert len(run(tmp_path / "in", out=tmp_path / "out")) == 2


def test_a_face_too_small_to_analyse_is_left_out(astronaut, scene, tmp_path, capsys):
    for size, number in ((150, 0), (300, 1)):
        save(tmp_path / "in" / "real" / f"{number}.png", np.asarray(astronaut.resize((size, size))))
    assert [e.path.name[0] for e in run(tmp_path / "in", out=tmp_path / "out")] == ["1"]
    assert "skipped: 1 without a face of at least 40 px\n" in capsys.readouterr().out


@pytest.mark.slow
def test_the_same_files_elsewhere_give_the_same(folder, tmp_path):
    run(folder, out=tmp_path / "a")
    folder.rename(tmp_path / "elsewhere")
    run(tmp_path / "elsewhere", "--threads", 1, out=tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    run(tmp_path / "elsewhere", "--seed", 5, out=tmp_path / "c")
    a, c = contents(tmp_path / "a"), contents(tmp_path / "c")
    assert [name for name in a if a[name] != c[name]] == ["manifest.csv"]


def test_the_network_sees_the_same_pixels_of_a_crop_as_of_its_picture():
    rng = np.random.default_rng(0)
    reach = batches.CROP_MARGIN * batches.MARGIN_JITTER[1]
    assert reach * (1 + 2 * batches.SHIFT_JITTER) < preparing.WIDE_MARGIN
    smaller = 0
    for _ in range(300):
        height, width = rng.integers(130, 400, 2)
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        w, h = rng.uniform(20, 160, 2)
        box = np.array([rng.uniform(-0.2 * w, width - 0.8 * w), rng.uniform(-0.2 * h, height - 0.8 * h), w, h])
        crop, (left, top, scale) = cut_wide(image, box)
        assert scale == 1
        smaller += crop.shape != image.shape
        inside = box - [left, top, 0, 0]
        for margin in (1.0, batches.CROP_MARGIN, reach):
            of_crop = cut_square(crop, crop_square(inside, margin, crop.shape[1], crop.shape[0]))
            np.testing.assert_array_equal(of_crop, cut_square(image, crop_square(box, margin, width, height)))
    assert smaller > 150


def test_a_huge_face_is_shrunk():
    crop, (left, top, scale) = cut_wide(np.zeros((3000, 2000, 3), np.uint8), np.array([400, 900, 1000, 1200]))
    assert max(crop.shape) == preparing.MAX_WIDE_PX
    assert scale == preparing.MAX_WIDE_PX / 2160 and (left, top) == (0, 420)


def test_a_video_gives_a_frame_a_second_or_as_many_as_requested(tmp_path):
    greys = [np.full((64, 64, 3), 8 * i, np.uint8) + np.array([40, 0, 0], np.uint8) for i in range(25)]
    video = write_video(tmp_path / "greys.avi", greys, rate_hz=5)
    for frames, wanted in ((None, [0, 5, 10, 15, 20]), (3, [0, 12, 24]), (100, list(range(25)))):
        pictures = list(preparing._read_pictures(video, frames))
        assert [suffix for suffix, _ in pictures] == [f"-{200 * index:08d}ms" for index in wanted]
        for index, (_, frame) in zip(wanted, pictures, strict=True):
            np.testing.assert_allclose(frame.mean(axis=(0, 1)), [8 * index + 40, 8 * index, 8 * index], atol=4)


def test_a_file_that_is_no_video_is_skipped_with_a_sentence(tmp_path, capsys):
    path = tmp_path / "real" / "clip.mp4"
    path.parent.mkdir()
    path.write_bytes(b"no video at all")
    with pytest.raises(SystemExit, match="Nothing could be made. Skipped: 1 unreadable"):
        run("--real", path.parent, out=tmp_path / "out")
    assert "clip.mp4': The file" in capsys.readouterr().err


@pytest.mark.slow
def test_a_face_that_was_found_is_not_searched_again(scene, searches, finder, tmp_path):
    big = np.asarray(Image.fromarray(scene(3)).resize((1600, 1200)))  # its crop is shrunk
    for number, image in enumerate([scene(0), scene(1), scene(2), big]):
        save(tmp_path / "in" / ("real", "fake")[number % 2] / f"{number}.png", image)
    write_video(tmp_path / "in" / "fake" / "clip.avi", [scene(10), scene(11)], rate_hz=1)
    examples = run(tmp_path / "in", out=tmp_path / "out")
    assert len(searches) == len(examples) == 6
    faces = manifests.locate_faces(examples)
    assert len(searches) == 6  # one search for each picture, in preparing and training together

    for example, face in zip(examples, faces, strict=True):
        found, *_ = finder.find_faces(read_image(example.path))
        np.testing.assert_allclose(face.box, found.box, atol=0.12 * found.box[2:].max())
        np.testing.assert_allclose(face.landmarks, found.landmarks, atol=0.12 * found.box[2:].max())


def test_the_network_is_trained_on_the_squares_the_detector_would_cut(scene, finder, tmp_path):
    for number in range(2):
        save(tmp_path / ("mine", "theirs")[number] / "a.png", scene(number))
    examples = run("--real", tmp_path / "mine", "--fake", tmp_path / "theirs", out=tmp_path / "out")
    crops = batches.cut_faces(examples, manifests.locate_faces(examples), 64)
    for number, crop in enumerate(crops):
        box = finder.find_faces(scene(number))[0].box
        square = crop_square(box, batches.CROP_MARGIN, 320, 240)
        np.testing.assert_array_equal(crop, crop_faces(scene(number), [square], 64)[0])


@pytest.mark.slow
def test_the_frames_of_a_video_are_one_group(scene, tmp_path, capsys):
    for kind, label in (("real", 0), ("fake", 1)):
        for number in range(3):
            images = [scene(100 * label + 10 * number + i // 4) for i in range(12)]
            write_video(tmp_path / "clips" / kind / f"{number}.avi", images, rate_hz=4)
    examples = run(tmp_path / "clips", out=tmp_path / "out")
    assert Counter(Counter(e.group for e in examples).values()) == {3: 6}
    assert len({(e.group, e.split) for e in examples}) == 6
    parted, apart = (line for line in capsys.readouterr().out.splitlines() if line.startswith("Split "))
    assert parted.startswith("Split picture by picture, 2 of 2 held-out") and apart.startswith(
        "Split by group alone, 0 of"
    )
    assert {e.path.name.split("-")[-1] for e in examples} == {f"{i:08d}ms.png" for i in (0, 1000, 2000)}


def groups_in(examples, splits):
    found = {}
    for example, split in zip(examples, splits, strict=True):
        found.setdefault(split, set()).add(example.group)
    return found


def test_given_splits_stay_and_new_groups_are_drawn():
    new = [Example(Path(f"{i}.png"), i % 2, "s", "g", f"{i}", "") for i in range(1000)]
    old = [Example(Path(f"old{i}.png"), i % 2, "s", "g", f"old{i}", ("train", "val")[i > 7]) for i in range(10)]
    torn = [Example(Path(f"torn{split}.png"), 0, "s", "g", "torn", split) for split in ("val", "train", "")]
    found = groups_in([*old, *new, *torn], choose_splits([*old, *new, *torn], 0.1, 0))
    assert {g for g in found["val"] if g.startswith(("old", "torn"))} == {"old8", "old9", "torn"}
    assert 0.06 < len(found["val"] & {e.group for e in new}) / 1000 < 0.14
    assert not found["val"] & found["train"]

    learned = [e for e in new if e.group in found["train"]]  # train.py still gets a calibration split
    assert 0.06 < len(split_by_group(learned, CALIBRATION_PROPORTION, CALIBRATION_SEED)[1]) / len(learned) < 0.14
    for proportion, split in ((0, "train"), (1, "val")):
        assert set(choose_splits(new, proportion, 0)) == {split}
    assert set(choose_splits(new[:3], 0.9, 0)) == {"train"}  # the only fake stays in train


def test_held_out_pictures_stay_and_their_copies_are_dropped(scene, tmp_path, capsys):
    examples = []
    for number in range(6):
        path = save(tmp_path / f"{number}.png", scene(number))
        split = "val" if number > 3 else "train"
        examples.append(Example(path, number % 2, "s", ("camera", "swap")[number % 2], f"g{number}", split))
    copy = save(tmp_path / "copy.jpg", scene(4))
    examples.insert(0, Example(copy, 0, "s", "camera", "a", "train"))
    write_manifest(tmp_path / "manifest.csv", examples)

    kept = run(tmp_path / "manifest.csv", "--no-crops", out=tmp_path / "kept")
    assert [(e.path.resolve(), e.group, e.split) for e in kept] == [
        (e.path.resolve(), "a" if e.group == "g4" else e.group, e.split) for e in examples[1:]
    ]
    printed = capsys.readouterr().out
    assert "1 of 2 held-out pictures (50.0%" in printed and "skipped: 1 near duplicates of held-out pictures" in printed
    assert "is right for 100.0% [20.7 to 100.0]" in printed

    with pytest.raises(SystemExit, match="would overwrite"):
        run(tmp_path / "manifest.csv", out=tmp_path)

    anew = run(tmp_path / "manifest.csv", "--no-crops", "--resplit", out=tmp_path / "anew")
    assert len(anew) == 7 and len({e.split for e in anew if e.group == "a"}) == 1


def test_unusable_inputs_end_with_a_sentence(folder, tmp_path):
    empty = tmp_path / "empty" / "real"
    empty.mkdir(parents=True)
    with pytest.raises(SystemExit, match="no file with a name of a picture or a video"):
        run(empty.parent, out=tmp_path / "out")
    (empty / "a.jpg").write_text("no picture")
    with pytest.raises(SystemExit, match="Nothing could be made. Skipped: 1 unreadable"):
        run(empty.parent, out=tmp_path / "out")
    with pytest.raises(SystemExit, match="There is no folder named real, fake or df"):
        run(empty, out=tmp_path / "out")
    with pytest.raises(SystemExit, match="lies in"):
        run(folder, out=folder / "out")
    write_video(tmp_path / "clips" / "a.avi", [np.zeros((64, 64, 3), np.uint8)] * 3, rate_hz=5)
    with pytest.raises(SystemExit, match="--no-crops takes no videos"):
        run("--fake", tmp_path / "clips", "--no-crops", out=tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.csv").exists()


def test_a_file_cannot_be_real_and_fake(folder, tmp_path):
    (folder / "set" / "real" / "theirs.webp").write_bytes((folder / "set" / "DF" / "5.webp").read_bytes())
    with pytest.raises(SystemExit, match=r"5\.webp' and .*theirs\.webp' are the same file; it cannot be real and fake"):
        run(folder, out=tmp_path / "out")
    assert set(contents(tmp_path / "out")) == set()


def test_a_crop_shows_the_face_of_its_picture(scene, finder, tmp_path):
    for number in range(2):
        save(tmp_path / ("mine", "theirs")[number] / "a.png", scene(number))
    examples = run("--real", tmp_path / "mine", "--fake", tmp_path / "theirs", out=tmp_path / "out")
    assert [(e.label, e.source, e.split) for e in examples] == [(0, "mine", "train"), (1, "theirs", "train")]
    for number, example in enumerate(examples):
        box = finder.find_faces(scene(number))[0].box
        np.testing.assert_array_equal(read_image(example.path), cut_wide(scene(number), box)[0])
