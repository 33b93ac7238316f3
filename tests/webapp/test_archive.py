"""An archive in S3 that Celery's workers scan into Parquet files, with real Redis, and workers that are killed."""

import io
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest
from PIL import Image
from project import ROOT
from pyarrow import parquet
from services import run_redis

from detector.archive import chunks
from detector.archive.chunks import make_plan
from detector.archive.folders import ResultFolder
from detector.archive.workers import spread
from detector.cli import main

pytestmark = pytest.mark.slow

PATIENCE_S = 300  # a busy machine is slow
FILES = 60


@pytest.fixture
def archive(shared, services):
    """The address of a folder in S3 with `FILES` small pictures."""
    url = services.new_folder()
    files, root = fsspec.url_to_fs(url, use_listings_cache=False)
    for number in range(FILES):
        buffer = io.BytesIO()
        Image.new("RGB", (200, 200), (number, 90, 160)).save(buffer, "JPEG")
        files.pipe_file(f"{root}/{number % 7}/{number:03d}.jpg", buffer.getvalue())
    return url


@pytest.fixture
def start_worker(services, tmp_path):
    """Return a context manager that runs a worker of the queue `archive`, and gives its process."""

    @contextmanager
    def start(broker, name):
        environment = {**os.environ, **services.s3, "DEEPFAKE_BROKER_URL": broker, "DEEPFAKE_THREADS": "1"}
        environment["DEEPFAKE_INSTANCE_PATH"] = str(tmp_path / name)
        command = [sys.executable, "-m", "celery", "-A", "webapp.celery_app", "worker", "-Q", "archive", "-n", name]
        with open(tmp_path / f"{name}.log", "w") as log:
            worker = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield worker
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()

    return start


def read_rows(url):
    files, root = fsspec.url_to_fs(url, use_listings_cache=False)
    names = sorted(files.glob(f"{root}/*.parquet"))
    return [row for name in names for row in parquet.read_table(io.BytesIO(files.cat_file(name))).to_pylist()]


def test_each_file_has_one_row_after_kill_9_of_workers(archive, services, start_worker, tmp_path, monkeypatch):
    """The first worker is killed with all its processes, of the second the process that works."""
    monkeypatch.setattr(chunks, "MIN_CHUNKS", FILES // 6)
    folder = ResultFolder(services.new_folder())
    plan = make_plan([archive], folder, every_s=1.0)
    done, killed = [], []

    with run_redis(tmp_path) as broker, start_worker(broker, "one") as one, start_worker(broker, "two") as two:

        def kill(count):
            done.append((count, time.monotonic()))
            assert done[-1][1] - done[0][1] < PATIENCE_S, (tmp_path / "two.log").read_text()[-2000:]
            if count >= 6 and not killed:
                os.killpg(one.pid, signal.SIGKILL)
                killed.append(one)
            if count >= 12 and len(killed) == 1:
                child = Path(f"/proc/{two.pid}/task/{two.pid}/children").read_text().split()[0]
                os.kill(int(child), signal.SIGKILL)
                killed.append(two)

        spread(plan, folder, broker, report=kill, warn=print, poll_s=0.1, check_s=1.0)
    assert killed == [one, two] and done[-1][0] == FILES
    found = read_rows(folder.url)
    expected = sorted(f"{archive}/{number % 7}/{number:03d}.jpg" for number in range(FILES))
    assert [row["path"] for row in found] == expected  # one row each, none missing, none doubled
    assert {row["error"] for row in found} <= {None, chunks.CRASHED}


def test_the_command_spreads_an_archive_and_says_what_is_left(
    archive, services, start_worker, tmp_path, monkeypatch, capsys
):
    out = services.new_folder()
    with run_redis(tmp_path) as broker, start_worker(broker, "one"):
        monkeypatch.setenv("DEEPFAKE_BROKER_URL", broker)
        assert main(["scan", f"{archive}/0", f"{archive}/1", "--celery", "--out", out]) == 0
        assert main(["scan", f"{archive}/0", f"{archive}/1", "--celery", "--out", out]) == 0  # nothing is left
    printed = capsys.readouterr().err
    assert "file/s" in printed and "18 files: 0 real, 0 deepfake, 18 inconclusive. 0 could not be read." in printed
    assert len(read_rows(out)) == 18
