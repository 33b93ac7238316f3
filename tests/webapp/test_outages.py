"""Faults while the server works: a full disk and a locked database lose nothing and get a clear answer."""

import gc
import io
import re
import resource
import sqlite3
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from clips import make_video, pan_over
from PIL import Image
from sqlalchemy import select
from sqlalchemy.exc import OperationalError, TimeoutError

from webapp import analyses, jobs, models, outages
from webapp.models import Analysis, State, Upload, db

pytestmark = pytest.mark.slow


def noise(side_px):
    """Return a PNG file of about 3 bytes a pixel."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(side_px).integers(0, 256, (side_px, side_px, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@contextmanager
def largest_file(size_bytes):
    """Limit every file that this process writes, as a full disk would; Python ignores the signal of the limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def locked(app, *, how="IMMEDIATE"):
    """Hold a lock of the SQLite database, as another program would."""
    other = sqlite3.connect(Path(app.instance_path) / "deepfake.sqlite", isolation_level=None)
    other.execute(f"BEGIN {how}")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@pytest.fixture
def impatient_app(make_app, monkeypatch):
    """The application with connections that wait a tenth of a second for a lock."""
    monkeypatch.setattr(models, "BUSY_TIMEOUT_MS", 100)
    return make_app()


def rows(app):
    with app.app_context():
        return len(list(db.session.scalars(select(Analysis)))), list(db.session.scalars(select(Upload.reference_count)))


def check_answer(response, status, words):
    assert response.status_code == status and int(response.headers["Retry-After"]) == outages.RETRY_AFTER_S
    assert re.search(words, response.text) and "Traceback" not in response.text and 'href="/"' in response.text
    assert "Content-Security-Policy" in response.headers


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Werkzeug leaves a form's file to the garbage collector
@pytest.mark.parametrize(
    ("side_px", "limit_bytes"), [(330, 200_000), (600, 700_000)], ids=["storage", "temporary file of the form"]
)
def test_a_full_disk_is_said_and_nothing_is_stored(app, client, stored_files, caplog, side_px, limit_bytes):
    picture = noise(side_px)
    assert len(picture) > limit_bytes
    client.upload(noise(64))  # loads the model
    before = rows(app), stored_files()
    with largest_file(limit_bytes):
        check_answer(client.upload(picture), 507, "Its disk is full, so nothing was stored")
        assert client.get("/").status_code == 200
    assert (rows(app), stored_files()) == before
    assert "File too large" in caplog.text and "Traceback" not in caplog.text
    assert client.upload(picture).status_code == 303
    assert rows(app)[0] == before[0][0] + 1
    gc.collect()


def test_a_locked_database_is_said_and_nothing_is_lost_or_doubled(impatient_app, stored_files, caplog):
    client = impatient_app.test_client()
    first = client.upload(noise(64)).location
    before = rows(impatient_app), stored_files()
    with locked(impatient_app):
        for _ in range(2):
            check_answer(client.upload(noise(65)), 503, "Its database does not respond, so nothing was changed")
        check_answer(client.submit(f"{first}/delete"), 503, "nothing was changed")
        assert client.get(first).status_code == 200  # reading goes on
    assert (rows(impatient_app), stored_files()) == before
    assert "database is locked" in caplog.text and "Traceback" not in caplog.text
    assert client.upload(noise(65)).status_code == 303
    assert client.submit(f"{first}/delete").status_code == 303
    assert rows(impatient_app) == (1, [1])


def test_a_database_without_connections_is_said(app, client, monkeypatch):
    monkeypatch.setattr(analyses, "recent", lambda visitor: (_ for _ in ()).throw(TimeoutError("QueuePool limit")))
    check_answer(client.get("/"), 503, "The server is busy")


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), ValueError("x")])
def test_any_other_error_is_not_called_an_outage(client, monkeypatch, error):
    monkeypatch.setattr(analyses, "recent", lambda visitor: (_ for _ in ()).throw(error))
    answer = client.get("/")
    assert answer.status_code == 500 and "Retry-After" not in answer.headers


@pytest.fixture
def job(app, portrait):
    """The id of a claimed video."""
    with app.app_context():
        clip = make_video(pan_over(portrait, 10), options={"preset": "ultrafast"})
        analyses.submit(io.BytesIO(clip), filename="clip.mp4", visitor="somebody")
        return analyses.claim()


def stored(app, analysis_id):
    with app.app_context():
        analysis = db.session.get(Analysis, analysis_id)
        return analysis.state, analysis.attempts


@pytest.mark.parametrize("limit_bytes", [100, 3000], ids=["database and files", "pictures of the page"])
def test_a_job_waits_for_the_end_of_a_full_disk(app, job, real_detector, monkeypatch, stored_files, limit_bytes):
    """The attempt does not count, half a result is not stored, and the work is done as soon as there is room."""
    waits = []
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 2 or limit_bytes == 3000:
            resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)

    monkeypatch.setattr(jobs.time, "sleep", wait)
    before = stored_files()
    with app.app_context(), largest_file(limit_bytes):
        jobs.run(job, lambda: real_detector)
    assert waits and stored(app, job) == (State.WAITING, 0) and stored_files() == before
    with app.app_context():
        assert analyses.claim() == job
        jobs.run(job, lambda: real_detector)
    assert stored(app, job) == (State.DONE, 1)


def test_a_job_waits_for_a_locked_database(impatient_app, job, real_detector, monkeypatch):
    lock = locked(impatient_app)
    lock.__enter__()
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: lock.__exit__(None, None, None))
    with impatient_app.app_context():
        jobs.run(job, lambda: real_detector)
    assert stored(impatient_app, job) == (State.WAITING, 0)


def test_a_job_s_own_mistake_is_not_waited_out(app, job, monkeypatch):
    monkeypatch.setattr(jobs, "analyse", lambda *a, **k: (_ for _ in ()).throw(PermissionError(13, "denied")))
    with app.app_context(), pytest.raises(PermissionError):
        jobs.run(job, lambda: None)


def test_claiming_from_a_locked_database_is_tried_again(impatient_app, monkeypatch):
    tries = []

    def claim():
        tries.append(1)
        if len(tries) == 1:
            raise OperationalError("UPDATE", {}, sqlite3.OperationalError("database is locked"))
        raise KeyboardInterrupt

    monkeypatch.setattr(analyses, "claim", claim)
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(jobs.signal, "signal", lambda *_: None)
    with pytest.raises(KeyboardInterrupt):
        jobs.work(impatient_app)
    assert len(tries) == 2
