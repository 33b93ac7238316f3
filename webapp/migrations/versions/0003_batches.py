"""Batches: several files that were sent together."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "batch",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("visitor", sa.String(32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("refused", sa.JSON, nullable=False),
    )
    op.create_index("ix_batch_visitor_created_at", "batch", ["visitor", "created_at"])
    with op.batch_alter_table("analysis") as analysis:
        analysis.add_column(sa.Column("batch_id", sa.String(32)))
        analysis.add_column(sa.Column("batch_position", sa.Integer, nullable=False, server_default="0"))
        analysis.create_foreign_key("fk_analysis_batch_id_batch", "batch", ["batch_id"], ["id"])
        analysis.create_index("ix_analysis_batch_id", ["batch_id"])


def downgrade() -> None:
    with op.batch_alter_table("analysis") as analysis:
        analysis.drop_index("ix_analysis_batch_id")
        analysis.drop_constraint("fk_analysis_batch_id_batch", type_="foreignkey")
        analysis.drop_column("batch_position")
        analysis.drop_column("batch_id")
    op.drop_table("batch")
