"""Several files and ZIP archives by the API: the same batches as by the page."""

import csv
import io

import pytest
from batches import run_all, send, table_of, zip_of
from sqlalchemy import select
from werkzeug.datastructures import FileStorage

from webapp import analyses
from webapp.api.tables import WebhookCall
from webapp.models import Analysis, Batch, State, db

TEXT = ("b.txt", b"some text")
UNKNOWN = "A" * 22


def form(files):
    return {"file": [FileStorage(io.BytesIO(data), name) for name, data in files]}


@pytest.fixture
def post(program):
    """Return a function that sends (name, bytes) pairs in one form; returns the answer."""
    return lambda files, path="/analyses", **options: program.post(path, data=form(files), **options)


@pytest.fixture
def two(post, face_jpeg):
    """The batch of two pictures and a text."""
    answer = post([("a.jpg", face_jpeg), TEXT, ("c.jpg", face_jpeg)])
    assert answer.status_code == 202
    return answer.json["batch"]


def path_of(batch, end=""):
    return batch["url"].removeprefix("/api/v1") + end


def names(answer):
    return [each["filename"] for each in answer.json["analyses"]]


def test_several_files_wait_as_a_batch_and_a_bad_one_stops_no_other(post, program, face_jpeg):
    answer = post([("a.jpg", face_jpeg), TEXT, ("folder/c.jpg", face_jpeg)])
    batch = answer.json["batch"]
    assert (answer.status_code, answer.headers["Location"]) == (202, batch["url"])
    assert names(answer) == ["a.jpg", "folder/c.jpg"]
    found = answer.json["analyses"]
    assert [(each["state"], each["files_before"], each["batch_id"]) for each in found] == [
        ("waiting", 0, batch["id"]),
        ("waiting", 1, batch["id"]),
    ]
    (rejected,) = answer.json["rejected"]
    assert (rejected["filename"], rejected["status"]) == ("b.txt", 415) and "plain text" in rejected["detail"]
    assert program.get(path_of(batch)).json == batch
    assert (batch["state"], batch["files"], batch["outcomes"]) == ("running", 3, {"waiting": 2, "failed": 1})
    assert batch["progress"] == pytest.approx(1 / 3) and batch["rejected"] == [rejected]


def test_a_batch_is_polled_until_it_is_done(app, two, program, real_detector):
    run_all(app, real_detector)
    batch = program.get(path_of(two)).json
    assert (batch["state"], batch["progress"]) == ("done", 1.0)
    verdict = str(real_detector.detect(db_file(app)).verdict)
    assert batch["outcomes"] == {verdict: 2, "failed": 1}
    found = program.get(two["analyses_url"].removeprefix("/api/v1"))
    assert names(found) == ["c.jpg", "a.jpg"] and {each["result"]["verdict"] for each in found.json["analyses"]} == {
        verdict
    }
    assert names(program.get(f"/analyses?batch={UNKNOWN}")) == []


@pytest.mark.parametrize("ending", ["csv", "json", "xlsx", "pdf"])
def test_the_results_of_a_batch_are_the_file_that_the_page_offers(
    app, client, program, post, face_jpeg, real_detector, ending
):
    """Except for the time of the file and what differs between two batches."""
    files = [("a.jpg", face_jpeg), TEXT]
    sent = post(files).json["batch"]
    shown = send(client, files).location
    run_all(app, real_detector)
    answer, page = program.get(path_of(sent, f"/results.{ending}")), client.get(f"{shown}/results.{ending}")
    assert (answer.status_code, answer.content_type) == (200, page.content_type)
    assert answer.headers["Content-Disposition"] == page.headers["Content-Disposition"]
    if ending == "json":
        (picture, text), counts = answer.json["results"], answer.json["counts"]
        assert (picture["path"], text["path"], text["outcome"]) == ("a.jpg", "b.txt", "failed")
        analysis = program.get(f"/analyses/{picture['id']}").json["result"]
        assert picture["logit"] == analysis["logit"] and counts == {analysis["verdict"]: 1, "failed": 1}
        assert set(answer.json) == set(page.json)
    elif ending == "csv":
        (_, *rows), (_, *shown) = (list(csv.reader(io.StringIO(each.text))) for each in (answer, page))
        assert [row[:5] for row in rows] == [row[:5] for row in shown]
    else:
        assert answer.data[:4] == page.data[:4]


@pytest.mark.parametrize("ending", ["html", "zip", "CSV"])
def test_a_batch_has_no_other_files_of_results(two, program, ending):
    answer = program.get(path_of(two, f"/results.{ending}"))
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


def db_file(app):
    with app.app_context():
        sha256 = db.session.scalar(select(Analysis.upload_sha256))
        return app.extensions["storage"].open(f"uploads/{sha256}").read()


@pytest.mark.parametrize("media_type", ["application/zip", "application/x-zip-compressed", "application/octet-stream"])
def test_a_zip_as_the_body_is_unpacked_like_by_the_page(program, client, face_jpeg, media_type):
    archive = zip_of([("holiday/a.jpg", face_jpeg), ("__MACOSX/._a", b"x"), ("in.zip", zip_of([("b.jpg", face_jpeg)]))])
    sent = {"data": archive, "headers": {"Content-Type": media_type}}
    answer = program.post("/analyses?filename=holiday.zip", **sent)
    assert (answer.status_code, answer.json["batch"]["name"]) == (202, "holiday.zip")
    assert names(answer) == ["holiday/a.jpg"] and answer.json["rejected"][0]["filename"] == "in.zip"
    page = client.get(client.upload(archive, "holiday.zip").location).text
    assert [row[1] for row in table_of(page)] == ["holiday/a.jpg", "in.zip"]


@pytest.mark.parametrize(
    ("files", "settings", "status", "words"),
    [
        ([TEXT, TEXT], {}, 415, "plain text"),
        ([TEXT, ("empty.jpg", b"")], {}, 400, "None of the 2 files can be used."),
        ([("a.zip", zip_of([]))], {}, 400, "There are no files in the ZIP archive."),
        ([("bad.zip", b"PK\x03\x04" + bytes(50))], {}, 400, "damaged or cut off"),
        ([(f"{i}.jpg", b"x") for i in range(4)], {"MAX_BATCH_FILES": 3}, 413, "There are 4 files; at most 3"),
        ([("a.zip", zip_of([(f"{i}", b"x") for i in range(4)]))], {"MAX_BATCH_FILES": 3}, 413, "There are 4 files"),
        ([("a.zip", zip_of([("a.bmp", bytes(21_000_000))]))], {}, 413, "more than 100 times its size"),
    ],
    ids=["all refused for one reason", "all refused", "empty", "damaged", "files", "zipped", "bomb"],
)
def test_what_the_page_refuses_is_a_problem_and_stores_nothing(
    make_app, make_program, stored_files, files, settings, status, words
):
    token = make_program().token
    client = make_app(**settings).test_client()
    headers = {"Authorization": f"Bearer {token}"}
    answer = client.post("/api/v1/analyses", data=form(files), headers=headers)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert words in answer.json["detail"] and stored_files() == []
    assert client.get("/api/v1/batches", headers=headers).json == {"batches": [], "next_cursor": None}


def test_a_key_returns_the_same_batch_and_nothing_is_sent_twice(app, post, program, face_jpeg):
    files, headers = [("a.jpg", face_jpeg), TEXT, ("c.jpg", face_jpeg)], {"Idempotency-Key": "mine"}
    first, second = (post(files, headers=headers) for _ in range(2))
    assert (first.status_code, second.status_code, first.json) == (202, 202, second.json)
    assert ("Idempotency-Replayed" in first.headers, second.headers["Idempotency-Replayed"]) == (False, "true")
    assert post(files[:2], headers=headers).status_code == 409
    with app.app_context():
        assert db.session.query(Batch).count() == 1 and db.session.query(Analysis).count() == 2
    program.delete(path_of(first.json["batch"]))
    assert post(files, headers=headers).status_code == 410


def test_every_file_of_a_batch_has_its_webhook(make_app, make_program, face_jpeg, monkeypatch):
    app, sender = make_app(WEBHOOKS_TO_PRIVATE="true"), make_program()
    monkeypatch.setattr(app.extensions["webhooks"], "wake", lambda: None)
    headers = {"Authorization": f"Bearer {sender.token}"}
    answer = app.test_client().post(
        "/api/v1/analyses?callback_url=http://127.0.0.1:9/hook",
        data=form([("a.jpg", face_jpeg), TEXT, ("c.jpg", face_jpeg)]),
        headers=headers,
    )
    with app.app_context():
        calls = db.session.scalars(select(WebhookCall)).all()
        assert {call.analysis_id for call in calls} == {each["id"] for each in answer.json["analyses"]}
        db.session.execute(db.update(WebhookCall).values(state="sent"))
        db.session.execute(db.update(Analysis).values(state=State.FAILED))
        db.session.commit()
    retried = app.test_client().post(f"{answer.json['batch']['url']}/retry", headers=headers)
    assert retried.json["outcomes"] == {"waiting": 2, "failed": 1}
    with app.app_context():
        assert set(db.session.scalars(select(WebhookCall.state))) == {"pending"}


def test_a_batch_is_cancelled_started_again_and_deleted(two, program, stored_files):
    assert program.post(path_of(two, "/retry")).status_code == 409
    assert program.post(path_of(two, "/cancel")).json["outcomes"] == {"cancelled": 2, "failed": 1}
    assert program.post(path_of(two, "/cancel")).status_code == 409
    assert program.post(path_of(two, "/retry")).json["outcomes"] == {"waiting": 2, "failed": 1}
    assert program.delete(path_of(two)).status_code == 204
    assert program.get(path_of(two)).status_code == 404 and stored_files() == []


def test_batches_are_listed_page_by_page(post, program, face_jpeg):
    sent = [post([(f"{i}.jpg", face_jpeg), TEXT]).json["batch"]["id"] for i in range(3)]
    first = program.get("/batches?limit=2").json
    second = program.get(f"/batches?limit=2&cursor={first['next_cursor']}").json
    assert [each["id"] for each in first["batches"] + second["batches"]] == sent[::-1]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("method", "end"),
    [("GET", ""), ("GET", "/results.json"), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry")],
)
def test_another_token_and_a_page_s_visitor_see_nothing_of_a_batch(two, program, make_program, client, method, end):
    stranger = make_program()
    assert stranger.open(method, path_of(two, end)).status_code == 404
    assert stranger.get("/batches").json["batches"] == [] and names(stranger.get(f"/analyses?batch={two['id']}")) == []
    assert client.get(f"/batches/{two['id']}").status_code == 404
    assert program.get(path_of(two)).json == two


def test_a_page_s_batch_is_not_the_token_s(client, program, face_jpeg):
    address = send(client, [("a.jpg", face_jpeg), ("b.jpg", face_jpeg)]).location
    assert program.get(address).status_code == 404 and program.get("/batches").json["batches"] == []


def test_the_places_of_a_list_are_counted_at_once(app, program, post, face_jpeg):
    """Each is the place that the page of the file shows."""
    post([(f"{i}.jpg", face_jpeg) for i in range(3)])
    with app.app_context():
        running = analyses.claim()
    places = {each["id"]: each["files_before"] for each in program.get("/analyses").json["analyses"]}
    assert places.pop(running) is None and sorted(places.values()) == [1, 2]
    with app.app_context():
        rows = [db.session.get_one(Analysis, analysis_id) for analysis_id in places]
        assert {row.id: analyses.place_in_queue(row) for row in rows} == places
