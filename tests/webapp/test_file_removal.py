"""Deleting many results: few queries, an answer that does not wait for files, and nothing left behind."""

import time
from datetime import timedelta

import pytest
from sqlalchemy import event, func, select
from stored_results import picture

from detector.record import to_record
from webapp import analyses, file_removal, orphans, uploads
from webapp.models import Analysis, Batch, Upload, db, new_token

VISITOR = "somebody"
PATIENCE_S = 60  # a busy machine is slow


@pytest.fixture
def context(app):
    with app.app_context():
        yield app


def store(count, *, batch_id=None, contents=None):
    """Store analyses with uploads and a thumbnail each; so many contents are shared by all."""
    storage, contents = uploads.storage(), contents or count
    hashes = [f"{number:064x}" for number in range(contents)]
    for sha256 in hashes:
        references = len(range(int(sha256, 16), count, contents))
        db.session.add(Upload(sha256=sha256, reference_count=references, size_bytes=1, media_type="image/jpeg"))
        storage.save(f"uploads/{sha256}", b"x")
    if batch_id:
        db.session.add(Batch(id=batch_id, visitor=VISITOR))
    db.session.flush()
    record, ids = to_record(picture()), [new_token() for _ in range(count)]
    for number, analysis_id in enumerate(ids):
        db.session.add(
            Analysis(
                **{"id": analysis_id, "visitor": VISITOR, "upload_sha256": hashes[number % contents]},
                **{"filename": "a.jpg", "media": "image", "result": record, "batch_id": batch_id},
            )
        )
        storage.save(f"analyses/{analysis_id}/thumbnail.jpg", b"x")
    db.session.commit()
    return ids


def count_rows():
    return [db.session.scalar(select(func.count()).select_from(table)) for table in (Analysis, Upload, Batch)]


def wait_until_removed(stored_files):
    """Wait for the files, and for the rows of uploads, each of which is deleted after its file."""
    until = time.monotonic() + PATIENCE_S
    while stored_files() or count_rows()[1]:
        assert time.monotonic() < until, (stored_files(), count_rows())
        db.session.rollback()  # the next count begins a new transaction
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.embedded
def test_many_results_are_deleted_with_few_queries_and_their_files_soon(app, context, visitor_client, stored_files):
    store(620, batch_id="a batch")
    statements = []
    event.listen(db.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    page = visitor_client.submit("/history/delete-all")
    assert page.status_code == 303 and count_rows()[::2] == [0, 0]
    assert "620 results and their files have been deleted." in visitor_client.get("/history").text
    wait_until_removed(stored_files)
    assert count_rows() == [0, 0, 0]
    assert len([statement for statement in statements if "count(*)" not in statement]) < 60


def test_of_few_results_the_files_are_gone_with_the_answer(context, stored_files):
    store(file_removal.REMOVED_AT_ONCE)
    assert analyses.delete_several(VISITOR) == file_removal.REMOVED_AT_ONCE
    assert stored_files() == [] and count_rows() == [0, 0, 0]


def test_references_are_counted_down_together(context, stored_files):
    ids = store(7, contents=3)  # 3, 2 and 2 references
    assert analyses.delete_several(VISITOR, [ids[0], ids[3], ids[1], ids[4]]) == 4
    assert list(db.session.scalars(select(Upload.reference_count).order_by(Upload.sha256))) == [1, 2]
    assert len([name for name in stored_files() if name.startswith("uploads/")]) == 2
    assert analyses.delete_several(VISITOR) == 3
    assert stored_files() == [] and count_rows() == [0, 0, 0]


def test_a_server_that_is_killed_before_the_files_are_removed_leaves_them_to_the_sweep(
    app, context, stored_files, monkeypatch
):
    monkeypatch.setattr(file_removal, "REMOVED_AT_ONCE", 3)
    monkeypatch.setattr(app.extensions["file_removal"], "add", lambda deleted: None)
    monkeypatch.setattr(orphans, "MIN_AGE", timedelta(0))
    store(5, contents=4)
    assert analyses.delete_several(VISITOR) == 5
    assert count_rows() == [0, 4, 0] and len(stored_files()) == 9
    assert orphans.remove_orphans() == 5  # the folders; the uploads have rows
    assert count_rows() == [0, 0, 0] and stored_files() == [orphans.LAST_SWEEP]


def test_a_content_that_is_sent_again_while_its_files_wait_is_kept(app, context, stored_files, monkeypatch):
    monkeypatch.setattr(file_removal, "REMOVED_AT_ONCE", 0)
    waiting = []
    monkeypatch.setattr(app.extensions["file_removal"], "add", waiting.append)
    store(1)
    assert analyses.delete_several(VISITOR) == 1
    assert not uploads.add_reference(uploads.FileFacts(f"{0:064x}", 1, "image/jpeg"))
    db.session.commit()
    file_removal.remove_files(*waiting)
    assert stored_files() == [f"uploads/{0:064x}"] and count_rows() == [0, 1, 0]
