import numpy as np
import pytest

from detector import ModelError
from training.sound_patches import DICTIONARIES, PATCH_EPSILON, _fit_filters, read_patch_filters


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


@pytest.mark.parametrize("content", [None, b"text"])
def test_patches_that_cannot_be_read_are_refused(tmp_path, content):
    if content:
        (tmp_path / "patches.npz").write_bytes(content)
    with pytest.raises(ModelError, match=r"cannot be read from .*patches\.npz"):
        read_patch_filters(tmp_path / "patches.npz")
