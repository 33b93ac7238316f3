"""Spread the chunks of an archive over Celery's workers, and wait until all are done.

The Parquet files say what is done. The queue only carries the numbers of chunks, so nothing depends on a message that
is lost or arrives twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from detector.archive.chunks import SCAN_CHUNK, Plan
from detector.archive.folders import ArchiveError, ResultFolder

QUEUE = "archive"
RESULTS_POLL_S = 2.0
CHECK_S = 15.0  # between two questions to the workers
ANSWER_S = 3.0  # in which a worker answers
BROKER_TIMEOUT_S = 5.0


def spread(
    plan: Plan,
    folder: ResultFolder,
    broker_url: str,
    *,
    report: Callable[[int], None],
    warn: Callable[[str], None],
    poll_s: float = RESULTS_POLL_S,
    check_s: float = CHECK_S,
) -> None:
    """Send the missing chunks of a plan to the workers, and return when all are done.

    A chunk that no message names and no worker works at, twice in turn, is sent again.

    Args:
        plan: of the archive.
        folder: of its results.
        broker_url: the address of Redis.
        report: called with the number of files that are done.
        warn: called with a sentence when no worker answers.
        poll_s: seconds between two checks of the results.
        check_s: seconds between two questions to the workers.

    Raises:
        ArchiveError: Celery is not installed, or the broker cannot be reached.
    """
    celery, errors = _connect(broker_url)
    try:
        missing = plan.missing(folder)
        for number in sorted(set(missing) - (_active(celery, folder.url) or set())):
            _send(celery, folder.url, number)
    except errors as error:
        raise ArchiveError(f"The broker cannot be reached: {error}.") from error
    suspects: set[int] = set()
    checked_s = time.monotonic()
    while missing:
        report(plan.count - sum(plan.sizes[number] for number in missing))
        time.sleep(poll_s)
        missing = plan.missing(folder)
        if time.monotonic() - checked_s < check_s:
            continue
        try:
            suspects = _resend(celery, folder.url, set(missing), suspects, warn)
        except errors as error:  # it may come back
            warn(f"The broker cannot be reached: {error}.")
        checked_s = time.monotonic()
    report(plan.count)


def _resend(celery: Any, out: str, missing: set[int], suspects: set[int], warn: Callable[[str], None]) -> set[int]:
    """Send the chunks again that look lost for the second time; return those that look so for the first time."""
    if _count_messages(celery):
        return set()
    active = _active(celery, out)
    if active is None:
        warn("No worker answers. Start one: celery -A webapp.celery_app worker -Q archive")
        return set()
    lost = missing - active
    for number in sorted(lost & suspects):
        _send(celery, out, number, is_repeated=True)
    return lost - suspects


def _send(celery: Any, out: str, number: int, *, is_repeated: bool = False) -> None:
    celery.send_task(SCAN_CHUNK, [out, number], {"is_repeated": is_repeated}, queue=QUEUE, retry=False)


def _active(celery: Any, out: str) -> set[int] | None:
    """Return the chunks of an archive that workers have; None if no worker answers."""
    asked = celery.control.inspect(timeout=ANSWER_S)
    active = asked.active()
    if active is None:
        return None
    held = [active, asked.reserved() or {}]
    tasks = [task for tasks_of in held for tasks in tasks_of.values() for task in tasks]
    return {task["args"][1] for task in tasks if task["name"] == SCAN_CHUNK and task["args"][0] == out}


def _count_messages(celery: Any) -> int:
    from kombu.exceptions import ChannelError

    with celery.connection_for_read() as connection:
        try:
            return int(connection.default_channel.queue_declare(QUEUE, passive=True).message_count)
        except ChannelError:  # Redis has no empty queues
            return 0


def _connect(broker_url: str) -> tuple[Any, tuple[type[Exception], ...]]:
    try:
        from celery import Celery
        from kombu.exceptions import OperationalError
        from redis.exceptions import RedisError
    except ImportError as error:
        raise ArchiveError(f"--celery needs the packages of requirements-scale.txt: {error}.") from error
    celery = Celery(broker=broker_url, set_as_current=False)
    celery.conf.broker_transport_options = {"socket_connect_timeout": BROKER_TIMEOUT_S, "socket_timeout": 30}
    return celery, (OperationalError, RedisError)
