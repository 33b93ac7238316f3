"""Results expire: what a visitor reads about it, who deletes them, and a cookie that lasts as long."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie

import pytest
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from stored_results import picture, voice

from webapp import analyses, orphans, retention
from webapp.detector_thread import warm_up
from webapp.models import Analysis, State, Upload, db
from webapp.retention import sweep, try_to_sweep
from webapp.storage import Storage


def written(days):
    """Return the day in so many days, as pages write it."""
    day = datetime.now(UTC) + timedelta(days=days)
    return f"{day.day} {day:%B %Y}"


def kept_ids():
    return set(db.session.scalars(select(Analysis.id)))


def test_a_sweep_deletes_the_expired_of_all_visitors_and_their_files(app, keep, stored_files, monkeypatch):
    monkeypatch.setattr(analyses, "DELETED_AT_ONCE", 10)
    young = keep(picture(), age_days=29.9, content=b"young")
    for number in range(analyses.DELETED_AT_ONCE + 5):  # more than one transaction deletes
        keep(voice(), visitor=f"visitor {number}", age_days=30.1 + number, content=b"%d" % number)
    keep(picture(), visitor="somebody who never comes back", age_days=400, content=b"old")
    keep(picture(), age_days=31, state=State.WAITING, verdict=None, content=b"forgotten")
    with app.app_context():
        assert sweep() == analyses.DELETED_AT_ONCE + 7
        assert kept_ids() == {young}
        assert [upload.reference_count for upload in db.session.scalars(select(Upload))] == [1]
        assert sweep() == 0
    assert len(stored_files()) == 2 and all(young in name or "uploads/" in name for name in stored_files())


def test_bytes_stay_while_a_younger_result_refers_to_them(app, keep, stored_files):
    keep(picture(), age_days=31)
    young = keep(picture(), visitor="another", age_days=1)
    with app.app_context():
        assert sweep() == 1 and kept_ids() == {young}
        assert [upload.reference_count for upload in db.session.scalars(select(Upload))] == [1]
    assert [name for name in stored_files() if name.startswith("uploads/")]


def test_several_sweeps_at_once_delete_each_row_once(app, keep, monkeypatch):
    for number in range(30):
        keep(picture(), visitor=f"{number}", age_days=31, content=b"%d" % (number % 3))
    together, times = threading.Barrier(3), []
    delete = Storage.delete
    monkeypatch.setattr(Storage, "delete", lambda *path: times.append(path[1]) or delete(*path))

    def run(_):
        together.wait()
        with app.app_context():
            return sweep()

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(run, range(3))) == 30
    assert len(times) == len(set(times)) == 33  # thirty folders and three uploads


@pytest.mark.parametrize(("days", "left"), [("0", 1), ("3", 0), ("7", 1)])
def test_the_setting_holds_for_stored_results_too(make_app, keep, days, left):
    keep(picture(), age_days=5)
    with make_app(RETENTION_DAYS=days).app_context():
        sweep()
        assert len(kept_ids()) == left


def test_a_sweep_that_cannot_delete_files_is_logged_and_the_next_one_deletes_them(
    app, keep, stored_files, monkeypatch, caplog
):
    keep(picture(), age_days=31)
    delete, errors = Storage.delete, [OSError("the storage is away")]
    monkeypatch.setattr(Storage, "delete", lambda *path: delete(*path) if not errors else fail())
    monkeypatch.setattr(orphans, "MIN_AGE", timedelta(0))

    def fail():
        raise errors.pop()

    with app.app_context():
        assert sweep() == 1 and kept_ids() == set()
    assert len(stored_files()) == 2 and "the storage is away" in caplog.text
    try_to_sweep(app)
    assert stored_files() == [orphans.LAST_SWEEP]


def test_a_lost_database_is_logged_and_loses_nothing(app, keep, monkeypatch, caplog):
    analysis_id = keep(picture(), age_days=31)
    with monkeypatch.context() as broken:
        broken.setattr(analyses, "delete_older", lambda moment: (_ for _ in ()).throw(SQLAlchemyError("it is gone")))
        try_to_sweep(app)
    assert "A sweep did not end" in caplog.text and "it is gone" in caplog.text
    with app.app_context():
        assert kept_ids() == {analysis_id}


def test_the_server_sweeps_when_it_starts(app, keep, monkeypatch):
    keep(picture(), age_days=31)
    is_swept = threading.Event()
    monkeypatch.setattr(retention, "try_to_sweep", lambda app: (try_to_sweep(app), is_swept.set()))
    warm_up(app)
    assert is_swept.wait(60)  # to its end, when its thread has given back the connection
    with app.app_context():
        assert kept_ids() == set()


def test_the_command_says_how_many_were_deleted(app, keep):
    for words in ("1 expired result was deleted.", "0 expired results were deleted."):
        if words[0] == "1":
            keep(picture(), age_days=31)
        assert app.test_cli_runner().invoke(args=["sweep"]).output.strip() == words


@pytest.mark.parametrize("state", [State.DONE, State.WAITING, State.FAILED])
def test_every_result_says_when_it_is_deleted(visitor_client, keep, state):
    address = f"/analyses/{keep(picture(), age_days=10, state=state)}"
    assert f"Deleted automatically on {written(20)}" in visitor_client.get(address).text
    german = visitor_client.get(address, headers={"Accept-Language": "de"}).text
    assert re.search(rf"\b{(datetime.now(UTC) + timedelta(days=20)).day}\. \w+ 20\d\d", german)


def test_the_start_page_says_when_an_upload_would_be_deleted(client, make_app, keep):
    page = client.get("/").text
    assert f"Deleted automatically on {written(30)}, or when you press delete" in page
    assert "They are deleted after 30 days" in page
    kept_for_good = make_app(RETENTION_DAYS="0").test_client()
    page = kept_for_good.get("/").text
    assert "automatically" not in page and "They stay here until you delete them." in page


def test_the_session_lasts_as_long_as_the_results_and_is_renewed_daily(client):
    def expiry(response):
        morsel = SimpleCookie(response.headers.get("Set-Cookie", "")).get("session")
        if morsel is None:
            return None
        return datetime.strptime(morsel["expires"], "%a, %d %b %Y %H:%M:%S GMT") - datetime.now(UTC).replace(
            tzinfo=None
        )

    assert expiry(client.get("/")) > timedelta(days=30, hours=23)
    assert expiry(client.get("/")) is None  # later on the same day
    with client.session_transaction() as session:
        visitor = session["visitor"]
        session[retention.RENEWED] = "2026-01-01"
    assert expiry(client.get("/static/style.css")) is None
    assert expiry(client.get("/performance")) > timedelta(days=30, hours=23)
    with client.session_transaction() as session:
        assert session["visitor"] == visitor


@pytest.mark.parametrize(("days", "cookie_days"), [("0", 400), ("1", 2), ("3650", 400)])
def test_no_cookie_lasts_longer_than_browsers_allow(make_app, days, cookie_days):
    assert make_app(RETENTION_DAYS=days).permanent_session_lifetime == timedelta(days=cookie_days)
