"""PostgreSQL, S3 and a model from elsewhere, as several machines use them."""

import hashlib
import io
import subprocess
import sys
import threading

import fsspec
import pytest
from project import ROOT
from services import BUCKET
from sqlalchemy import create_engine, make_url, text

from detector import ModelError
from detector.pictures.detect import MODEL_FILES
from webapp import create_app, storage
from webapp.config import StartupError
from webapp.model_file import fetch_model
from webapp.models import db
from webapp.schema import MIGRATION_LOCK, current_revision, newest_revision
from webapp.storage import Storage


@pytest.fixture
def bucket(shared, services):
    return Storage(services.new_folder())


class Failing(io.RawIOBase):
    """A stream that ends with an error after some parts."""

    def __init__(self, parts):
        self.left = parts

    def read(self, size=-1):
        if not self.left:
            raise OSError("the connection was lost")
        self.left -= 1
        return b"x" * size


def test_s3_holds_reads_replaces_and_deletes_files(bucket):
    bucket.check()
    bucket.save("folder/a", b"one")
    bucket.save("folder/a", b"two")
    bucket.save("folder/b", io.BytesIO(b"a stream"))
    with bucket.open("folder/a") as file:
        assert file.read() == b"two"
    with bucket.local_path("folder/b") as path:
        assert path.read_bytes() == b"a stream"
    bucket.delete("folder")
    bucket.delete("folder")
    for name in ("folder/a", "folder/b"):
        with pytest.raises(FileNotFoundError):
            bucket.open(name)


def test_a_write_to_s3_that_fails_leaves_the_old_file_and_no_half_one(bucket, monkeypatch):
    bucket.save("a", b"old")
    for parts in (0, 1, 3):
        with pytest.raises(OSError, match="connection was lost"):
            bucket.save("a", Failing(parts * storage.PART_BYTES // 65536))
        assert [path.rpartition("/")[2] for path in bucket._files.find(bucket._root)] == ["a"]
        with bucket.open("a") as file:
            assert file.read() == b"old"
    assert bucket._files.s3 and not bucket._files.list_multipart_uploads(BUCKET)


def test_another_machine_s_files_are_seen_at_once(bucket):
    other = Storage(f"s3://{bucket._root}")
    with pytest.raises(FileNotFoundError):
        other.open("a")
    bucket.save("a", b"one")
    with other.open("a") as file:
        assert file.read() == b"one"
    bucket.save("a", b"longer than before")
    with other.open("a") as file:
        assert file.read() == b"longer than before"


def test_a_player_gets_ranges_from_s3(shared, make_app, portrait):
    from clips import make_video, pan_over

    clip = make_video(pan_over(portrait, 10, size_px=(160, 120)), options={"preset": "ultrafast"})
    client = make_app(**shared).test_client()
    address = f"{client.upload(clip, 'clip.mp4').location}/media"
    part = client.get(address, headers={"Range": "bytes=100-299"})
    assert (part.status_code, part.data) == (206, clip[100:300])
    assert part.headers["Content-Range"] == f"bytes 100-299/{len(clip)}"
    assert client.get(address).data == clip


def test_machines_that_start_together_migrate_once(services, shared, tmp_path):
    """Eight processes with instance folders of their own find an empty database."""
    name = "empty_for_migrations"
    with services._administer() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    address = make_url(services.postgres).set(database=name).render_as_string(hide_password=False)
    script = f"""if True:
        import multiprocessing
        from webapp import create_app
        workers = multiprocessing.get_context("fork")
        start = workers.Barrier(6)
        def work(number):
            start.wait()
            folder = {str(tmp_path)!r} + f"/{{number}}"
            create_app({{"INSTANCE_PATH": folder, "DATABASE_URL": {address!r}, "JOBS": "off"}})
        processes = [workers.Process(target=work, args=[number]) for number in range(6)]
        for process in processes: process.start()
        for process in processes: process.join()
        assert [process.exitcode for process in processes] == [0] * 6
    """
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_a_start_waits_for_the_migration_of_another_machine(shared, tmp_path):
    engine = create_engine(shared["DATABASE_URL"])
    started = threading.Event()

    def start():
        app = create_app({"INSTANCE_PATH": tmp_path, "JOBS": "off", **shared})
        with app.app_context():
            assert current_revision() == newest_revision()
            db.engine.dispose()
        started.set()

    thread = threading.Thread(target=start)
    with engine.connect() as other:
        other.execute(text("SELECT pg_advisory_lock(:number)"), {"number": MIGRATION_LOCK})
        thread.start()
        assert not started.wait(2)
    engine.dispose()
    thread.join(60)
    assert started.is_set()


def test_a_database_that_cannot_be_reached_is_named_in_a_sentence(make_app):
    address = "postgresql+psycopg://nobody:hunter2@127.0.0.1:1/nothing"
    with pytest.raises(StartupError, match="The database cannot be used") as refusal:
        make_app(DATABASE_URL=address)
    assert "hunter2" not in str(refusal.value)


def test_the_model_comes_from_s3_once_and_must_be_the_one_named(shared, services, make_app, tmp_path, face_jpeg):
    data = MODEL_FILES["onnx"].read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    url = f"{services.new_folder()}/face.onnx"
    files, path = fsspec.url_to_fs(url)
    files.pipe_file(path, data)
    with pytest.raises(ModelError, match=f"has the SHA-256 {sha256}, not {'0' * 64}"):
        fetch_model(url, "0" * 64, tmp_path)
    assert list(tmp_path.glob("*.onnx")) == []
    app = make_app(MODEL=url, MODEL_SHA256=sha256)
    app.extensions["detector"]._detector = None  # the one of the tests
    assert app.test_client().upload(face_jpeg).status_code == 303
    copy = app.config["MODEL_CACHE"] / f"{sha256}.onnx"
    assert copy.read_bytes() == data
    files.rm(path)
    assert fetch_model(url, sha256, app.config["MODEL_CACHE"]) == copy
    copy.write_bytes(b"damaged")
    with pytest.raises(ModelError, match="cannot be read"):
        fetch_model(url, sha256, app.config["MODEL_CACHE"])


def test_a_model_from_elsewhere_needs_its_sha256(make_app):
    with pytest.raises(StartupError, match="DEEPFAKE_MODEL needs DEEPFAKE_MODEL_SHA256."):
        make_app(MODEL="s3://bucket/face.onnx")
    with pytest.raises(StartupError, match="64 hexadecimal digits"):
        make_app(MODEL="s3://bucket/face.onnx", MODEL_SHA256="abc")
