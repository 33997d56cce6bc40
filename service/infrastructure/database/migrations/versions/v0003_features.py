"""Add the features of networks, and whether the columns of datasets have names."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns; until now, columns without names were called x0, x1, ..."""
    op.add_column("networks", sa.Column("features", sa.JSON(), nullable=True))
    named: sa.Column[bool] = sa.Column(
        "named", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("datasets", named)
    datasets = sa.table("datasets", sa.column("named"), sa.column("columns", sa.JSON()))
    first = sa.cast(datasets.c.columns, sa.Text())
    op.execute(datasets.update().values(named=first.not_like('["x0"%')))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("datasets", "named")
    op.drop_column("networks", "features")
