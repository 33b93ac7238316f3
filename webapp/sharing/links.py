"""The table of share links, and what their owner does with them; of a link's token only the hash is stored."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta

from flask import session, url_for
from sqlalchemy import ForeignKey, String, delete, select
from sqlalchemy.orm import Mapped, mapped_column

from webapp.models import Analysis, Model, State, UtcDateTime, db, new_token

SHARE_DAYS = (1, 7, 30)
MAX_LINKS = 20  # of one result
SHARE_TOKEN_BYTES = 32
NEW_LINK = "new_link"  # in the session: (id of the analysis, token), until the owner's page has shown the link


class ShareLink(Model):
    """A link to one result; it goes with the result.

    Attributes:
        id: names the link to its owner; it opens nothing.
        token_sha256: SHA-256 of the token in the link's address. The token is random, so that its hash needs no salt.
        shows_filename: whether the shared page shows the name of the file.
    """

    __tablename__ = "share_link"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_token)
    analysis_id: Mapped[str] = mapped_column(ForeignKey("analysis.id", ondelete="CASCADE"), index=True)
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    shows_filename: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=lambda: datetime.now(UTC))
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


def create_link(analysis: Analysis, *, days: int, shows_filename: bool) -> str | None:
    """Create a link to a result.

    Args:
        analysis: one that is done.
        days: after which the link ends.
        shows_filename: whether the shared page shows the name of the file.

    Returns:
        The token of the link's address, which is not stored; None if the result has `MAX_LINKS` links.
    """
    now = datetime.now(UTC)
    db.session.execute(delete(ShareLink).where(ShareLink.expires_at <= now))
    token = None
    if len(links_of(analysis.id)) < MAX_LINKS:
        token = secrets.token_urlsafe(SHARE_TOKEN_BYTES)
        link = ShareLink(analysis_id=analysis.id, token_sha256=_hash(token), shows_filename=shows_filename)
        link.created_at, link.expires_at = now, now + timedelta(days=days)
        db.session.add(link)
    db.session.commit()
    return token


def keep_new_link(analysis_id: str, token: str) -> None:
    """Keep the token of a new link in the owner's session until a page has shown it."""
    session[NEW_LINK] = (analysis_id, token)


def take_new_link(analysis_id: str) -> str | None:
    """Return the address of a link that was just created to this result, once; None if there is none."""
    kept_id, token = session.get(NEW_LINK, (None, None))
    if kept_id != analysis_id:
        return None
    del session[NEW_LINK]
    return url_for("sharing.shared", token=token, _external=True)


def links_of(analysis_id: str) -> list[ShareLink]:
    """Return the links to a result that have not ended, the oldest first."""
    valid = select(ShareLink).filter_by(analysis_id=analysis_id).where(ShareLink.expires_at > datetime.now(UTC))
    return list(db.session.scalars(valid.order_by(ShareLink.created_at)))


def revoke_link(analysis_id: str, link_id: str) -> bool:
    """Delete a link to a result; return whether there was one."""
    revoked = delete(ShareLink).filter_by(analysis_id=analysis_id, id=link_id).returning(ShareLink.id)
    is_revoked = db.session.scalar(revoked) is not None
    db.session.commit()
    return is_revoked


def find_shared(token: str) -> tuple[Analysis, ShareLink] | None:
    """Return the result that a link shows; None if the link is unknown, revoked or has ended."""
    found = db.session.execute(
        select(Analysis, ShareLink)
        .join(ShareLink, ShareLink.analysis_id == Analysis.id)
        .where(
            ShareLink.token_sha256 == _hash(token),
            ShareLink.expires_at > datetime.now(UTC),
            Analysis.state == State.DONE,
        )
    ).one_or_none()
    return None if found is None else (found[0], found[1])


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
