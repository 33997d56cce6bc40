"""``neurond check``, ``neurond backup`` and ``neurond restore``."""

import sys
from pathlib import Path
from typing import Final

import click

from service.cli.exits import fail
from service.infrastructure import backup as archive
from service.infrastructure.backup import BackupError, IntegrityReport
from service.infrastructure.data_directory import DataDirectory, DataDirectoryError
from service.settings import Settings

EXIT_DAMAGED: Final = 1
data_dir = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Folder that holds everything."
)


def _folder(root: Path | None) -> DataDirectory:
    settings = Settings()
    if settings.database_url is not None:
        fail("the rows are in PostgreSQL: use pg_dump, and copy the folder of blobs after it")
    return DataDirectory(settings.data_dir if root is None else root)


@click.command()
@data_dir
def check(data_dir: Path | None) -> None:
    """Look at every row's blob and every blob's digest; also while a server runs."""
    try:
        _tell(archive.check(_folder(data_dir)), "sound")
    except BackupError as error:
        fail(error)


@click.command()
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@data_dir
def backup(target: Path, data_dir: Path | None) -> None:
    """Write one moment of the data into the tar file TARGET; also while a server runs."""
    try:
        _tell(archive.backup(_folder(data_dir), target.absolute()), f"in {target}")
    except (BackupError, OSError) as error:
        fail(error)


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@data_dir
def restore(source: Path, data_dir: Path | None) -> None:
    """Bring the tar file SOURCE back into an empty data folder."""
    folder = _folder(data_dir)
    try:
        folder.acquire()
        _tell(archive.restore(source, folder), f"restored into {folder.root}")
    except (BackupError, DataDirectoryError) as error:
        fail(error)
    finally:
        folder.release()


def _tell(findings: IntegrityReport, good: str) -> None:
    """Say what was found, and end with a status that says it too."""
    for problem in findings.problems:
        click.echo(f"neurond: {problem}", err=True)
    if findings.problems:
        sys.exit(EXIT_DAMAGED)
    click.echo(f"{findings.rows} rows and {findings.blobs} blobs, {good}")
