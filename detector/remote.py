"""Detect on a server of this project, over its HTTP API.

Files are sent in batches, and the next batch is sent before the results of the last one are awaited: a scan needs few
requests, and the server always has work.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Self

from detector.media import HEAD_BYTES, is_zip, sniff
from detector.record import from_record
from detector.results import Detection, DetectorError, RecordError

BATCH_FILES, BATCH_BYTES = 50, 50_000_000  # of one request; a larger file is sent on its own
SENT_AHEAD = 1  # requests whose results are not awaited yet while the next one is sent
POLL_MIN_S, POLL_MAX_S = 0.2, 5.0  # between requests for a state, growing
TIMEOUT_S = 300.0  # of one answer; a large picture waits for those before it
ATTEMPTS = 5  # of a request that a broken connection or a busy server ends
RETRY_S = 1.0  # after the first attempt, doubled after each
MAX_WAIT_S = 3600.0  # as long as a rate limit is waited for, in one request
TRY_AGAIN = {409, 429, 502, 503, 504}  # 409: an attempt whose connection broke is still running
UNUSABLE = {401, 403, 429, 500, 502, 503, 504, 507}
TOO_LARGE = 413
PENDING_STATES = {"waiting", "running"}
WITHOUT_RESULT = {"failed", "cancelled"}
FILE_TYPE = "application/octet-stream"


class ServerError(DetectorError):
    """The server cannot be used at all: wrong address, wrong token, no answer."""


class RequestRefused(DetectorError):
    """The server refused a request.

    Args:
        message: a sentence.
        status: of HTTP.
        rejected: the refused files with the reason of each; empty if the request itself was refused.
    """

    def __init__(self, message: str, status: int, rejected: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.status, self.rejected = status, rejected


@dataclass(frozen=True)
class _File:
    path: str
    size_bytes: int
    sha256: str

    @property
    def name(self) -> str:
        """What the server displays: readable, and without the dots of hidden files, which it would leave out."""
        name = os.path.basename(self.path).lstrip(".")
        return name.encode("utf-8", "replace").decode()[:1000] or "file"


@dataclass(frozen=True)
class _Sent:
    """Files of one request.

    Attributes:
        address: of their batch, or of the analysis of a file on its own; None if nothing was accepted.
        outcomes: of each file in its order, the id of its analysis, or why it has none.
    """

    address: str | None
    outcomes: list[str | DetectorError]


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
        self._keep, self._most_files = keep, BATCH_FILES
        self._report: Callable[[str], None] = lambda _: None
        self._request("GET", "analyses", params={"limit": "1"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def detect_all(
        self, paths: Iterable[str], *, report: Callable[[str], None] = lambda _: None
    ) -> Generator[Detection | DetectorError, None, None]:
        """Send files, wait for their results and restore them; then delete them on the server unless they are kept.

        Args:
            paths: of the files.
            report: called with what happens now, in a few words.

        Yields:
            For each file in its order the detection, or why there is none.

        Raises:
            ServerError: the server cannot be used any more.
        """
        self._report = report
        waiting: deque[_Sent] = deque()
        try:
            for group in self._groups(paths):
                waiting.extend(self._send(group))
                while len(waiting) > SENT_AHEAD:
                    yield from self._receive(waiting.popleft())
            while waiting:
                yield from self._receive(waiting.popleft())
        finally:
            for sent in waiting:
                self._delete(sent)

    def _groups(self, paths: Iterable[str]) -> Iterator[list[_File | DetectorError]]:
        """Yield the files of each request, with the reasons of those that cannot be sent."""
        group: list[_File | DetectorError] = []
        size_bytes = 0
        for path in paths:
            file = _examine(path)
            more_bytes = file.size_bytes if isinstance(file, _File) else 0
            if group and (len(group) >= self._most_files or size_bytes + more_bytes > BATCH_BYTES):
                yield group
                group, size_bytes = [], 0
            group.append(file)
            size_bytes += more_bytes
        if group:
            yield group

    def _send(self, group: Sequence[_File | DetectorError]) -> Iterator[_Sent]:
        """Send files in one request, or in several if the server accepts fewer at once."""
        files = [each for each in group if isinstance(each, _File)]
        if not files:
            yield _Sent(None, [each for each in group if isinstance(each, DetectorError)])
            return
        self._report(f"sending {len(files)} files" if len(files) > 1 else f"sending {files[0].name}")
        try:
            answer = self._post(files)
        except RequestRefused as refusal:
            if len(files) == 1 or not (refusal.rejected or refusal.status == TOO_LARGE):
                yield _Sent(None, [refusal if isinstance(each, _File) else each for each in group])
                return
            if not refusal.rejected:
                self._most_files = len(group) // 2
                yield from self._send_in_halves(group)
                return
            address, found = None, _match(files, [], refusal.rejected)
        except OSError as error:
            if len(files) > 1:
                yield from self._send_in_halves(group)
                return
            address, found = None, iter([_unreadable(error)])
        else:
            batch, analyses = answer["batch"], answer["analyses"]
            address = f"batches/{batch['id']}" if batch else f"analyses/{analyses[0]['id']}"
            found = _match(files, analyses, answer["rejected"])
        yield _Sent(address, [next(found) if isinstance(each, _File) else each for each in group])

    def _send_in_halves(self, group: Sequence[_File | DetectorError]) -> Iterator[_Sent]:
        middle = len(group) // 2
        yield from self._send(group[:middle])
        yield from self._send(group[middle:])

    def _post(self, files: Sequence[_File]) -> dict[str, Any]:
        def form(stack: ExitStack) -> dict[str, Any]:
            opened = [stack.enter_context(open(file.path, "rb")) for file in files]  # noqa: SIM115 (the stack closes)
            sent = zip(files, opened, strict=True)
            return {"files": [("file", (file.name, stream, FILE_TYPE)) for file, stream in sent]}

        return self._request("POST", "analyses", form=form, headers={"Idempotency-Key": uuid.uuid4().hex})

    def _receive(self, sent: _Sent) -> Iterator[Detection | DetectorError]:
        """Wait for the results of a request and yield them."""
        results: Mapping[str, Detection | DetectorError] = {}
        try:
            if sent.address is not None:
                results = self._wait(sent.address)
        except ServerError:
            raise
        except DetectorError as error:  # such as a batch that somebody deleted
            results = {each: error for each in sent.outcomes if isinstance(each, str)}
        finally:
            self._delete(sent)
        for outcome in sent.outcomes:
            yield results[outcome] if isinstance(outcome, str) else outcome

    def _wait(self, address: str) -> dict[str, Detection | DetectorError]:
        """Wait until a batch or an analysis is over, and return the results by the ids of the analyses."""
        values, pause_s = self._request("GET", address), POLL_MIN_S
        while values["state"] in PENDING_STATES:
            self._report(f"{values['progress'] or 0:.0%} of the files that were sent")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, POLL_MAX_S)
            values = self._request("GET", address)
        if address.startswith("batches/"):
            rows = self._request("GET", f"{address}/results.json")["results"]
            return {row["id"]: _restore(row, row["outcome"]) for row in rows if row["id"]}
        is_done = values["state"] not in WITHOUT_RESULT
        record = self._request("GET", f"{address}/record") if is_done else {"error": values["error"]}
        return {values["id"]: _restore(record, values["state"])}

    def _delete(self, sent: _Sent) -> None:
        if sent.address is not None and not self._keep:
            with suppress(RequestRefused):  # it is gone already
                self._request("DELETE", sent.address)

    def _request(
        self, method: str, address: str, *, form: Callable[[ExitStack], dict[str, Any]] | None = None, **options: Any
    ) -> dict[str, Any]:
        """Send a request, again when the connection breaks or the server is busy, and return the answer's object.

        Args:
            method, address: below /api/v1/.
            form: makes the body of each attempt; what it opens is closed after it.
            options: of httpx.
        """
        failures, waited_s = 0, 0.0
        while True:
            wait_s = RETRY_S * 2**failures
            try:
                with ExitStack() as stack:
                    body = {} if form is None else form(stack)
                    answer = self._http.request(method, address, **body, **options)
            except self._errors as error:
                failures += 1
                if failures == ATTEMPTS:
                    raise ServerError(f"The server cannot be reached: {error or type(error).__name__}.") from error
            else:
                limit_s = answer.headers.get("Retry-After", "")
                if answer.status_code == 429 and limit_s.isdecimal():
                    wait_s = float(limit_s)
                    waited_s += wait_s
                    if waited_s > MAX_WAIT_S:
                        raise ServerError(f"The server accepts no request of this token for {wait_s:,.0f} seconds.")
                    self._report(f"the server accepts the next request in {wait_s:.0f} s")
                else:
                    failures += 1
                    if answer.status_code not in TRY_AGAIN or failures == ATTEMPTS:
                        return _read(answer)
                    wait_s = float(limit_s) if limit_s.isdecimal() else wait_s
            time.sleep(wait_s)


def _examine(path: str) -> _File | DetectorError:
    """Return what is to know of a file before it is sent, or why it cannot be sent."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
            if is_zip(head):
                sniff(head)  # refuses it as a scan on this machine does; the server would unpack it
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return _File(path, os.fstat(file.fileno()).st_size, digest)
    except OSError as error:
        return _unreadable(error)
    except DetectorError as error:
        return error


def _unreadable(error: OSError) -> DetectorError:
    return DetectorError(f"The file cannot be opened: {error.strerror}.")


def _match(
    files: Sequence[_File], analyses: Iterable[Mapping[str, Any]], rejected: Iterable[Mapping[str, Any]]
) -> Iterator[str | DetectorError]:
    """Yield the id of each file's analysis, or why it has none; the server lists both in the order of the files."""
    accepted, refused = deque(analyses), deque(rejected)
    is_complete = len(accepted) + len(refused) == len(files)
    for file in files:
        if accepted and accepted[0]["sha256"] == file.sha256:
            yield str(accepted.popleft()["id"])
        elif refused and (is_complete or refused[0]["filename"] == file.name):
            yield DetectorError(str(refused.popleft()["detail"]))
        else:
            yield DetectorError("The server left this file out, because of its name.")


def _restore(record: Mapping[str, Any], state: str) -> Detection | DetectorError:
    """Return the detection of a record; without one, the reason.

    Args:
        record: with "error", or as `detector.record.to_record` returns it.
        state: of the analysis.
    """
    if record.get("error") or state in WITHOUT_RESULT:
        return DetectorError(record.get("error") or f"The analysis was {state} on the server.")
    try:
        return from_record(record)
    except RecordError as error:
        return error


def _read(answer: Any) -> dict[str, Any]:
    """Return the object of an answer.

    Raises:
        ServerError: the answer is none of this API, or it refuses the token.
        RequestRefused: it refuses the request, for a reason that is given.
    """
    if answer.status_code == 204:
        return {}
    try:
        values = answer.json()
    except ValueError:
        values = None
    if answer.status_code == TOO_LARGE and not isinstance(values, dict):  # of a proxy
        raise RequestRefused("The server does not accept a file of this size.", TOO_LARGE)
    if not isinstance(values, dict):
        raise ServerError(f"There is no API of this project at {answer.url.host}, status {answer.status_code}.")
    if answer.is_success:
        return values
    detail = str(values.get("detail", f"The server answered with status {answer.status_code}."))
    if answer.status_code in UNUSABLE:
        raise ServerError(detail)
    raise RequestRefused(detail, answer.status_code, values.get("rejected", ()))
