"""Rate limits: per token and per address for the API, per address for uploads by pages."""

from __future__ import annotations

import math
import time
from typing import Any

from flask import Flask, Response, current_app, request
from flask_limiter import Limiter
from limits.errors import ConfigurationError

from webapp.api.resources import blueprint
from webapp.api.tokens import current_token
from webapp.config import PREFIX, UNLIMITED, StartupError

UPLOAD_ENDPOINTS = ("pages.create_analysis", "pages.create_sample", "history.repeat_analysis")


def register_limits(app: Flask) -> None:
    """Limit how often a token and an address may send requests; call it after all routes are registered.

    Raises:
        StartupError: the storage of the counts cannot be used.
    """
    try:
        limiter = Limiter(
            address_of,
            app=app,
            storage_uri=app.config["RATE_STORAGE_URL"],
            strategy="moving-window",
            in_memory_fallback_enabled=True,  # each worker counts alone while Redis is gone
        )
    except ConfigurationError as error:
        raise StartupError(f"{PREFIX}RATE_STORAGE_URL cannot be used: {error}.") from error
    app.extensions["rate_limiter"] = limiter
    for setting, key in (("API_RATE", token_or_address), ("API_ADDRESS_RATE", address_of)):
        if app.config[setting] != UNLIMITED:
            limiter.shared_limit(app.config[setting], scope=setting, key_func=key)(blueprint)
    if app.config["UPLOAD_RATE"] != UNLIMITED:
        limited = limiter.shared_limit(app.config["UPLOAD_RATE"], scope="uploads")
        for endpoint in UPLOAD_ENDPOINTS:
            view: Any = app.view_functions[endpoint]
            app.view_functions[endpoint] = limited(view)
    app.after_request(add_rate_headers)


def address_of() -> str:
    """Return the key by which an address is counted."""
    return f"address:{request.remote_addr}"


def token_or_address() -> str:
    """Return the key by which a token is counted; without a valid one, that of the address."""
    token = current_token()
    return token.visitor if token else address_of()


def add_rate_headers(response: Response) -> Response:
    """Add how many requests are left of the limit that is nearest to a response, and when to try again to a refusal.

    Source:
        draft-ietf-httpapi-ratelimit-headers-07: `RateLimit-Reset` is in seconds from now.
    """
    limiter: Limiter = current_app.extensions["rate_limiter"]
    if not limiter.current_limits:
        return response
    limit = min(limiter.current_limits, key=lambda each: (not each.breached, each.remaining))
    wait_s = max(1, math.ceil(limit.window[0] - time.time()))
    response.headers["RateLimit-Limit"] = str(limit.limit.amount)
    response.headers["RateLimit-Remaining"] = str(limit.remaining)
    response.headers["RateLimit-Reset"] = str(wait_s)
    if response.status_code == 429:
        response.headers["Retry-After"] = str(wait_s)
    return response
