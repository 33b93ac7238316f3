"""Metrics for Prometheus at `/metrics`, for who knows the token of the settings.

The workers of one gunicorn add their numbers in files of `PROMETHEUS_MULTIPROC_DIR`, which gunicorn.conf.py sets; so
does the process that analyses videos and recordings beside them. Celery workers serve their own, see `worker_metrics`.
"""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, abort, current_app, g, request
from sqlalchemy import func, select

from webapp.analysis_output import analysis_made
from webapp.models import Analysis, State, db
from webapp.operations.readiness import operations

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)  # limits of the histograms


def register_metrics(app: Flask) -> None:
    """Count requests and analyses if the setting `METRICS_TOKEN` is set."""
    if not app.config["METRICS_TOKEN"]:
        return
    from prometheus_client import CollectorRegistry, Counter, Histogram

    registry = app.extensions["metrics"] = CollectorRegistry()
    requests = Histogram(
        "deepfake_request_seconds",
        "Time of requests by route.",
        ("method", "route", "status"),
        buckets=SECONDS,
        registry=registry,
    )
    seconds = Histogram(
        "deepfake_analysis_seconds", "Time of analyses by medium.", ("media",), buckets=SECONDS, registry=registry
    )
    verdicts = Counter("deepfake_verdicts", "Verdicts by medium.", ("media", "verdict"), registry=registry)

    @app.after_request
    def count_request(response: Response) -> Response:
        if "started_s" in g:
            route = request.url_rule.rule if request.url_rule else "none"
            labels = (request.method, route, str(response.status_code))
            requests.labels(*labels).observe(time.perf_counter() - g.started_s)
        return response

    def count_analysis(_sender: object, columns: dict[str, Any]) -> None:
        seconds.labels(columns["media"]).observe(columns["elapsed_ms"] / 1e3)
        verdicts.labels(columns["media"], columns["verdict"]).inc()

    analysis_made.connect(count_analysis, weak=False)


class QueueCollector:
    """The numbers of analyses that wait and run, which all machines share, read from the database."""

    def collect(self) -> Iterator[Any]:
        """Give the gauge of the queue, as Prometheus' library requests it."""
        from prometheus_client.core import GaugeMetricFamily

        states = (State.WAITING, State.RUNNING)
        counted = select(Analysis.state, func.count()).where(Analysis.state.in_(states)).group_by(Analysis.state)
        counts = {row[0]: row[1] for row in db.session.execute(counted)}
        gauge = GaugeMetricFamily("deepfake_queue_files", "Files that wait or are being analysed.", labels=["state"])
        for state in states:
            gauge.add_metric([str(state)], counts.get(state, 0))
        yield gauge


def is_token_sent(authorization: str, token: str) -> bool:
    """Return whether the header `Authorization` of a request has the token."""
    return hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode())


@operations.get("/metrics")
def send_metrics() -> Response:
    """Send the metrics to a client with the token; without the setting there is no such page."""
    token = current_app.config["METRICS_TOKEN"]
    if not token or not is_token_sent(request.headers.get("Authorization", ""), token):
        abort(404)
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector

    registry = CollectorRegistry()
    registry.register(QueueCollector())
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)
        data = generate_latest(registry)
    else:
        data = generate_latest(current_app.extensions["metrics"]) + generate_latest(registry)
    return Response(data, content_type=CONTENT_TYPE_LATEST)
