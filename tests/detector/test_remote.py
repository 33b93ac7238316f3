"""`scan --server` against the real application, served on a port of its own."""

import csv
import threading
import time

import pytest
from batches import zip_of
from clips import make_sound
from voices import speak
from werkzeug.serving import make_server

from detector.cli import main
from detector.remote import RemoteDetector, ServerError
from webapp import analyses, jobs
from webapp.api.tokens import create_token


@pytest.fixture
def served(app):
    """The address of the application and a token."""
    with app.app_context():
        _, token = create_token("scan")
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.port}", token
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("detector.remote.RETRY_S", 0.01)


def scan(folder, address, token, *more):
    table = folder / "out.csv"
    code = main(["scan", str(folder), "--server", address, "--token", token, "--csv", str(table), "--quiet", *more])
    with table.open(newline="") as file:
        return code, list(csv.DictReader(file))


def test_files_of_a_folder_become_rows_and_are_deleted_on_the_server(served, tmp_path, face_jpeg, stored_files):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(face_jpeg)
    (folder / "b.jpg").write_bytes(b"some text")
    (folder / "c.jpg").write_bytes(zip_of([("a.jpg", face_jpeg)]))  # the server would make a batch of it
    code, rows = scan(folder, *served)
    assert code == 1 and [row["path"] for row in rows] == [str(folder / f"{name}.jpg") for name in "abc"]
    assert rows[0]["verdict"] and rows[0]["faces"] == "1" and rows[0]["real_n"] and not rows[0]["error"]
    assert "plain text" in rows[1]["error"] and not rows[1]["verdict"]
    assert "ZIP archive" in rows[2]["error"] and not rows[2]["verdict"]
    assert stored_files() == []


def test_results_are_kept_on_request(served, tmp_path, face_jpeg, stored_files):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(face_jpeg)
    (tmp_path / "token").write_text(f"{served[1]}\n")
    assert scan(folder, served[0], f"@{tmp_path / 'token'}", "--keep")[0] == 0
    assert stored_files()


@pytest.mark.slow
def test_a_recording_is_awaited(app, served, tmp_path, real_detector):
    path = tmp_path / "memo.flac"
    path.write_bytes(make_sound(speak(3.0), format="flac", codec="flac"))

    def work():
        with app.app_context():
            while (analysis_id := analyses.claim()) is None:
                pass
            jobs.run(analysis_id, lambda: real_detector)

    worker = threading.Thread(target=work)
    worker.start()
    with RemoteDetector(*served) as server:
        detection = server.detect(str(path))
    worker.join()
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


def test_a_busy_server_is_tried_again(make_app, monkeypatch):
    waits = []
    app = make_app(API_RATE="3 per second")
    with app.app_context():
        _, token = create_token("scan")
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sleep = time.sleep
    monkeypatch.setattr("detector.remote.time.sleep", lambda wait_s: (waits.append(wait_s), sleep(wait_s)))
    with RemoteDetector(f"http://127.0.0.1:{server.port}", token) as remote:
        for _ in range(4):
            remote._request("GET", "analyses")
    server.shutdown()
    server.server_close()
    assert waits and all(wait_s >= 1 for wait_s in waits)
