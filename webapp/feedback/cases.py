"""The table of cases, and how one is stored and withdrawn.

A case that goes with its result relies on the result's own reference to the uploaded file. A case that stays longer
holds a reference of its own.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import ForeignKey, String, delete, select
from sqlalchemy.orm import Mapped, mapped_column, relationship

from webapp import uploads
from webapp.file_removal import DeletedRows, remove_files
from webapp.models import Analysis, Model, Upload, UtcDateTime, db, new_token
from webapp.uploads import FileFacts

CLAIMED_TRUTHS = ("real", "fake")
MAX_NOTE_CHARACTERS = 1000


class FeedbackCase(Model):
    """What a visitor says about one result.

    Attributes:
        result_id: id of the analysis, which may have been deleted since.
        deleted_with: the same id, if the case is deleted together with the result; None if it stays.
        truth: one of `CLAIMED_TRUTHS`, as the visitor says.
        note: how the visitor knows; may be empty.
        media, verdict, probability, model_sha256: of the result.
    """

    __tablename__ = "feedback_case"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_token)
    visitor: Mapped[str] = mapped_column(String(32), index=True)
    result_id: Mapped[str] = mapped_column(String(32), unique=True)
    deleted_with: Mapped[str | None] = mapped_column(ForeignKey("analysis.id", ondelete="CASCADE"), index=True)
    upload_sha256: Mapped[str] = mapped_column(ForeignKey("upload.sha256"), index=True)
    truth: Mapped[str] = mapped_column(String(8))
    note: Mapped[str] = mapped_column(String(MAX_NOTE_CHARACTERS))
    media: Mapped[str] = mapped_column(String(16))
    verdict: Mapped[str] = mapped_column(String(16))
    probability: Mapped[float]
    model_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=lambda: datetime.now(UTC))

    upload: Mapped[Upload] = relationship()


def store_case(analysis: Analysis, *, truth: str, note: str, is_kept: bool) -> None:
    """Store what a visitor says about a result; an earlier case on it is replaced.

    Args:
        analysis: one that is done, of this visitor.
        truth: one of `CLAIMED_TRUTHS`.
        note: at most `MAX_NOTE_CHARACTERS`.
        is_kept: whether the case stays when the result is deleted.
    """
    _remove(FeedbackCase.result_id == analysis.id)
    if is_kept:
        stored = analysis.upload
        uploads.add_reference(FileFacts(stored.sha256, stored.size_bytes, stored.media_type))
    db.session.add(
        FeedbackCase(
            visitor=analysis.visitor,
            result_id=analysis.id,
            deleted_with=None if is_kept else analysis.id,
            upload_sha256=analysis.upload_sha256,
            truth=truth,
            note=note,
            media=analysis.media,
            verdict=analysis.verdict,
            probability=analysis.probability,
            model_sha256=analysis.record["model_sha256"],
        )
    )
    db.session.commit()


def case_on(analysis: Analysis) -> FeedbackCase | None:
    """Return the case on a result; None if there is none."""
    return db.session.scalar(select(FeedbackCase).filter_by(result_id=analysis.id))


def cases_of(visitor: str | None) -> list[FeedbackCase]:
    """Return a visitor's cases, the newest first."""
    newest_first = select(FeedbackCase).filter_by(visitor=visitor).order_by(FeedbackCase.created_at.desc())
    return list(db.session.scalars(newest_first))


def withdraw_case(case_id: str, visitor: str | None) -> bool:
    """Delete a visitor's case, and the file if nothing else refers to it; return whether there was one."""
    sha256 = _remove(FeedbackCase.id == case_id, FeedbackCase.visitor == visitor)
    db.session.commit()
    if sha256 is not None:
        remove_files(DeletedRows([], {sha256}))
    return sha256 is not None


def _remove(*conditions: object) -> str | None:
    """Delete a case in the caller's transaction, which begins with this write; return the hash of its upload."""
    chosen = delete(FeedbackCase).where(*conditions)  # type: ignore[arg-type]
    removed = db.session.execute(chosen.returning(FeedbackCase.upload_sha256, FeedbackCase.deleted_with)).one_or_none()
    if removed is None:
        return None
    if removed.deleted_with is None:
        uploads.drop_references([removed.upload_sha256])
    sha256: str = removed.upload_sha256
    return sha256
