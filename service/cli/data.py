"""``neurond check``, ``neurond backup``, ``neurond restore`` and ``neurond gc``."""

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Final

import click

from service.bootstrap import collect_garbage, prepare
from service.cli.exits import fail
from service.cli.keys import call_server, require_database
from service.infrastructure import backup as backups
from service.infrastructure.backup import BackupError, IntegrityReport
from service.infrastructure.data_directory import (
    DataDirectory,
    DataDirectoryError,
    DataDirectoryLockedError,
)
from service.infrastructure.database.errors import DatabaseUnusableError
from service.settings import Settings

EXIT_DAMAGED: Final = 1
"""Exit status of a command that found missing or damaged data."""

data_dir = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Directory for all data."
)


def _directory(root: Path | None) -> DataDirectory:
    settings = Settings()
    if settings.database_url is not None:
        fail("the database is PostgreSQL: run pg_dump, then copy the blobs directory")
    return DataDirectory(settings.data_dir if root is None else root)


@click.command()
@data_dir
def check(data_dir: Path | None) -> None:
    """Verify that all referenced blobs exist and match their digests. A server may be running."""
    try:
        _print_report(backups.check(_directory(data_dir)), "no problems found")
    except BackupError as error:
        fail(error)


@click.command()
@data_dir
@click.option("--dry-run", is_flag=True, help="Count only, delete nothing.")
def gc(data_dir: Path | None, *, dry_run: bool) -> None:
    """Delete what its retention period has expired for. A server may be running.

    While a server is running on the data directory, the command calls that server. Set
    NEUROND_API_KEY to an admin key then, unless no key exists.
    """
    settings = Settings() if data_dir is None else Settings(data_dir=data_dir)
    require_database(settings)
    try:
        directory = prepare(settings)
    except DataDirectoryLockedError:
        path = f"/v1/gc?dry_run={str(dry_run).lower()}"
        counts: dict[str, int] = call_server(settings, "POST", path)["deleted"]
    except (DataDirectoryError, DatabaseUnusableError) as error:
        fail(str(error))
    else:
        try:
            counts = asyncio.run(collect_garbage(settings, directory, dry_run=dry_run))
        finally:
            directory.release()
    for kind, count in counts.items():
        click.echo(f"{kind}: {count}{' expired' if dry_run else ' deleted'}")


@click.command()
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@data_dir
def backup(target: Path, data_dir: Path | None) -> None:
    """Write a consistent copy of the data to the tar file TARGET. A server may be running."""
    try:
        report = backups.backup(_directory(data_dir), target.absolute())
        _print_report(report, f"written to {target}")
    except (BackupError, OSError) as error:
        fail(error)


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@data_dir
def restore(source: Path, data_dir: Path | None) -> None:
    """Restore the tar file SOURCE into an empty data directory."""
    directory = _directory(data_dir)
    is_new = not directory.root.exists()
    try:
        directory.acquire()
        report = backups.restore(source, directory)
    except (BackupError, DataDirectoryError) as error:
        if is_new:
            shutil.rmtree(directory.root, ignore_errors=True)
        fail(error)
    finally:
        directory.release()
    _print_report(report, f"restored to {directory.root}")


def _print_report(report: IntegrityReport, success: str) -> None:
    """Print a report, and exit with `EXIT_DAMAGED` if it lists problems."""
    for problem in report.problems:
        click.echo(f"neurond: {problem}", err=True)
    if report.problems:
        sys.exit(EXIT_DAMAGED)
    click.echo(f"{report.rows} rows and {report.blobs} blobs, {success}")
