"""How `gunicorn app:app` serves; the command line and GUNICORN_CMD_ARGS overrule what stands here."""

import os

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # macOS has no affinity
MAX_WORKERS = 2  # each holds a model

bind = "127.0.0.1:5000"
workers = int(os.environ.get("WEB_CONCURRENCY") or min(CORES, MAX_WORKERS))
threads = 32  # one for each request being read or judged; pictures are still judged one at a time
timeout = 60  # a worker whose own loop has been silent for so many seconds is replaced; slow clients are not cut off
graceful_timeout = 30
keepalive = 5
control_socket_disable = True  # it would put a socket into the home folder
# No preload_app: a model that is loaded before the fork does not survive it.


def post_fork(server, worker):
    """Let the workers share the cores, unless somebody has decided otherwise."""
    os.environ.setdefault("DEEPFAKE_THREADS", str(max(1, CORES // server.num_workers)))


def post_worker_init(worker):
    """Load the model before the worker takes its first request, and judge what was left unfinished."""
    from webapp.analyses import warm_up

    warm_up(worker.wsgi)
