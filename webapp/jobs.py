"""The process that analyses videos, recordings and batches beside the server: its start, its lock and its loop.

The state of every job is in its `Analysis` row, see `webapp.analyses`, so it survives a restart. A file that crashes
the process affects no other file: it is tried once more and then fails.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from socket import gethostname
from typing import TextIO

from flask import Flask, current_app
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from detector import Detector, DetectorError
from webapp import analyses
from webapp.analysis_output import analyse
from webapp.config import EMBEDDED, PREFIX, PROJECT, SETTINGS, StartupError
from webapp.instance import write_atomically
from webapp.model_file import load_configured_detector
from webapp.models import db, new_token
from webapp.operations.tracing import job_traced, untraced
from webapp.outages import outage_of
from webapp.wakeable import WakeableThread

IDLE_S = 300  # without work for so long, the process ends and frees its memory
POLL_S = 0.5
PROGRESS_EVERY_S = 0.5
PAUSE_AFTER_CRASH_S = 1.0
PAUSE_IN_OUTAGE_S = 5.0
NICENESS = 5  # pictures, whose visitors are waiting, have priority
FILE_IS_GONE = "The file is no longer stored. Please send it again."


class AnalysisCancelled(Exception):
    """The analysis was cancelled or deleted while it was running."""


class ServerStopping(Exception):
    """The server is stopping; the analysis will be started again later."""


class Supervisor:
    """Keep one job process running while there is work; every worker of the server has a supervisor.

    The process holds `jobs.lock` of the instance folder, for which the supervisors wait. So there is one process for
    any number of workers, and after a restart none starts before the old one has ended.

    Args:
        app: the application whose settings the process gets.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._thread = WakeableThread("jobs", self._supervise)

    def wake(self) -> None:
        """Make sure that waiting rows are analysed; call it after they are committed."""
        if self._app.config["JOBS"] == EMBEDDED:
            self._thread.wake()

    def _supervise(self) -> None:
        with exclusive_lock(Path(self._app.instance_path)) as lock:
            while self._has_work():
                self._run_process(lock)

    def _run_process(self, lock: TextIO) -> None:
        """Start the process and wait for its end; it shares the lock, and so keeps it when this process dies."""
        process = subprocess.Popen(
            [sys.executable, "-m", "webapp.worker", str(os.getpid())],
            cwd=PROJECT,
            env=self._environment(),
            pass_fds=[lock.fileno()],
            start_new_session=True,  # Ctrl-C in a terminal stops the server only; this process notices its end
        )
        _write_pid(lock, process.pid)
        if process.wait():
            time.sleep(PAUSE_AFTER_CRASH_S)

    def _environment(self) -> dict[str, str]:
        settings = {PREFIX + setting.name: str(self._app.config[setting.name]) for setting in SETTINGS}
        return {**os.environ, **settings, f"{PREFIX}THREADS": "0", f"{PREFIX}INSTANCE_PATH": self._app.instance_path}

    def _has_work(self) -> bool:
        with self._app.app_context():
            return analyses.has_work()


@contextmanager
def exclusive_lock(folder: Path, *, wait: bool = True) -> Iterator[TextIO]:
    """Hold the instance folder's exclusive worker lock; gives the open lock file.

    Args:
        folder: the instance folder.
        wait: whether to wait until another process releases it.

    Raises:
        StartupError: another process holds it.
    """
    with open(folder / "jobs.lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise StartupError(f"Another job process is running; its process id is in {lock.name}.") from error
        _write_pid(lock, os.getpid())
        yield lock


def worker_id(folder: Path) -> str:
    """Return the id under which this instance folder's process claims work; the first call creates it.

    The host's name alone is not enough: a container gets a new one at each restart.
    """
    path = folder / "worker"
    if not path.exists():
        write_atomically(path, f"{gethostname()[:200]} {new_token()}".encode())
    return path.read_text()


def work(app: Flask, *, server_pid: int | None = None, idle_s: float = IDLE_S) -> None:
    """Run the waiting analyses, one after the other; the caller holds `exclusive_lock`.

    Args:
        app: the application with the database and the storage.
        server_pid: the process that started this one. This process ends with it, and after `idle_s` without work.
            None runs until a signal arrives.
        idle_s: seconds without work before the process ends.
    """
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())

    def is_stopping() -> bool:
        return stopping.is_set() or server_pid not in (None, os.getppid())

    @cache
    def load() -> Detector:
        return load_configured_detector(app.config)

    with app.app_context():
        analyses.recover()
        idle_since = time.monotonic()
        while not is_stopping() and (server_pid is None or time.monotonic() - idle_since < idle_s):
            try:
                analysis_id = analyses.claim()
            except DBAPIError as error:
                _wait_out(error)
                continue
            if analysis_id is None:
                stopping.wait(POLL_S)
                continue
            with job_traced(analysis_id):
                run(analysis_id, load, is_stopping=is_stopping)
            idle_since = time.monotonic()


def run(analysis_id: str, load: Callable[[], Detector], *, is_stopping: Callable[[], bool] = lambda: False) -> None:
    """Run one claimed analysis and store its verdict, or why there is none.

    Args:
        analysis_id: from `analyses.claim`.
        load: returns the detector.
        is_stopping: returns whether to put the analysis back; called for every frame.
    """
    last_report = 0.0

    def report(progress: float) -> None:
        nonlocal last_report
        if is_stopping():
            raise ServerStopping
        if time.monotonic() - last_report < PROGRESS_EVERY_S:
            return
        last_report = time.monotonic()
        with untraced():
            is_running = analyses.set_progress(analysis_id, progress)
        if not is_running:
            raise AnalysisCancelled

    try:
        with analyses.claimed_upload(analysis_id) as path:
            output = analyse(path, load(), every_s=current_app.config["EVERY_S"], progress=report)
        analyses.finish(analysis_id, output)
    except DetectorError as error:
        analyses.fail(analysis_id, str(error))
    except FileNotFoundError:  # deleted, usually together with its row
        analyses.fail(analysis_id, FILE_IS_GONE)
    except ServerStopping:
        analyses.put_back(analysis_id)
    except AnalysisCancelled:
        pass
    except (OSError, SQLAlchemyError) as error:  # no fault of the file, so the attempt does not count
        _wait_out(error)
        while not is_stopping():
            try:
                analyses.put_back(analysis_id)
                return
            except SQLAlchemyError as still:
                _wait_out(still)


def _wait_out(error: Exception) -> None:
    """Wait for the end of an outage.

    Raises:
        Exception: the error itself, if it is no outage.
    """
    if outage_of(error) is None:
        raise error
    db.session.rollback()
    current_app.logger.warning("Outage, the work goes on afterwards: %s", str(error).partition("\n")[0])
    time.sleep(PAUSE_IN_OUTAGE_S)


def _write_pid(lock: TextIO, pid: int) -> None:
    lock.truncate(0)
    lock.write(f"{pid}\n")
    lock.flush()
