"""Errors for programs: every one is a problem document.

Source:
    RFC 9457, "Problem Details for HTTP APIs", 2023.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from flask import Response, current_app, g, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from detector import DetectorError
from webapp.statuses import status_of

API_PREFIX = "/api/v1"
PROBLEM_TYPE = "application/problem+json"
_KEPT_HEADERS = {"allow", "retry-after", "www-authenticate"}
_DETAILS = {
    404: "There is nothing at this address.",
    405: "This address does not support the method; the header Allow lists those that it does.",
    429: "There were too many requests. Try again after the seconds in the header Retry-After.",
    500: "Something went wrong on the server. Please try again.",
    503: "The database does not respond, so nothing was changed. Please try again in half a minute.",
    507: "The disk of the server is full, so nothing was stored. Please try again later.",
}


class Problem(HTTPException):
    """An error of the API, as it is answered.

    Args:
        status: of HTTP.
        detail: what is wrong, as a sentence.
        members: further members of the problem document.
    """

    def __init__(self, status: int, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.code = self.status = status
        self.detail, self.members = detail, members


def is_for_programs() -> bool:
    """Return whether the request is for the API, which answers problems in place of pages."""
    return request.path.startswith("/api/")


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> Response:
    """Return a problem document.

    Args:
        status: of HTTP.
        detail: what is wrong, as a sentence.
        headers: of the response.
        members: further members of the document.
    """
    document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    body = json.dumps({**document, **members})
    return Response(body, status, headers, content_type=PROBLEM_TYPE)


def problem_of(error: Exception) -> Response:
    """Return the problem document for an error of the detector, of Flask or of this API."""
    if isinstance(error, DetectorError):
        return problem(status_of(error), str(error))
    if isinstance(error, Problem):
        return problem(error.status, error.detail, **error.members)
    assert isinstance(error, HTTPException)
    status = error.code or 500
    if isinstance(error, RequestEntityTooLarge):
        limit = current_app.config["MAX_CONTENT_LENGTH"]
        return problem(status, f"The request is too large; at most {limit:,} bytes are accepted.")
    kept = {name: value for name, value in error.get_headers(request.environ) if name.lower() in _KEPT_HEADERS}
    if "challenge" in g:
        kept["WWW-Authenticate"] = g.challenge.to_header()
    messages = (getattr(error, "data", None) or {}).get("messages")  # of an argument that marshmallow refused
    if messages:
        faults = list(_list_faults(messages))
        return problem(status, "; ".join(f"{each['name']}: {each['reason']}" for each in faults), kept, errors=faults)
    return problem(status, _DETAILS.get(status) or error.description or HTTPStatus(status).phrase, kept)


def _list_faults(messages: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yield the name and the reason of each refused argument, from marshmallow's messages by location and name."""
    for fields in messages.values():
        for name, reasons in fields.items() if isinstance(fields, Mapping) else [("request", fields)]:
            yield {"name": str(name), "reason": " ".join(reasons) if isinstance(reasons, list) else str(reasons)}
