"""The metrics of a Celery worker, on a port of its own.

The worker's processes add their numbers in files of one folder, and its main process serves the sums.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from webapp.operations.metrics import is_token_sent

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

REQUEST_TIMEOUT_S = 10  # of one request


class WorkerMetrics:
    """Serve the metrics of a worker's processes; made before they start, which then find the folder.

    Args:
        port: of all addresses of this machine.
        token: as for `/metrics` of the server.

    Raises:
        OSError: the port cannot be used.
    """

    def __init__(self, port: int, token: str) -> None:
        self._token, self._pid = token, os.getpid()
        self._server = make_server("", port, self._answer, server_class=_Server, handler_class=_QuietRequests)
        self._folder = os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="deepfake-metrics-")

    def start(self) -> None:
        """Answer requests from now on, in a thread."""
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def leave_to_parent(self) -> None:
        """Close the inherited port in a process of the pool, which would keep it when the worker is killed."""
        if os.getpid() != self._pid:
            self._server.socket.close()

    def stop(self) -> None:
        """Answer no more requests, and delete the numbers."""
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/metrics" or not is_token_sent(environ.get("HTTP_AUTHORIZATION", ""), self._token):
            start_response("404 Not Found", [])
            return []
        from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        start_response("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
        return [generate_latest(registry)]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietRequests(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:
        pass
