"""What operators watch: whether the server is ready, its log, its metrics."""

from __future__ import annotations

from flask import Flask

from webapp.operations.logs import register_logs
from webapp.operations.metrics import register_metrics
from webapp.operations.readiness import Readiness, operations


def register_operations(app: Flask) -> None:
    """Add request ids, the log of requests, metrics and readiness to an application."""
    app.extensions["readiness"] = Readiness(app)
    app.register_blueprint(operations)
    register_logs(app)
    register_metrics(app)
