"""Traces by OpenTelemetry, if its own environment variables name a receiver; else nothing of it is imported.

A trace begins with a request. The row of an analysis keeps the request's place in the trace, so that it goes on in
whichever process analyses the file. `webapp.operations.spans` has what needs OpenTelemetry.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

from flask import Flask
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from webapp.config import StartupError
from webapp.models import Analysis, db

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"


def is_tracing() -> bool:
    """Return whether the environment names a receiver of traces, and OpenTelemetry is not switched off."""
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return not is_off and any(os.environ.get(name) for name in ENDPOINTS)


def check_tracing() -> None:
    """Check that this process can send traces, if a receiver is named.

    Raises:
        StartupError: the packages are missing, or a variable of OpenTelemetry cannot be used.
    """
    if not is_tracing():
        return
    for name in ENDPOINTS:
        if not (os.environ.get(name) or "http://").startswith(("http://", "https://")):
            raise StartupError(f"{name} must begin with http:// or https://, not {os.environ[name]!r}.")
    for name in PROTOCOLS:
        if os.environ.get(name, PROTOCOL) not in ("", PROTOCOL):
            raise StartupError(f"{name} must be {PROTOCOL}, not {os.environ[name]!r}.")
    try:
        from webapp.operations import spans  # noqa: F401
    except ImportError as error:
        raise StartupError(f"Traces need the packages of requirements-scale.txt: {error}.") from error


def register_tracing(app: Flask) -> None:
    """Trace the requests, queries and analyses of this process, if a receiver is named.

    Raises:
        StartupError: as `check_tracing`.
    """
    check_tracing()
    if is_tracing():
        from webapp.operations import spans

        spans.trace_process(app)


def current_traceparent() -> str | None:
    """Return the present place in a trace, in the form of the W3C's header; None without traces."""
    if not is_tracing():
        return None
    from webapp.operations import spans

    return spans.current_traceparent()


@contextmanager
def trace_continued(traceparent: str | None) -> Iterator[None]:
    """Go on with the trace that a row belongs to."""
    if not is_tracing():
        yield
        return
    from webapp.operations import spans

    with spans.trace_continued(traceparent):
        yield


@contextmanager
def job_traced(analysis_id: str) -> Iterator[None]:
    """Trace the work on a claimed analysis as a part of the request that sent it."""
    if not is_tracing():
        yield
        return
    from webapp.operations import spans

    try:
        traceparent = db.session.scalar(select(Analysis.traceparent).filter_by(id=analysis_id))
        db.session.commit()
    except SQLAlchemyError:  # the work itself notices that the database is gone
        db.session.rollback()
        traceparent = None
    with spans.trace_continued(traceparent), spans.job_span():
        yield


@contextmanager
def untraced() -> Iterator[None]:
    """Leave the queries of a step that is often repeated out of the trace."""
    if not is_tracing():
        yield
        return
    from webapp.operations import spans

    with spans.untraced():
        yield


def flush_traces() -> None:
    """Send the spans that wait, before a process ends without Python's own end."""
    if is_tracing():
        from webapp.operations import spans

        spans.shut_down()


def add_trace_id(_logger: object, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the id of the present trace to a line of the log; a processor of structlog."""
    if traceparent := current_traceparent():
        line["trace_id"] = traceparent.split("-")[1]
    return line
