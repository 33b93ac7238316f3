"""What operators watch: whether the server is ready, its log, its metrics, its traces."""

from __future__ import annotations

from flask import Flask

from webapp.operations.logs import register_logs
from webapp.operations.metrics import register_metrics
from webapp.operations.readiness import Readiness, operations
from webapp.operations.tracing import register_tracing


def register_operations(app: Flask) -> None:
    """Add traces, request ids, the log of requests, metrics and readiness to an application."""
    app.extensions["readiness"] = Readiness(app)
    app.register_blueprint(operations)
    register_tracing(app)  # first, so that the lines of the log have the id of the trace
    register_logs(app)
    register_metrics(app)
