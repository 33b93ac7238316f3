"""A receiver of traces: it speaks OTLP over HTTP and keeps the spans."""

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class ReceivedSpan:
    """One span.

    Attributes:
        parent: id of the span around it; empty for the first one of a trace.
        process: id of the process that made it.
    """

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    process: int
    attributes: dict
    events: list
    message: str


class Receiver:
    """Spans as they arrive.

    Attributes:
        address: for OTEL_EXPORTER_OTLP_ENDPOINT.
        bodies: all requests as sent.
    """

    def __init__(self, address):
        self.address, self.bodies = address, []

    @property
    def spans(self):
        found = []
        for body in list(self.bodies):
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                process = values(resource.resource.attributes)["process.pid"]
                for scope in resource.scope_spans:
                    found += [self._span(span, process) for span in scope.spans]
        return found

    def _span(self, span, process):
        ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
        events = [(event.name, values(event.attributes)) for event in span.events]
        return ReceivedSpan(span.name, *ids, span.kind, process, values(span.attributes), events, span.status.message)

    def wait_for(self, find, patience_s):
        """Return what `find(spans)` returns, once it is not None."""
        until = time.monotonic() + patience_s
        while (found := find(self.spans)) is None:
            assert time.monotonic() < until, sorted({span.name for span in self.spans})
            time.sleep(0.1)
        return found


def values(attributes):
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@contextmanager
def run_receiver():
    """Run a receiver on a free port."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self):
            assert self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            receiver.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield receiver
        server.shutdown()
