"""Headers that restrict what a browser does with these pages."""

from __future__ import annotations

from flask import Flask, Response, request
from flask.sessions import SecureCookieSessionInterface

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",  # blob: the preview of a picture before its upload
        "media-src 'self' blob:",  # the same of a video or a recording
        "connect-src 'self'",  # uploads with their progress, and polling of the progress
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
DEVICES = "camera={0}, geolocation=(), microphone={0}, payment=(), usb=()"
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # Flask-WTF checks the referrer under https
    "Permissions-Policy": DEVICES.format("()"),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def add_security_headers(response: Response) -> Response:
    """Add the headers that a view has not set itself; everything but static files is private and not cached."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "private, no-store")
    return response


def allow_capture(response: Response) -> Response:
    """Let this one page use the camera and the microphone, if its visitor agrees."""
    response.headers["Permissions-Policy"] = DEVICES.format("(self)")
    return response


class SessionCookie(SecureCookieSessionInterface):
    """Flask's session cookie, restricted to https if the request came by https."""

    def get_cookie_secure(self, app: Flask) -> bool:
        return bool(app.config["SESSION_COOKIE_SECURE"]) or request.is_secure
