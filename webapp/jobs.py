"""Judge videos and recordings beside the server, in a process that comes when there is work and goes when it is idle.

All that is known of the work stands in the rows of `Analysis`, so it survives a restart, and whoever looks at a row
knows how far it is. A file that brings the process down harms nobody else: its row is given a second try, then up.
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
from sqlalchemy import select, update

from detector import Detector, DetectorError, load_detector
from webapp import analyses
from webapp.artifacts import analyse
from webapp.config import EMBEDDED, PREFIX, SETTINGS, StartupError
from webapp.instance import write_atomically
from webapp.models import MAX_ERROR_CHARACTERS, Analysis, State, db, new_token

PROJECT = Path(__file__).resolve().parent.parent
IDLE_S = 300  # the process ends when nothing came for so long, and its memory with it
POLL_S = 0.5
PROGRESS_EVERY_S = 0.5
PAUSE_AFTER_CRASH_S = 1.0
MAX_ATTEMPTS = 2
NICENESS = 5  # pictures, which somebody is waiting for, go first
GAVE_UP = "Judging this file brought the program down, twice. Nothing can be said about it."
FILE_IS_GONE = "The file is no longer in the storage. Please send it again."


class AnalysisCancelled(Exception):
    """The analysis was cancelled or deleted while it was judged."""


class ServerStopping(Exception):
    """The server is being stopped; the work is to be begun again."""


class Supervisor:
    """Keeps one judging process alive while there is work; a part of every worker of the server.

    The process holds `jobs.lock` of the instance folder, and the supervisors wait for it: so there is one process
    however many workers the server has, and after a restart none before the old one is gone.

    Args:
        app: whose settings the process gets.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._asked = False

    def wake(self) -> None:
        """See to it that the rows which wait are judged; to be called when they are committed."""
        if self._app.config["JOBS"] != EMBEDDED:
            return
        with self._lock:
            self._asked = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._supervise, name="jobs", daemon=True)
                self._thread.start()

    def _supervise(self) -> None:
        try:
            while self._is_asked():
                with exclusive_lock(Path(self._app.instance_path)) as lock:
                    while self._has_work():
                        self._run_process(lock)
        except BaseException:  # such as a database that is gone: the next wake tries again
            self._thread = None
            raise

    def _is_asked(self) -> bool:
        with self._lock:
            asked, self._asked = self._asked, False
            if not asked:
                self._thread = None
            return asked

    def _run_process(self, lock: TextIO) -> None:
        """Start the process, which shares the lock and so keeps it when this one dies, and wait for its end."""
        process = subprocess.Popen(
            [sys.executable, "-m", "webapp.worker", str(os.getpid())],
            cwd=PROJECT,
            env=self._environment(),
            pass_fds=[lock.fileno()],
            start_new_session=True,  # Ctrl-C in a terminal is for the server; the process notices when that is gone
        )
        _write_pid(lock, process.pid)
        if process.wait():
            time.sleep(PAUSE_AFTER_CRASH_S)

    def _environment(self) -> dict[str, str]:
        settings = {PREFIX + setting.name: str(self._app.config[setting.name]) for setting in SETTINGS}
        return {**os.environ, **settings, f"{PREFIX}THREADS": "0", f"{PREFIX}INSTANCE_PATH": self._app.instance_path}

    def _has_work(self) -> bool:
        with self._app.app_context():
            return has_work()


@contextmanager
def exclusive_lock(folder: Path, *, wait: bool = True) -> Iterator[TextIO]:
    """Be the only one who judges for an instance folder; gives the open lock file.

    Args:
        folder: the instance folder.
        wait: for another one to end.

    Raises:
        StartupError: there is another one.
    """
    with open(folder / "jobs.lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise StartupError(f"Another process judges already; {lock.name} tells its number.") from error
        _write_pid(lock, os.getpid())
        yield lock


def worker_id(folder: Path) -> str:
    """Return the name under which this instance folder's process claims work; the first call ever makes it.

    The host's name would not do: a container has another one after each restart.
    """
    path = folder / "worker"
    if not path.exists():
        write_atomically(path, f"{gethostname()[:200]} {new_token()}".encode())
    return path.read_text()


def has_work() -> bool:
    """Tell whether an analysis waits, or is still marked as running here by a process that is gone."""
    left = (Analysis.state == State.RUNNING) & (Analysis.worker == current_app.config["WORKER"])
    unfinished = select(Analysis.id).where((Analysis.state == State.WAITING) | left)
    return db.session.scalar(unfinished.limit(1)) is not None


def work(app: Flask, *, server_pid: int | None = None, idle_s: float = IDLE_S) -> None:
    """Judge what waits, one after the other; only to be called by who is `alone`.

    Args:
        app: whose database and storage are meant.
        server_pid: the process that started this one; this one ends with it, and when nothing came for `idle_s`. None
            goes on until it gets a signal.
        idle_s: see there.
    """
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())

    def is_stopping() -> bool:
        return stopping.is_set() or server_pid not in (None, os.getppid())

    @cache
    def load() -> Detector:
        return load_detector(threads=app.config["THREADS"] or None)

    with app.app_context():
        recover()
        idle_since = time.monotonic()
        while not is_stopping() and (server_pid is None or time.monotonic() - idle_since < idle_s):
            analysis_id = claim()
            if analysis_id is None:
                stopping.wait(POLL_S)
                continue
            run(analysis_id, load, is_stopping=is_stopping)
            idle_since = time.monotonic()


def recover() -> None:
    """Put back what an earlier process left behind; give up on what was left behind too often."""
    left = update(Analysis).filter_by(state=State.RUNNING, worker=current_app.config["WORKER"])
    db.session.execute(
        left.where(Analysis.attempts >= MAX_ATTEMPTS).values(state=State.FAILED, error=GAVE_UP, worker=None)
    )
    db.session.execute(left.values(state=State.WAITING, progress=0.0, worker=None))
    db.session.commit()


def claim() -> str | None:
    """Mark the analysis that has waited longest as running here, and return its id; None when none waits."""
    oldest = select(Analysis.id).filter_by(state=State.WAITING).order_by(Analysis.created_at).limit(1)
    values = {"state": State.RUNNING, "worker": current_app.config["WORKER"], "progress": 0.0}
    analysis_id = db.session.scalar(
        update(Analysis)
        # said twice, because another machine may claim the same one at the same moment
        .where(Analysis.id == oldest.scalar_subquery(), Analysis.state == State.WAITING)
        .values(**values, attempts=Analysis.attempts + 1)
        .returning(Analysis.id)
    )
    db.session.commit()
    return analysis_id


def run(analysis_id: str, load: Callable[[], Detector], *, is_stopping: Callable[[], bool] = lambda: False) -> None:
    """Judge one analysis that is claimed, and write its verdict, or why there is none, into its row.

    Args:
        analysis_id: as `claim` returned it.
        load: gives the detector.
        is_stopping: tells that the work is to be put back; asked at every frame.
    """
    last_report = 0.0

    def report(share: float) -> None:
        nonlocal last_report
        if is_stopping():
            raise ServerStopping
        if time.monotonic() - last_report < PROGRESS_EVERY_S:
            return
        last_report = time.monotonic()
        if not _change(analysis_id, progress=share):
            raise AnalysisCancelled

    try:
        with analyses.claimed_upload(analysis_id) as path:
            judged = analyse(path, load(), every_s=current_app.config["EVERY_S"], progress=report)
        analyses.finish(analysis_id, judged)
    except DetectorError as error:
        _change(analysis_id, state=State.FAILED, error=str(error)[:MAX_ERROR_CHARACTERS], worker=None)
    except FileNotFoundError:  # deleted, as a rule with its row
        _change(analysis_id, state=State.FAILED, error=FILE_IS_GONE, worker=None)
    except ServerStopping:
        _change(analysis_id, state=State.WAITING, attempts=Analysis.attempts - 1, progress=0.0, worker=None)
    except AnalysisCancelled:
        pass


def _change(analysis_id: str, **values: object) -> bool:
    """Write into the row if it is still running here; returns whether it was."""
    changed = db.session.execute(analyses.running_here(analysis_id).values(**values))
    db.session.commit()
    return changed.rowcount > 0


def _write_pid(lock: TextIO, pid: int) -> None:
    lock.truncate(0)
    lock.write(f"{pid}\n")
    lock.flush()
