"""Uploads and analyses."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "upload",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("reference_count", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("media_type", sa.String(32), nullable=False),
    )
    op.create_table(
        "analysis",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("visitor", sa.String(32), nullable=False),
        sa.Column("upload_sha256", sa.String(64), sa.ForeignKey("upload.sha256"), nullable=False, index=True),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("sample", sa.String(16)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("media", sa.String(16), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("threshold_real", sa.Double, nullable=False),
        sa.Column("threshold_fake", sa.Double, nullable=False),
        sa.Column("elapsed_ms", sa.Double, nullable=False),
        sa.Column("has_heatmaps", sa.Boolean, nullable=False),
        sa.Column("result", sa.JSON, nullable=False),
    )
    op.create_index("ix_analysis_visitor_created_at", "analysis", ["visitor", "created_at"])


def downgrade() -> None:
    op.drop_table("analysis")
    op.drop_table("upload")
