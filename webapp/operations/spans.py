"""What needs OpenTelemetry: which spans a process makes, and what of them leaves it.

Attributes are chosen by name. The libraries also collect addresses, which hold ids of results and tokens of links, the
addresses of visitors, and messages of errors, which hold the parameters of queries.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from flask import Flask, request
from opentelemetry import context, propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, Status
from opentelemetry.util.types import Attributes

from detector.stages import observe_stages
from webapp.analysis_output import analysis_made
from webapp.models import db

SERVICE = "deepfake-detector"
OWN = "deepfake."  # attributes of ours
EXPORTED = {
    *("http.request.method", "http.response.status_code", "http.route", "error.type", "exception.type"),
    *("db.system", "db.system.name", "db.statement", "db.query.text"),  # with placeholders for all values
    *("celery.action", "celery.task_name", "celery.state"),
}
UNTRACED_ROUTES = "/healthz,/readyz,/metrics,/static/"
UNTRACED_TASKS = {"run/webapp.sweep"}
CONNECTION = "connect"  # SQLAlchemy's, one for each query
MAX_SPANS_OF_A_STAGE = 20  # inside one other stage; a video has thousands of frames


def trace_process(app: Flask) -> None:
    """Make spans of the requests, queries, messages and analyses of this process."""
    os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http,database")  # the names that no longer change
    trace.set_tracer_provider(_provider())
    with app.app_context():
        engine = db.engine
    # Without the check of versions: it excludes SQLAlchemy 2.1, whose events are the same.
    SQLAlchemyInstrumentor().instrument(engine=engine, skip_dep_check=True)
    FlaskInstrumentor().instrument_app(
        app, request_hook=_hide_address, excluded_urls=UNTRACED_ROUTES, enable_commenter=False
    )
    for instrumentor in (CeleryInstrumentor(), RedisInstrumentor()):
        if not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument()
    observe_stages(_stage_span)
    analysis_made.connect(_describe_analysis)


def current_traceparent() -> str | None:
    """Return the present place in a trace, in the form of the W3C's header; None outside of a trace."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def trace_continued(traceparent: str | None) -> Iterator[None]:
    """Go on with a trace, or with none."""
    token = context.attach(propagate.extract({"traceparent": traceparent or ""}, context=context.Context()))
    try:
        yield
    finally:
        context.detach(token)


@contextmanager
def job_span() -> Iterator[None]:
    """Make a span of an analysis in the background."""
    with _provider().get_tracer(__name__).start_as_current_span("job", kind=SpanKind.CONSUMER):
        yield


@contextmanager
def untraced() -> Iterator[None]:
    """Make no spans of queries."""
    with suppress_instrumentation():
        yield


def shut_down() -> None:
    """Send the spans that wait, and make no more."""
    _provider().shutdown()


@cache
def _provider() -> TracerProvider:
    service = os.environ.get("OTEL_SERVICE_NAME", SERVICE)
    provider = TracerProvider(resource=Resource.create({"service.name": service, "process.pid": os.getpid()}))
    provider.sampler = WorthwhileTraces(provider.sampler)
    provider.add_span_processor(BatchSpanProcessor(PublicAttributes(OTLPSpanExporter())))
    return provider


class WorthwhileTraces(Sampler):
    """Leave out connections of the pool, and traces that would begin with a query or a sweep.

    Processes look for work all the time.

    Args:
        others: decides on all other traces.
    """

    def __init__(self, others: Sampler) -> None:
        self._others = others

    def should_sample(
        self, parent_context: context.Context | None, trace_id: int, name: str, kind: SpanKind | None = None, *more: Any
    ) -> SamplingResult:
        """Decide whether a span is recorded."""
        has_parent = trace.get_current_span(parent_context).get_span_context().is_valid
        if name == CONNECTION or (not has_parent and (kind == SpanKind.CLIENT or name in UNTRACED_TASKS)):
            return SamplingResult(Decision.DROP)
        return self._others.should_sample(parent_context, trace_id, name, kind, *more)

    def get_description(self) -> str:
        """Return the name of this sampler with that of the other."""
        return f"WorthwhileTraces({self._others.get_description()})"


class PublicAttributes(SpanExporter):
    """Send spans with the chosen attributes only, and without messages of errors.

    Args:
        exporter: sends them.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans."""
        return self._exporter.export([_public(span) for span in spans])

    def shutdown(self) -> None:
        """Close the connection."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until everything is sent."""
        return self._exporter.force_flush(timeout_millis)


def _public(span: ReadableSpan) -> ReadableSpan:
    is_query = bool({"db.system", "db.system.name"} & (span.attributes or {}).keys())
    return ReadableSpan(
        name=span.name.split()[0] if is_query else span.name,  # without the database's name, which may be a path
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=_chosen(span.attributes),
        events=[Event(event.name, _chosen(event.attributes), event.timestamp) for event in span.events],
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _chosen(attributes: Attributes) -> Attributes:
    return {key: value for key, value in (attributes or {}).items() if key in EXPORTED or key.startswith(OWN)}


def _hide_address(span: trace.Span, environ: Mapping[str, Any]) -> None:
    """Give a request without a route, whose name would be its address, the name of its method."""
    if span.is_recording() and request.url_rule is None:
        span.update_name(environ["REQUEST_METHOD"])


class _Repetitions:
    """How often each stage ran inside another one, and for how long."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.seconds: dict[str, float] = {}


_inside: ContextVar[_Repetitions | None] = ContextVar("stage", default=None)


@contextmanager
def _stage_span(name: str) -> Iterator[None]:
    """Make a span of a stage; of one that is repeated often, the other stage around it gets the sums instead."""
    if not trace.get_current_span().get_span_context().is_valid:
        yield  # outside of a request and an analysis, for example in a sweep
        return
    outer = _inside.get()
    if outer is not None:
        number = outer.counts[name] = outer.counts.get(name, 0) + 1
    started = time.perf_counter()
    try:
        if outer is not None and number > MAX_SPANS_OF_A_STAGE:
            yield
            return
        with _provider().get_tracer(__name__).start_as_current_span(name) as span:
            inner = _Repetitions()
            token = _inside.set(inner)
            try:
                yield
            finally:
                _inside.reset(token)
                for repeated, count in inner.counts.items():
                    if count > MAX_SPANS_OF_A_STAGE:
                        key = f"{OWN}{repeated.replace(' ', '_')}"
                        span.set_attributes({f"{key}.count": count, f"{key}.s": round(inner.seconds[repeated], 6)})
    finally:
        if outer is not None:
            outer.seconds[name] = outer.seconds.get(name, 0.0) + time.perf_counter() - started


def _describe_analysis(_sender: object, columns: dict[str, Any]) -> None:
    """Add medium and verdict to the span of an analysis."""
    values = {f"{OWN}media": columns["media"], f"{OWN}verdict": columns["verdict"]}
    trace.get_current_span().set_attributes(values)
