"""Answers to requests with an Idempotency-Key, found by their age."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Let those that are too old be found without looking at all."""
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])


def downgrade() -> None:
    """Look at all again."""
    op.drop_index("ix_idempotency_keys_created_at", "idempotency_keys")
