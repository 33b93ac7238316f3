"""Headers that keep a browser from doing more with our pages than we mean."""

from __future__ import annotations

from flask import Flask, Response, request
from flask.sessions import SecureCookieSessionInterface

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",  # blob: the preview of a picture that is not uploaded yet
        "media-src 'self'",
        "connect-src 'self'",  # an upload with a bar, and looking how far the work is
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # Flask-WTF wants to see our own referrer under https
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def add_security_headers(response: Response) -> Response:
    """Put the headers on a response; whatever is not a static file is private and not kept."""
    response.headers.update(SECURITY_HEADERS)
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "private, no-store")
    return response


class SessionCookie(SecureCookieSessionInterface):
    """Flask's session cookie, kept to https whenever the request came that way."""

    def get_cookie_secure(self, app: Flask) -> bool:
        return app.config["SESSION_COOKIE_SECURE"] or request.is_secure
