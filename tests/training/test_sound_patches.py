import csv

import numpy as np
import pytest
from clips import make_sound
from voices import RATE_HZ, speak

from scripts import learn_sound_patches
from training.sound_patches import DICTIONARIES, PATCH_EPSILON, _fit_filters, read_patch_filters
from training.voice_manifest import SPEECH_MANIFEST_COLUMNS


def write_manifest(folder, durations_s):
    """Write a recording of each duration, real and fake in turn, and return the path of their manifest."""
    rows = [
        [f"{number}.wav", number % 2, "train", "studio", "wavenet" if number % 2 else "human", f"speaker{number}"]
        for number in range(len(durations_s))
    ]
    for number, duration_s in enumerate(durations_s):
        (folder / f"{number}.wav").write_bytes(make_sound(speak(2.4, number)[: round(duration_s * RATE_HZ)]))
    with open(folder / "speech.csv", "w", newline="") as file:
        csv.writer(file).writerows([SPEECH_MANIFEST_COLUMNS, *rows])
    return folder / "speech.csv"


def test_the_script_writes_the_filters_of_a_manifest_and_skips_what_is_too_short(tmp_path):
    # 50 ms are shorter than a frame, 70 ms shorter than a patch.
    manifest = write_manifest(tmp_path, [2.4, 0.05, 0.07, 2.4, 2.4])
    learn_sound_patches.main(["--manifest", str(manifest), "--out", str(tmp_path / "patches.npz")])
    filters = read_patch_filters(tmp_path / "patches.npz")
    assert {name: kernel.shape for name, (kernel, _) in filters.items()} == {
        entry.name: (entry.frames * entry.bands, entry.patches) for entry in DICTIONARIES
    }
    assert all(np.isfinite(kernel).all() and np.isfinite(bias).all() for kernel, bias in filters.values())


def test_too_few_recordings_are_refused(tmp_path):
    manifest = write_manifest(tmp_path, [2.4, 0.05])
    with pytest.raises(SystemExit, match="96 patches cannot be found in the 80 of these recordings"):
        learn_sound_patches.main(["--manifest", str(manifest), "--out", str(tmp_path / "patches.npz")])
    assert not (tmp_path / "patches.npz").exists()


def respond(patches, kernel, bias):
    centred = patches - patches.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt(np.square(centred).mean(axis=1, keepdims=True) + PATCH_EPSILON)
    return scaled @ kernel + bias


def test_the_filters_find_the_kinds_of_patches_whatever_their_level_and_contrast():
    rng = np.random.default_rng(0)
    kinds = rng.normal(0, 10, (6, 24))
    kind = rng.integers(6, size=3000)
    patches = (
        kinds[kind] * rng.uniform(0.5, 2, (3000, 1)) + rng.normal(0, 1, (3000, 24)) - rng.uniform(20, 60, (3000, 1))
    )
    kernel, bias = _fit_filters(patches, 6)
    assert kernel.shape == (24, 6) and bias.shape == (6,)
    responses = respond(patches, kernel, bias)
    strongest = responses.argmax(axis=1)
    assert len({tuple(np.unique(kind[strongest == number])) for number in range(6)}) == 6
    assert all(len(np.unique(kind[strongest == number])) == 1 for number in range(6))
    np.testing.assert_allclose(respond(patches - 30, kernel, bias), responses, atol=1e-3)


def test_the_shipped_filters_have_the_sizes_of_the_dictionaries():
    filters = read_patch_filters()
    for entry in DICTIONARIES:
        kernel, bias = filters[entry.name]
        assert kernel.shape == (entry.frames * entry.bands, entry.patches) and bias.shape == (entry.patches,)
