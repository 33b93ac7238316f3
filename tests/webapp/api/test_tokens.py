import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from webapp.api.tables import ApiToken
from webapp.api.tokens import find_token
from webapp.models import db


def commands(app, *arguments):
    run = app.test_cli_runner().invoke(args=["tokens", *arguments])
    return run.exit_code, run.output


def challenge(response):
    assert response.content_type == "application/problem+json"
    return response.status_code, response.headers.get("WWW-Authenticate")


def test_a_token_of_the_command_line_opens_the_api(app):
    code, output = commands(app, "create", "batch job", "--days", "7")
    token = re.search(r"Token: +(dfd_[0-9a-f]{16}_\S{43})\n", output)[1]
    assert code == 0 and "Webhook secret: whsec_" in output
    client = app.test_client()
    assert client.get("/api/v1/analyses", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    listed = commands(app, "list")[1]
    assert re.search(r"batch job +read write .* valid\n", listed) and token not in listed
    token_id = token.split("_")[1]
    assert commands(app, "revoke", token_id) == (0, f"Token {token_id} is revoked.\n")
    assert client.get("/api/v1/analyses", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert re.search(r"batch job .* revoked\n", commands(app, "list")[1])
    assert commands(app, "revoke", token_id)[0] == 1


def test_the_database_holds_no_secret(app, program):
    with app.app_context():
        rows = str(db.session.execute(text("SELECT * FROM api_token")).all())
    assert program.token_id in rows and program.token.split("_", 2)[2] not in rows


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer dfd_0123456789abcdef_nonsense"},
        {"Authorization": "Bearer {token}x"},
        {"Authorization": "Bearer x_{token}"},
        {"Authorization": "Basic {token}"},
        {"Cookie": "token={token}; session={token}"},
    ],
    ids=str,
)
def test_a_request_without_a_valid_token_is_refused(app, program, sent):
    headers = {name: value.format(token=program.token) for name, value in sent.items()}
    answer = app.test_client().get("/api/v1/analyses", headers=headers)
    status, header = challenge(answer)
    assert status == 401 and header.startswith("Bearer realm=")
    assert ("invalid_token" in header) == ("Authorization" in sent)


def test_the_cookie_of_a_visitor_opens_nothing(client, face_jpeg):
    address = client.upload(face_jpeg).location
    assert client.get(address).status_code == 200
    assert client.get(f"/api/v1{address}").status_code == 401


def test_an_expired_token_is_refused(app, program):
    with app.app_context():
        db.session.get(ApiToken, program.token_id).expires_at = datetime.now(UTC) - timedelta(seconds=1)
        db.session.commit()
    assert challenge(program.get("/analyses"))[0] == 401


def test_a_scope_allows_what_it_names(make_program):
    reader, writer = make_program(scopes=("read",)), make_program(scopes=("write",))
    assert reader.get("/analyses").status_code == 200
    status, header = challenge(reader.send(b"x"))
    assert status == 403 and "error=insufficient_scope" in header and "scope=write" in header
    assert writer.get("/analyses").status_code == 403
    assert writer.send(b"some text").status_code == 415


def test_the_last_use_is_recorded_once_a_minute(app, program):
    def last_used_at():
        with app.app_context():
            return db.session.get(ApiToken, program.token_id).last_used_at

    assert last_used_at() is None
    program.get("/analyses")
    first = last_used_at()
    program.get("/analyses")
    assert first is not None and last_used_at() == first


def test_a_token_is_compared_in_constant_time_for_unknown_ids_too(app, program, monkeypatch):
    compared = []
    monkeypatch.setattr("webapp.api.tokens.hmac.compare_digest", lambda *both: compared.append(both) or False)
    with app.app_context():
        assert find_token(program.token) is None and find_token("dfd_0000000000000000_x") is None
        assert find_token("nonsense") is None
    assert [tuple(map(len, both)) for both in compared] == [(64, 64)] * 3


def test_a_request_with_a_token_sets_no_cookie(program):
    assert "Set-Cookie" not in program.get("/analyses?language=de").headers
