"""The history: whether a score has a meaning, which analysis is repeated, and indexes to search by."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# Reasons of a verdict whose score has a meaning; `detector.reports.was_checked` when this migration was written.
CHECKED_REASONS = {"between_thresholds", "unstable_under_recompression", "too_many_faces"}
INDEXED_COLUMNS = [
    *("visitor", "created_at", "id", "state", "is_checked", "verdict", "media", "probability", "elapsed_ms"),
    "filename",
]
ROWS_AT_ONCE = 100


def upgrade() -> None:
    op.add_column("analysis", sa.Column("is_checked", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("analysis", sa.Column("repeats", sa.String(32)))
    _mark_checked()
    op.create_index("ix_analysis_history", "analysis", INDEXED_COLUMNS)
    op.create_index("ix_analysis_created_at", "analysis", ["created_at"])
    op.drop_index("ix_analysis_visitor_created_at", "analysis")


def downgrade() -> None:
    op.create_index("ix_analysis_visitor_created_at", "analysis", ["visitor", "created_at"])
    op.drop_index("ix_analysis_created_at", "analysis")
    op.drop_index("ix_analysis_history", "analysis")
    with op.batch_alter_table("analysis") as analysis:
        analysis.drop_column("repeats")
        analysis.drop_column("is_checked")


def _mark_checked() -> None:
    """Read the reasons of every stored record, a few records at a time."""
    analysis = sa.table("analysis", sa.column("id"), sa.column("result", sa.JSON), sa.column("is_checked", sa.Boolean))
    connection, last = op.get_bind(), ""
    following = sa.select(analysis.c.id, analysis.c.result).order_by(analysis.c.id).limit(ROWS_AT_ONCE)
    while rows := connection.execute(following.where(analysis.c.id > last)).all():
        checked = [row.id for row in rows if row.result and set(row.result.get("reasons", ())) <= CHECKED_REASONS]
        connection.execute(sa.update(analysis).where(analysis.c.id.in_(checked)).values(is_checked=True))
        last = rows[-1].id
