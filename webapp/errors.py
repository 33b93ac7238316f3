"""Turn every error into a page, or into a problem document for programs, with a sentence and no traceback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask, current_app, render_template
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, TooManyRequests
from werkzeug.wrappers import Response

from detector import DetectorError
from detector.text import translatable
from webapp.api.problems import is_for_programs, problem_of
from webapp.pages import upload_page
from webapp.statuses import status_of

SIZE_LIMITS = ("MAX_UPLOAD_MB", "MAX_RECORDING_MB", "MAX_BATCH_MB")  # settings; the largest is that of a request
PAGES = {
    400: (
        translatable("The server did not understand this request"),
        translatable("Go back to the start page and try again."),
    ),
    404: (
        translatable("Page not found"),
        translatable(
            "There is no such page. Perhaps the result was deleted, or it belongs to another browser session."
        ),
    ),
    405: (
        translatable("This page cannot be opened directly"),
        translatable("It only receives forms. Go back to the start page and try again."),
    ),
    500: (translatable("Something went wrong on the server"), translatable("Please try again.")),
    503: (
        translatable("The server is busy"),
        translatable("Its database does not respond, so nothing was changed. Please try again in half a minute."),
    ),
    507: (
        translatable("The server has no room left"),
        translatable("Its disk is full, so nothing was stored. Please try again later."),
    ),
}


def register_errors(app: Flask) -> None:
    """Register the error pages, and problem documents for the API."""
    for kind, show in (
        (DetectorError, show_detector_error),
        (RequestEntityTooLarge, show_too_large),
        (TooManyRequests, show_too_many),
        (CSRFError, show_expired_form),
        (HTTPException, show_http_error),
    ):
        app.register_error_handler(kind, _answering(show))


def _answering(show: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return an error handler that shows a page, or answers a program with a problem document."""
    return lambda error: problem_of(error) if is_for_programs() else show(error)


def show_detector_error(error: DetectorError) -> tuple[str, int]:
    """Show what is wrong with the file, beside the form for another one."""
    return upload_page(error=str(error)), status_of(error)


def show_too_large(error: RequestEntityTooLarge) -> tuple[str, int]:
    """Refuse a request that is over the size limit."""
    limit_mb = max(current_app.config[name] for name in SIZE_LIMITS)
    sentence = translatable("The upload is too large; at most {limit} MB and {files} files are accepted at once.")
    return upload_page(error=sentence.format(limit=limit_mb, files=current_app.config["MAX_BATCH_FILES"])), 413


def show_too_many(error: TooManyRequests) -> tuple[str, int]:
    """Refuse an upload from an address that has sent too many."""
    return upload_page(
        error=translatable("Too many files were sent from your address. Please wait a minute and try again.")
    ), 429


def show_expired_form(error: CSRFError) -> tuple[str, int]:
    """Refuse a form that does not belong to this browser session."""
    return upload_page(
        error=translatable("This form has expired or is from another site. Please send it again from here.")
    ), 400


def show_http_error(error: HTTPException) -> Response:
    """Show what the status means, with the headers it requires (such as Allow)."""
    title, sentence = PAGES.get(error.code or 500, (error.name, error.description or ""))
    response = error.get_response()
    response.data = render_template("error.html", code=error.code, title=title, sentence=sentence)
    response.content_type = "text/html; charset=utf-8"
    return response
