"""gunicorn as it ships, alone and behind nginx with deploy/nginx.conf: headers, limits, slow and lost requests."""

import http.client
import io
import os
import re
import shutil
import signal
import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.cookiejar import CookieJar
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, Request, build_opener, urlopen

import numpy as np
import pytest
from PIL import Image
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from training.load_testing import LoadOptions, half_sent, percentile, run_clients, running_nginx

pytestmark = pytest.mark.slow

ANSWER_S = 60  # a busy machine answers slowly
SLOW_CLIENTS = 200
needs_nginx = pytest.mark.skipif(
    shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None,
    reason="The server behind nginx is tested where nginx is installed (apt-get install nginx-light).",
)


@pytest.fixture(scope="module")
def server(start_server, tmp_path_factory):
    """The address of gunicorn, which believes one proxy."""
    with start_server(tmp_path_factory.mktemp("server"), DEEPFAKE_TRUSTED_PROXIES="1") as (address, _):
        yield address


@pytest.fixture(scope="module", params=["gunicorn", pytest.param("nginx", marks=needs_nginx)])
def address(request, server, tmp_path_factory):
    """The address of gunicorn, then that of nginx before it."""
    with front(request.param, server, tmp_path_factory.mktemp("proxy")) as found:
        yield found


@contextmanager
def front(kind, server, folder):
    if kind == "gunicorn":
        yield server
        return
    with running_nginx(folder, int(server.rpartition(":")[2])) as found:
        until = time.monotonic() + ANSWER_S
        while True:
            try:
                urlopen(f"{found}/healthz", timeout=ANSWER_S).close()
                break
            except OSError:
                assert time.monotonic() < until, (folder / "nginx.log").read_text()
                time.sleep(0.05)
        yield found


class Visitor:
    """A browser session over HTTP."""

    def __init__(self, address):
        self.address = address
        self.opener = build_opener(HTTPCookieProcessor(CookieJar()))

    def get(self, path, **headers):
        with self.opener.open(Request(self.address + path, headers=headers), timeout=ANSWER_S) as answer:
            return answer.read().decode(), answer.headers

    def upload(self, data):
        token = re.search(r'name="csrf_token" value="([^"]+)"', self.get("/")[0])[1]
        boundary, body = encode_multipart({"csrf_token": token, "file": FileStorage(io.BytesIO(data), "noise.png")})
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        with self.opener.open(Request(f"{self.address}/analyses", body, headers), timeout=ANSWER_S) as answer:
            return answer.url.removeprefix(self.address), answer.read().decode()


def picture(seed):
    """Return a small PNG file of its own."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_two_hundred_half_sent_requests_do_not_stop_others(address):
    Visitor(address).upload(picture(0))  # the model is loaded
    sources = tuple(f"127.0.0.{number}" for number in range(2, 7))  # 40 each: nginx allows an address 64
    with half_sent(address, SLOW_CLIENTS, sources=sources):
        time.sleep(1)  # until all are accepted
        started = time.monotonic()
        for number in range(4):  # whichever worker answers
            path, page = Visitor(address).upload(picture(1 + number))
            assert path.startswith("/analyses/") and "64 x 64" in page or "Could not be checked" in page
        assert time.monotonic() - started < ANSWER_S / 2


@needs_nginx
def test_one_address_cannot_hold_all_connections_of_nginx(server, tmp_path):
    # nginx counts a connection once the head is complete, as that of every other one; half heads end after 10 s
    with front("nginx", server, tmp_path) as address, half_sent(address, 150, sources=("127.0.0.9",)):
        time.sleep(0.5)
        host, port = address.removeprefix("http://").split(":")
        greedy = http.client.HTTPConnection(host, int(port), timeout=ANSWER_S, source_address=("127.0.0.9", 0))
        greedy.request("GET", "/")
        assert greedy.getresponse().status == 429
        greedy.close()
        assert "csrf_token" in Visitor(address).get("/")[0]


@needs_nginx
def test_nginx_replaces_what_a_client_claims(server, tmp_path):
    with front("nginx", server, tmp_path) as address:
        page, headers = Visitor(address).get(
            "/", **{"X-Forwarded-Proto": "https", "X-Forwarded-For": "1.1.1.1", "X-Forwarded-Host": "evil.org"}
        )
        assert "Secure" not in headers["Set-Cookie"] and "evil.org" not in page and "https://127" not in page
        assert f'content="{address}/"' in page and headers["Server"] == "nginx"
        for name in ("Content-Security-Policy", "X-Content-Type-Options", "Cache-Control"):
            assert headers.get_all(name) and len(headers.get_all(name)) == 1


@needs_nginx
def test_nginx_refuses_a_body_over_the_limit(server, tmp_path):
    with front("nginx", server, tmp_path) as address:
        host, port = address.removeprefix("http://").split(":")
        sender = http.client.HTTPConnection(host, int(port), timeout=ANSWER_S)
        sender.putrequest("POST", "/analyses")
        sender.putheader("Content-Length", str(2_000_000_000))
        sender.endheaders()
        assert sender.getresponse().status == 413
        sender.close()


def test_the_clients_of_the_load_test_upload_and_open_results(server, astronaut):
    buffer = io.BytesIO()
    astronaut.save(buffer, "JPEG")
    stats = {
        entry["name"]: entry for entry in run_clients(server, buffer.getvalue(), LoadOptions(clients=2, seconds=6))
    }
    assert set(stats) == {"start page", "upload", "result page"} and stats["start page"]["num_requests"] == 2
    for entry in stats.values():
        assert entry["num_requests"] and entry["num_failures"] == 0
        times = Counter({float(time): count for time, count in entry["response_times"].items()})
        assert 0 < percentile(times, 0.5) <= percentile(times, 0.95) <= max(times)


@pytest.mark.parametrize(("part", "expected"), [(0.5, 20), (0.95, 300), (0.05, 10), (1, 300)])
def test_percentiles_are_read_from_counts(part, expected):
    assert percentile(Counter({10.0: 4, 300.0: 1, 20.0: 5}), part) == expected


def test_gunicorn_believes_no_header_by_itself(start_server, tmp_path):
    with start_server(tmp_path, WEB_CONCURRENCY="1") as (address, _):
        page, headers = Visitor(address).get("/", **{"X-Forwarded-Proto": "https", "X-Forwarded-For": "1.1.1.1"})
        assert "Secure" not in headers["Set-Cookie"] and f'content="{address}/"' in page


def test_a_killed_worker_loses_and_doubles_nothing(start_server, tmp_path):
    """While pictures come in, one of two workers is killed: what was answered is stored once, the server goes on."""
    answered, failed = [], []
    with start_server(tmp_path) as (address, log), ThreadPoolExecutor(4) as pool:

        def send(seed):
            visitor = Visitor(address)
            try:
                answered.append((seed, visitor, visitor.upload(picture(seed))[0]))
            except (OSError, http.client.HTTPException):
                failed.append(seed)

        sent = [pool.submit(send, seed) for seed in range(40)]
        while len(answered) < 8:
            time.sleep(0.01)
        os.kill(int(re.findall(r"Booting worker with pid: (\d+)", log.read_text())[0]), signal.SIGKILL)
        for each in sent:
            each.result()
        assert len(answered) + len(failed) == 40 and len(failed) <= 4  # at most what it was working on
        for _, visitor, path in answered:
            assert "noise.png" in visitor.get(path)[0]
        for seed in failed:  # the person tries again
            Visitor(address).upload(picture(seed))
    with sqlite3.connect(tmp_path / "instance" / "deepfake.sqlite") as database:
        states = [state for (state,) in database.execute("SELECT state FROM analysis")]
        counts = [count for (count,) in database.execute("SELECT reference_count FROM upload")]
    database.close()
    assert len(counts) == 40 and sum(counts) == len(states) and set(states) == {"done"}
    assert 40 <= len(states) <= 40 + len(failed)  # an answer may be lost after its row was stored


def test_a_refused_upload_of_many_bytes_gets_its_sentence_through_nginx(address):
    """The server answers before it has read everything; the sentence still arrives."""
    with pytest.raises(HTTPError) as refused:
        Visitor(address).upload(b"just some words " * 100_000)
    assert refused.value.code == 415 and "plain text" in refused.value.read().decode()
    refused.value.close()
