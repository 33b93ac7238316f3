"""Analyses in the background by Celery's workers, on any number of machines.

A message in the queue only names a row. The row says what is to be done, so a message that arrives twice does no harm,
and one that is lost is sent again by `sweep`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from celery import Celery
from flask import Flask, current_app
from kombu.exceptions import ChannelError, OperationalError
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError

from webapp.analyses import GAVE_UP, MAX_ATTEMPTS, QUEUE_ORDER
from webapp.models import Analysis, State, count_changed, db
from webapp.operations.tracing import trace_continued

RUN_ANALYSIS = "webapp.run_analysis"  # the task's name
ANALYSES, ARCHIVE = "analyses", "archive"  # the queues
VISIBILITY_S = 12 * 3600  # after that Redis gives a message of a lost machine to another; longer than any task
CONNECT_TIMEOUT_S = 2.0  # an upload does not wait longer for a broker that is gone
LOAD_S = 120.0  # in which a worker's process loads its model
LAST_PRIORITY = 9  # the first is 0
BEAT_S = 10.0  # between two signs of life of a running analysis
SILENCE_S = 45.0  # without one, the worker is lost
RESEND_S = 60.0  # a row that waits for so long beside an empty queue has lost its message

logger = logging.getLogger(__name__)


def make_celery(broker_url: str) -> Celery:
    """Return the Celery application, as the server and the workers configure it."""
    celery = Celery("webapp", broker=broker_url, set_as_current=False)
    celery.conf.update(
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_S,
            "socket_connect_timeout": CONNECT_TIMEOUT_S,
            "socket_timeout": 30,
            "health_check_interval": 15,
            "priority_steps": list(range(LAST_PRIORITY + 1)),
            "queue_order_strategy": "priority",
        },
        task_acks_late=True,
        task_reject_on_worker_lost=True,  # the message of a process that was killed is sent again at once
        task_default_queue=ANALYSES,
        task_ignore_result=True,
        task_time_limit=VISIBILITY_S,
        worker_concurrency=1,  # one process with every core; each holds a model
        worker_prefetch_multiplier=1,
        worker_proc_alive_timeout=LOAD_S,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the row decides whether a verdict counts
    )
    celery.conf.task_queues = {ANALYSES: {}, ARCHIVE: {}}
    return celery


class TaskQueue:
    """Send a task for each waiting analysis; it takes the place of `jobs.Supervisor`.

    Args:
        app: the application whose settings name the broker.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self.celery = make_celery(app.config["BROKER_URL"])

    def wake(self) -> None:
        """Make sure that waiting rows are analysed; call it after they are committed.

        If the broker cannot be reached, the rows wait for the next `wake` or `sweep`.
        """
        with self._app.app_context():
            send_waiting(self.celery)

    def check(self) -> None:
        """Ask the broker for an answer.

        Raises:
            OperationalError: it gives none.
        """
        with self.celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=CONNECT_TIMEOUT_S)


def send_waiting(celery: Celery) -> int:
    """Send a task for each waiting row that has none, in the order of the queue; return how many were sent."""
    unsent = update(Analysis).where(Analysis.state == State.WAITING, Analysis.seen_at.is_(None))
    sent = unsent.values(seen_at=datetime.now(UTC)).returning(*QUEUE_ORDER, Analysis.id, Analysis.traceparent)
    rows = sorted(db.session.execute(sent).all())
    db.session.commit()
    ids = [row.id for row in rows]
    for number, (position, _, analysis_id, traceparent) in enumerate(rows):
        # Batches take turns: 0 for a file on its own and the first of a batch, 1 for its second, 2 for the next two.
        priority = min(LAST_PRIORITY, position.bit_length())
        try:
            with trace_continued(traceparent):  # of the request that sent the file, not of the one that wakes
                celery.send_task(RUN_ANALYSIS, [analysis_id], queue=ANALYSES, priority=priority, retry=False)
        except OperationalError as error:
            logger.warning("The broker cannot be reached; %d files wait: %s", len(ids) - number, error)
            left = update(Analysis).where(Analysis.id.in_(ids[number:]), Analysis.state == State.WAITING)
            db.session.execute(left.values(seen_at=None))
            db.session.commit()
            return number
    return len(ids)


def sweep(celery: Celery) -> None:
    """Put back the analyses of lost workers, and send lost messages again. Every worker's machine calls it."""
    now = datetime.now(UTC)
    running = Analysis.state == State.RUNNING
    lost = update(Analysis).where(running, Analysis.seen_at < now - timedelta(seconds=SILENCE_S))
    failed = {"state": State.FAILED, "error": GAVE_UP, "worker": None}
    db.session.execute(lost.where(Analysis.attempts >= MAX_ATTEMPTS).values(failed))
    db.session.execute(lost.values(state=State.WAITING, progress=0.0, worker=None, seen_at=None))
    if is_empty(celery):
        waiting = update(Analysis).where(Analysis.state == State.WAITING)
        forgotten = waiting.where(Analysis.seen_at < now - timedelta(seconds=RESEND_S))
        db.session.execute(forgotten.values(seen_at=None))
    db.session.commit()
    send_waiting(celery)


def is_empty(celery: Celery) -> bool:
    """Return whether no message waits in the queue of analyses."""
    with celery.connection_for_read() as connection:
        try:
            declared = connection.default_channel.queue_declare(ANALYSES, passive=True)
        except ChannelError:  # Redis has no empty queues
            return True
        return bool(declared.message_count == 0)


def claim(analysis_id: str, *, is_repeated: bool) -> bool:
    """Mark an analysis as running here; return whether it was free.

    Args:
        analysis_id: the row.
        is_repeated: the task was sent before. Then its row may be marked as running by a process that has ended;
            if that process lives after all, the row no longer takes its verdict.
    """
    is_free = Analysis.state == State.WAITING
    if is_repeated:
        is_free |= Analysis.state == State.RUNNING
    free = update(Analysis).where(Analysis.id == analysis_id, is_free)
    exhausted = free.where(Analysis.attempts >= MAX_ATTEMPTS)
    db.session.execute(exhausted.values(state=State.FAILED, error=GAVE_UP, worker=None))
    values = {"state": State.RUNNING, "worker": current_app.config["WORKER"], "progress": 0.0}
    is_claimed = count_changed(free.values(**values, seen_at=datetime.now(UTC), attempts=Analysis.attempts + 1))
    db.session.commit()
    return is_claimed > 0


@contextmanager
def signs_of_life(app: Flask, analysis_id: str) -> Iterator[None]:
    """Note in the row every `BEAT_S` seconds that its analysis is running here, until the context ends."""
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(BEAT_S):
            with app.app_context():
                here = update(Analysis).filter_by(id=analysis_id, worker=app.config["WORKER"])
                try:
                    db.session.execute(here.values(seen_at=datetime.now(UTC)))
                    db.session.commit()
                except DBAPIError as error:  # the next one may reach the database again
                    logger.warning("No sign of life was stored: %s", error)

    thread = threading.Thread(target=beat, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
