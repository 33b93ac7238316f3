"""`scan --server` against the real application, served on a port of its own, or by gunicorn."""

import csv
import json
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest
from batches import zip_of
from clips import make_sound
from project import ROOT
from sqlalchemy import func, select, update
from voices import speak
from werkzeug.serving import make_server

from detector import DetectorError
from detector.cli import main
from detector.remote import RemoteDetector, ServerError
from webapp import analyses, jobs
from webapp.api.tables import ApiToken
from webapp.api.tokens import create_token
from webapp.models import Batch, db

IDLE_S = 0.02
START_S = 180  # a busy machine starts slowly


@pytest.fixture
def serve(make_app, real_detector):
    """Return a context manager that serves the application, analyses what waits, and gives address and token."""

    @contextmanager
    def serve(app=None, **settings):
        app, stop = app or make_app(**settings), threading.Event()
        with app.app_context():
            _, token = create_token("scan")

        def work():
            with app.app_context():
                while not stop.is_set():
                    if (analysis_id := analyses.claim()) is None:
                        time.sleep(IDLE_S)
                    else:
                        jobs.run(analysis_id, lambda: real_detector)

        server = make_server("127.0.0.1", 0, app, threaded=True)
        threads = [threading.Thread(target=server.serve_forever), threading.Thread(target=work)]
        for thread in threads:
            thread.start()
        try:
            yield f"http://127.0.0.1:{server.port}", token
        finally:
            stop.set()
            server.shutdown()
            for thread in threads:
                thread.join()
            server.server_close()

    return serve


@pytest.fixture
def served(app, serve):
    with serve(app) as served:
        yield served


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("detector.remote.RETRY_S", 0.01)
    monkeypatch.setattr("detector.remote.POLL_MIN_S", 0.02)


@pytest.fixture
def posts(monkeypatch):
    """The numbers of files of the requests that sent files."""
    sent, post = [], RemoteDetector._post
    monkeypatch.setattr(RemoteDetector, "_post", lambda self, files: (sent.append(len(files)), post(self, files))[1])
    return sent


@pytest.fixture
def folder(tmp_path, face_jpeg, astronaut):
    """A picture, a text, a ZIP archive, the same picture again and a small one."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(face_jpeg)
    (folder / "b.jpg").write_bytes(b"some text")
    (folder / "c.jpg").write_bytes(zip_of([("a.jpg", face_jpeg)]))  # the server would unpack it
    (folder / "d.jpg").write_bytes(face_jpeg)
    astronaut.resize((300, 300)).save(folder / "e.png")
    return folder


def scan(folder, address, token, *more):
    table = folder.parent / "out.csv"
    code = main(["scan", str(folder), "--server", address, "--token", token, "--csv", str(table), "--quiet", *more])
    return code, read(table)


def read(table):
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def names(rows):
    return [row["path"].rpartition("/")[2] for row in rows]


def without_times(rows):
    return [{**row, "elapsed_ms": ""} for row in rows]


def test_a_folder_is_sent_in_one_request_and_its_rows_are_those_of_a_scan_here(
    served, tmp_path, folder, stored_files, posts
):
    code, rows = scan(folder, *served)
    assert code == 1 and names(rows) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.png"]
    assert "plain text" in rows[1]["error"] and "ZIP archive" in rows[2]["error"]
    assert main(["scan", str(folder), "--csv", str(tmp_path / "here.csv"), "--quiet"]) == 1
    assert without_times(rows) == without_times(read(tmp_path / "here.csv"))
    assert posts == [4] and stored_files() == []


def test_a_server_that_accepts_fewer_files_gets_fewer(serve, folder, posts):
    with serve(MAX_BATCH_FILES=2) as served:
        _, rows = scan(folder, *served)
    assert names(rows) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.png"]
    assert [bool(row["verdict"]) for row in rows] == [True, False, False, True, True] and max(posts[1:]) <= 2


def test_what_the_server_refuses_is_an_error_of_its_file(serve, folder):
    with serve(MAX_UPLOAD_MB=1) as served:
        (folder / "d.jpg").write_bytes((folder / "a.jpg").read_bytes() + bytes(1_000_000))
        (folder / "desktop.ini").write_bytes(b"x")
        (folder / ".hidden.jpg").write_bytes((folder / "a.jpg").read_bytes())
        with RemoteDetector(*served) as remote:
            paths = [str(folder / name) for name in ("a.jpg", "d.jpg", "desktop.ini", "e.png", ".hidden.jpg", "none")]
            found = list(remote.detect_all(paths))
            assert [isinstance(each, DetectorError) for each in found] == [False, True, True, False, False, True]
            assert "at most 1 MB" in str(found[1]) and "because of its name" in str(found[2])
            assert str(found[5]) == "The file cannot be opened: No such file or directory."
            refused = list(remote.detect_all([str(folder / "b.jpg"), str(folder / "d.jpg")]))
            assert "plain text" in str(refused[0]) and "at most 1 MB" in str(refused[1])
            assert [str(each) for each in remote.detect_all([str(folder / "b.jpg")])] == [str(refused[0])]


def test_results_are_kept_on_request(served, tmp_path, folder, stored_files):
    (tmp_path / "token").write_text(f"{served[1]}\n")
    assert scan(folder, served[0], f"@{tmp_path / 'token'}", "--keep")[0] == 1
    assert stored_files()


def test_a_connection_that_breaks_sends_nothing_twice(app, served, folder, monkeypatch):
    import httpx

    request, broken = httpx.Client.request, []

    def breaking(self, method, address, **options):
        answer = request(self, method, address, **options)
        if method == "POST" and not broken:
            broken.append(answer)
            raise httpx.ReadError("The connection was reset.")
        return answer

    monkeypatch.setattr(httpx.Client, "request", breaking)
    _, rows = scan(folder, *served, "--keep")
    with app.app_context():
        assert broken and db.session.scalar(select(func.count()).select_from(Batch)) == 1
    assert sum(bool(row["verdict"]) for row in rows) == 3


def test_an_expired_token_keeps_the_rows_and_another_one_goes_on(app, served, folder, monkeypatch, capsys, posts):
    """The token ends while the second request is being sent."""
    monkeypatch.setattr("detector.remote.BATCH_FILES", 2)
    post = RemoteDetector._post

    def expiring(self, files):
        if len(posts) == 2:
            with app.app_context():
                db.session.execute(update(ApiToken).values(expires_at=func.current_timestamp()))
                db.session.commit()
        return post(self, files)

    monkeypatch.setattr(RemoteDetector, "_post", expiring)
    code, rows = scan(folder, *served)
    assert code == 2 and names(rows) == ["a.jpg", "b.jpg"]
    assert "expired or revoked. The rows so far are kept; the same command with --resume" in capsys.readouterr().err
    with app.app_context():
        _, token = create_token("another")
    code, rows = scan(folder, served[0], token, "--resume")
    assert code == 1 and names(rows) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.png"]
    assert scan(folder, served[0], token, "--resume") == (1, rows) and posts == [2, 1, 1, 1, 1]


def test_ctrl_c_deletes_what_was_sent(served, folder, stored_files, monkeypatch):
    monkeypatch.setattr("detector.remote.BATCH_FILES", 2)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(RemoteDetector, "_wait", interrupt)
    assert scan(folder, *served) == (130, []) and stored_files() == []


def test_a_rate_limit_is_waited_for(serve, folder, monkeypatch):
    """Even where a busy server would not be tried again."""
    monkeypatch.setattr("detector.remote.ATTEMPTS", 1)
    words = []
    with serve(API_RATE="1 per 3 second") as served, RemoteDetector(*served) as remote:
        (refused,) = remote.detect_all([str(folder / "b.jpg")], report=words.append)
    assert "plain text" in str(refused) and re.fullmatch(r"the server accepts the next request in \d s", words[1])


def test_a_limit_of_a_day_is_not_waited_for(serve, folder, capsys):
    with serve(API_RATE="1 per day") as served:
        code, rows = scan(folder, *served)
    assert (code, rows) == (2, []) and "accepts no request of this token for 86,4" in capsys.readouterr().err


def test_a_recording_is_awaited(served, tmp_path, real_detector):
    path = tmp_path / "memo.flac"
    path.write_bytes(make_sound(speak(3.0), format="flac", codec="flac"))
    with RemoteDetector(*served) as server:
        (detection,) = server.detect_all([str(path)])
    assert detection.segments and detection.verdict == real_detector.detect(path).verdict


def test_a_wrong_token_and_a_lost_server_stop_the_scan(served, tmp_path, face_jpeg, capsys):
    (tmp_path / "a.jpg").write_bytes(face_jpeg)
    assert main(["scan", str(tmp_path / "a.jpg"), "--server", served[0], "--token", "dfd_wrong"]) == 2
    assert "unknown, expired or revoked" in capsys.readouterr().err
    assert main(["scan", str(tmp_path / "a.jpg"), "--server", "http://127.0.0.1:1", "--token", "x"]) == 2
    assert "cannot be reached" in capsys.readouterr().err
    with pytest.raises(ServerError, match="must begin with http"):
        RemoteDetector("example.org", "x")


@pytest.mark.parametrize("options", [["--server", "http://a"], ["--token", "x"], ["--keep"]])
def test_options_that_belong_together_are_named(options, capsys):
    with pytest.raises(SystemExit):
        main(["scan", "a.jpg", *options])
    assert "--server" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_scan_by_a_real_server_goes_on(start_server, tmp_path, folder):
    """gunicorn with the process of its queue; the scan is killed after its first rows."""
    table, lines = tmp_path / "out.csv", tmp_path / "out.jsonl"
    environment = {**os.environ, "DEEPFAKE_INSTANCE_PATH": str(tmp_path / "instance")}
    for number in range(60):
        (folder / f"f{number:02}.jpg").write_bytes((folder / "a.jpg").read_bytes() + bytes([number]))
    with start_server(tmp_path, WEB_CONCURRENCY="1") as (address, _):
        make = [sys.executable, "-m", "flask", "--app", "app", "tokens", "create", "scan"]
        made = subprocess.run(make, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
        token = re.search(r"Token: +(\S+)", made)[1]
        command = [sys.executable, "-m", "detector", "scan", str(folder), "--server", address, "--token", token]
        command += ["--csv", str(table), "--json", str(lines)]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as killed:
            until = time.monotonic() + START_S
            while time.monotonic() < until and not (lines.exists() and lines.read_bytes().count(b"\n") > 1):
                time.sleep(0.005)
            killed.kill()
        with table.open("ab") as file:
            file.write(b"/a/row/that/was/not/fin")
        run = subprocess.run([*command, "--resume"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    assert "Left out: " in run.stderr and "plain text" not in run.stderr
    assert names(read(table)) == sorted(path.name for path in folder.iterdir())
    assert [json.loads(line)["path"] for line in lines.read_text().splitlines()] == [row["path"] for row in read(table)]
