"""Webhooks: messages to a program when an analysis is over.

The rows of `WebhookCall` are the queue, so a restart loses none. A thread of each worker sends what is due; it claims a
row by moving its next attempt, so two workers do not send the same attempt. A message may arrive twice when a worker
dies while it sends; its id is then the same.

Source:
    Standard Webhooks, https://www.standardwebhooks.com: headers, signature and the form of the secret.
"""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import httpcore
from flask import Flask, current_app
from sqlalchemy import delete, select, update

from webapp.api.tables import CallState, WebhookCall
from webapp.api.tokens import webhook_secret
from webapp.api.webhook_addresses import CheckedNetwork, ForbiddenAddress
from webapp.models import Analysis, State, db

RETRY_DELAYS_S = (10, 60, 300, 1_800, 7_200, 21_600)  # after each failed attempt; the one after the last fails
SENDING_S = 15  # of one attempt
CLAIM = timedelta(seconds=60)  # until another worker may take over; longer than an attempt
QUEUE_POLL_S = 1.0
OVER = (State.DONE, State.FAILED, State.CANCELLED)
USER_AGENT = "deepfake-detector"


def send_pending(app: Flask) -> None:
    """Send the due webhook calls, as long as there are pending ones; the work of a `WakeableThread`."""
    with app.app_context():
        while has_pending():
            if not send_next():
                time.sleep(QUEUE_POLL_S)


def has_pending() -> bool:
    """Return whether a call has not been sent, after removing those of deleted analyses."""
    db.session.execute(delete(WebhookCall).where(WebhookCall.analysis_id.not_in(select(Analysis.id))))
    db.session.commit()
    left = db.session.scalar(select(WebhookCall.id).filter_by(state=CallState.PENDING).limit(1))
    db.session.rollback()  # ends the transaction of the query
    return left is not None


def send_next() -> bool:
    """Send the call that is due for longest; return whether there was one."""
    call_id = _claim()
    if call_id is None:
        return False
    call = db.session.get_one(WebhookCall, call_id)
    analysis = db.session.get(Analysis, call.analysis_id)
    if analysis is None:
        return True  # deleted in between; `has_pending` removes the call
    secret, body = webhook_secret(call.visitor), make_body(analysis)
    url, attempts = call.url, call.attempts
    db.session.rollback()  # no transaction stays open while the other side answers
    error = send(url, call_id, body, secret)
    changes: dict[str, object] = {"state": CallState.SENT, "error": None}
    if error is not None:
        is_over = attempts > len(RETRY_DELAYS_S)
        wait_s = 0 if is_over else RETRY_DELAYS_S[attempts - 1]
        next_attempt_at = datetime.now(UTC) + timedelta(seconds=wait_s)
        state = CallState.FAILED if is_over else CallState.PENDING
        changes = {"state": state, "error": error, "next_attempt_at": next_attempt_at}
    db.session.execute(update(WebhookCall).filter_by(id=call_id, state=CallState.PENDING).values(**changes))
    db.session.commit()
    return True


def send_again(analysis_ids: Collection[str]) -> None:
    """Let the calls of analyses that start again report their new end."""
    again = {"state": CallState.PENDING, "attempts": 0, "error": None, "next_attempt_at": datetime.now(UTC)}
    db.session.execute(update(WebhookCall).where(WebhookCall.analysis_id.in_(analysis_ids)).values(**again))
    db.session.commit()


def make_body(analysis: Analysis) -> bytes:
    """Return the message about an analysis that is over."""
    return json.dumps(
        {
            "type": f"analysis.{analysis.state}",
            "timestamp": datetime.now(UTC).isoformat(),
            "data": {
                "id": analysis.id,
                "state": analysis.state,
                "verdict": analysis.verdict,
                "probability": analysis.probability,
                "error": analysis.error,
            },
        }
    ).encode()


def sign(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """Return the signature of a message: HMAC-SHA256 of its id, time and body.

    Args:
        secret: from `tokens.webhook_secret`.
        message_id: the same for every attempt.
        timestamp: seconds since 1970 as text; a receiver refuses an old one.
        body: as it is sent.
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = b".".join((message_id.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, content, "sha256")).decode()


def send(url: str, message_id: str, body: bytes, secret: str) -> str | None:
    """Send one message; return None, or why it did not arrive, as a sentence. Redirects are not followed."""
    timestamp = str(int(time.time()))
    headers: dict[bytes | str, bytes | str] = {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": sign(secret, message_id, timestamp, body),
    }
    network = CheckedNetwork(allow_private=current_app.config["WEBHOOKS_TO_PRIVATE"], limit_s=SENDING_S)
    try:
        with (
            httpcore.ConnectionPool(network_backend=network) as pool,
            pool.stream("POST", url, headers=headers, content=body) as response,
        ):
            status: int = response.status  # the body is never read
    except ForbiddenAddress as error:
        return str(error)
    except (httpcore.TimeoutException, TimeoutError):
        return f"The callback address did not answer within {SENDING_S} seconds."
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol, OSError, ValueError) as error:
        return f"The callback address cannot be reached: {error!s:.200}."
    return None if 200 <= status < 300 else f"The callback address answered with status {status}."


def _claim() -> str | None:
    """Count an attempt of the call that is due for longest and return its id; None when none is due."""
    now = datetime.now(UTC)
    is_due = (WebhookCall.state == CallState.PENDING) & (WebhookCall.next_attempt_at <= now)
    over = select(Analysis.id).where(Analysis.state.in_(OVER))
    due = select(WebhookCall.id).where(is_due, WebhookCall.analysis_id.in_(over))
    call_id = db.session.scalar(due.order_by(WebhookCall.next_attempt_at).limit(1))
    claimed = None
    if call_id is not None:
        claimed = db.session.scalar(
            update(WebhookCall)
            .where(WebhookCall.id == call_id, is_due)  # another worker may claim it at the same moment
            .values(next_attempt_at=now + CLAIM, attempts=WebhookCall.attempts + 1)
            .returning(WebhookCall.id)
        )
    db.session.commit()
    return claimed
