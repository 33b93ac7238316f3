"""Detect on a server of this project, over its HTTP API."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from typing import Any, Self

from detector.media import HEAD_BYTES, is_zip, sniff
from detector.record import from_record
from detector.results import Detection, DetectorError

POLL_MIN_S, POLL_MAX_S = 0.2, 5.0  # between requests for a state, growing
TIMEOUT_S = 300.0  # of one answer; a large picture waits for those before it
ATTEMPTS = 4  # of a request that a broken connection or a busy server ends
RETRY_S = 1.0  # after the first attempt, doubled after each
TRY_AGAIN = {429, 502, 503, 504}
PENDING_STATES = {"waiting", "running"}


class ServerError(DetectorError):
    """The server cannot be used at all: wrong address, wrong token, no answer."""


class RemoteDetector:
    """Send files to a server and restore its detections.

    Args:
        url: of the server, such as "http://127.0.0.1:5000".
        token: an access token with the scopes read and write.
        keep: whether the server keeps files and results.

    Raises:
        ServerError: the server does not answer, or refuses the token.
    """

    def __init__(self, url: str, token: str, *, keep: bool = False) -> None:
        import httpx  # takes a fifth of a second

        if not url.startswith(("http://", "https://")):
            raise ServerError(f"The address of the server must begin with http:// or https://, not {url!r}.")
        self._errors = (httpx.HTTPError, httpx.InvalidURL)
        self._http = httpx.Client(
            base_url=f"{url.rstrip('/')}/api/v1/",
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
        )
        self._keep = keep
        self._request("GET", "analyses", params={"limit": "1"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def detect(self, path: str, *, progress: Callable[[float], None] | None = None) -> Detection:
        """Send a file, wait for its result and restore it; then delete it on the server unless it is kept.

        Args:
            path: of the file.
            progress: called with the fraction that is done, in [0, 1].

        Raises:
            DetectorError: the server refused the file, or could not analyse it.
            ServerError: the server cannot be used any more.
        """
        try:
            with open(path, "rb") as file:
                head = file.read(HEAD_BYTES)
                if is_zip(head):
                    sniff(head)  # refuses it as a scan on this machine does; the server would unpack it
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                analysis = self._send(file, os.path.basename(path), key=f"{digest}-{time.time_ns()}")
        except OSError as error:
            raise DetectorError(f"The file cannot be opened: {error.strerror}.") from error
        address = f"analyses/{analysis['id']}"
        try:
            return self._wait(analysis, address, progress)
        finally:
            if not self._keep:
                self._request("DELETE", address)

    def _send(self, file: Any, name: str, *, key: str) -> dict[str, Any]:
        def body() -> Any:
            file.seek(0)
            return iter(lambda: file.read(1 << 20), b"")

        # A name of bytes that are no text becomes one; the server only displays it.
        readable = name.encode("utf-8", "replace").decode()[:1000] or "file"
        size_bytes = os.fstat(file.fileno()).st_size
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": f"{size_bytes}",
            "Idempotency-Key": key,
        }
        answer = self._request("POST", "analyses", params={"filename": readable}, headers=headers, content=body)
        analysis: dict[str, Any] = answer["analyses"][0]
        return analysis

    def _wait(self, analysis: dict[str, Any], address: str, progress: Callable[[float], None] | None) -> Detection:
        pause_s = POLL_MIN_S
        while analysis["state"] in PENDING_STATES:
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, POLL_MAX_S)
            analysis = self._request("GET", address)
            if progress is not None and analysis["progress"] is not None:
                progress(analysis["progress"])
        if analysis["state"] != "done":
            raise DetectorError(analysis["error"] or f"The analysis was {analysis['state']} on the server.")
        return from_record(self._request("GET", f"{address}/record"))

    def _request(
        self, method: str, address: str, *, content: Callable[[], Any] | None = None, **options: Any
    ) -> dict[str, Any]:
        """Send a request, again when the connection breaks or the server is busy, and return the answer's object."""
        for attempt in range(ATTEMPTS):
            is_last = attempt == ATTEMPTS - 1
            wait_s = RETRY_S * 2**attempt
            try:
                body = {} if content is None else {"content": content()}
                answer = self._http.request(method, address, **body, **options)
            except self._errors as error:
                if is_last:
                    raise ServerError(f"The server cannot be reached: {error or type(error).__name__}.") from error
            else:
                if answer.status_code not in TRY_AGAIN or is_last:
                    return _read(answer)
                waiting = answer.headers.get("Retry-After", "")
                wait_s = float(waiting) if waiting.isdecimal() else wait_s
            time.sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")


def _read(answer: Any) -> dict[str, Any]:
    """Return the object of an answer.

    Raises:
        ServerError: the answer is none of this API, or it refuses the token.
        DetectorError: it refuses the request, for a reason that is given.
    """
    if answer.status_code == 204:
        return {}
    try:
        values = answer.json()
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise ServerError(f"There is no API of this project at {answer.url.host}, status {answer.status_code}.")
    if answer.is_success:
        return values
    detail = str(values.get("detail", f"The server answered with status {answer.status_code}."))
    raise (ServerError if answer.status_code in (401, 403, 429, 500, 502, 503, 504) else DetectorError)(detail)
