"""Analyses by Celery's workers with real Redis, PostgreSQL and S3: whatever is killed, no row is lost or doubled."""

import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from clips import make_video, pan_over
from project import ROOT
from services import free_port, run_redis
from sqlalchemy import func, select, update

from webapp import analyses, celery_app, create_app, task_queue
from webapp.config import StartupError
from webapp.models import Analysis, State, db

pytestmark = pytest.mark.slow

PATIENCE_S = 300  # a busy machine is slow
TOKEN = "a token of sixteen characters"
# The worker's program, with shorter times than in use.
WORKER = """if True:
    import sys
    from webapp import celery_app, task_queue
    task_queue.BEAT_S, task_queue.SILENCE_S, task_queue.RESEND_S = 0.5, 3.0, 1.0
    celery_app.SWEEP_EVERY_S = 1.0
    celery_app.run_analysis.soft_time_limit = float(sys.argv[1])
    celery_app.celery.worker_main(["worker", "--without-mingle", "--without-gossip", "--loglevel", "INFO"])
"""


@pytest.fixture(scope="module")
def redis(services, tmp_path_factory):
    """A broker of this module's own, which a test may stop."""
    port = free_port()

    @contextmanager
    def run():
        with run_redis(tmp_path_factory.mktemp("redis"), port) as address:
            yield address

    return run


@pytest.fixture
def settings(shared, tmp_path):
    return {**shared, "INSTANCE_PATH": tmp_path / "instance", "JOBS": "celery", "EVERY_S": 0.04}


@pytest.fixture
def serve(settings, real_detector):
    """Return a function that makes the application for a broker's address and enters its context."""
    made = []

    def make(broker):
        app = create_app({**settings, "BROKER_URL": broker}, detector=real_detector)
        context = app.app_context()
        context.push()
        made.append(context)
        return app

    yield make
    for context in made:
        db.session.remove()
        db.engine.dispose()
        context.pop()


@pytest.fixture
def start_worker(settings, services, tmp_path):
    """Return a context manager that runs a worker and gives its process and its log."""

    @contextmanager
    def start(broker, *, soft_limit_s=3600, **more):
        values = {**settings, "BROKER_URL": broker, **more}
        named = {f"DEEPFAKE_{name}": str(value) for name, value in values.items()}
        named["DEEPFAKE_INSTANCE_PATH"] = str(tmp_path / "worker")
        log = tmp_path / "worker.log"
        with open(log, "a") as output:
            worker = subprocess.Popen(
                [sys.executable, "-c", WORKER, str(soft_limit_s)],
                cwd=ROOT,
                env={**os.environ, **services.s3, **named, "DEEPFAKE_THREADS": "1"},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield worker, log
        finally:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
                try:
                    worker.wait(PATIENCE_S)
                except subprocess.TimeoutExpired:
                    os.killpg(worker.pid, signal.SIGKILL)
                    worker.wait()
                    raise

    return start


@pytest.fixture(scope="module")
def clip(portrait):
    """A second of a camera that moves over the astronaut, without sound."""
    return make_video(pan_over(portrait, 25, size_px=(160, 120)), options={"preset": "ultrafast"})


@pytest.fixture(scope="module")
def long_clip(portrait):
    """Forty seconds of the same."""
    return make_video(pan_over(portrait, 1000, size_px=(160, 120)), options={"preset": "ultrafast"})


def submit(data):
    return analyses.submit(io.BytesIO(data), filename="clip.mp4", visitor="somebody").id


def row(analysis_id):
    db.session.rollback()
    return db.session.get(Analysis, analysis_id, populate_existing=True)


def wait_for(analysis_id, is_so, log):
    until = time.monotonic() + PATIENCE_S
    while not is_so(found := row(analysis_id)):
        assert time.monotonic() < until, (found.state, found.progress, found.error, log.read_text()[-3000:])
        time.sleep(0.05)
    return found


def is_done(analysis):
    return analysis.state == State.DONE


def is_under_way(analysis):
    return analysis.state == State.RUNNING and analysis.progress > 0


def child_of(worker):
    """Return the process id of the worker's pool process."""
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    return int(children[0])


def test_a_video_is_analysed_by_a_worker_and_its_bytes_lie_in_s3(redis, serve, start_worker, clip, real_detector):
    with redis() as broker, start_worker(broker) as (_, log):
        app = serve(broker)
        ids = [submit(clip) for _ in range(2)]
        app.extensions["jobs"].celery.send_task(task_queue.RUN_ANALYSIS, [ids[0]])  # once more
        for analysis_id in ids:
            found = wait_for(analysis_id, is_done, log)
            assert (found.attempts, found.worker, found.progress) == (1, None, 1)
        assert found.probability == pytest.approx(real_detector.detect(clip, every_s=0.04).probability, abs=1e-4)
        storage = app.extensions["storage"]
        assert len(storage._files.find(f"{storage._root}/uploads")) == 1
        with storage.open(f"uploads/{found.upload_sha256}") as file:
            file.seek(1000)
            assert file.read(50) == clip[1000:1050]
        for analysis_id in ids:
            assert analyses.delete(analysis_id, "somebody")
        assert storage._files.find(storage._root) == []


def test_work_goes_on_after_kill_9_of_a_process_and_of_a_whole_worker(redis, serve, start_worker, long_clip, clip):
    with redis() as broker:
        serve(broker)
        with start_worker(broker) as (worker, log):
            first, second = submit(long_clip), submit(clip)
            wait_for(first, is_under_way, log)
            os.kill(child_of(worker), signal.SIGKILL)
            wait_for(first, lambda found: found.attempts == 2 and is_under_way(found), log)
            os.kill(child_of(worker), signal.SIGKILL)
            assert wait_for(first, lambda found: found.state == State.FAILED, log).error == analyses.GAVE_UP
            wait_for(second, is_done, log)
            third = submit(long_clip)
            wait_for(third, is_under_way, log)
            os.killpg(worker.pid, signal.SIGKILL)  # as if the machine were gone: nobody returns its message
            worker.wait()
        assert row(third).state == State.RUNNING
        with start_worker(broker) as (_, log):
            assert wait_for(third, lambda found: found.attempts == 2, log).state in (State.RUNNING, State.DONE)
            analyses.cancel(third, "somebody")
            fourth = submit(clip)
            wait_for(fourth, is_done, log)
            assert row(third).state == State.CANCELLED
    assert db.session.scalar(select(func.count(Analysis.id))) == 4


def test_a_worker_that_is_stopped_puts_its_work_back(redis, serve, start_worker, long_clip):
    with redis() as broker:
        serve(broker)
        with start_worker(broker) as (worker, log):
            analysis_id = submit(long_clip)
            wait_for(analysis_id, is_under_way, log)
            worker.send_signal(signal.SIGTERM)
            worker.wait(PATIENCE_S)
        found = row(analysis_id)
        assert (found.state, found.attempts, found.worker) == (State.WAITING, 0, None)
        with start_worker(broker) as (_, log):
            wait_for(analysis_id, is_under_way, log)
            analyses.cancel(analysis_id, "somebody")


def test_uploads_are_accepted_while_redis_is_gone_and_analysed_when_it_is_back(redis, serve, start_worker, clip):
    with redis() as broker:
        app = serve(broker)
    started = time.monotonic()
    without_broker = submit(clip)
    assert time.monotonic() - started < 10
    assert row(without_broker).seen_at is None
    with pytest.raises(task_queue.OperationalError):
        app.extensions["jobs"].check()
    with redis() as broker:
        app.extensions["jobs"].check()
        forgotten = submit(clip)  # sends the message of the first, too
        assert row(without_broker).seen_at is not None
    with redis() as broker, start_worker(broker) as (_, log):  # it came back without the messages
        for analysis_id in (without_broker, forgotten):
            assert wait_for(analysis_id, is_done, log).attempts == 1


def test_batches_take_turns(redis, serve, clip):
    with redis() as broker:
        celery = serve(broker).extensions["jobs"].celery
        later, sooner = submit(clip), submit(clip)
        celery.control.purge()
        db.session.execute(update(Analysis).filter_by(id=later).values(batch_position=7))
        db.session.execute(update(Analysis).values(seen_at=None))
        db.session.commit()
        assert task_queue.send_waiting(celery) == 2
        with (
            celery.connection_for_read() as connection,
            connection.SimpleQueue(celery.amqp.queues["analyses"]) as queue,
        ):
            named = [queue.get(timeout=10).payload[0] for _ in range(2)]
    assert named == [[sooner], [later]]


def test_what_takes_too_long_is_stopped(redis, serve, start_worker, long_clip):
    with redis() as broker:
        serve(broker)
        with start_worker(broker, soft_limit_s=3) as (_, log):
            analysis_id = submit(long_clip)
            found = wait_for(analysis_id, lambda found: found.state == State.FAILED, log)
    assert found.error == celery_app.TOOK_TOO_LONG


def read_metrics(port, token=TOKEN):
    with urlopen(
        Request(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {token}"}), timeout=30
    ) as answer:
        return answer.read().decode()


def test_a_worker_serves_the_metrics_of_its_processes_also_of_one_that_has_ended(redis, serve, start_worker, clip):
    port = free_port()
    with redis() as broker, start_worker(broker, METRICS_TOKEN=TOKEN, WORKER_METRICS_PORT=port) as (worker, log):
        serve(broker)
        wait_for(submit(clip), is_done, log)
        with pytest.raises(HTTPError, match="404"):
            read_metrics(port, "another token of the same kind")
        text = read_metrics(port)
        assert 'deepfake_analysis_seconds_count{media="video"} 1.0' in text
        assert re.search(r'deepfake_verdicts_total\{media="video",verdict="\w+"\} 1\.0', text)
        first = child_of(worker)
        os.kill(first, signal.SIGKILL)
        wait_for(submit(clip), is_done, log)
        assert child_of(worker) != first
        assert 'deepfake_analysis_seconds_count{media="video"} 2.0' in read_metrics(port)


def run_worker(**settings):
    """Start a worker that ends by itself, and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DEEPFAKE_")}
    environment |= {name if name.startswith("OTEL") else f"DEEPFAKE_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "celery", "-A", "webapp.celery_app", "worker"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    return run.stderr


def test_a_worker_says_which_setting_it_needs():
    assert "A worker needs DEEPFAKE_BROKER_URL." in run_worker()
    assert "DEEPFAKE_WORKER_METRICS_PORT needs DEEPFAKE_METRICS_TOKEN." in run_worker(WORKER_METRICS_PORT="9808")
    said = run_worker(BROKER_URL="redis://nobody", OTEL_EXPORTER_OTLP_ENDPOINT="collector:4317")
    assert "OTEL_EXPORTER_OTLP_ENDPOINT must begin with http:// or https://, not 'collector:4317'." in said


def test_a_worker_says_that_its_port_is_taken():
    with socket.create_server(("", 0)) as taken:
        port = str(taken.getsockname()[1])
        said = run_worker(BROKER_URL="redis://nobody", METRICS_TOKEN=TOKEN, WORKER_METRICS_PORT=port)
    assert f"DEEPFAKE_WORKER_METRICS_PORT={port} cannot be used: Address already in use." in said


def test_celery_needs_a_broker(make_app):
    with pytest.raises(StartupError, match=re.escape("DEEPFAKE_JOBS=celery needs DEEPFAKE_BROKER_URL.")):
        make_app(JOBS="celery")
