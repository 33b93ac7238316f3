"""The thread of a worker that runs the detector."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from flask import Flask

import detector
from detector import Detector, ModelError
from webapp.config import StartupError
from webapp.retention import start_sweeping

Answer = TypeVar("Answer")


class DetectorThread:
    """Run the one detector of a worker in a thread of its own, one picture at a time.

    This bounds memory: only one picture's pixels exist at a time, and the runtime's buffers belong to one thread. It
    also avoids a deadlock of OpenVINO 2026.4, when two threads make a process's first inference at the same time.

    Args:
        threads: number of inference threads; 0 means one for each core.
        detector: a loaded detector; None loads one when it is first needed.
        load: loads it; None takes the shipped one.
    """

    def __init__(
        self, *, threads: int = 0, detector: Detector | None = None, load: Callable[[], Detector] | None = None
    ) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="detector")
        self._load_detector = load or partial(_load_shipped, threads)
        self._detector = detector

    @property
    def is_loaded(self) -> bool:
        """Whether the detector is loaded."""
        return self._detector is not None

    def call(self, work: Callable[[Detector], Answer]) -> Answer:
        """Return `work(detector)`, called in the detector's thread.

        Raises:
            ModelError: the model's file is missing or does not fit.
        """
        # In the caller's context, so that the trace of a request goes on in this thread.
        return self._thread.submit(copy_context().run, lambda: work(self._load())).result()

    def _load(self) -> Detector:
        if self._detector is None:
            self._detector = self._load_detector()
        return self._detector


def _load_shipped(threads: int) -> Detector:
    return detector.load_detector(threads=threads or None)


def warm_up(app: Flask) -> None:
    """Load the detector before the first upload, resume interrupted jobs and webhooks, and delete what has expired.

    Raises:
        StartupError: there is no usable model.
    """
    try:
        app.extensions["detector"].call(lambda _: None)
    except ModelError as error:
        raise StartupError(str(error)) from error
    app.extensions["jobs"].wake()
    app.extensions["webhooks"].wake()
    start_sweeping(app)
