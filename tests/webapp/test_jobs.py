"""Analyses in the background: the states in the rows, and the process itself under gunicorn."""

import http.cookiejar
import io
import json
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.request import HTTPCookieProcessor, Request, build_opener

import pytest
from clips import make_video, pan_over
from sqlalchemy import update
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from detector import UnreadableMedia
from detector.voices.detect import VOICE_MODEL_FILES
from webapp import analyses, jobs, template_filters
from webapp.analysis_output import AnalysisOutput
from webapp.config import StartupError
from webapp.models import Analysis, State, Upload, db

pytestmark = pytest.mark.slow

PATIENCE_S = 200  # a busy machine is slow
EVERY_FRAME = {"DEEPFAKE_EVERY_S": "0.04"}  # so that a short clip takes long

needs_voice_model = pytest.mark.skipif(
    not VOICE_MODEL_FILES["onnx"].is_file(), reason="Videos and recordings need the voice model."
)


@pytest.fixture
def context(app):
    with app.app_context():
        yield


@pytest.fixture(scope="module")
def clip(portrait):
    """Almost a second of a camera that moves over the astronaut, without sound."""
    return make_video(pan_over(portrait, 20), options={"preset": "ultrafast"})


@pytest.fixture(scope="module")
def long_clip(portrait):
    """Half a minute of the same, of which every frame is sampled where it is used."""
    return make_video(pan_over(portrait, 750, size_px=(160, 120)), options={"preset": "ultrafast"})


def submit(data, visitor="somebody"):
    return analyses.submit(io.BytesIO(data), filename="clip.mp4", visitor=visitor).id


def row(analysis_id):
    """Return what other processes see of an analysis."""
    db.session.expire_all()
    return db.session.get(Analysis, analysis_id)


def run(analysis_id, real_detector, **options):
    jobs.run(analysis_id, lambda: real_detector, **options)


def analyse_with(monkeypatch, steps, and_then=lambda: None):
    """Replace the analysis by one that reports its progress as `steps` and then calls `and_then`."""

    def report_and_return(path, loaded, *, every_s, progress):
        for share in steps:
            progress(share)
        return and_then()

    monkeypatch.setattr(jobs, "PROGRESS_EVERY_S", 0)
    monkeypatch.setattr(jobs, "analyse", report_and_return)


@needs_voice_model
def test_a_video_waits_is_claimed_and_gets_its_verdict(context, clip, real_detector, stored_files):
    analysis_id = submit(clip)
    kept = row(analysis_id)
    assert (kept.state, kept.media, kept.verdict, kept.result) == (State.WAITING, "video", None, {})
    assert analyses.has_work()
    assert analyses.claim() == analysis_id and row(analysis_id).state == State.RUNNING
    run(analysis_id, real_detector)
    kept = row(analysis_id)
    said = real_detector.detect(clip)
    assert (kept.state, kept.progress, kept.worker, kept.verdict) == (State.DONE, 1, None, said.verdict)
    assert kept.probability == pytest.approx(said.probability, abs=1e-4)
    assert kept.result["frames_seen"] == said.frames_seen >= 8
    assert f"analyses/{analysis_id}/thumbnail.jpg" in stored_files()
    assert not analyses.has_work() and analyses.claim() is None


@needs_voice_model
def test_the_page_of_a_video_calls_its_verdict_experimental_with_n(app, client, clip, real_detector, tmp_path):
    app.config["VISUALIZATIONS"] = tmp_path
    metrics = {"model": {"sha256_h5": real_detector.pictures.engine.model_sha256}}
    address = client.upload(clip, "clip.mp4").location
    with app.app_context():
        run(analyses.claim(), real_detector)
    for width, sentence in ((0.3, "we measured only 9 real and 18 deepfake videos (n = 27)"), (0.1, None)):
        rate = {"value": 0, "low": 0, "high": width, "n": 9}
        clips = {"n": 27, "n_real": 9, "n_fake": 18} | dict.fromkeys(("false_alarms", "called_real"), rate)
        path = tmp_path / f"{width}"  # replaced, as the command does
        path.write_text(json.dumps(metrics | {"clips": clips}))
        os.utime(path, ns=(int(width * 100), int(width * 100)))
        path.replace(tmp_path / "video_metrics.json")
        page = client.get(address).text
        assert ("are experimental" in page) is (sentence is not None)
        assert sentence is None or sentence in page
    (tmp_path / "video_metrics.json").unlink()
    assert "are experimental" in client.get(address).text


def test_the_analysis_that_has_waited_longest_is_first(context, clip):
    ids = [submit(clip) for _ in range(3)]
    assert [analyses.claim() for _ in range(4)] == [*ids, None]


def test_nothing_is_claimed_twice(app, clip):
    with app.app_context():
        ids = {submit(clip) for _ in range(12)}
    together = threading.Barrier(6)

    def claim_all(_):
        claimed = []
        together.wait()
        with app.app_context():
            while (analysis_id := analyses.claim()) is not None:
                claimed.append(analysis_id)
        return claimed

    with ThreadPoolExecutor(6) as pool:
        claimed = [analysis_id for some in pool.map(claim_all, range(6)) for analysis_id in some]
    assert len(claimed) == 12 and set(claimed) == ids


def test_a_waiting_file_knows_its_place_and_a_retry_goes_to_the_end(context, clip, app):
    first, second, third = (submit(clip) for _ in range(3))
    assert [analyses.place_in_queue(row(each)) for each in (first, second, third)] == [0, 1, 2]
    assert analyses.claim() == first  # what is being analysed is still before the others
    assert [analyses.place_in_queue(row(each)) for each in (second, third)] == [1, 2]
    analyses.cancel(second, "somebody")
    analyses.retry(second, "somebody")
    assert [analyses.place_in_queue(row(each)) for each in (second, third)] == [2, 1]
    assert (template_filters.work_progress(row(second), 2), template_filters.work_progress(row(third), 1)) == (
        "2 files are before yours.",
        "1 file is before yours.",
    )
    assert template_filters.passed_time(row(second)) in {"0:00", "0:01", "0:02"}


def test_progress_stands_in_the_row(context, clip, real_detector, monkeypatch):
    analysis_id, seen = submit(clip), []
    analyse_with(monkeypatch, (0.25, 0.75), lambda: 1 / 0)
    store = analyses.set_progress

    def store_and_read(analysis_id, progress):
        is_running = store(analysis_id, progress)
        seen.append(row(analysis_id).progress)
        return is_running

    monkeypatch.setattr(analyses, "set_progress", store_and_read)
    analyses.claim()
    with pytest.raises(ZeroDivisionError):  # a bug ends the process, and `recover` reports it
        run(analysis_id, real_detector)
    assert seen == [0.25, 0.75]


def test_a_file_that_cannot_be_analysed_fails_with_the_sentence(context, clip, real_detector):
    analysis_id = submit(clip[:200])
    analyses.claim()
    run(analysis_id, real_detector)
    assert (row(analysis_id).state, row(analysis_id).worker) == (State.FAILED, None)
    assert "damaged or cut off" in row(analysis_id).error


def test_a_missing_model_fails_the_analysis_and_not_the_process(context, clip):
    def load():
        raise UnreadableMedia("The model file is missing.")

    analysis_id = submit(clip)
    analyses.claim()
    jobs.run(analysis_id, load)
    assert (row(analysis_id).state, row(analysis_id).error) == (State.FAILED, "The model file is missing.")


def test_cancelling_stops_the_work_and_trying_again_begins_it_afresh(context, clip, real_detector, monkeypatch):
    analysis_id, steps = submit(clip), []

    def cancel_half_way():
        for share in (0.1, 0.2, 0.3):
            steps.append(share)
            if share == 0.2:
                assert analyses.cancel(analysis_id, "somebody") is True
            yield share

    analyse_with(monkeypatch, cancel_half_way())
    analyses.claim()
    run(analysis_id, real_detector)
    assert (steps, row(analysis_id).state) == ([0.1, 0.2], State.CANCELLED)
    assert analyses.cancel(analysis_id, "somebody") is False
    assert analyses.retry(analysis_id, "a stranger") is False
    assert analyses.retry(analysis_id, "somebody") is True
    again = row(analysis_id)
    assert (again.state, again.progress, again.attempts) == (State.WAITING, 0, 0)
    assert analyses.retry(analysis_id, "somebody") is False
    assert analyses.claim() == analysis_id


def test_what_is_cancelled_or_deleted_at_the_last_moment_stays_so(
    context, clip, real_detector, monkeypatch, stored_files
):
    """The verdict arrives after the cancellation or deletion: nothing of it is stored."""

    cancelled, deleted = submit(clip), submit(clip, "another")

    def give_up(analysis_id):
        assert (
            analyses.cancel(cancelled, "somebody") if analysis_id == cancelled else analyses.delete(deleted, "another")
        )
        return AnalysisOutput({"verdict": "real"}, {"thumbnail.jpg": b"jpeg"})

    for _ in range(2):
        analysis_id = analyses.claim()
        analyse_with(monkeypatch, (0.5,), lambda analysis_id=analysis_id: give_up(analysis_id))
        run(analysis_id, real_detector)
    assert (row(cancelled).state, row(cancelled).verdict, row(deleted)) == (State.CANCELLED, None, None)
    assert stored_files() == [f"uploads/{row(cancelled).upload_sha256}"]


def test_deleting_while_it_runs_leaves_nothing_behind(context, clip, real_detector, monkeypatch, stored_files):
    analysis_id = submit(clip)

    def delete_half_way():
        yield 0.1
        assert analyses.delete(analysis_id, "somebody")
        yield 0.2

    analyse_with(monkeypatch, delete_half_way(), lambda: pytest.fail("It went on after the deletion."))
    analyses.claim()
    run(analysis_id, real_detector)
    assert (row(analysis_id), stored_files()) == (None, [])
    assert db.session.query(Upload).count() == 0


def test_a_stop_of_the_server_puts_the_work_back(context, clip, real_detector, monkeypatch):
    analysis_id = submit(clip)
    analyse_with(monkeypatch, (0.1,), lambda: pytest.fail("It went on after the stop."))
    analyses.claim()
    run(analysis_id, real_detector, is_stopping=lambda: True)
    kept = row(analysis_id)
    assert (kept.state, kept.attempts, kept.progress, kept.worker) == (State.WAITING, 0, 0, None)


def test_what_brings_the_process_down_twice_is_given_up(context, clip):
    first, second = submit(clip), submit(clip)
    for _ in range(2):
        assert analyses.claim() == first
        assert analyses.has_work()
        analyses.recover()  # the process died, and a new one starts
    assert (row(first).state, row(first).error) == (State.FAILED, analyses.GAVE_UP)
    assert row(second).state == State.WAITING


def test_what_another_machine_analyses_is_left_alone(app, context, clip, real_detector):
    analysis_id = submit(clip)
    analyses.claim()
    db.session.execute(update(Analysis).values(worker="another machine"))
    db.session.commit()
    assert not analyses.has_work()
    analyses.recover()
    run(analysis_id, real_detector)
    assert (row(analysis_id).state, row(analysis_id).worker) == (State.RUNNING, "another machine")


def test_only_one_process_analyses_for_an_instance(tmp_path):
    with jobs.exclusive_lock(tmp_path):
        assert (tmp_path / "jobs.lock").read_text() == f"{os.getpid()}\n"
        with (
            pytest.raises(StartupError, match="Another job process is running"),
            jobs.exclusive_lock(tmp_path, wait=False),
        ):
            pytest.fail("Two processes hold the lock.")
    with jobs.exclusive_lock(tmp_path, wait=False):
        pass


@pytest.mark.parametrize(
    ("server_pid", "idle_s", "is_run"),
    [(os.getppid(), 0, False), (os.getppid(), 3, True), (os.getpid(), 3600, False)],
    ids=["idle", "busy", "the server is gone"],
)
def test_the_process_ends_when_it_is_idle_and_with_its_server(
    app, context, clip, monkeypatch, server_pid, idle_s, is_run
):
    analysis_id, analysed = submit(clip), []
    monkeypatch.setattr(jobs.signal, "signal", lambda *_: None)
    monkeypatch.setattr(jobs, "run", lambda analysis_id, load, is_stopping: analysed.append(analysis_id))
    jobs.work(app, server_pid=server_pid, idle_s=idle_s)
    assert analysed == [analysis_id] * is_run


def test_the_supervisor_starts_one_process_after_the_other_while_there_is_work(make_app, clip, monkeypatch):
    app, started = make_app(JOBS="embedded", EVERY_S="0.5", COOKIE_SECURE="true"), []

    class Process:
        pid = 12345

        def __init__(self, command, *, env, pass_fds, **_):
            started.append((command[1:], env))
            os.fstat(pass_fds[0])  # the lock is open, and so is shared

        def wait(self):
            with app.app_context():
                analyses.claim()
                analyses.recover()
            return -signal.SIGKILL

    monkeypatch.setattr(jobs.subprocess, "Popen", Process)
    monkeypatch.setattr(jobs, "PAUSE_AFTER_CRASH_S", 0)
    with app.app_context():
        analysis_id = submit(clip)
        app.extensions["jobs"]._thread.join(PATIENCE_S)
        assert row(analysis_id).error == analyses.GAVE_UP
    assert len(started) == analyses.MAX_ATTEMPTS
    command, environment = started[0]
    assert command == ["-m", "webapp.worker", str(os.getpid())]
    settings = {name: environment[f"DEEPFAKE_{name}"] for name in ("INSTANCE_PATH", "EVERY_S", "COOKIE_SECURE")}
    assert settings == {"INSTANCE_PATH": app.instance_path, "EVERY_S": "0.5", "COOKIE_SECURE": "True"}


class Visitor:
    """A browser session over HTTP."""

    def __init__(self, address):
        self.address = address
        self.opener = build_opener(HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def get(self, path):
        with self.opener.open(self.address + path, timeout=PATIENCE_S) as answer:
            return answer.read().decode()

    def send(self, path, **fields):
        """Send a form; returns where it led."""
        token = re.search(r'name="csrf_token" value="([^"]+)"', self.get("/"))[1]
        boundary, body = encode_multipart({"csrf_token": token, **fields})
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        with self.opener.open(Request(self.address + path, body, headers), timeout=PATIENCE_S) as answer:
            return answer.url.removeprefix(self.address)

    def upload(self, data):
        return self.send("/analyses", file=FileStorage(io.BytesIO(data), "clip.mp4"))

    def wait_for(self, page, words):
        """Wait until a page says so."""
        until = time.monotonic() + PATIENCE_S
        while not re.search(words, text := self.get(page)):
            assert time.monotonic() < until, text
            time.sleep(0.2)


def pid_in(folder):
    with suppress(OSError, ValueError):
        pid = int((folder / "instance" / "jobs.lock").read_text())
        if b"webapp.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
            return pid
    return None


def wait_until(condition):
    until = time.monotonic() + PATIENCE_S
    while not (answer := condition()):
        assert time.monotonic() < until
        time.sleep(0.1)
    return answer


on_linux = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="Processes are listed in /proc.")
DONE = "This is a Real|This is a Deepfake|Inconclusive|Could not be checked"


@pytest.mark.embedded
@on_linux
@needs_voice_model
def test_a_job_survives_the_end_of_its_server(start_server, tmp_path, portrait):
    """The server stops during a job; the next one finishes the work, and no process is left."""
    clip = make_video(pan_over(portrait, 50, size_px=(160, 120)), options={"preset": "ultrafast"})
    with start_server(tmp_path, **EVERY_FRAME) as (address, _):
        visitor = Visitor(address)
        page = visitor.upload(clip)
        visitor.wait_for(f"{page}/state", "% done")
        pid = wait_until(lambda: pid_in(tmp_path))
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    with start_server(tmp_path, **EVERY_FRAME) as (address, _):
        visitor.address = address
        visitor.wait_for(page, DONE)


@pytest.mark.embedded
@on_linux
@needs_voice_model
def test_a_file_that_kills_the_process_harms_no_other(start_server, tmp_path, long_clip, clip):
    with start_server(tmp_path, **EVERY_FRAME) as (address, _):
        visitor = Visitor(address)
        deadly, harmless = visitor.upload(long_clip), visitor.upload(clip)
        for _ in range(analyses.MAX_ATTEMPTS):
            visitor.wait_for(f"{deadly}/state", r'"progress":(0\.0|null),')  # not what the one before has left
            visitor.wait_for(f"{deadly}/state", "[1-9]% done")
            pid = pid_in(tmp_path)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists())  # it is no zombie either
        visitor.wait_for(harmless, DONE)
        assert "crashed twice" in visitor.get(deadly)


@pytest.mark.embedded
@on_linux
def test_a_cancelled_or_deleted_job_makes_room_at_once(start_server, tmp_path, long_clip, clip):
    with start_server(tmp_path, **EVERY_FRAME) as (address, _):
        visitor = Visitor(address)
        first, second = visitor.upload(long_clip), visitor.upload(long_clip)
        visitor.wait_for(f"{first}/state", "% done")
        assert visitor.send(f"{first}/cancel") == first
        assert "Try again" in visitor.get(first)
        visitor.wait_for(f"{second}/state", "% done")
        for page in (first, second):
            visitor.send(f"{page}/delete")
        stored = tmp_path / "instance" / "storage"  # with the mark of the last sweep
        wait_until(lambda: not [path for path in stored.glob("*/**/*") if path.is_file()])
