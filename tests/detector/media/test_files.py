import os

import pytest

from detector.media.files import read_head
from detector.media.images import read_image
from detector.media.videos import probe
from detector.results import UnreadableMedia


@pytest.mark.parametrize("read", [read_image, read_head, probe])
def test_paths_without_a_regular_file_are_named(read, tmp_path):
    with pytest.raises(UnreadableMedia, match="is a folder"):
        read(tmp_path)
    with pytest.raises(UnreadableMedia, match=r"missing\.jpg.*No such file"):
        read(tmp_path / "missing.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UnreadableMedia, match="not a regular file"):
        read(tmp_path / "pipe.jpg")
    with pytest.raises(UnreadableMedia, match="null"):
        read("a\0b.jpg")
    with pytest.raises(UnreadableMedia, match=r"\\x1b\[31mred") as caught:
        read("\x1b[31mred.jpg")
    assert "\x1b" not in str(caught.value)


def test_a_forbidden_file_is_named(tmp_path, monkeypatch):
    path = tmp_path / "secret.png"
    path.write_bytes(b"secret")

    def refuse(path, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(UnreadableMedia, match=r"secret\.png.*Permission denied"):
        read_image(path)
