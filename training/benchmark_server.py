"""Gunicorn with one worker, as it ships, in a temporary instance folder: uploads over HTTP, and the worker's memory."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.cookiejar import CookieJar
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import HTTPCookieProcessor, HTTPRedirectHandler, OpenerDirector, Request, build_opener

from training.manifests import ROOT

START_TIMEOUT_S = 60
IDLE_TIMEOUT_S = 30
QUIET_S = 0.05  # without CPU time used; the kernel counts it in steps of 0.01 s
BOUNDARY = "benchmark-boundary"


class StayOnPage(HTTPRedirectHandler):
    """Follows no redirect: the answer to an upload then ends its time."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> Request | None:
        """Return None for every redirect."""
        return None


class BenchmarkServer:
    """A running server with one worker, and one visitor's browser.

    Attributes:
        site: address of the server.
        started: `time.perf_counter()` when its process was started.
    """

    def __init__(self, process: subprocess.Popen[bytes], site: str, started: float) -> None:
        self.process, self.site, self.started = process, site, started
        self._cookies = CookieJar()
        self._token = ""

    def open_form(self) -> None:
        """Load the page with the upload form, waiting until the server answers, and keep the form's token.

        Raises:
            SystemExit: the server does not answer within START_TIMEOUT_S.
        """
        while True:
            try:
                form = self._browser().open(self.site).read().decode()
                break
            except URLError:
                if time.perf_counter() - self.started > START_TIMEOUT_S:
                    raise SystemExit(f"The server did not start within {START_TIMEOUT_S} s.") from None
                time.sleep(0.02)
        self._token = _search(r'name="csrf_token"[^>]*value="([^"]+)"', form)

    def upload_and_open(self, data: bytes) -> str:
        """Upload a picture as a browser would and return the result page.

        Raises:
            SystemExit: the page shows no verdict.
        """
        page: str = self._browser().open(self._upload_request(data)).read().decode()
        if "probability" not in page.lower():
            raise SystemExit("The server answered without a verdict.")
        return page

    def upload(self, data: bytes) -> str:
        """Upload a picture until its verdict is stored, and return the address of the result page.

        The server answers with a redirect to that page after the transaction is committed.

        Raises:
            SystemExit: the answer is no redirect.
        """
        try:
            self._browser(StayOnPage()).open(self._upload_request(data))
        except HTTPError as answer:
            if answer.code in (302, 303):
                return str(answer.headers["Location"])
            raise SystemExit(f"The server answered the upload with status {answer.code}.") from answer
        raise SystemExit("The server answered the upload without a redirect to its verdict.")

    def wait_until_idle(self) -> None:
        """Wait until the server's processes use no CPU time, so that work after an answer disturbs no other timing."""
        deadline = time.perf_counter() + IDLE_TIMEOUT_S
        before: int | None = None
        while (now := _cpu_ticks(descendants(self.process.pid))) is None or now != before:
            if time.perf_counter() > deadline:
                raise SystemExit(f"The server was not idle within {IDLE_TIMEOUT_S} s.")
            before = now
            time.sleep(QUIET_S)

    def peak_memory_mb(self) -> float:
        """Return the largest resident memory of the worker since its start, in MB of 1,000,000 bytes."""
        return max(_peak_kib(pid) for pid in _children(self.process.pid)) * 1024 / 1e6

    def _browser(self, *handlers: HTTPRedirectHandler) -> OpenerDirector:
        return build_opener(HTTPCookieProcessor(self._cookies), *handlers)

    def _upload_request(self, data: bytes) -> Request:
        body = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="csrf_token"\r\n\r\n{self._token}\r\n'
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="portrait.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()  # fmt: skip
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        return Request(f"{self.site}/analyses", body, headers)  # noqa: S310  # the server that was started here


@contextmanager
def running_server(*, threads: int | None = None) -> Iterator[BenchmarkServer]:
    """Start gunicorn with one worker, and stop it at the end.

    Args:
        threads: of the worker's networks; None leaves gunicorn.conf.py's choice, every core for a single worker.
    """
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        environment = {**os.environ, "DEEPFAKE_INSTANCE_PATH": folder, "WEB_CONCURRENCY": "1"}
        environment["DEEPFAKE_UPLOAD_RATE"] = "off"  # one address sends them all
        if threads:
            environment["DEEPFAKE_THREADS"] = str(threads)
        command = [sys.executable, "-m", "gunicorn", "app:app", "--bind", address]
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            yield BenchmarkServer(process, f"http://{address}", started)
        finally:
            process.terminate()
            process.wait()


def descendants(pid: int) -> list[int]:
    """Return the process ids of a process, its children, theirs, and so on."""
    found = [pid]
    for parent in found:
        found += _children(parent)
    return found


def _children(pid: int) -> list[int]:
    """Return the ids of the processes that any thread of a process has started and that still run."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
        return []


def _cpu_ticks(pids: list[int]) -> int | None:
    """Return the CPU time that the threads of some processes have used; None while one of them runs or waits to run."""
    ticks = 0
    for stat in (stat for pid in pids for stat in Path(f"/proc/{pid}/task").glob("*/stat")):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
            continue
        if fields[0] in "RD":  # running or runnable, waiting for the disk
            return None
        ticks += int(fields[11]) + int(fields[12])  # utime, stime
    return ticks


def _peak_kib(pid: int) -> int:
    return int(_search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()))


def _search(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"There is no match of {pattern} in the text: {text[:200]}")
    return found[1]
