"""Outages: a full disk, or a database that is locked or gone. Neither the visitor nor the file is at fault."""

from __future__ import annotations

import errno

from flask import Flask, current_app
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, TimeoutError
from werkzeug.exceptions import HTTPException, ServiceUnavailable
from werkzeug.wrappers import Response

from webapp.models import db

RETRY_AFTER_S = 30
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # the disk, the quota of the user, the limit of the process
SQLITE_FULL = "SQLITE_FULL"


class InsufficientStorage(ServiceUnavailable):
    """There is no room for what was sent."""

    code = 507


def outage_of(error: BaseException) -> HTTPException | None:
    """Return the answer to an error of the disk or of the database; None if the error is something else."""
    is_full = isinstance(error, OSError) and error.errno in FULL
    if isinstance(error, DBAPIError):
        is_full = getattr(error.orig, "sqlite_errorname", "") == SQLITE_FULL
        is_down = error.connection_invalidated or type(error).__name__ in {"OperationalError", "InterfaceError"}
    else:
        is_down = isinstance(error, TimeoutError)  # every connection is in use
    if is_full:
        return InsufficientStorage(retry_after=RETRY_AFTER_S)
    return ServiceUnavailable(retry_after=RETRY_AFTER_S) if is_down else None


def register_outages(app: Flask) -> None:
    """Answer outages with a page, a status and the time after which to try again."""
    for kind in (OSError, SQLAlchemyError):
        app.register_error_handler(kind, show_outage)


def show_outage(error: Exception) -> Response:
    """Undo what the request began, log one line, and show what is wrong; any other error stays an error of ours."""
    outage = outage_of(error)
    if outage is None:
        raise error
    db.session.rollback()
    current_app.logger.warning("Outage: %s", str(error).partition("\n")[0])
    answer: Response = current_app.make_response(current_app.handle_http_exception(outage))
    return answer
