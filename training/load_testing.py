"""Many clients at once against gunicorn behind nginx, as they ship, beside the bare detector on the same cores."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from detector.pipeline import load_detector
from training.benchmark_media import portrait_jpeg
from training.benchmark_server import descendants
from training.manifests import ROOT
from training.tables import format_header, format_row

SERVER_START_S = 60
STOP_S = 30
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
WORKERS = min(CORES, 2)  # as in gunicorn.conf.py
NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 2000; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {site};
}}
"""


@dataclass(frozen=True)
class LoadOptions:
    """The command line of loadtest.py.

    Attributes:
        clients: clients that upload one picture after the other
        seconds: length of the test
        slow: connections that send half a request and then nothing
        direct: test gunicorn alone, without nginx
    """

    clients: int = 50
    seconds: int = 60
    slow: int = 0
    direct: bool = False


def load_test(options: LoadOptions) -> None:
    """Measure the bare detector, then the server under load, then the detector again, and print the table.

    Raises:
        SystemExit: a program is missing, the server did not start, or a request failed.
    """
    picture = portrait_jpeg()
    seconds = max(5, min(20, options.seconds // 3))
    before = bare_rate(picture, seconds)
    with loaded_server(direct=options.direct) as (address, pid), half_sent(address, options.slow):
        memory_before = memory_mb(pid)
        stats = run_clients(address, picture, options)
        memory_after = memory_mb(pid)
    bare = (before + bare_rate(picture, seconds)) / 2
    uploads = next(entry for entry in stats if entry["name"] == "upload")
    rate = uploads["num_requests"] / (uploads["last_request_timestamp"] - uploads["start_time"])
    print(f"{options.clients} clients for {options.seconds} s, {WORKERS} workers, {CORES} cores")
    print(f"{'gunicorn' if options.direct else 'gunicorn behind nginx'}, {options.slow} half-sent requests\n")
    print(format_header("request", "n", "errors", "p50, ms", "p95, ms"))
    for entry in stats:
        times = Counter({float(time): count for time, count in entry["response_times"].items()})
        figures = (f"{percentile(times, part):.0f}" for part in (0.5, 0.95))
        print(format_row(entry["name"], entry["num_requests"], entry["num_failures"], *figures))
    print(f"\n{rate:.1f} pictures/s; the detector alone {bare:.1f} on the same cores: {rate / bare:.0%} of it")
    print(f"memory of the server: {memory_before:.0f} MB before, {memory_after:.0f} MB after")
    if failures := sum(entry["num_failures"] for entry in stats):
        sys.exit(f"{failures} requests failed.")


def percentile(times: Counter[float], part: float) -> float:
    """Return the time below which a part of the requests lie, from counts of each time in ms."""
    wanted, seen = part * times.total(), 0
    for elapsed, count in sorted(times.items()):
        seen += count
        if seen >= wanted:
            return elapsed
    return 0.0


# the two sides


def bare_rate(picture: bytes, seconds: float) -> float:
    """Return how many times a second as many processes as workers detect a picture, with as many threads each."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(WORKERS)
    with context.Pool(WORKERS, _share_barrier, (together,)) as pool:
        return sum(pool.starmap(_count_detections, [(picture, seconds)] * WORKERS, chunksize=1)) / seconds


_together: multiprocessing.synchronize.Barrier


def _share_barrier(together: multiprocessing.synchronize.Barrier) -> None:
    global _together
    _together = together


def _count_detections(picture: bytes, seconds: float) -> int:
    detector = load_detector(threads=max(1, CORES // WORKERS))
    detector.detect(picture)
    _together.wait()
    count, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        detector.detect(picture)
        count += 1
    return count


def run_clients(address: str, picture: bytes, options: LoadOptions) -> list[dict[str, Any]]:
    """Let locust's clients upload a picture, and return its statistics by request.

    Raises:
        SystemExit: locust is not installed, or failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "portrait.jpg").write_bytes(picture)
        command = [sys.executable, "-m", "locust", "--locustfile", str(ROOT / "deploy" / "locustfile.py"), "--headless"]
        command += ["--host", address, "--users", str(options.clients), "--spawn-rate", str(options.clients)]
        command += ["--run-time", f"{options.seconds}s", "--json", "--exit-code-on-error", "0", "--loglevel", "ERROR"]
        environment = {**os.environ, "PICTURE": f"{folder}/portrait.jpg"}
        run = subprocess.run(command, env=environment, capture_output=True, check=False, text=True)
    if run.returncode:
        sys.exit(f"{run.stderr}Locust failed; pip install --no-deps -r requirements-dev.txt installs it.")
    stats: list[dict[str, Any]] = json.loads(run.stdout)
    return stats


@contextmanager
def loaded_server(*, direct: bool) -> Iterator[tuple[str, int]]:
    """Start gunicorn and nginx on free ports of 127.0.0.1; gives the address and gunicorn's process id.

    Raises:
        SystemExit: nginx is not installed, or the server did not start.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DEEPFAKE_", "GUNICORN_"))}
        settings = {
            "DEEPFAKE_INSTANCE_PATH": str(folder / "instance"),
            "DEEPFAKE_TRUSTED_PROXIES": "0" if direct else "1",
            "DEEPFAKE_UPLOAD_RATE": "off",  # all clients have one address
            "WEB_CONCURRENCY": str(WORKERS),
        }
        command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "app:app"]
        server = stack.enter_context(_running(command, folder / "gunicorn.log", env={**kept, **settings}))
        address = f"http://127.0.0.1:{port}"
        if not direct:
            address = stack.enter_context(running_nginx(folder, port))
        wait_for(address)
        yield address, server.pid


@contextmanager
def running_nginx(folder: Path, server_port: int) -> Iterator[str]:
    """Run nginx with deploy/nginx.conf in front of a port of 127.0.0.1; gives the address.

    Raises:
        SystemExit: nginx is not installed.
    """
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if nginx is None:
        sys.exit("This test needs nginx: apt-get install nginx-light")
    port = free_port()
    site = (ROOT / "deploy" / "nginx.conf").read_text()
    site = site.replace("127.0.0.1:5000", f"127.0.0.1:{server_port}").replace("listen 80;", f"listen 127.0.0.1:{port};")
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, site=folder / "site.conf"))
    command = [nginx, "-c", str(folder / "nginx.conf"), "-e", str(folder / "nginx.log")]
    with _running(command, folder / "nginx.out"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def half_sent(address: str, count: int, *, sources: tuple[str, ...] = ("127.0.0.2", "127.0.0.3")) -> Iterator[None]:
    """Hold connections that have sent half a request, every other one half its head, from a few addresses."""
    host, _, port = address.removeprefix("http://").partition(":")
    head = f"POST /analyses HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n"
    parts = (head, f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n")
    with ExitStack() as stack:
        for number in range(count):
            source = (sources[number % len(sources)], 0)
            connection = socket.create_connection((host, int(port)), timeout=STOP_S, source_address=source)
            stack.enter_context(connection).sendall(parts[number % len(parts)].encode())
        yield


def wait_for(address: str) -> None:
    """Wait until a server answers.

    Raises:
        SystemExit: it does not within SERVER_START_S.
    """
    until = time.monotonic() + SERVER_START_S
    while time.monotonic() < until:
        with suppress(URLError, ConnectionError, TimeoutError), urlopen(f"{address}/healthz", timeout=STOP_S):  # noqa: S310  # started here
            return
        time.sleep(0.1)
    sys.exit(f"The server did not start within {SERVER_START_S} s.")


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process and its descendants in MB; shared pages count for each."""
    total = 0
    for each in descendants(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            total += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return total * os.sysconf("SC_PAGE_SIZE") / 1e6


def free_port() -> int:
    """Return a port of 127.0.0.1 that no program listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(command: list[str], log: Path, **how: object) -> Iterator[subprocess.Popen[bytes]]:
    with open(log, "w") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, **how)  # type: ignore[call-overload]
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
