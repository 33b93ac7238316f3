import json
import logging
import re
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from project import ROOT

from webapp.operations import logs, readiness

TOKEN = "a token of sixteen characters"


@pytest.fixture
def logging_restored():
    """Undo what `configure_logs` does to this process."""
    import structlog

    loggers = [logging.getLogger(name) for name in ("", *logs._OWN_HANDLERS)]
    kept = [(logger, logger.handlers, logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, handlers, level, propagate in kept:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_ready_when_every_part_works(client):
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json) == (200, {"database": "ok", "storage": "ok", "model": "ok"})


@pytest.mark.parametrize("part", ["storage", "model", "database"])
def test_not_ready_when_one_part_fails_or_hangs(app, client, monkeypatch, part, caplog):
    def fail(*_):
        raise OSError("the password is hunter2")

    places = {
        "storage": (app.extensions["storage"], "check"),
        "database": (app.extensions["readiness"], "_query"),
        "model": (app.extensions["detector"], "_detector"),
    }
    monkeypatch.setattr(*places[part], None if part == "model" else fail)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json[part]) == (503, "failed")
    assert sorted(answer.json.values()) == ["failed", "ok", "ok"] and "hunter2" not in answer.text
    assert client.get("/healthz").status_code == 200
    assert f"The part {part} does not work" in caplog.text


def test_a_part_that_does_not_answer_counts_as_failed(app, client, monkeypatch):
    import threading

    released = threading.Event()
    monkeypatch.setattr(readiness, "PATIENCE_S", 0.1)
    monkeypatch.setattr(app.extensions["storage"], "check", released.wait)
    answer = client.get("/readyz")
    released.set()
    assert (answer.status_code, answer.json["storage"], answer.json["database"]) == (503, "failed", "ok")


def test_an_answer_counts_for_a_moment(app, client, monkeypatch):
    assert client.get("/readyz").status_code == 200
    monkeypatch.setattr(app.extensions["storage"], "check", lambda: 1 / 0)
    assert client.get("/readyz").status_code == 200
    monkeypatch.setattr(readiness, "KEPT_S", 0)
    assert client.get("/readyz").status_code == 503


@pytest.mark.parametrize("sent", ["0123456789abcdef", "short", "with a space or\ttab", "x" * 65, None])
def test_every_answer_has_a_request_id(client, sent):
    answer = client.get("/nothing", headers={"X-Request-ID": sent} if sent else {})
    assert (answer.headers["X-Request-ID"] == sent) is (sent == "0123456789abcdef")
    assert re.fullmatch(r"[0-9a-f]{16,32}", answer.headers["X-Request-ID"])


def test_a_request_is_one_json_line_that_names_its_route(make_app, capsys, logging_restored):
    client = make_app(LOG="json").test_client()
    client.get("/analyses/0123456789abcdefghijkl", headers={"X-Request-ID": "id-of-the-proxy"})
    logging.getLogger("gunicorn.error").warning("Worker %d was replaced", 7)
    request, message = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert request["ms"] > 0 and request.pop("ms")
    assert request.pop("timestamp").endswith("Z")
    assert request == {
        "event": "request", "method": "GET", "route": "/analyses/<analysis_id>", "status": 404, "level": "info",
        "logger": "webapp.requests", "request_id": "id-of-the-proxy",
    }  # fmt: skip
    assert (message["event"], message["level"]) == ("Worker 7 was replaced", "warning")


def test_the_console_format_is_for_people(make_app, capsys, logging_restored):
    make_app(LOG="console").test_client().get("/healthz")
    assert re.search(r"request .*method=GET .*route=/healthz .*status=200", capsys.readouterr().err)


def test_metrics_are_not_public(make_app, client):
    assert client.get("/metrics").status_code == 404
    guarded = make_app(METRICS_TOKEN=TOKEN).test_client()
    for sent in (None, "Bearer wrong", f"Basic {TOKEN}", "Bearer "):
        assert guarded.get("/metrics", headers={"Authorization": sent} if sent else {}).status_code == 404


def test_metrics_count_requests_verdicts_and_the_queue(make_app, face_jpeg):
    client = make_app(METRICS_TOKEN=TOKEN).test_client()
    assert client.upload(face_jpeg).status_code == 303
    client.get("/analyses/0123456789abcdefghijkl")
    text = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    for line in (
        r'deepfake_request_seconds_count{method="POST",route="/analyses",status="303"} 1.0',
        r'deepfake_request_seconds_count{method="GET",route="/analyses/<analysis_id>",status="404"} 1.0',
        r'deepfake_analysis_seconds_count{media="image"} 1.0',
        r'deepfake_verdicts_total{media="image",verdict="',
        r'deepfake_queue_files{state="waiting"} 0.0',
    ):
        assert line in text


@pytest.mark.slow
def test_the_workers_of_gunicorn_share_their_metrics(start_server, tmp_path):
    def read(address, path, token=None):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with urlopen(Request(address + path, headers=headers), timeout=60) as answer:
            return answer.read().decode()

    with start_server(tmp_path, DEEPFAKE_METRICS_TOKEN=TOKEN, DEEPFAKE_LOG="json") as (address, log):
        for _ in range(20):
            assert read(address, "/healthz") and read(address, "/readyz")
        with pytest.raises(HTTPError, match="404"):
            read(address, "/metrics")
        text = read(address, "/metrics", TOKEN)
    assert re.search(r'request_seconds_count\{method="GET",route="/healthz",status="200"\} 2\d\.0', text)
    requests = [json.loads(line) for line in log.read_text().splitlines() if '"event": "request"' in line]
    assert len([line for line in requests if line["route"] == "/readyz"]) == 20


def test_a_laptop_imports_nothing_of_shared_operation(tmp_path):
    import subprocess

    script = (
        "import sys; from webapp import create_app; create_app({'INSTANCE_PATH': sys.argv[1]}); import detector.cli;"
        "print([name for name in ('celery', 'kombu', 'redis', 'psycopg', 's3fs', 'boto3', 'botocore', 'pyarrow',"
        " 'prometheus_client', 'structlog', 'opentelemetry') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout == "[]\n", run.stderr
