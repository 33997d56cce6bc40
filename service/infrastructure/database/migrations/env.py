"""Runs the migrations on the connection passed by `upgrade`."""

from alembic import context

from service.infrastructure.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
