"""Idempotency keys: a repeated request analyses nothing twice."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from webapp import analyses
from webapp.api.tables import IdempotencyKey
from webapp.models import db


def ids(answer):
    return [each["id"] for each in answer.json["analyses"]]


def make_older(app, age):
    with app.app_context():
        db.session.execute(update(IdempotencyKey).values(created_at=datetime.now(UTC) - age))
        db.session.commit()


def test_the_same_request_with_the_same_key_returns_the_same_analyses(program, face_jpeg):
    first, second = (program.send(face_jpeg, Idempotency_Key="mine") for _ in range(2))
    assert ids(first) == ids(second) and second.status_code == 201
    assert ("Idempotency-Replayed" in first.headers, second.headers["Idempotency-Replayed"]) == (False, "true")
    assert len(program.get("/analyses").json["analyses"]) == 1


def test_without_a_key_each_request_counts(program, face_jpeg):
    assert ids(program.send(face_jpeg)) != ids(program.send(face_jpeg))


@pytest.mark.parametrize(
    ("added", "query"),
    [
        (b"x", "filename=me.jpg"),
        (b"", "filename=other.jpg"),
        (b"", "filename=me.jpg&callback_url=https://example.com/"),
    ],
    ids=["bytes", "name", "callback"],
)
def test_a_key_of_another_request_is_refused(program, face_jpeg, added, query):
    program.send(face_jpeg, Idempotency_Key="mine")
    data, path = face_jpeg + added, f"/analyses?{query}"
    answer = program.send(data, path, Idempotency_Key="mine")
    assert answer.status_code == 409 and "other files" in answer.json["detail"]


def test_keys_of_two_tokens_are_two_keys(program, make_program, face_jpeg):
    other = make_program()
    assert ids(program.send(face_jpeg, Idempotency_Key="k")) != ids(other.send(face_jpeg, Idempotency_Key="k"))


def test_a_refused_request_frees_its_key(program, face_jpeg):
    assert program.send(b"some text", Idempotency_Key="mine").status_code == 415
    assert program.send(face_jpeg, Idempotency_Key="mine").status_code == 201


def test_a_key_is_forgotten_after_a_day(app, program, face_jpeg):
    first = program.send(face_jpeg, Idempotency_Key="mine")
    make_older(app, timedelta(hours=23))
    assert ids(program.send(face_jpeg, Idempotency_Key="mine")) == ids(first)
    make_older(app, timedelta(hours=25))
    assert ids(program.send(face_jpeg, Idempotency_Key="mine")) != ids(first)


def test_the_key_of_deleted_analyses_says_so(program, face_jpeg):
    (analysis_id,) = ids(program.send(face_jpeg, Idempotency_Key="mine"))
    program.delete(f"/analyses/{analysis_id}")
    answer = program.send(face_jpeg, Idempotency_Key="mine")
    assert answer.status_code == 410 and "deleted" in answer.json["detail"]


def test_of_two_simultaneous_requests_one_is_analysed(app, program, face_jpeg, monkeypatch):
    started, may_end = threading.Event(), threading.Event()
    submit = analyses.submit

    def slow(*arguments, **options):
        started.set()
        may_end.wait(10)
        return submit(*arguments, **options)

    monkeypatch.setattr(analyses, "submit", slow)
    first = []
    thread = threading.Thread(target=lambda: first.append(program.send(face_jpeg, Idempotency_Key="mine")))
    thread.start()
    assert started.wait(10)
    second = program.send(face_jpeg, Idempotency_Key="mine")
    may_end.set()
    thread.join()
    assert (first[0].status_code, second.status_code) == (201, 409) and "still running" in second.json["detail"]


def test_a_request_that_died_with_its_worker_frees_its_key(app, program, face_jpeg):
    with app.app_context():
        db.session.add(IdempotencyKey(visitor=program.visitor, key="mine", body_sha256="0" * 64))
        db.session.commit()
    assert program.send(face_jpeg, Idempotency_Key="mine").status_code == 409
    make_older(app, timedelta(minutes=16))
    assert program.send(face_jpeg, Idempotency_Key="mine").status_code == 201


@pytest.mark.parametrize("key", ["", "a b", "ü", "k" * 256])
def test_a_key_that_is_no_name_is_refused(program, face_jpeg, key):
    assert program.send(face_jpeg, Idempotency_Key=key).status_code == 422
