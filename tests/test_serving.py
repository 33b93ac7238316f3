"""`gunicorn app:app` and `python app.py` as a person starts them."""

import os
import re
import socket
import subprocess
import sys
from http.cookiejar import CookieJar
from urllib.request import HTTPCookieProcessor, Request, build_opener

import pytest
from project import ROOT

pytestmark = pytest.mark.slow

ANSWER_S = 60  # a busy machine answers slowly


@pytest.fixture
def environment(tmp_path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DEEPFAKE_", "GUNICORN_"))}
    return {**kept, "DEEPFAKE_INSTANCE_PATH": str(tmp_path / "instance"), "WEB_CONCURRENCY": "2"}


def test_gunicorn_serves_the_whole_way_with_two_workers(start_server, tmp_path):
    visitor = build_opener(HTTPCookieProcessor(CookieJar()))
    with start_server(tmp_path) as (address, _):
        with visitor.open(address, timeout=ANSWER_S) as page:
            token = re.search(r'name="csrf_token" value="([^"]+)"', page.read().decode())[1]
        for _ in range(4):  # whichever worker answers
            upload = Request(f"{address}/samples/real", f"csrf_token={token}".encode())
            with visitor.open(upload, timeout=ANSWER_S) as page:
                assert re.fullmatch(rf"{address}/analyses/[\w-]{{22}}", page.url)
                assert "NASA" in page.read().decode()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (
            {"DEEPFAKE_MAX_UPLOAD_MB": "lots"},
            "DEEPFAKE_MAX_UPLOAD_MB must be a whole number from 1 to 200, not 'lots'.",
        ),
        ({"DEEPFAKE_DATABASE_URL": "sqlite:////nowhere/at.all"}, "The database cannot be used"),
    ],
)
def test_a_server_that_cannot_start_says_why_in_one_line(environment, setting, words):
    run = subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={**environment, **setting},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1 and words in run.stderr and len(run.stderr.splitlines()) == 1


def test_a_taken_port_is_reported_in_one_sentence(environment):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = subprocess.run(
            [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "app:app"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert run.returncode == 1
    assert f"Port {port} on 127.0.0.1 is taken. Choose another one, for example: make run PORT=" in run.stderr
    assert "Traceback" not in run.stderr and len(run.stderr.splitlines()) <= 2  # gunicorn's own first line


def test_the_address_is_announced_once_it_answers(environment):
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "app:app"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            line = server.stdout.readline()
            address = re.fullmatch(r"Serving on (http://127\.0\.0\.1:\d+) \(Ctrl\+C stops it\)\n", line)
            with build_opener().open(f"{address[1]}/healthz", timeout=5) as answer:
                assert answer.status == 200
        finally:
            server.terminate()
            rest, _ = server.communicate(timeout=ANSWER_S)
    assert "Serving" not in rest


def test_make_run_takes_a_port():
    run = subprocess.run(
        ["make", "--no-print-directory", "-n", "run", "PORT=8080"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1].endswith("--bind 127.0.0.1:8080 app:app")


def test_python_app_py_loads_the_model_and_serves_on_port_5000(environment):
    script = """if True:
        import flask, runpy
        def run(app, **options):
            print(options, app.extensions["detector"]._detector is not None, app.debug)
        flask.Flask.run = run
        runpy.run_path("app.py", run_name="__main__")
    """
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert run.stdout == "{'host': '127.0.0.1', 'port': 5000} True False\n", run.stderr
