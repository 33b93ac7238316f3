"""Settings of `gunicorn app:app`; the command line and GUNICORN_CMD_ARGS take precedence."""

import os
from typing import Any

# macOS has no sched_getaffinity.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MAX_WORKERS = 2  # each holds a model

bind = "127.0.0.1:5000"
workers = int(os.environ.get("WEB_CONCURRENCY") or min(CORES, MAX_WORKERS))
threads = 32  # one for each open request; a worker still analyses one picture at a time
timeout = 60  # seconds without a sign of life before a worker is replaced; slow clients are not cut off
graceful_timeout = 30
keepalive = 5
control_socket_disable = True  # the socket would be created in the home folder
# No preload_app: a loaded model does not survive the fork.


def post_fork(server: Any, worker: Any) -> None:
    """Divide the cores among the workers, unless DEEPFAKE_THREADS is set."""
    os.environ.setdefault("DEEPFAKE_THREADS", str(max(1, CORES // server.num_workers)))


def post_worker_init(worker: Any) -> None:
    """Load the model before the worker's first request, and resume unfinished jobs."""
    from webapp.detector_thread import warm_up

    warm_up(worker.wsgi)
