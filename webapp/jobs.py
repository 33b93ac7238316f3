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
from pathlib import Path
from socket import gethostname

from flask import Flask
from sqlalchemy import select, update

from detector import Detector, DetectorError, load_detector
from webapp import analyses
from webapp.config import EMBEDDED, PREFIX, SETTINGS
from webapp.judging import judge
from webapp.models import Analysis, State, db

PROJECT = Path(__file__).resolve().parent.parent
IDLE_S = 300  # the process ends when nothing came for so long, and its memory with it
POLL_S = 0.5
PROGRESS_EVERY_S = 0.5
PAUSE_AFTER_CRASH_S = 1.0
MAX_ATTEMPTS = 2
NICENESS = 5  # pictures, which somebody is waiting for, go first
GAVE_UP = "Judging this file brought the program down, twice. Nothing can be said about it."


class Unwanted(Exception):
    """The analysis was cancelled or deleted while it was judged."""


class Interrupted(Exception):
    """The server is being stopped; the work is to be begun again."""


class Supervisor:
    """Keeps one judging process alive on this machine while there is work.

    Args:
        app: whose settings the process gets.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._asked = False
        self._process: subprocess.Popen | None = None

    def wake(self) -> None:
        """See to it that the rows which wait are judged; to be called when they are committed."""
        if self._app.config["JOBS"] != EMBEDDED:
            return
        with self._lock:
            self._asked = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._supervise, name="jobs", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the process; what it was at waits for the next one."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _supervise(self) -> None:
        while True:
            with self._lock:
                if not self._asked:
                    self._thread = None
                    return
                self._asked = False
            # Another worker of this server may be the one that supervises; it looks again after it let go.
            with _lock_or_none(Path(self._app.instance_path) / "jobs.lock") as mine:
                while mine and self._has_work():
                    self._process = subprocess.Popen(
                        [sys.executable, "-m", "webapp.worker"], cwd=PROJECT, env=self._environment()
                    )
                    if self._process.wait():
                        time.sleep(PAUSE_AFTER_CRASH_S)
            if mine and self._has_work():
                self._asked = True

    def _environment(self) -> dict[str, str]:
        settings = {PREFIX + setting.name: str(self._app.config[setting.name]) for setting in SETTINGS}
        return {**os.environ, **settings, f"{PREFIX}THREADS": "0", f"{PREFIX}INSTANCE_PATH": self._app.instance_path}

    def _has_work(self) -> bool:
        with self._app.app_context():
            return has_work()


def has_work() -> bool:
    """Tell whether an analysis waits, or is still marked as running by a process that is gone."""
    unfinished = select(Analysis.id).where(
        (Analysis.state == State.WAITING) | ((Analysis.state == State.RUNNING) & (Analysis.worker == gethostname()))
    )
    return db.session.scalar(unfinished.limit(1)) is not None


def work(app: Flask, *, idle_s: float = IDLE_S) -> None:
    """Judge what waits, one after the other, until nothing came for `idle_s`."""
    parent, stopping = os.getppid(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with app.app_context():
        recover()
        loaded, idle_since = None, time.monotonic()
        while not stopping.is_set() and os.getppid() == parent and time.monotonic() - idle_since < idle_s:
            analysis_id = claim()
            if analysis_id is None:
                db.session.remove()  # or the next look would read the same snapshot
                stopping.wait(POLL_S)
                continue
            loaded = loaded or load_detector(threads=app.config["THREADS"] or None)
            run(analysis_id, loaded, is_stopping=lambda: stopping.is_set() or os.getppid() != parent)
            idle_since = time.monotonic()


def recover() -> None:
    """Put back what a process of this machine left behind; give up on what was left behind too often."""
    left = update(Analysis).filter_by(state=State.RUNNING, worker=gethostname())
    db.session.execute(
        left.where(Analysis.attempts >= MAX_ATTEMPTS).values(state=State.FAILED, error=GAVE_UP, worker=None)
    )
    db.session.execute(left.values(state=State.WAITING, progress=0.0, worker=None))
    db.session.commit()


def claim() -> str | None:
    """Mark the analysis that has waited longest as running here, and return its id; None when none waits."""
    oldest = select(Analysis.id).filter_by(state=State.WAITING).order_by(Analysis.created_at).limit(1)
    analysis_id = db.session.scalar(
        update(Analysis)
        .where(Analysis.id == oldest.scalar_subquery(), Analysis.state == State.WAITING)
        .values(state=State.RUNNING, worker=gethostname(), attempts=Analysis.attempts + 1, progress=0.0)
        .returning(Analysis.id)
    )
    db.session.commit()
    return analysis_id


def run(analysis_id: str, loaded: Detector, *, is_stopping: Callable[[], bool] = lambda: False) -> None:
    """Judge one analysis that is claimed, and write its verdict, or why there is none, into its row."""
    analysis = db.session.get_one(Analysis, analysis_id)
    last_report = 0.0

    def report(share: float) -> None:
        nonlocal last_report
        if is_stopping():
            raise Interrupted
        if time.monotonic() - last_report < PROGRESS_EVERY_S:
            return
        last_report = time.monotonic()
        if not _change(analysis_id, progress=share):
            raise Unwanted

    try:
        with analyses.upload_path_of(analysis) as path:
            judged = judge(path, loaded, progress=report)
    except DetectorError as error:
        _change(analysis_id, state=State.FAILED, error=str(error), worker=None)
    except Interrupted:
        _change(analysis_id, state=State.WAITING, attempts=Analysis.attempts - 1, progress=0.0, worker=None)
    except (Unwanted, FileNotFoundError):  # cancelled, or deleted with its file
        pass
    else:
        analyses.finish(analysis_id, judged)


def _change(analysis_id: str, **values: object) -> bool:
    """Write into the row if it is still running; returns whether it was."""
    changed = db.session.execute(update(Analysis).filter_by(id=analysis_id, state=State.RUNNING).values(**values))
    db.session.commit()
    return changed.rowcount > 0


@contextmanager
def _lock_or_none(path: Path) -> Iterator[bool]:
    """Hold a lock of this machine for a while, or find that another process holds it."""
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
