"""Signs of life of analyses in the background: workers on several machines share the rows."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    with op.batch_alter_table("analysis") as analysis:
        analysis.add_column(sa.Column("seen_at", sa.DateTime(timezone=True)))


def downgrade() -> None:
    with op.batch_alter_table("analysis") as analysis:
        analysis.drop_column("seen_at")
