"""Webhooks against a real receiver on this machine."""

import base64
import hashlib
import hmac
import ipaddress
import json
import socket
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from clips import make_sound
from sqlalchemy import select, update
from voices import speak

from webapp import analyses
from webapp.api import webhooks
from webapp.api.tables import WebhookCall
from webapp.api.tokens import webhook_secret
from webapp.api.webhook_addresses import ForbiddenAddress, check_url, is_public, resolve
from webapp.models import db

WAIT_S = 30


class Receiver(ThreadingHTTPServer):
    """Keeps the messages it gets, and answers with the given statuses, the last one again and again."""

    daemon_threads = True

    def __init__(self, *statuses, location=None, pause_s=0.0):
        self.statuses, self.location, self.pause_s = list(statuses), location, pause_s
        self.messages = []
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}/hook"


class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.messages.append((self.path, dict(self.headers), body))
        time.sleep(server.pause_s)
        self.send_response(server.statuses.pop(0) if len(server.statuses) > 1 else server.statuses[0])
        if server.location:
            self.send_header("Location", server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def receiving(*statuses, **options):
    receiver = Receiver(*statuses, **options)
    threading.Thread(target=receiver.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield receiver
    finally:
        receiver.shutdown()
        receiver.server_close()


@pytest.fixture
def app(make_app):
    return make_app(WEBHOOKS_TO_PRIVATE="true")


@pytest.fixture(autouse=True)
def no_thread(app, monkeypatch):
    """The tests send by themselves, so that they know when."""
    monkeypatch.setattr(app.extensions["webhooks"], "wake", lambda: None)


@pytest.fixture
def send(app):
    """Return a function that sends what is due, and returns whether something was."""

    def send():
        with app.app_context():
            return webhooks.has_pending() and webhooks.send_next()

    return send


@pytest.fixture
def call(app):
    """Return a function that returns the stored values of the only call."""

    def call():
        with app.app_context():
            found = db.session.scalars(select(WebhookCall)).one()
            return found.state, found.attempts, found.error

    return call


def make_due(app):
    with app.app_context():
        db.session.execute(update(WebhookCall).values(next_attempt_at=datetime.now(UTC) - timedelta(seconds=1)))
        db.session.commit()


def submit(program, data, url):
    answer = program.send(data, f"/analyses?callback_url={url}")
    assert answer.status_code == 201, answer.json
    return answer.json["analyses"][0]


def test_a_message_is_signed_and_names_the_verdict(app, program, face_jpeg, send, call):
    with receiving(204) as receiver:
        analysis = submit(program, face_jpeg, receiver.url)
        assert send() and not send()
    ((path, headers, body),) = receiver.messages
    message = json.loads(body)
    assert (path, message["type"]) == ("/hook", "analysis.done")
    assert message["data"]["id"] == analysis["id"]
    assert message["data"]["verdict"] == analysis["result"]["verdict"]
    with app.app_context():
        secret = webhook_secret(program.visitor)
    content = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
    digest = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), content, hashlib.sha256).digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 60
    assert call() == ("sent", 1, None)


def test_secrets_of_two_tokens_differ(app, program, make_program):
    with app.app_context():
        assert webhook_secret(program.visitor) != webhook_secret(make_program().visitor)


def test_nothing_is_sent_before_the_end(app, program, send, call):
    sound = make_sound(speak(1.0), format="flac", codec="flac")
    with receiving(200) as receiver:
        analysis = submit(program, sound, receiver.url)
        assert not send()
        program.post(f"/analyses/{analysis['id']}/cancel")
        assert send()
        assert json.loads(receiver.messages[0][2])["type"] == "analysis.cancelled"
        program.post(f"/analyses/{analysis['id']}/retry")
        assert call() == ("pending", 0, None) and not send()
        with app.app_context():
            analyses.fail(analyses.claim(), "The file is broken.")
        assert send()
        assert json.loads(receiver.messages[1][2])["data"]["error"] == "The file is broken."


def test_a_failed_attempt_is_repeated_later_with_the_same_id(app, program, face_jpeg, send, call):
    with receiving(500, 503, 200) as receiver:
        submit(program, face_jpeg, receiver.url)
        assert send() and call() == ("pending", 1, "The callback address answered with status 500.")
        assert not send()  # the back-off
        make_due(app)
        assert send()
        make_due(app)
        assert send() and call() == ("sent", 3, None)
    assert len({headers["webhook-id"] for _, headers, _ in receiver.messages}) == 1


def test_it_gives_up_after_the_last_attempt(app, program, face_jpeg, send, call):
    with receiving(500) as receiver:
        analysis = submit(program, face_jpeg, receiver.url)
        for _ in range(len(webhooks.RETRY_DELAYS_S) + 1):
            assert send()
            make_due(app)
        assert not send()
    assert len(receiver.messages) == len(webhooks.RETRY_DELAYS_S) + 1 and call()[0] == "failed"
    (shown,) = program.get(f"/analyses/{analysis['id']}/webhooks").json["webhooks"]
    assert (shown["state"], shown["attempts"]) == ("failed", len(receiver.messages))


def test_a_redirect_is_not_followed(program, face_jpeg, send, call):
    with receiving(200) as other, receiving(302, location=other.url) as receiver:
        submit(program, face_jpeg, receiver.url)
        assert send()
    assert other.messages == [] and call()[2] == "The callback address answered with status 302."


def test_a_call_of_a_deleted_analysis_is_not_sent(app, program, face_jpeg, send):
    with receiving(200) as receiver:
        analysis = submit(program, face_jpeg, receiver.url)
        program.delete(f"/analyses/{analysis['id']}")
        assert not send()
    assert receiver.messages == []
    with app.app_context():
        assert db.session.scalars(select(WebhookCall)).all() == []


def test_a_slow_receiver_is_given_up(program, face_jpeg, send, call, monkeypatch):
    monkeypatch.setattr(webhooks, "SENDING_S", 0.2)
    with receiving(200, pause_s=2) as receiver:
        submit(program, face_jpeg, receiver.url)
        started = time.monotonic()
        assert send() and time.monotonic() - started < 2
    assert call()[1:] == (1, "The callback address did not answer within 0.2 seconds.")


def test_a_receiver_that_drips_is_given_up(program, face_jpeg, send, call, monkeypatch):
    """Each byte arrives in time, but the whole does not."""
    monkeypatch.setattr(webhooks, "SENDING_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip():
            connection, _ = server.accept()
            with connection:
                for byte in b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000:
                    try:
                        connection.send(bytes([byte]))
                    except OSError:
                        return
                    time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        submit(program, face_jpeg, f"http://127.0.0.1:{server.getsockname()[1]}/")
        started = time.monotonic()
        assert send() and time.monotonic() - started < 5
    assert call()[0] == "pending" and "did not answer" in call()[2]


def test_a_call_is_claimed_once_and_again_when_its_sender_died(app, program, face_jpeg):
    with receiving(200) as receiver:
        submit(program, face_jpeg, receiver.url)
        with app.app_context():
            assert webhooks._claim() is not None  # a sender that dies now
            assert webhooks._claim() is None
            make_due(app)
            assert webhooks.send_next()
    assert len(receiver.messages) == 1


def test_a_restarted_server_sends_what_is_left(make_app, program, face_jpeg):
    """The first application never sends; a second one on the same folder does, in its thread."""
    with receiving(200) as receiver:
        submit(program, face_jpeg, receiver.url)
        make_app(WEBHOOKS_TO_PRIVATE="true").extensions["webhooks"].wake()
        until = time.monotonic() + WAIT_S
        while not receiver.messages and time.monotonic() < until:
            time.sleep(0.02)
        assert len(receiver.messages) == 1


# addresses


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",  # noqa: S104
        "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001:0:4136:e378::1",
        "fd00:ec2::254",
    ],
)  # fmt: skip
def test_a_private_address_is_recognised(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822", "2002:5db8:d822::"])
def test_a_public_address_is_recognised(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/", "ftp://example.org/", "https:///path", "https://", "//example.org", "https://user@example.org/",
        "https://user:password@example.org/", "https://127.0.0.1/", "https://[::1]/", "https://localhost/",
        "https://api.localhost/", "https://metadata.google.internal/", "https://169.254.169.254/latest/meta-data/",
        "https://exa mple.org/", "https://example.org:99999/", "https://example.org:0/", "https://bücher.example/",
        "https://[::ffff:10.0.0.1]/", "https://example.org/\r\nX: y", "https://[bad/",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_https_is_refused(url):
    with pytest.raises(ForbiddenAddress, match=r"^The callback address .*\.$"):
        check_url(url, allow_private=False)


def test_a_public_https_address_is_accepted():
    check_url("https://example.org:8443/hook?x=y", allow_private=False)


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "http://example.org/", "https://localhost:5000/"])
def test_a_request_with_a_forbidden_address_is_refused_and_stores_nothing(make_app, make_program, stored_files, url):
    token = make_program().token
    answer = (
        make_app()
        .test_client()
        .post(
            f"/api/v1/analyses?callback_url={url}",
            data=b"x",
            headers={"Authorization": f"Bearer {token}", "Content-Type": "image/png"},
        )
    )
    assert answer.status_code == 422 and "callback address" in answer.json["detail"] and stored_files() == []


@pytest.mark.parametrize(
    ("host", "written"), [("127.0.0.1", None), ("2130706433", None), ("0x7f.1", None), ("rebound.example", "127.0.0.1")]
)
def test_the_address_is_checked_where_it_is_connected(app, host, written, monkeypatch):
    """A name that was public when the file was sent, or a number that means a private address, reaches nothing."""
    app.config["WEBHOOKS_TO_PRIVATE"] = False
    if written:
        entry = (socket.AF_INET, socket.SOCK_STREAM, 6, "", (written, 443))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [entry])
    with receiving(200) as receiver, app.app_context():
        error = webhooks.send(f"http://{host}:{receiver.server_port}/", "id", b"{}", "whsec_AAAA")
    assert receiver.messages == [] and error == "The callback address must be public."


def test_one_private_address_of_a_name_is_enough_to_refuse_it(monkeypatch):
    entries = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 443)) for each in ("93.184.215.14", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    with pytest.raises(ForbiddenAddress, match="must be public"):
        resolve("two.example", 443, allow_private=False)
    assert resolve("two.example", 443, allow_private=True) == "93.184.215.14"


def test_a_name_is_resolved_once_and_the_checked_address_is_used(app, monkeypatch):
    """The second answer of the name would lead elsewhere; it is never asked."""
    resolved = []
    with receiving(200) as receiver:
        answers = [("127.0.0.1", receiver.server_port), ("127.0.0.2", 1)]

        def resolve(host, port, *_, **__):
            if host == "rebound.example":
                resolved.append(host)
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", answers.pop(0))]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        with app.app_context():
            error = webhooks.send(f"http://rebound.example:{receiver.server_port}/", "id", b"{}", "whsec_AAAA")
    assert (error, resolved) == (None, ["rebound.example"])
    assert receiver.messages[0][1]["Host"] == f"rebound.example:{receiver.server_port}"
