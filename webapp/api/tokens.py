"""Access tokens: their creation, their check, and the commands `flask --app app tokens`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from datetime import UTC, datetime, timedelta

import click
from flask import current_app, g, request
from flask.cli import AppGroup
from sqlalchemy import select, update
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Forbidden, Unauthorized

from webapp.api.tables import ApiToken
from webapp.models import count_changed, db

READ, WRITE = "read", "write"
SCOPES = (READ, WRITE)
TEXT_PREFIX = "dfd"  # lets scanners of source code recognise a token that was committed by mistake
ID_BYTES, SECRET_BYTES_OF_TOKEN = 8, 32
USE_RECORDED_EVERY = timedelta(minutes=1)  # so that not every request writes to the database
REALM = "Deepfake detector"

commands = AppGroup("tokens", help="Create, list and revoke access tokens of the API.")


def create_token(name: str, *, scopes: tuple[str, ...] = SCOPES, days: int | None = None) -> tuple[ApiToken, str]:
    """Create an access token.

    Args:
        name: whom it is for.
        scopes: what it allows, of `SCOPES`.
        days: after which it expires; None for a token without an end.

    Returns:
        The stored token, and its text, which is not stored.
    """
    secret = secrets.token_urlsafe(SECRET_BYTES_OF_TOKEN)
    token = ApiToken(
        id=secrets.token_hex(ID_BYTES),
        name=name,
        secret_sha256=_hash(secret),
        scopes=" ".join(scope for scope in SCOPES if scope in scopes),
        expires_at=None if days is None else datetime.now(UTC) + timedelta(days=days),
    )
    db.session.add(token)
    db.session.commit()
    return token, f"{TEXT_PREFIX}_{token.id}_{secret}"


def find_token(text: str) -> ApiToken | None:
    """Return the valid token with this text; None if it is unknown, expired or revoked.

    A hash is compared for unknown ids too, in constant time, so the time of the answer reveals nothing.
    """
    prefix, _, rest = text.partition("_")
    token_id, _, secret = rest.partition("_")
    token = db.session.get(ApiToken, token_id) if prefix == TEXT_PREFIX else None
    is_equal = hmac.compare_digest(token.secret_sha256 if token else _hash(""), _hash(secret))
    if token is None or not is_equal or token.revoked_at is not None:
        return None
    return None if token.expires_at is not None and token.expires_at <= datetime.now(UTC) else token


def current_token() -> ApiToken | None:
    """Return the valid token of this request's Authorization header; a cookie never counts."""
    if "api_token" not in g:
        authorization = request.authorization
        text = authorization.token if authorization and authorization.type == "bearer" else None
        g.api_token = find_token(text) if text else None
    token: ApiToken | None = g.api_token
    return token


def require_token(scope: str) -> ApiToken:
    """Return the token of this request, and record its use.

    Raises:
        Unauthorized: there is no valid token.
        Forbidden: it does not have the scope.
    """
    token = current_token()
    if token is None:
        sent = {"error": "invalid_token"} if "Authorization" in request.headers else {}
        raise Unauthorized(
            "The access token is unknown, expired or revoked."
            if sent
            else "Send an access token: Authorization: Bearer.",
            www_authenticate=WWWAuthenticate("bearer", {"realm": REALM, **sent}),
        )
    if scope not in token.scopes.split():
        error = Forbidden(f"This access token does not have the scope “{scope}”.")
        g.challenge = WWWAuthenticate("bearer", {"realm": REALM, "error": "insufficient_scope", "scope": scope})
        raise error
    now = datetime.now(UTC)
    if token.last_used_at is None or now - token.last_used_at > USE_RECORDED_EVERY:
        token.last_used_at = now
        db.session.commit()
    return token


def webhook_secret(visitor: str) -> str:
    """Return the secret that signs the webhooks of a token's analyses.

    It is derived from the server's secret key, so the database does not hold it.

    Args:
        visitor: `ApiToken.visitor`.

    Returns:
        `whsec_` and the base64 of 32 bytes, as Standard Webhooks has it.
    """
    key = current_app.config["SECRET_KEY"].encode()
    return "whsec_" + base64.b64encode(hmac.digest(key, f"webhooks of {visitor}".encode(), "sha256")).decode()


def _hash(secret: str) -> str:
    # A fast hash is enough for 32 random bytes, which nobody can guess one by one.
    return hashlib.sha256(secret.encode()).hexdigest()


@commands.command("create")
@click.argument("name")
@click.option("--scope", "scopes", type=click.Choice(SCOPES), multiple=True, help="What it allows; both by default.")
@click.option("--days", type=click.IntRange(1, 36_500), help="Days until it expires; without it, it does not expire.")
def print_new_token(name: str, scopes: tuple[str, ...], days: int | None) -> None:
    """Create a token for NAME, and print it once."""
    token, text = create_token(name[:120], scopes=scopes or SCOPES, days=days)
    click.echo(f"Token:          {text}")
    click.echo(f"Webhook secret: {webhook_secret(token.visitor)}")
    click.echo("Keep both. The token cannot be shown again.")


@commands.command("list")
def print_tokens() -> None:
    """List all tokens, the newest first."""
    row = "{:<16}  {:<24}  {:<10}  {:<10}  {:<10}  {:<16}  {}"
    click.echo(row.format("ID", "NAME", "SCOPES", "CREATED", "EXPIRES", "LAST USED", "STATE"))
    now = datetime.now(UTC)
    for token in db.session.scalars(select(ApiToken).order_by(ApiToken.created_at.desc())):
        is_expired = token.expires_at is not None and token.expires_at <= now
        expires = f"{token.expires_at:%Y-%m-%d}" if token.expires_at else "never"
        used = f"{token.last_used_at:%Y-%m-%d %H:%M}" if token.last_used_at else "never"
        state = "revoked" if token.revoked_at else "expired" if is_expired else "valid"
        name, created = token.name[:24], f"{token.created_at:%Y-%m-%d}"
        click.echo(row.format(token.id, name, token.scopes, created, expires, used, state))


@commands.command("revoke")
@click.argument("token_id", metavar="ID")
def revoke_token(token_id: str) -> None:
    """Revoke the token with this ID at once; its analyses stay."""
    valid = update(ApiToken).filter_by(id=token_id, revoked_at=None)
    is_revoked = count_changed(valid.values(revoked_at=datetime.now(UTC))) > 0
    db.session.commit()
    if not is_revoked:
        raise click.ClickException(f"There is no valid token {token_id}.")
    click.echo(f"Token {token_id} is revoked.")
