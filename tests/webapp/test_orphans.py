"""Files without a row: what a killed process leaves is removed, and nothing that a row or a running upload needs."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from clips import make_sound
from project import ROOT
from sqlalchemy import select
from stored_results import picture
from voices import play

from webapp import orphans, uploads
from webapp.models import Upload, db
from webapp.orphans import is_due, remove_orphans
from webapp.retention import try_to_sweep
from webapp.uploads import FileFacts

CONTENT = b"what somebody sent"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ORPHANS = (f"uploads/{SHA256}", f"uploads/{SHA256}.0123456789abcdef.part", "analyses/of-nobody/thumbnail.jpg")
# A process that stores a recording and is killed before it commits the row.
KILLED = """if True:
    import os, signal, sys
    from webapp import analyses, create_app
    from webapp.models import db
    app = create_app({"INSTANCE_PATH": sys.argv[1], "JOBS": "off"})
    with app.app_context(), open(sys.argv[2], "rb") as file:
        db.session().commit = lambda: os.kill(os.getpid(), signal.SIGKILL)
        analyses.submit(file, filename="voice.wav", visitor="somebody")
"""


@pytest.fixture
def context(app):
    with app.app_context():
        yield app


@pytest.fixture
def at_once(monkeypatch):
    """Remove files of any age."""
    monkeypatch.setattr(orphans, "MIN_AGE", timedelta(0))


def save_orphans(app):
    for name in ORPHANS:
        app.extensions["storage"].save(name, CONTENT)


def test_files_without_a_row_are_removed_and_those_of_a_row_stay(app, keep, stored_files, context, at_once):
    keep(picture())
    kept = stored_files()
    save_orphans(app)
    assert remove_orphans() == 3
    assert stored_files() == sorted([*kept, orphans.LAST_SWEEP])
    assert remove_orphans() == 0


@pytest.mark.embedded
def test_only_what_is_older_than_a_day_is_removed(app, stored_files, context):
    save_orphans(app)
    assert remove_orphans() == 0
    root = Path(app.extensions["storage"]._root)
    for hours, name in zip((25, 23, 25), ORPHANS, strict=True):
        os.utime(root / name, (time.time() - hours * 3600,) * 2)
    assert remove_orphans() == 2
    assert stored_files() == [orphans.LAST_SWEEP, ORPHANS[1]]


@pytest.mark.embedded
def test_a_folder_with_one_young_file_stays(app, stored_files, context):
    save_orphans(app)
    old = Path(app.extensions["storage"]._root) / ORPHANS[2]
    os.utime(old, (time.time() - 25 * 3600,) * 2)
    app.extensions["storage"].save("analyses/of-nobody/picture.jpg", CONTENT)
    assert remove_orphans() == 0 and old.exists()


def test_an_upload_that_is_under_way_keeps_its_file(app, context, at_once):
    storage, removed = app.extensions["storage"], []
    storage.save(f"uploads/{SHA256}", CONTENT)  # left by a killed process

    def sweep():
        with app.app_context():
            removed.append(remove_orphans())

    uploads.add_reference(FileFacts(SHA256, len(CONTENT), "image/jpeg"))
    uploads.save_upload(SHA256, io.BytesIO(CONTENT))
    thread = threading.Thread(target=sweep)
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()  # it waits for the end of the transaction
    db.session.commit()
    thread.join(60)
    assert removed == [0]
    with uploads.open_upload(SHA256) as file:
        assert file.read() == CONTENT


@pytest.mark.slow
@pytest.mark.embedded
def test_what_a_killed_process_leaves_is_removed(app, stored_files, context, at_once, tmp_path):
    (tmp_path / "voice.wav").write_bytes(make_sound(play(1)))
    command = [sys.executable, "-c", KILLED, app.instance_path, str(tmp_path / "voice.wav")]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert [name for name in stored_files() if name.startswith("uploads/")]
    assert remove_orphans() == 1
    assert stored_files() == [orphans.LAST_SWEEP]


def test_an_upload_without_references_is_removed_unless_it_is_sent_again(stored_files, context):
    facts = [FileFacts(hashlib.sha256(content).hexdigest(), 1, "image/jpeg") for content in (b"a", b"b")]
    for each in facts:
        uploads.add_reference(each)
        uploads.save_upload(each.sha256, io.BytesIO(b"x"))
    uploads.drop_references([each.sha256 for each in facts])
    db.session.commit()
    assert len(stored_files()) == 2  # killed here
    assert not uploads.add_reference(facts[1])
    db.session.commit()
    remove_orphans()
    assert stored_files() == [orphans.LAST_SWEEP, f"uploads/{facts[1].sha256}"]
    assert list(db.session.scalars(select(Upload.reference_count))) == [1]


def test_the_storage_is_listed_once_a_day_also_where_nothing_expires(make_app, monkeypatch):
    app = make_app(RETENTION_DAYS="0")
    monkeypatch.setattr(orphans, "MIN_AGE", timedelta(0))
    storage = app.extensions["storage"]
    storage.save(ORPHANS[0], CONTENT)
    with app.app_context():
        assert is_due()
    try_to_sweep(app)
    with app.app_context():
        assert storage.names("uploads") == [] and not is_due()
    storage.save(ORPHANS[0], CONTENT)
    try_to_sweep(app)
    assert storage.names("uploads") == [SHA256]
    monkeypatch.setattr(orphans, "EVERY", timedelta(0))
    try_to_sweep(app)
    assert storage.names("uploads") == []


def test_the_command_says_what_was_removed(app, at_once):
    save_orphans(app)
    said = app.test_cli_runner().invoke(args=["sweep"]).output
    assert said == "0 expired results were deleted.\nFiles without a result were removed: 3.\n"
