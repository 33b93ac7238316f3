"""The audit detects a difference in file history where one was made, and reports none where there is none."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from detector import metrics
from detector.media.degradations import recompress
from detector.metrics import Estimate
from detector.pictures.faces import resize
from scripts import audit_shortcuts as command
from training import manifests, shortcuts
from training.batches import BatchGenerator
from training.manifests import Example, LocatedFace, write_manifest
from training.settings import TrainingSettings
from training.shortcuts import (
    APPEARANCE_FEATURES,
    HISTORY_FEATURES,
    MAX_HISTORY_AUC,
    MAX_STATISTICS_AUC,
    STATISTICS,
    Measured,
    assess_history,
    assess_statistics,
    measure_fed,
    measure_file,
    measure_pixels,
    measure_stored_faces,
    separate,
    separate_by_statistics,
)

pytestmark = pytest.mark.slow

SETTINGS = TrainingSettings(
    "", "", "", "", "", 128, 1, 200, shortcuts.SHORTCUT_BATCH, self_blend=0.0, seed=0, damaged=False
)
SIDE_PX = 160


@pytest.fixture(scope="module", autouse=True)
def small_audit(tmp_path_factory):
    """A cache of the tests' own, and fewer parts, folds, trees and resamples than a published interval needs."""
    threads = cv2.getNumThreads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifests, "CACHE", tmp_path_factory.mktemp("cache"))
        patch.setattr(shortcuts, "AUDIT_PARTS", 10)
        patch.setattr(shortcuts, "STATISTICS_PARTS", 5)
        patch.setattr(shortcuts, "AUDIT_FOLDS", 3)
        patch.setattr(shortcuts, "AUDIT_TREES", 10)
        patch.setattr(metrics, "RESAMPLES", 30)
        yield
    cv2.setNumThreads(threads)


@pytest.fixture
def crops(portrait, tmp_path):
    """Return a function that stores 40 crops of the portrait, those labelled fake altered."""

    def make(alter):
        rng, examples = np.random.default_rng(0), []
        for i in range(40):
            x, y = rng.integers(100, 160), rng.integers(20, 60)
            crop = portrait[y : y + SIDE_PX, x : x + SIDE_PX]
            examples.append(Example(tmp_path / f"{i}.png", i % 2, "ab"[i // 2 % 2], "camera", str(i), "train"))
            Image.fromarray(alter(crop) if i % 2 else crop).save(examples[-1].path)
        write_manifest(tmp_path / "manifest.csv", examples)
        return examples

    return make


@pytest.fixture
def audit(monkeypatch, tmp_path):
    """Return the command on the stored crops, of which each counts as one face."""
    monkeypatch.setattr(shortcuts, "locate_faces", whole_faces)
    return lambda *options: command.main(
        ["--manifest", str(tmp_path / "manifest.csv"), "--samples=200", "--size=128", *options]
    )


def whole_faces(examples):
    return [LocatedFace(np.array([0, 0, SIDE_PX, SIDE_PX]), None)] * len(examples)


def redden(image):
    return np.clip(image + np.array([25, 0, 0]), 0, 255).astype(np.uint8)


def feed(examples):
    return measure_fed(examples, whole_faces(examples), SETTINGS, 200)


def test_history_that_reaches_the_network_ends_with_status_1_and_a_sentence(crops, audit, capsys):
    crops(lambda image: recompress(image, 20))
    with pytest.raises(SystemExit, match=r"FAILED: .* file history alone separates .* n 200; the limit"):
        audit("--undamaged", "--check=history")
    printed = capsys.readouterr().out
    assert "| before, n 40 | after, n 200 |" in printed
    assert "\n| grid_frequency | file history |" in printed.split("strongest features alone, after")[1]


def test_equal_histories_pass(crops, audit, capsys):
    crops(lambda image: image)
    audit("--self-blend=0", "--reconstruct=0", "--check=history")
    assert "Passed" in capsys.readouterr().out


def blur(image):
    return cv2.GaussianBlur(image, (0, 0), 1.5)


def test_statistics_that_reach_the_network_are_reported_for_each_fold_with_status_1(crops, audit, capsys, tmp_path):
    folded = [replace(example, fold=i // 20) for i, example in enumerate(crops(lambda image: image))]
    for example in folded:
        if example.label and example.fold == 0:
            Image.fromarray(blur(np.asarray(Image.open(example.path)))).save(example.path)
    write_manifest(tmp_path / "manifest.csv", folded)
    with pytest.raises(SystemExit, match=r"^FAILED: .* n 200, of .* on all but fold 1; .* limit of 0\.55"):
        audit("--undamaged", "--self-blend=0", "--reconstruct=0", "--check=statistics")
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    numbers = {(row[0], row[1]): (int(row[2]), float(row[3].split()[0])) for row in rows}
    assert set(numbers) == {
        (name, when) for name in ("all pictures", "all but fold 0", "all but fold 1") for when in ("before", "after")
    }
    assert [numbers[name, "before"][0] for name in ("all pictures", "all but fold 0", "all but fold 1")] == [40, 20, 20]
    sharpness = {name: value for (name, when), (_, value) in numbers.items() if when == "after"}
    assert sharpness["all but fold 1"] > 0.9 > sharpness["all pictures"] > sharpness["all but fold 0"]


def test_a_number_separates_in_whichever_direction_it_does():
    rng, labels = np.random.default_rng(0), np.arange(200) % 2
    values = {name: rng.normal(size=200) for name in STATISTICS}
    values["sharpness"] = rng.normal(-1.0 * labels)
    values["noise"], values["contrast"] = labels + (first := rng.integers(0, 2, 200)), first * 1.0
    found = separate_by_statistics(Measured(values, labels, np.arange(200) // 2))
    assert found["sharpness"].low > 0.6
    assert found["all"].value > max(found[name].value for name in STATISTICS)  # noise less contrast is the label
    assert all(estimate.n == 200 and estimate.value >= 0.5 for name, estimate in found.items())


def test_the_size_of_a_stored_face_is_that_of_its_box_and_no_scaling_changes_its_sharpness(crops):
    examples = crops(lambda image: image)[:4]
    faces = [LocatedFace(np.array([40, 30, 60, 80], np.float32), np.zeros((5, 2), np.float32))] * 4
    measured = measure_stored_faces(examples, faces)
    assert set(measured.values) == set(STATISTICS) and measured.values["face_size_px"].tolist() == [80] * 4
    cut = np.asarray(Image.open(examples[0].path))[30:110, 30:110]
    assert measured.values["sharpness"][0] == pytest.approx(shortcuts.sharpness(cut))


@pytest.mark.parametrize("value", [MAX_STATISTICS_AUC - 0.01, MAX_STATISTICS_AUC + 0.01])
def test_one_number_of_one_fold_decides(value):
    found = {fold: dict.fromkeys([*STATISTICS, "all"], Estimate(0.51, 0.5, 0.53, 400)) for fold in "ab"}
    found["b"]["noise"] = Estimate(value, value - 0.02, value + 0.02, 300)
    passed, sentence = assess_statistics(found)
    assert passed is (value <= MAX_STATISTICS_AUC)
    assert "highest AUC of 10" in sentence and "n 300, of noise on b" in sentence


def test_a_source_of_reals_with_a_history_of_its_own_is_separated(crops, monkeypatch, capsys):
    monkeypatch.setattr(shortcuts, "AUDIT_PARTS", 5)
    examples = crops(lambda image: image)
    for example in examples:
        if example.source == "b":
            Image.fromarray(recompress(np.asarray(Image.open(example.path)), 20)).save(example.path)
    shortcuts.print_sources(examples, whole_faces(examples), replace(SETTINGS, self_blend=0.5), 100)
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["| a", "| b"]
    assert all(float(after.split()[0]) > 0.8 for _, _, after in rows)
    assert all(", n 20" in before and ", n 100" in after for _, before, after in rows)


def test_a_difference_in_colour_is_reported_as_appearance(crops):
    after = feed(crops(redden))
    appearance, history = separate(after, APPEARANCE_FEATURES).value, separate(after, HISTORY_FEATURES).value
    assert appearance > 0.9 and history < appearance - 0.1  # a redder picture also takes a few bits more


def test_no_group_is_in_two_parts_and_every_part_has_a_seed_of_its_own(crops, monkeypatch):
    parts = []

    class Watched(BatchGenerator):
        def __init__(self, examples, faces, settings):
            parts.append(({example.group for example in examples}, settings.seed))
            super().__init__(examples, faces, settings)

    monkeypatch.setattr(shortcuts, "BatchGenerator", Watched)
    examples = crops(lambda image: image)
    examples += [Example(e.path, e.label, e.source, e.generator, e.group, e.split) for e in examples]  # a copy of each
    after = feed(examples)
    assert sum(len(groups) for groups, _ in parts) == 40 == len(set.union(*(groups for groups, _ in parts)))
    assert len({seed for _, seed in parts}) == len(parts) == len(np.unique(after.groups)) == shortcuts.AUDIT_PARTS


def test_what_is_learned_from_a_group_does_not_help_on_others():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 10)
    labels, marks = rng.integers(0, 2, 60)[groups], rng.random(60)[groups]
    # Each mark identifies its group, and so the label: folds that split a group would reach an AUC of 1.
    assert separate(Measured({"bytes": marks}, labels, groups), HISTORY_FEATURES).low < 0.6


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--samples=199"], "--samples is 199; the audit needs at least 200"),
        (["--self-blend=0.7", "--reconstruct=0.4"], "their sum is at most 1"),
    ],
)
def test_options_that_make_no_audit_are_refused(options, sentence, capsys):
    with pytest.raises(SystemExit):
        command.main(options)
    assert sentence in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_too_few_groups_are_refused(crops):
    with pytest.raises(SystemExit, match="At least 10 groups each .*, 8 found"):
        feed(crops(lambda image: image)[:16])


@pytest.mark.parametrize(
    ("low", "high", "passed", "begins"),
    [
        (MAX_HISTORY_AUC + 0.01, MAX_HISTORY_AUC + 0.03, False, "FAILED: after"),
        (MAX_HISTORY_AUC - 0.05, MAX_HISTORY_AUC + 0.06, False, "FAILED: after"),
        (MAX_HISTORY_AUC - 0.03, MAX_HISTORY_AUC + 0.02, True, "Passed, but not surely"),
        (MAX_HISTORY_AUC - 0.09, MAX_HISTORY_AUC - 0.03, True, "Passed: after"),
    ],
)
def test_the_value_decides_so_that_fewer_samples_do_not_pass_more_easily(low, high, passed, begins):
    verdict, sentence = assess_history(Estimate((low + high) / 2, low, high, 400))
    assert verdict is passed and sentence.startswith(begins)


@pytest.mark.parametrize("quality", [30, 60, 92])
def test_a_files_features_state_how_it_was_saved(quality, astronaut, tmp_path):
    path = tmp_path / "face.jpg"
    exif = Image.Exif()
    exif[0x010F] = "camera"
    astronaut.crop((0, 0, 300, 200)).save(path, quality=quality, progressive=True, exif=exif, subsampling=0)
    found = measure_file(path)
    assert found["quality"] == quality
    assert (found["width"], found["height"], found["aspect"]) == (300, 200, 1.5)
    assert found["bits_per_pixel"] == 8 * path.stat().st_size / 60000
    assert found["exif"] and found["progressive"] and found["chroma_subsampling"] == 0 and not found["colour_profile"]


def test_a_lossless_file_has_no_tables(astronaut, tmp_path):
    astronaut.save(tmp_path / "face.png")
    found = measure_file(tmp_path / "face.png")
    assert (found["luma_table"], found["chroma_table"], found["quality"], found["exif"]) == (0, 0, 100, False)


def test_pixel_features_respond_to_compression_scaling_and_colour(portrait):
    face = portrait[0:256, 100:356]
    plain, squeezed = measure_pixels(face), measure_pixels(recompress(face, 15))
    assert squeezed["blockiness"] > 1.3 * plain["blockiness"] and squeezed["jpeg90_bits"] < plain["jpeg90_bits"]
    assert measure_pixels(resize(face[::2, ::2], 256, 256))["bandwidth"] < plain["bandwidth"] - 1
    grey = np.repeat(face[..., 1:2], 3, axis=2)
    assert measure_pixels(grey)["colourfulness"] == 0 < plain["colourfulness"]


@pytest.mark.parametrize("side", [160, 192, 320])
def test_the_grid_reveals_the_scaling_after_a_compression(side, portrait):
    found = measure_pixels(resize(recompress(portrait[0:256, 100:356], 15), side, side))
    harmonic = found["grid_frequency"] * 8 * side / 256  # the blocks are 8 * side / 256 wide
    assert found["grid_strength"] > 5 and harmonic == pytest.approx(round(harmonic), abs=0.1)
