"""How long results are stored: until when, who deletes them, and a session cookie that lasts as long.

A sweep deletes what has expired, and what an interruption has left in the storage.

A result expires by its age, so another setting also holds for those that are stored already.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime, timedelta

import click
from flask import Flask, Response, current_app, request, session
from sqlalchemy.exc import SQLAlchemyError

from webapp import analyses, orphans, uploads

EXPIRY_SWEEP_EVERY_S = 3600
MAX_COOKIE_DAYS = 400  # browsers keep no cookie longer
RENEWED = "renewed"  # in the session: the day of its last renewal

log = logging.getLogger(__name__)


def register_retention(app: Flask) -> None:
    """Let the session last as long as the results, offer `expires_at` to templates, and add the command `sweep`."""
    days = app.config["RETENTION_DAYS"] or MAX_COOKIE_DAYS
    # One day more, because the cookie is renewed once a day and a result may be younger than the cookie.
    app.config["PERMANENT_SESSION_LIFETIME"] = timedelta(days=min(days + 1, MAX_COOKIE_DAYS))
    app.config["SESSION_REFRESH_EACH_REQUEST"] = False
    app.after_request(renew_session)
    app.add_template_global(expires_at)
    app.cli.command("sweep", help="Delete all results that have expired, and files of none.")(_sweep_command)


def expires_at(created_at: datetime | None = None) -> datetime | None:
    """Return when a result is deleted; None for never.

    Args:
        created_at: when it was sent; None for now.
    """
    days = current_app.config["RETENTION_DAYS"]
    return (created_at or datetime.now(UTC)) + timedelta(days=days) if days else None


def sweep() -> int:
    """Delete the results of all visitors that have expired, and their files; return how many there were.

    Several processes may sweep at the same time: each row is deleted by one of them.
    """
    days = current_app.config["RETENTION_DAYS"]
    return analyses.delete_older(datetime.now(UTC) - timedelta(days=days)) if days else 0


def start_sweeping(app: Flask) -> None:
    """Sweep now and every hour, in a thread that ends with the process."""
    threading.Thread(target=_sweep_again_and_again, args=(app,), name="sweep", daemon=True).start()


def try_to_sweep(app: Flask) -> None:
    """Sweep; an error, such as a lost database, is logged, and the next sweep tries again."""
    try:
        with app.app_context():
            sweep()
            uploads.delete_unreferenced()
            if orphans.is_due():
                orphans.remove_orphans()
    except (SQLAlchemyError, OSError):
        log.exception("A sweep did not end; the next one tries again.")


def renew_session(response: Response) -> Response:
    """Renew a visitor's session cookie once a day, so that it outlives the visitor's results."""
    today = datetime.now(UTC).date().isoformat()
    if request.endpoint != "static" and "visitor" in session and session.get(RENEWED) != today:
        session.permanent = True
        session[RENEWED] = today
    return response


def _sweep_again_and_again(app: Flask) -> None:
    while True:
        try_to_sweep(app)
        time.sleep(EXPIRY_SWEEP_EVERY_S)


def _sweep_command() -> None:
    count = sweep()
    click.echo("1 expired result was deleted." if count == 1 else f"{count:,} expired results were deleted.")
    if left := orphans.remove_orphans():
        click.echo(f"Files without a result were removed: {left:,}.")
