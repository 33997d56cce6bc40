"""Upgrades the tables to the newest revision with Alembic."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from service.infrastructure.database.errors import DatabaseUnusableError


def script() -> tuple[Config, ScriptDirectory]:
    """Return the Alembic configuration and the migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config, ScriptDirectory.from_config(config)


def upgrade(connection: Any, name: object) -> None:
    """Run the missing migrations on a connection that is in a transaction.

    Raises
    ------
    DatabaseUnusableError
        If the tables are newer than these migrations. The message starts with ``name``.
    """
    config, scripts = script()
    present = MigrationContext.configure(connection).get_current_revision()
    known = {revision.revision for revision in scripts.walk_revisions()}
    if present is not None and present not in known:
        problem = f"{name} was written by a newer version of neurond (revision {present})"
        raise DatabaseUnusableError(problem)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
