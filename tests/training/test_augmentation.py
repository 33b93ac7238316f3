import csv
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from project import ROOT

from detector.media.images import read_image
from detector.pictures.faces import FaceFinder
from scripts.generate_synthetic_data import main
from training import augmentation, manifests
from training.augmentation import (
    FLIP_CHANCE,
    MAX_SHEAR,
    MAX_SHIFT,
    MAX_TURN_DEG,
    ZOOM,
    draw_motion,
    hold_out,
    make_copies,
)
from training.manifests import MANIFEST_COLUMNS, Example, locate_faces, read_manifest, split_by_group

pytestmark = pytest.mark.slow

FACE = (150, 10, 310, 170)  # left, top, right, bottom in the picture of the astronaut


@pytest.fixture
def add(astronaut, tmp_path):
    """Add a crop of the astronaut's face to the samples; each `step` gives another picture."""

    def put(name, step, size=(80, 64)):
        path = tmp_path / "samples" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        left, top, right, bottom = FACE
        astronaut.resize(size, box=(left + step, top, right + step, bottom)).save(path)
        return path

    return put


@pytest.fixture
def samples(add, tmp_path):
    """Four deepfakes stored as PNG and four real pictures stored as JPEG, each of its own size."""
    for step in range(4):
        add(f"df/f{step}.png", 20 + step, (64 + step, 48))
        add(f"real/r{step}.jpg", step, (48, 64 + step))
    return tmp_path / "samples"


def run(samples, out, *arguments):
    main(["--source", str(samples), "--out", str(out), *map(str, arguments)])
    return read_manifest(out / "manifest.csv")


def contents(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def pixels(path):
    return read_image(path).astype(int)


def test_the_command_writes_copies_and_a_manifest(samples, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, ROOT / "scripts" / "generate_synthetic_data.py", "--source", samples, "--out", out]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "making: 100%" in done.stderr
    with open(out / "manifest.csv", newline="") as file:
        assert tuple(next(csv.reader(file))) == MANIFEST_COLUMNS
    examples = read_manifest(out / "manifest.csv")
    assert f"{sum(e.label == 1 and e.split == 'train' for e in examples)} fake pictures to learn from" in done.stdout

    groups = defaultdict(list)
    for example in examples:
        groups[example.group].append(example)
    assert len(groups) == 8
    for group in groups.values():
        assert len({(e.label, e.split) for e in group}) == 1
        assert len(group) == (6 if group[0].split == "train" else 1)
        assert len({e.path.read_bytes() for e in group}) == len(group)  # no two copies alike
    for label, width in ((0, 48), (1, 64)):
        assert {e.split for e in examples if e.label == label} == {"train", "val"}
        assert {e.source for e in examples if e.label == label} == {"samples"}
        assert {e.path.parent.name for e in examples if e.label == label} == {augmentation.FOLDERS[label]}
        assert {pixels(e.path).shape[1] - width for e in examples if e.label == label} <= {0, 1, 2, 3}
    assert {f"{e.path.parent.name}/{e.path.name}" for e in examples} == set(contents(out)) - {"manifest.csv"}


def test_both_classes_are_stored_alike(samples, tmp_path):
    stored = set()
    for example in run(samples, tmp_path / "out", "--copies", 1, "--self-blend"):
        with Image.open(example.path) as image:
            tables = tuple(tuple(table) for table in image.quantization.values())
            stored.add((example.path.suffix, image.format, image.mode, tuple(image.layer), tables))
    assert len(stored) == 1


def test_held_out_pictures_are_not_changed(samples, tmp_path):
    originals = {path.stem: path for path in samples.rglob("*.*")}
    for example in run(samples, tmp_path / "out"):
        as_it_was = pixels(originals[example.path.name.split("-")[0]])
        copy = pixels(example.path)
        assert copy.shape == as_it_was.shape
        changed = np.abs(copy - as_it_was).mean()
        assert changed < 4 if "original" in example.path.name else changed > 4
        assert example.split == "train" or "original" in example.path.name


def test_about_a_fifth_is_held_out_and_train_py_can_still_split():
    pictures = [Example(Path("x"), i % 2, "s", "g", f"{i * 7919:016x}", "") for i in range(400)]
    held_out = hold_out(pictures)
    assert 0.15 < len(held_out) / 400 < 0.25
    learned = [picture for picture in pictures if picture.group not in held_out]
    for seed in (0, 1, 2):  # the seed of train.py would leave an almost empty calibration split
        assert 0.05 < len(split_by_group(learned, 0.1, seed)[1]) / len(learned) < 0.15


@pytest.mark.parametrize("counts", [(1, 1), (2, 2), (2, 9), (9, 1), (3, 3), (3, 9), (4, 4), (6, 6)])
def test_few_pictures_are_divided_over_all_steps(counts):
    labels = [label for label in (0, 1) for _ in range(counts[label])]
    for start in range(0, 2000, 20):
        pictures = [Example(Path("x"), label, "s", "g", f"{start + i:016x}", "") for i, label in enumerate(labels)]
        held_out = hold_out(pictures)
        held_of = Counter(picture.label for picture in pictures if picture.group in held_out)
        for label in (0, 1):
            assert held_of[label] == 0 if min(counts) < 3 else 1 <= held_of[label] <= counts[label] - 2


def test_each_picture_moves_in_its_own_way():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    copies = {}
    for group, path in [("00000000000000aa", "a.png"), ("00000000000000aa", "b.png"), ("00000000000000ab", "a.png")]:
        picture = Example(Path(path), 0, "s", "g", group, "train")
        copies[group, path] = [pixels for _, pixels in make_copies(picture, image, None, copies=3, seed=1)]
    first, renamed, other = copies.values()
    assert [np.array_equal(a, b) for a, b in zip(first, renamed, strict=True)] == [True] * 4
    assert [np.array_equal(a, b) for a, b in zip(first, other, strict=True)] == [True, False, False, False]


def test_the_seed_decides(samples, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(samples, tmp_path / name, "--seed", seed, "--copies", 2, "--self-blend")
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert {name for name in a.keys() & c.keys() if a[name] == c[name]} == {name for name in a if "original" in name}
    assert not {a[name] for name in a if "original" not in name} & set(c.values())


def test_other_pictures_change_nothing(samples, add, tmp_path):
    alone = run(samples, tmp_path / "a", "--copies", 2)
    for step in range(3):
        add(f"df/a{step}.png", 30 + step)
        add(f"real/holiday/a{step}.jpg", 40 + step)
    among_others = {e.path.name: e for e in run(samples, tmp_path / "b", "--copies", 2)}
    assert len(among_others) > len(alone)
    same = [e for e in alone if e.path.name in among_others and among_others[e.path.name].split == e.split]
    assert any("copy" in e.path.name for e in same)
    for example in same:
        assert example.path.read_bytes() == among_others[example.path.name].path.read_bytes()
        assert example.group == among_others[example.path.name].group


def test_an_unchanged_file_keeps_its_time(samples, tmp_path):
    first = {e.path: e.path.stat().st_mtime_ns for e in run(samples, tmp_path / "out")}
    assert first == {e.path: e.path.stat().st_mtime_ns for e in run(samples, tmp_path / "out")}


def test_an_interruption_anywhere_leaves_no_partial_result(samples, tmp_path, monkeypatch, capsys):
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    old, new = ("--copies", 1, "--seed", 1), ("--copies", 1, "--seed", 2)
    run(samples, out, *old)
    earlier = contents(out)
    run(samples, fresh, *new)
    later = contents(fresh)
    left, write_bytes = None, Path.write_bytes

    def stop(method):
        def call(*arguments, **options):
            nonlocal left
            left -= 1
            if left < 0:
                if method is write_bytes:
                    method(arguments[0], arguments[1][:100])
                raise KeyboardInterrupt
            return method(*arguments, **options)

        return call

    steps, named = 0, []
    while left is None or left < 0:
        run(samples, out, *old)
        with monkeypatch.context() as patch:
            for name in ("write_bytes", "replace", "unlink"):
                patch.setattr(Path, name, stop(getattr(Path, name)))
            left = steps
            try:
                run(samples, out, *new)
            except SystemExit as stopped:
                assert "Stopped" in str(stopped)
        now = contents(out)
        whole = earlier if now["manifest.csv"] == earlier["manifest.csv"] else later
        named.append(whole is later)
        assert not [name for name in whole if now.get(name) != whole[name]]
        assert not list(out.glob(".part*"))
        run(samples, out, *new)
        assert contents(out) == later
        steps += 1
    assert named == sorted(named)
    assert named.count(True) > 2  # interruptions during the removals are covered too
    assert named.count(False) > len(earlier)


def test_the_leftovers_of_a_killed_run_are_removed(samples, tmp_path):
    run(samples, tmp_path / "fresh")
    out = tmp_path / "out"
    (out / ".part" / "df").mkdir(parents=True)
    (out / ".part" / "df" / "half.jpg").write_bytes(b"\xff\xd8\xff")
    (out / "df").mkdir()
    (out / "df" / "f0-0123456789abcdef-copy9-seed7.jpg").write_bytes(b"moved before the manifest was")
    run(samples, out)
    assert contents(out) == contents(tmp_path / "fresh")
    assert not (out / ".part").exists()


def test_a_damaged_copy_is_repaired(samples, tmp_path):
    examples = run(samples, tmp_path / "out")
    before = contents(tmp_path / "out")
    examples[3].path.write_bytes(b"damaged")
    examples[5].path.unlink()
    run(samples, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_results_of_earlier_settings_go_and_other_files_stay(samples, tmp_path):
    out = tmp_path / "out"
    run(samples, out, "--copies", 3, "--self-blend")
    (out / "real" / "mine.jpg").write_bytes(b"a file of the person's")
    next(samples.rglob("f0.png")).unlink()
    run(samples, out, "--copies", 1, "--seed", 9)
    run(samples, tmp_path / "fresh", "--copies", 1, "--seed", 9)
    assert contents(out) == {**contents(tmp_path / "fresh"), "real/mine.jpg": b"a file of the person's"}


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("cut\noff.jpg", b"\xff\xd8\xff\xe0", "cannot be read"),
        ("empty.png", b"", "empty (0 bytes)"),
        ("deep/er/notes.jpg", b"hello", "plain text"),
    ],
)
def test_unreadable_files_are_left_out_and_named(samples, tmp_path, capsys, name, data, sentence):
    run(samples, tmp_path / "fresh")
    path = samples / "real" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    with pytest.raises(SystemExit, match="cannot be read: 1") as end:
        run(samples, tmp_path / "out")
    assert end.value.code != 0
    lines = [line for line in capsys.readouterr().err.splitlines() if sentence in line]
    assert len(lines) == 1
    assert repr(name)[1:-1] in lines[0]
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_hidden_files_are_ignored(samples, tmp_path):
    (samples / "df" / ".gitkeep").touch()
    (samples / "real" / ".thumbs").mkdir()
    (samples / "real" / ".thumbs" / "x.jpg").write_bytes(b"x")
    assert len(run(samples, tmp_path / "out", "--copies", 0)) == 8


def test_a_repeated_picture_counts_once(samples, tmp_path, capsys):
    run(samples, tmp_path / "fresh")
    (samples / "real" / "z").mkdir()
    (samples / "real" / "z" / "again.jpeg").write_bytes((samples / "real" / "r1.jpg").read_bytes())
    run(samples, tmp_path / "out")
    assert "again.jpeg' is the same picture as" in capsys.readouterr().err
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_a_picture_under_both_labels_is_refused(samples, tmp_path):
    (samples / "real" / "really.png").write_bytes((samples / "df" / "f2.png").read_bytes())
    with pytest.raises(SystemExit, match=r"really\.png' and .*f2\.png' are the same picture; it cannot be both") as end:
        run(samples, tmp_path / "out")
    assert end.value.code != 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("empty", [["df"], ["real"], ["df", "real"]])
@pytest.mark.parametrize("exists", [True, False])
def test_empty_folders_get_a_sentence(samples, tmp_path, empty, exists):
    for kind in empty:
        for path in (samples / kind).iterdir():
            path.unlink()
        if exists:
            (samples / kind / ".gitkeep").touch()
        else:
            (samples / kind).rmdir()
    with pytest.raises(SystemExit, match="There is no picture to work with in") as end:
        run(samples, tmp_path / "out")
    start = str(end.value).split(". Put deepfakes into")[0]
    assert {kind for kind in ("df", "real") if str(samples / kind) in start} == set(empty)
    assert not (tmp_path / "out").exists()


def test_too_few_pictures_to_hold_out_are_reported(add, tmp_path, capsys):
    for kind in ("df", "real"):
        add(f"{kind}/only.png", len(kind))
    examples = run(tmp_path / "samples", tmp_path / "out", "--copies", 2)
    assert Counter(e.split for e in examples) == {"train": 6}
    assert "at least 3 different pictures of each kind" in capsys.readouterr().out


def test_self_blends_are_fakes_in_the_group_of_their_real_picture(add, tmp_path, capsys):
    for step in range(3):
        add(f"df/f{step}.png", 20 + step)
    for step in range(5):
        add(f"real/r{step}.png", step, (192, 192))
    Image.new("RGB", (64, 64), (90, 120, 60)).save(tmp_path / "samples" / "real" / "meadow.png")
    Image.new("RGB", (64, 64), (90, 90, 200)).save(tmp_path / "samples" / "real" / "sky.png")
    examples = run(tmp_path / "samples", tmp_path / "out", "--copies", 2, "--self-blend")

    blends = [e for e in examples if e.source == "self_blend"]
    reals = {e.group: e for e in examples if e.label == 0 and e.split == "train" and e.path.name.startswith("r")}
    assert blends
    assert {e.group for e in blends} == set(reals)
    assert Counter(e.group for e in blends) == dict.fromkeys(reals, 3)
    assert {(e.label, e.generator, e.split, e.path.parent.name) for e in blends} == {(1, "self_blend", "train", "df")}
    assert {e.path.name for e in examples if "self-blend" in e.path.name} == {e.path.name for e in blends}
    faceless = {e.group for e in examples if e.path.name.startswith(("meadow", "sky")) and e.split == "train"}
    assert f"without a face, not blended: {len(faceless)}" in capsys.readouterr().out
    for blend in blends:
        real = (
            tmp_path
            / "out"
            / "real"
            / blend.path.name.replace("self-blend0-seed1", "original").replace("self-blend", "copy")
        )
        changed = np.abs(pixels(blend.path) - pixels(real)).mean()
        assert 0.5 < changed < 45  # another picture of the same pose


def test_the_face_of_a_blended_picture_is_not_searched_again(add, finder, tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "CACHE", tmp_path / "cache")
    for step in range(3):
        add(f"df/f{step}.png", 20 + step, (192, 192))
        add(f"real/r{step}.png", step, (192, 192))
    find_faces, searches = FaceFinder.find_faces, []
    monkeypatch.setattr(FaceFinder, "find_faces", lambda self, image: searches.append(1) or find_faces(self, image))
    examples = run(tmp_path / "samples", tmp_path / "out", "--copies", 1, "--self-blend")
    reals = sum("original" in e.path.name and e.label == 0 and e.split == "train" for e in examples)
    assert reals == len(searches) == 2
    unmoved = [e for e in examples if "original" in e.path.name or "self-blend0" in e.path.name]
    faces = locate_faces(unmoved)
    assert len(unmoved) - 2 * reals == len(searches) - reals  # only pictures that were not blended
    for example, face in zip(unmoved, faces, strict=True):
        found = find_faces(finder, read_image(example.path))[0]
        np.testing.assert_allclose(face.box, found.box, atol=0.1 * found.box[2:].max())


def test_without_the_option_nothing_is_blended(samples, tmp_path, monkeypatch):
    monkeypatch.delattr(augmentation, "FaceFinder")  # no search either
    assert {e.generator for e in run(samples, tmp_path / "out")} == {"camera", "unknown"}


def test_every_kind_of_motion_is_drawn_and_stays_within_its_limit():
    width, height = 200, 100
    centre = np.array([width - 1, height - 1]) / 2
    rows = []
    for seed in range(400):
        motion = draw_motion(width, height, np.random.default_rng(seed))
        linear, moved = motion[:, :2], motion[:, :2] @ centre + motion[:, 2] - centre
        mirrored = np.linalg.det(linear) < 0
        zoom = abs(np.linalg.det(linear)) ** 0.5
        across, down = linear[:, 0] * (-1 if mirrored else 1) / zoom, linear[:, 1] / zoom
        rows.append(
            [np.rad2deg(np.arctan2(across[1], across[0])), *moved / (width, height), across @ down, zoom, mirrored]
        )
    lowest, highest = np.min(rows, axis=0)[:5], np.max(rows, axis=0)[:5]
    limits = np.array([MAX_TURN_DEG, MAX_SHIFT, MAX_SHIFT, MAX_SHEAR])
    np.testing.assert_allclose(highest, [*limits, ZOOM[1]], rtol=0.03)
    np.testing.assert_allclose(lowest, [*-limits, ZOOM[0]], rtol=0.03)
    assert (highest[:4] <= limits).all() and highest[4] <= ZOOM[1] and lowest[4] >= ZOOM[0]
    assert abs(np.mean(rows, axis=0)[5] - FLIP_CHANCE) < 0.1


def test_no_black_corners(samples, add, tmp_path):
    for kind, level in (("df", 250), ("real", 251)):
        Image.new("RGB", (60, 90), (level,) * 3).save(samples / kind / "white.png")
    copies = [e.path for e in run(samples, tmp_path / "out", "--copies", 12) if e.path.name.startswith("white")]
    assert len(copies) > 2
    assert min(pixels(path).min() for path in copies) > 240


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out", "{samples}/df/out"], "lies in --source"),
        (["--out", "{samples}"], "lies in --source"),
        (["--out", "{samples}/../taken"], "cannot be written"),
        (["--copies", "-1"], "'-1' is not a whole number from 0 up"),
        (["--copies", "many"], "'many' is not a whole number from 0 up"),
        (["--seed", "-1"], "'-1' is not a whole number from 0 up"),
    ],
)
def test_wrong_options_get_a_sentence(samples, tmp_path, capsys, arguments, sentence):
    (tmp_path / "taken").write_text("a file, no folder")
    before = contents(samples)
    with pytest.raises(SystemExit) as end:
        run(samples, tmp_path / "out", *(argument.format(samples=samples) for argument in arguments))
    assert end.value.code not in (0, None)
    assert sentence in f"{end.value} {capsys.readouterr().err}"
    assert contents(samples) == before


def test_the_folders_exist():
    for folder in ("sample_data/df", "sample_data/real", "synthetic_data"):
        assert (ROOT / "data" / folder).is_dir()
