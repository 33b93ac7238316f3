"""Turn every error into a page with a sentence and no traceback."""

from __future__ import annotations

from flask import Flask, current_app, render_template
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Response

from detector import DetectorError, MediaTooLarge, ModelError, UnreadableMedia
from detector.text import translatable
from webapp.analyses import UnsupportedMedia
from webapp.pages import upload_page

# the first match counts
STATUSES = ((UnsupportedMedia, 415), (UnreadableMedia, 400), (MediaTooLarge, 413), (ModelError, 503))
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
    """Register the error pages."""
    app.register_error_handler(DetectorError, show_detector_error)
    app.register_error_handler(RequestEntityTooLarge, show_too_large)
    app.register_error_handler(CSRFError, show_expired_form)
    app.register_error_handler(HTTPException, show_http_error)


def show_detector_error(error: DetectorError) -> tuple[str, int]:
    """Show what is wrong with the file, beside the form for another one."""
    return upload_page(error=str(error)), next((status for kind, status in STATUSES if isinstance(error, kind)), 400)


def show_too_large(error: RequestEntityTooLarge) -> tuple[str, int]:
    """Refuse a request that is over the size limit."""
    limit_mb = max(current_app.config[name] for name in SIZE_LIMITS)
    sentence = translatable("The upload is too large; at most {limit} MB and {files} files are accepted at once.")
    return upload_page(error=sentence.format(limit=limit_mb, files=current_app.config["MAX_BATCH_FILES"])), 413


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
