"""Links with which a result is shared, and cases of feedback."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "share_link",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column(
            "analysis_id", sa.String(32), sa.ForeignKey("analysis.id", ondelete="CASCADE"), nullable=False, index=True
        ),
        sa.Column("token_sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("shows_filename", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False, index=True),
    )
    op.create_table(
        "feedback_case",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("visitor", sa.String(32), nullable=False, index=True),
        sa.Column("result_id", sa.String(32), nullable=False, unique=True),
        sa.Column("deleted_with", sa.String(32), sa.ForeignKey("analysis.id", ondelete="CASCADE"), index=True),
        sa.Column("upload_sha256", sa.String(64), sa.ForeignKey("upload.sha256"), nullable=False, index=True),
        sa.Column("truth", sa.String(8), nullable=False),
        sa.Column("note", sa.String(1000), nullable=False),
        sa.Column("media", sa.String(16), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("model_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("feedback_case")
    op.drop_table("share_link")
