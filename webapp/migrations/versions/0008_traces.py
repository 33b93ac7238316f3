"""The trace of the request that sent a file: its analysis goes on with it."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    with op.batch_alter_table("analysis") as analysis:
        analysis.add_column(sa.Column("traceparent", sa.String(55)))


def downgrade() -> None:
    with op.batch_alter_table("analysis") as analysis:
        analysis.drop_column("traceparent")
