"""States of an analysis: there is no verdict until it is done."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

VERDICT_COLUMNS = {
    "verdict": sa.String(16),
    "probability": sa.Double(),
    "threshold_real": sa.Double(),
    "threshold_fake": sa.Double(),
    "elapsed_ms": sa.Double(),
}


def upgrade() -> None:
    _alter_size(sa.Integer, sa.BigInteger)
    with op.batch_alter_table("analysis") as analysis:
        # Until now every upload was analysed at once.
        analysis.add_column(sa.Column("state", sa.String(16), nullable=False, server_default="done"))
        analysis.add_column(sa.Column("progress", sa.Double, nullable=False, server_default="1"))
        analysis.add_column(sa.Column("worker", sa.String(255)))
        analysis.add_column(sa.Column("attempts", sa.Integer, nullable=False, server_default="0"))
        analysis.add_column(sa.Column("error", sa.String(500)))
        for name, kind in VERDICT_COLUMNS.items():
            analysis.alter_column(name, existing_type=kind, nullable=True)
    op.create_index("ix_analysis_state_created_at", "analysis", ["state", "created_at"])


def downgrade() -> None:
    op.drop_index("ix_analysis_state_created_at", "analysis")
    op.execute("DELETE FROM analysis WHERE state <> 'done'")
    with op.batch_alter_table("analysis") as analysis:
        for name, kind in VERDICT_COLUMNS.items():
            analysis.alter_column(name, existing_type=kind, nullable=False)
        for name in ("state", "progress", "worker", "attempts", "error"):
            analysis.drop_column(name)
    _alter_size(sa.BigInteger, sa.Integer)


def _alter_size(before: type[sa.Integer], after: type[sa.Integer]) -> None:
    # SQLite's integers have 8 bytes anyway, and it would rebuild the table, to which the analyses refer.
    if op.get_bind().dialect.name != "sqlite":
        op.alter_column("upload", "size_bytes", existing_type=before, type_=after)
