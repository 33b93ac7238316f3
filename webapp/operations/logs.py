"""One line for each request, as JSON or for a terminal, with an id that the answer carries, too.

A line names the route, not the address: addresses of results and of shared pages are nobody else's business.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from uuid import uuid4

from flask import Flask, Response, g, request

from webapp.config import JSON_LOG, PLAIN_LOG
from webapp.operations.tracing import add_trace_id, is_tracing

REQUEST_ID = "X-Request-ID"
_SAFE_ID = re.compile(r"[\w-]{8,64}", re.ASCII)  # one that a proxy has chosen
_OWN_HANDLERS = ("gunicorn.error", "werkzeug", "celery")  # loggers that print by themselves


def register_logs(app: Flask) -> None:
    """Give each request an id, and write a line for it unless the setting `LOG` is `plain`."""
    is_logging = app.config["LOG"] != PLAIN_LOG
    if is_logging:
        configure_logs(app.config["LOG"])

    @app.before_request
    def begin() -> None:
        sent = request.headers.get(REQUEST_ID, "")
        g.request_id = sent if _SAFE_ID.fullmatch(sent) else uuid4().hex
        g.started_s = time.perf_counter()
        if is_logging:
            import structlog

            structlog.contextvars.clear_contextvars()
            structlog.contextvars.bind_contextvars(request_id=g.request_id)

    @app.after_request
    def end(response: Response) -> Response:
        if "request_id" not in g:  # the request was refused before it began
            return response
        response.headers[REQUEST_ID] = g.request_id
        if is_logging:
            import structlog

            structlog.get_logger("webapp.requests").info(
                "request",
                method=request.method,
                route=request.url_rule.rule if request.url_rule else None,
                status=response.status_code,
                ms=round((time.perf_counter() - g.started_s) * 1e3, 1),
            )
        return response


def configure_logs(kind: str) -> None:
    """Write what this process logs, its libraries' lines included, to the error output.

    Args:
        kind: `console` for a terminal, `json` for one JSON object on each line.
    """
    import structlog

    both: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        *([add_trace_id] if is_tracing() else []),
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
        if kind == JSON_LOG
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    structlog.configure(
        processors=[*both, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*both, structlog.stdlib.PositionalArgumentsFormatter()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    for name in _OWN_HANDLERS:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
