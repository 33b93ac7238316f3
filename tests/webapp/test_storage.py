import io
from pathlib import Path

import pytest

from webapp.config import StartupError
from webapp.storage import Storage


@pytest.fixture(params=["folder", "memory"])
def storage(request, tmp_path):
    return Storage(str(tmp_path / "store") if request.param == "folder" else f"memory://{tmp_path.name}")


def read(storage, name):
    with storage.open(name) as file:
        return file.read()


def test_what_is_saved_can_be_read_replaced_and_deleted(storage):
    storage.save("folder/a", b"one")
    storage.save("folder/b", b"other")
    storage.save("folder/a", b"two")
    assert (read(storage, "folder/a"), read(storage, "folder/b")) == (b"two", b"other")
    storage.delete("folder/a")
    with pytest.raises(FileNotFoundError):
        storage.open("folder/a")
    storage.delete("folder")
    with pytest.raises(FileNotFoundError):
        storage.open("folder/b")


def test_deleting_what_is_not_there_is_no_error(storage):
    storage.delete("nothing")
    storage.delete("no/such/file")


@pytest.mark.parametrize("step", ["pipe_file", "mv"])
def test_a_write_that_fails_leaves_the_old_file_and_no_half_one(tmp_path, monkeypatch, step):
    storage = Storage(str(tmp_path))
    storage.save("a", b"old")

    def fail(path, *_):
        if step == "pipe_file":
            Path(path).write_bytes(b"ne")
        raise OSError("disk full")

    monkeypatch.setattr(storage._files, step, fail)
    with pytest.raises(OSError, match="disk full"):
        storage.save("a", b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old"}


def test_a_stream_is_saved_from_where_it_stands_and_given_back_as_a_path(storage):
    stream = io.BytesIO(b"head and body")
    stream.seek(5)
    storage.save("folder/a", stream)
    with storage.local_path("folder/a") as path:
        assert path.read_bytes() == b"and body"
    with pytest.raises(FileNotFoundError), storage.local_path("folder/b"):
        pass


def test_a_folder_that_cannot_be_created_stops_the_start(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StartupError, match="DEEPFAKE_STORAGE_URL cannot be used: .*Not a directory"):
        Storage(str(tmp_path / "file" / "folder"))
