"""Brings tables of an older form to the newest, by the migrations."""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from service.infrastructure.database.errors import DatabaseUnusableError


def script() -> tuple[Config, ScriptDirectory]:
    """Return the migrations."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config, ScriptDirectory.from_config(config)


def upgrade(connection: Any, name: object) -> None:
    """Run what is missing, on a connection in a transaction.

    Raises
    ------
    DatabaseUnusable
        When the tables are newer than these migrations; its text begins with the database's name.
    """
    config, scripts = script()
    present = MigrationContext.configure(connection).get_current_revision()
    known = {revision.revision for revision in scripts.walk_revisions()}
    if present is not None and present not in known:
        problem = f"{name} was written by a newer version of neurond ({present})"
        raise DatabaseUnusableError(problem)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
