import pytest
from services import HOW_TO_GET_THEM, are_installed, run_redis

from webapp.api.tokens import create_token
from webapp.config import StartupError


def asking(app, token=None, address="192.0.2.1", path="analyses", **headers):
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return app.test_client().get(f"/api/v1/{path}", headers=headers, environ_overrides={"REMOTE_ADDR": address})


def tokens_of(app, count):
    with app.app_context():
        return [create_token("x")[1] for _ in range(count)]


def test_a_token_has_its_own_limit_wherever_it_comes_from(make_app):
    app = make_app(API_RATE="2 per minute")
    first, second = tokens_of(app, 2)
    assert [asking(app, first, f"192.0.2.{n}").status_code for n in (1, 2, 3)] == [200, 200, 429]
    assert asking(app, second).status_code == 200


def test_all_requests_of_a_token_count_together(make_app):
    app = make_app(API_RATE="3 per hour", API_ADDRESS_RATE="9 per minute")
    (token,) = tokens_of(app, 1)
    found = [asking(app, token, path=path) for path in ("analyses", "batches", "batches/x", "analyses/x")]
    assert [answer.status_code for answer in found] == [200, 200, 404, 429]
    assert [answer.headers["RateLimit-Remaining"] for answer in found] == ["2", "1", "0", "0"]
    assert {answer.headers["RateLimit-Limit"] for answer in found} == {"3"}  # of the limit that ends first
    assert 3000 < int(found[-1].headers["Retry-After"]) <= 3600


def test_an_address_has_a_limit_for_all_its_tokens_and_for_bad_ones(make_app):
    app = make_app(API_ADDRESS_RATE="3 per minute", API_RATE="off")
    first, second = tokens_of(app, 2)
    found = [asking(app, token).status_code for token in (first, "dfd_bad_token", second, first)]
    assert found == [200, 401, 200, 429]
    assert asking(app, first, "192.0.2.2").status_code == 200


def test_the_headers_say_what_is_left_and_when_to_try_again(make_app):
    app = make_app(API_RATE="2 per minute")
    (token,) = tokens_of(app, 1)
    allowed, _, refused = (asking(app, token) for _ in range(3))
    assert (allowed.headers["RateLimit-Limit"], allowed.headers["RateLimit-Remaining"]) == ("2", "1")
    assert "Retry-After" not in allowed.headers
    assert refused.content_type == "application/problem+json" and refused.headers["RateLimit-Remaining"] == "0"
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.headers["RateLimit-Reset"] == refused.headers["Retry-After"]


def test_uploads_by_a_page_are_limited_with_a_page(make_app, face_jpeg):
    app = make_app(UPLOAD_RATE="1 per minute")
    client = app.test_client()
    first = client.upload(face_jpeg)
    assert first.status_code == 303
    again = f"{first.location}/repeat"
    for answer in (client.upload(face_jpeg), client.submit("/samples/real"), client.submit(again)):
        assert answer.status_code == 429 and answer.content_type.startswith("text/html")
        assert "Too many files were sent" in answer.text and int(answer.headers["Retry-After"]) >= 1
    assert client.get("/").status_code == 200


@pytest.mark.parametrize(("proxies", "statuses"), [(0, [200, 429]), (1, [200, 200])])
def test_a_proxy_names_the_client_only_if_it_is_trusted(make_app, proxies, statuses):
    app = make_app(API_ADDRESS_RATE="1 per minute", TRUSTED_PROXIES=proxies)
    (token,) = tokens_of(app, 1)
    headers = [{"X-Forwarded-For": f"198.51.100.{n}"} for n in (1, 2)]
    assert [asking(app, token, **each).status_code for each in headers] == statuses


def test_a_client_cannot_invent_addresses_before_a_trusted_proxy(make_app):
    app = make_app(API_ADDRESS_RATE="1 per minute", TRUSTED_PROXIES=1)
    (token,) = tokens_of(app, 1)
    headers = [{"X-Forwarded-For": f"203.0.113.{n}, 198.51.100.1"} for n in (1, 2)]
    assert [asking(app, token, **each).status_code for each in headers] == [200, 429]


@pytest.mark.skipif(not are_installed(), reason=HOW_TO_GET_THEM)
def test_two_workers_count_in_redis_and_each_alone_while_it_is_gone(make_app, tmp_path):
    with run_redis(tmp_path) as address:
        first, second = (make_app(API_RATE="3 per hour", RATE_STORAGE_URL=address) for _ in range(2))
        (token,) = tokens_of(first, 1)
        assert [asking(app, token).status_code for app in (first, second, first, second)] == [200, 200, 200, 429]
    assert [asking(first, token).status_code for _ in range(4)] == [200, 200, 200, 429]


def test_no_limit_is_a_setting(make_app):
    app = make_app(API_ADDRESS_RATE="off", API_RATE="off", UPLOAD_RATE="off")
    (token,) = tokens_of(app, 1)
    assert "RateLimit-Limit" not in asking(app, token).headers


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"UPLOAD_RATE": "often"}, "DEEPFAKE_UPLOAD_RATE must be a rate such as 120 per minute, or off, not 'often'"),
        ({"RATE_STORAGE_URL": "nosuch://x"}, "DEEPFAKE_RATE_STORAGE_URL cannot be used"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(make_app, settings, words):
    with pytest.raises(StartupError, match=words):
        make_app(**settings)
