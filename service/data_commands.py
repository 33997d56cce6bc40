"""``neurond check``, ``neurond backup`` and ``neurond restore``."""

import sys
from pathlib import Path
from typing import Final

import click

from service.infrastructure import archive
from service.infrastructure.archive import ArchiveUnusable, Findings
from service.infrastructure.data_folder import DataFolder, FolderUnusable
from service.refusal import refuse
from service.settings import Settings

DAMAGED: Final = 1
data_dir = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Folder that holds everything."
)


def _folder(root: Path | None) -> DataFolder:
    settings = Settings()
    if settings.database_url is not None:
        refuse("the rows are in PostgreSQL: use pg_dump, and copy the folder of blobs after it")
    return DataFolder(settings.data_dir if root is None else root)


@click.command()
@data_dir
def check(data_dir: Path | None) -> None:
    """Look at every row's blob and every blob's digest; also while a server runs."""
    try:
        _tell(archive.check(_folder(data_dir)), "sound")
    except ArchiveUnusable as error:
        refuse(error)


@click.command()
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@data_dir
def backup(target: Path, data_dir: Path | None) -> None:
    """Write one moment of the data into the tar file TARGET; also while a server runs."""
    try:
        _tell(archive.backup(_folder(data_dir), target.absolute()), f"in {target}")
    except (ArchiveUnusable, OSError) as error:
        refuse(error)


@click.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@data_dir
def restore(source: Path, data_dir: Path | None) -> None:
    """Bring the tar file SOURCE back into an empty data folder."""
    folder = _folder(data_dir)
    try:
        folder.take()
        _tell(archive.restore(source, folder), f"restored into {folder.root}")
    except (ArchiveUnusable, FolderUnusable) as error:
        refuse(error)
    finally:
        folder.release()


def _tell(findings: Findings, good: str) -> None:
    """Say what was found, and end with a status that says it too."""
    for problem in findings.problems:
        click.echo(f"neurond: {problem}", err=True)
    if findings.problems:
        sys.exit(DAMAGED)
    click.echo(f"{findings.rows} rows and {findings.blobs} blobs, {good}")
