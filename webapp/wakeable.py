"""A thread that works when it is woken, and ends when there is nothing left to do."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

TRY_AGAIN_S = 5.0  # after an error of the database or the disk

log = logging.getLogger(__name__)


class WakeableThread:
    """Run a function in a thread of this process whenever there is work.

    An error of the database or the disk is logged, and the function runs again after `TRY_AGAIN_S`. Any other error
    ends the thread, and the next `wake` starts another one.

    Args:
        name: of the thread; it stands in the log.
        work: does what there is to do, and returns.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self._name, self._work = name, work
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_requested = False

    def wake(self) -> None:
        """Make sure that the work runs once more, from its beginning, after this moment."""
        with self._lock:
            self._is_requested = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait until there is nothing left to do."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while self._take_request():
                try:
                    self._work()
                except (SQLAlchemyError, OSError):
                    log.exception("The thread %s could not do its work; it tries again.", self._name)
                    time.sleep(TRY_AGAIN_S)
                    self._is_requested = True
        except BaseException:
            with self._lock:
                self._thread = None
            raise

    def _take_request(self) -> bool:
        with self._lock:
            is_requested, self._is_requested = self._is_requested, False
            if not is_requested:
                self._thread = None
            return is_requested
