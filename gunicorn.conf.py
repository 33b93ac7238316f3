"""Settings of `gunicorn app:app`; the command line and GUNICORN_CMD_ARGS take precedence."""

import errno
import http.client
import os
import socket
import sys
import tempfile
import threading
import time
from typing import Any

# macOS has no sched_getaffinity.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MAX_WORKERS = 2  # each holds a model

bind = "127.0.0.1:5000"
workers = int(os.environ.get("WEB_CONCURRENCY") or min(CORES, MAX_WORKERS))
threads = 256  # one for each open request, also a half-sent one; a worker still analyses one picture at a time
timeout = 60  # seconds without a sign of life before a worker is replaced; slow clients are not cut off
graceful_timeout = 30
keepalive = 5
forwarded_allow_ips = ""  # DEEPFAKE_TRUSTED_PROXIES alone decides whose headers are believed
control_socket_disable = True  # the socket would be created in the home folder
ANNOUNCE_S = 60
# No preload_app: a loaded model does not survive the fork.


def post_fork(server: Any, worker: Any) -> None:
    """Divide the cores among the workers, unless DEEPFAKE_THREADS is set."""
    os.environ.setdefault("DEEPFAKE_THREADS", str(max(1, CORES // server.num_workers)))


def on_starting(server: Any) -> None:
    """Make the folder of the metrics, and stop with one sentence if a port cannot be used.

    gunicorn itself would retry and print a traceback.
    """
    if os.environ.get("DEEPFAKE_METRICS_TOKEN"):
        os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(prefix="deepfake-metrics-"))
    if "GUNICORN_FD" in os.environ or "LISTEN_FDS" in os.environ:
        return  # the sockets are open already
    for address in server.cfg.address:
        if not isinstance(address, tuple):
            continue
        host, port = address
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
                sys.exit(f"Port {port} on {host} {reason}. Choose another one, for example: make run PORT={port + 1}")


def post_worker_init(worker: Any) -> None:
    """Load the model before the worker's first request, and resume unfinished jobs."""
    from webapp.detector_thread import warm_up

    warm_up(worker.wsgi)
    if worker.age == 1:  # the first worker speaks for all
        threading.Thread(target=announce, args=([listener.getsockname() for listener in worker.sockets],)).start()


def child_exit(server: Any, worker: Any) -> None:
    """Close the metrics of a worker that has ended."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid)


def announce(addresses: list[Any]) -> None:
    """Print where the server serves, once it answers there."""
    for address in addresses:
        if not isinstance(address, tuple):
            continue  # a Unix socket is for a proxy
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        until = time.monotonic() + ANNOUNCE_S
        while time.monotonic() < until:
            connection = http.client.HTTPConnection(address[0], address[1], timeout=ANNOUNCE_S)
            try:
                connection.request("GET", "/healthz")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
            else:
                print(f"Serving on http://{host}:{address[1]} (Ctrl+C stops it)", flush=True)
                break
            finally:
                connection.close()
