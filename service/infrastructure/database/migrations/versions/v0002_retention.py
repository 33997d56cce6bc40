"""Add split versions, demo resources, quotas of keys, and the last number of a version."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns."""
    for table in ("jobs", "checkpoints"):
        op.add_column(table, sa.Column("split_version", sa.Integer(), nullable=True))
    for table in ("jobs", "networks"):
        op.add_column(
            table, sa.Column("demo", sa.Boolean(), nullable=False, server_default=sa.false())
        )
    last = sa.Column("last_number", sa.Integer(), nullable=False, server_default="0")
    op.add_column("networks", last)
    op.execute("UPDATE networks SET last_number = latest_version")
    op.add_column("keys", sa.Column("quotas", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("keys", "quotas")
    op.drop_column("networks", "last_number")
    for table in ("networks", "jobs"):
        op.drop_column(table, "demo")
    for table in ("checkpoints", "jobs"):
        op.drop_column(table, "split_version")
