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


def downgrade() -> None:
    op.drop_table("share_link")
