"""The API for programs: the same analyses as the pages, as JSON."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Any

from flask import Flask
from flask_smorest import Api
from flask_smorest.utils import prepare_response

from detector import __version__
from webapp.api.problems import API_PREFIX, PROBLEM_TYPE
from webapp.api.reference import reference
from webapp.api.resources import blueprint
from webapp.api.schemas import ProblemSchema
from webapp.api.tokens import commands
from webapp.api.webhooks import send_pending
from webapp.wakeable import WakeableThread

OPENAPI_VERSION = "3.1.0"
TITLE = "Deepfake detector"
DESCRIPTION = """\
Send pictures, videos and voice recordings, and read whether they are probably real or deepfakes.

Every request needs an access token in the header `Authorization: Bearer TOKEN`. Every error is a problem document.
"""
SECURITY_SCHEMES = {"token": {"type": "http", "scheme": "bearer", "description": "An access token of this server."}}
RATE_HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
HEADERS_BY_STATUS = {401: ("WWW-Authenticate",), 403: ("WWW-Authenticate",), 429: (*RATE_HEADERS, "Retry-After")}


class ProblemApi(Api):  # type: ignore[misc]
    """flask-smorest's API, whose errors are problem documents; `webapp.errors` answers them."""

    ERROR_SCHEMA = ProblemSchema
    DEFAULT_ERROR_RESPONSE_NAME = None  # every status of an operation is documented

    def _register_error_handlers(self) -> None:
        pass

    def _register_pagination_header(self) -> None:
        pass  # lists have cursors

    def _register_responses(self) -> None:
        for status in HTTPStatus:
            if status < 400:
                continue
            names = HEADERS_BY_STATUS.get(status, ())
            headers = {name: {"schema": {"type": "string"}, "required": True} for name in names}
            response: dict[str, Any] = {"description": status.phrase, "schema": ProblemSchema, "headers": headers}
            prepare_response(response, self.spec, PROBLEM_TYPE)
            self.spec.components.response(status.name, response, lazy=True)


def register_api(app: Flask) -> None:
    """Add the API, its reference page, the commands for tokens and the sender of webhooks."""
    app.config.update(
        API_TITLE=TITLE,
        API_VERSION=__version__,
        OPENAPI_VERSION=OPENAPI_VERSION,
        OPENAPI_URL_PREFIX=API_PREFIX,
    )
    api = ProblemApi(
        app,
        spec_kwargs={
            "info": {"description": DESCRIPTION},
            "components": {"securitySchemes": SECURITY_SCHEMES},
            "security": [{"token": []}],
        },
    )
    api.register_blueprint(blueprint)
    app.register_blueprint(reference)
    app.extensions["csrf"].exempt(blueprint)  # it reads no cookie
    app.extensions["openapi"] = api.spec
    app.extensions["webhooks"] = WakeableThread("webhooks", partial(send_pending, app))
    app.cli.add_command(commands)
