"""Checkpoints that a client asked for."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Tell them from those that are taken anyway."""
    column: sa.Column[bool] = sa.Column(
        "asked", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("checkpoints", column)


def downgrade() -> None:
    """Forget which they were."""
    with op.batch_alter_table("checkpoints") as table:
        table.drop_column("asked")
