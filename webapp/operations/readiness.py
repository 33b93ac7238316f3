"""Whether this worker can serve: `/readyz`. `/healthz` says that it lives."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from flask import Blueprint, Flask, Response, current_app, jsonify
from sqlalchemy import select

from webapp.config import CELERY
from webapp.models import db

operations = Blueprint("operations", __name__)

PATIENCE_S = 3.0  # with one part
KEPT_S = 2.0  # an answer counts for so long, so that nobody can keep the parts busy

logger = logging.getLogger(__name__)


class Readiness:
    """Checks of the parts that a request needs: database, storage, broker and model.

    Args:
        app: the application whose parts are checked.
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="readiness")  # a part may keep its check waiting
        self._lock = threading.Lock()
        self._answer: dict[str, bool] = {}
        self._checked_s = -KEPT_S

    def check(self) -> dict[str, bool]:
        """Return which parts work, by name; no part says why it does not, since anybody may ask."""
        with self._lock:
            if time.monotonic() - self._checked_s >= KEPT_S:
                running = {name: self._pool.submit(check) for name, check in self._checks().items()}
                until = time.monotonic() + PATIENCE_S
                self._answer = {}
                for name, future in running.items():
                    try:
                        error = future.exception(timeout=max(0.0, until - time.monotonic()))
                    except TimeoutError as too_slow:
                        error = too_slow
                    self._answer[name] = error is None
                    if error is not None:
                        logger.warning("The part %s does not work: %s: %s", name, type(error).__name__, error)
                self._checked_s = time.monotonic()
            return self._answer

    def _checks(self) -> dict[str, Callable[[], object]]:
        parts = self._app.extensions
        checks = {"database": self._query, "storage": parts["storage"].check, "model": self._find_model}
        return checks | ({"broker": parts["jobs"].check} if self._app.config["JOBS"] == CELERY else {})

    def _query(self) -> None:
        with self._app.app_context():
            db.session.execute(select(1))

    def _find_model(self) -> None:
        if not self._app.extensions["detector"].is_loaded:
            raise LookupError("The model is not loaded.")


@operations.get("/readyz")
def ready() -> tuple[Response, int]:
    """Report which parts work; 503 unless all do."""
    answer = current_app.extensions["readiness"].check()
    return jsonify({name: "ok" if works else "failed" for name, works in answer.items()}), (
        200 if all(answer.values()) else 503
    )
