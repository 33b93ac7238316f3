"""The audit finds a difference in delivery where one was put, and calls none what is none."""

import cv2
import numpy as np
import pytest
from PIL import Image

from detector import metrics
from detector.media.degradations import recompress
from detector.metrics import Estimate
from detector.pictures.faces import resize
from training import manifests
from training import shortcuts as audit_shortcuts
from training.fitting import BatchGenerator, TrainingSettings
from training.manifests import Example, LocatedFace, write_manifest
from training.shortcuts import (
    DELIVERY_FEATURES,
    LIMIT,
    PIXEL_FEATURES,
    Measured,
    classify,
    measure_fed,
    measure_file,
    measure_pixels,
    separate,
)

SETTINGS = TrainingSettings(
    "", "", "", "", "", 128, 1, 200, audit_shortcuts.SHORTCUT_BATCH, self_blend=0.0, seed=0, damaged=False
)


@pytest.fixture(scope="module", autouse=True)
def small_audit(tmp_path_factory):
    """A cache of the tests' own, and fewer parts and resamples than an honest interval needs."""
    threads = cv2.getNumThreads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifests, "CACHE", tmp_path_factory.mktemp("cache"))
        patch.setattr(audit_shortcuts, "PARTS", 10)
        patch.setattr(metrics, "RESAMPLES", 100)
        yield
    cv2.setNumThreads(threads)


@pytest.fixture
def cuts(portrait, tmp_path):
    """Return a function that stores 40 cuts of the portrait, those called fake altered."""

    def make(alter):
        rng, examples = np.random.default_rng(0), []
        for i in range(40):
            x, y = rng.integers(80, 140), rng.integers(0, 40)
            cut = portrait[y : y + 200, x : x + 200]
            examples.append(Example(tmp_path / f"{i}.png", i % 2, "ab"[i // 2 % 2], "camera", str(i), "train"))
            Image.fromarray(alter(cut) if i % 2 else cut).save(examples[-1].path)
        write_manifest(tmp_path / "manifest.csv", examples)
        return examples

    return make


def redden(image):
    return np.clip(image + np.array([25, 0, 0]), 0, 255).astype(np.uint8)


def fed(examples):
    whole = LocatedFace(np.array([0, 0, 200, 200]), None)
    return measure_fed(examples, [whole] * len(examples), SETTINGS, 200)


def test_a_history_that_reaches_the_network_ends_with_status_1_and_a_sentence(cuts, tmp_path, capsys):
    cuts(lambda image: recompress(image, 20))
    with pytest.raises(SystemExit, match=r"FAILED: .* delivery alone separates .* n 200; at most"):
        audit_shortcuts.main(
            ["--manifest", str(tmp_path / "manifest.csv"), "--samples=200", "--size=128", "--undamaged", "--sources"]
        )
    told = capsys.readouterr().out
    assert "| before, n 40 | after, n 200 |" in told
    after = told.split("most telling alone, after")[1].split("\n| reals of this source")[0]
    assert "\n| grid_frequency | delivery |" in after
    assert "\n| a |" in told and "\n| b |" in told


def test_classes_that_came_the_same_way_pass(cuts, tmp_path, capsys):
    cuts(lambda image: image)
    audit_shortcuts.main(["--manifest", str(tmp_path / "manifest.csv"), "--samples=200", "--size=128"])
    assert "Passed" in capsys.readouterr().out


def test_a_difference_in_look_is_told_as_look(cuts):
    after = fed(cuts(redden))
    look, delivery = separate(after, PIXEL_FEATURES).value, separate(after, DELIVERY_FEATURES).value
    assert look > 0.9 and delivery < look - 0.1  # a redder picture also takes a few bits more


def test_no_group_is_in_two_parts_and_no_two_parts_are_damaged_alike(cuts, monkeypatch):
    parts = []

    class Watched(BatchGenerator):
        def __init__(self, examples, faces, settings):
            parts.append(({example.group for example in examples}, settings.seed))
            super().__init__(examples, faces, settings)

    monkeypatch.setattr(audit_shortcuts, "Stream", Watched)
    examples = cuts(lambda image: image)
    examples += [Example(e.path, e.label, e.source, e.generator, e.group, e.split) for e in examples]  # a copy of each
    after = fed(examples)
    assert sum(len(groups) for groups, _ in parts) == 40 == len(set.union(*(groups for groups, _ in parts)))
    assert len({seed for _, seed in parts}) == len(parts) == len(np.unique(after.groups)) == audit_shortcuts.PARTS


def test_what_is_learned_from_a_group_helps_on_no_other():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 10)
    labels, marks = rng.integers(0, 2, 60)[groups], rng.random(60)[groups]
    assert (
        separate(Measured({"bytes": marks}, labels, groups), DELIVERY_FEATURES).low < 0.6
    )  # whoever knows the group knows all


def test_so_few_samples_that_nothing_can_be_told_are_refused(capsys):
    with pytest.raises(SystemExit):
        audit_shortcuts.main(["--samples=199"])
    assert "under 200 nothing can be told" in capsys.readouterr().err


def test_too_few_groups_are_refused(cuts):
    with pytest.raises(SystemExit, match="At least 10 groups each .*, 8 found"):
        fed(cuts(lambda image: image)[:16])


@pytest.mark.parametrize(
    ("low", "high", "passed", "begins"),
    [
        (LIMIT + 0.01, LIMIT + 0.03, False, "FAILED: after"),
        (LIMIT - 0.05, LIMIT + 0.06, False, "FAILED: after"),
        (LIMIT - 0.03, LIMIT + 0.02, True, "Passed, but not surely"),
        (LIMIT - 0.09, LIMIT - 0.03, True, "Passed: after"),
    ],
)
def test_the_value_decides_so_that_fewer_samples_are_no_way_out(low, high, passed, begins):
    verdict, sentence = classify(Estimate((low + high) / 2, low, high, 400))
    assert verdict is passed and sentence.startswith(begins)


@pytest.mark.parametrize("quality", [30, 60, 92])
def test_a_file_tells_how_it_was_saved(quality, astronaut, tmp_path):
    path = tmp_path / "face.jpg"
    exif = Image.Exif()
    exif[0x010F] = "camera"
    astronaut.crop((0, 0, 300, 200)).save(path, quality=quality, progressive=True, exif=exif, subsampling=0)
    told = measure_file(path)
    assert told["quality"] == pytest.approx(quality, abs=1)
    assert (told["width"], told["height"], told["aspect"]) == (300, 200, 1.5)
    assert told["bits_per_pixel"] == 8 * path.stat().st_size / 60000
    assert told["exif"] and told["progressive"] and told["chroma_subsampling"] == 0 and not told["colour_profile"]


def test_a_file_without_loss_has_no_table(astronaut, tmp_path):
    astronaut.save(tmp_path / "face.png")
    told = measure_file(tmp_path / "face.png")
    assert (told["luma_table"], told["chroma_table"], told["quality"], told["exif"]) == (0, 0, 100, False)


def test_pixels_tell_what_was_done_to_them(portrait):
    face = portrait[0:256, 100:356]
    plain, squeezed = measure_pixels(face), measure_pixels(recompress(face, 15))
    assert squeezed["blockiness"] > 1.3 * plain["blockiness"] and squeezed["jpeg90_bits"] < plain["jpeg90_bits"]
    assert measure_pixels(resize(face[::2, ::2], 256, 256))["bandwidth"] < plain["bandwidth"] - 1
    grey = np.repeat(face[..., 1:2], 3, axis=2)
    assert measure_pixels(grey)["colourfulness"] == 0 < plain["colourfulness"]


@pytest.mark.parametrize("side", [160, 192, 320])
def test_the_grid_tells_by_how_much_a_picture_was_scaled_after_its_compression(side, portrait):
    found = measure_pixels(resize(recompress(portrait[0:256, 100:356], 15), side, side))
    harmonic = found["grid_frequency"] * 8 * side / 256  # the blocks are 8 * side / 256 wide
    assert found["grid_strength"] > 5 and harmonic == pytest.approx(round(harmonic), abs=0.1)
