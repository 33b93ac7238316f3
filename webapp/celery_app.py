"""Celery's workers: `celery -A webapp.celery_app worker`.

Start them with the settings of the server. A worker takes analyses and chunks of archives; `-Q analyses` or
`-Q archive` restricts it. On SIGTERM a running analysis goes back to the queue at its next frame, and a chunk after its
file.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from contextlib import suppress
from functools import cache, partial
from socket import gethostname
from typing import Any

from botocore.exceptions import HTTPClientError
from celery import Task, signals
from celery.exceptions import Reject, SoftTimeLimitExceeded
from flask import Flask
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from detector import Detector, archive
from detector.archive import SCAN_CHUNK
from webapp import analyses, create_app, jobs, task_queue
from webapp.config import CELERY, PLAIN_LOG, PREFIX, StartupError, load_settings
from webapp.model_file import load_configured_detector
from webapp.models import new_token
from webapp.operations.logs import configure_logs
from webapp.operations.tracing import check_tracing, flush_traces
from webapp.operations.worker_metrics import WorkerMetrics
from webapp.task_queue import ANALYSES, RUN_ANALYSIS, make_celery

SWEEP_EVERY_S = 15.0
GRACE_S = 60  # between the sentence for a person and the end of a process that does not react
MAX_RETRIES = 5  # after 2, 4, ... 32 s
SWEEP = "webapp.sweep"
TOOK_TOO_LONG = "The check of this file took too long and was stopped."
STORAGE_IS_GONE = "The file could not be read from the storage. Please try again later."

try:
    _settings = load_settings()
except StartupError as error:
    sys.exit(str(error))
_is_stopping = multiprocessing.RawValue(
    "b", 0
)  # shared with the pool's processes; no lock that a killed one could keep
celery = make_celery(_settings["BROKER_URL"])
_metrics: WorkerMetrics | None = None


@celery.task(
    name=RUN_ANALYSIS,
    bind=True,
    max_retries=MAX_RETRIES,
    soft_time_limit=_settings["TIME_LIMIT_S"],
    time_limit=_settings["TIME_LIMIT_S"] + GRACE_S,
)
def run_analysis(task: Task, analysis_id: str) -> None:
    """Run the analysis of a row, unless it is over, cancelled or running elsewhere."""
    app = _app(os.getpid())
    is_repeated = bool(task.request.delivery_info.get("redelivered")) or task.request.retries > 0
    with app.app_context():
        try:
            if not task_queue.claim(analysis_id, is_repeated=is_repeated):
                return
            with task_queue.signs_of_life(app, analysis_id):
                jobs.run(analysis_id, partial(_detector, os.getpid()), is_stopping=is_stopping)
        except SoftTimeLimitExceeded:
            analyses.fail(analysis_id, TOOK_TOO_LONG)
        except (OperationalError, OSError, HTTPClientError) as error:  # the database or the storage is gone
            with suppress(SQLAlchemyError):  # no fault of the file, so the attempt does not count
                if task.request.retries == MAX_RETRIES:
                    analyses.fail(analysis_id, STORAGE_IS_GONE)
                else:
                    analyses.put_back(analysis_id)
            raise task.retry(exc=error, countdown=2 ** (task.request.retries + 1)) from error
    if is_stopping():
        app.extensions["jobs"].wake()  # for another worker


@celery.task(name=SCAN_CHUNK, bind=True, max_retries=MAX_RETRIES)
def scan_chunk(task: Task, out: str, number: int, is_repeated: bool = False) -> None:
    """Analyse a chunk of an archive, see `detector.archive.scan_chunk`."""
    is_repeated |= bool(task.request.delivery_info.get("redelivered"))
    try:
        is_done = archive.scan_chunk(
            _detector(os.getpid()), out, number, is_repeated=is_repeated, is_stopping=is_stopping
        )
    except (OSError, HTTPClientError) as error:  # the storage is gone
        raise task.retry(exc=error, countdown=2 ** (task.request.retries + 1)) from error
    if not is_done:
        raise Reject(requeue=True)  # for another worker


@celery.task(name=SWEEP)
def sweep() -> None:
    """Put back the analyses of lost workers, and send lost messages again."""
    with _app(os.getpid()).app_context():
        task_queue.sweep(celery)


def is_stopping() -> bool:
    """Return whether this worker has been asked to stop."""
    return bool(_is_stopping.value)


@signals.celeryd_init.connect
def _check_settings(**_: object) -> None:
    if not _settings["BROKER_URL"]:
        sys.exit(f"A worker needs {PREFIX}BROKER_URL.")
    try:
        check_tracing()
    except StartupError as error:
        sys.exit(str(error))
    global _metrics
    if port := _settings["WORKER_METRICS_PORT"]:
        try:
            _metrics = WorkerMetrics(port, _settings["METRICS_TOKEN"])
        except OSError as error:
            sys.exit(f"The port of {PREFIX}WORKER_METRICS_PORT={port} cannot be used: {error.strerror}.")


if _settings["LOG"] != PLAIN_LOG:

    @signals.setup_logging.connect
    def _configure_logs(**_: object) -> None:
        configure_logs(_settings["LOG"])


@signals.worker_process_init.connect
def _load(**_: object) -> None:
    """Load everything before the first task, whose time limit does not cover it then."""
    if _metrics is not None:
        _metrics.leave_to_parent()
    _app(os.getpid())
    _detector(os.getpid())


@signals.worker_process_shutdown.connect
def _end(**_: object) -> None:
    flush_traces()


@signals.worker_ready.connect
def _sweep_regularly(sender: Any, **_: object) -> None:
    send = partial(sweep.apply_async, queue=ANALYSES, expires=SWEEP_EVERY_S, retry=False)
    sender.timer.call_repeatedly(SWEEP_EVERY_S, send)


@signals.worker_ready.connect
def _serve_metrics(**_: object) -> None:
    if _metrics is not None:
        _metrics.start()


@signals.worker_shutdown.connect
def _stop_metrics(**_: object) -> None:
    if _metrics is not None:
        _metrics.stop()


@signals.worker_shutting_down.connect
def _stop(**_: object) -> None:
    _is_stopping.value = 1


@cache
def _app(pid: int) -> Flask:
    """Return the application of this process; a connection does not survive a fork."""
    app = create_app({"JOBS": CELERY})
    app.config["WORKER"] = f"{gethostname()[:150]} {pid} {new_token()}"
    return app


@cache
def _detector(pid: int) -> Detector:
    return load_configured_detector(_app(pid).config)
