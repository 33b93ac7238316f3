import pytest

from detector import ModelError
from training.sound_patches import read_patch_filters
from training.speech_encoder import read_encoder_weights


@pytest.mark.parametrize("content", [None, b"text"])
@pytest.mark.parametrize(
    ("read", "what"),
    [
        (read_encoder_weights, "The weights of the speech encoder"),
        (read_patch_filters, "The typical patches of speech"),
    ],
)
def test_weights_that_cannot_be_read_are_refused(tmp_path, read, what, content):
    if content:
        (tmp_path / "weights.npz").write_bytes(content)
    with pytest.raises(ModelError, match=rf"{what} cannot be read from .*weights\.npz"):
        read(tmp_path / "weights.npz")
