"""Checks, backs up and restores a data directory, also while a server uses it.

SQLite's backup API copies the database as a consistent snapshot during concurrent writes. Blobs are
immutable, so the blobs that the snapshot refers to can be copied after it.
"""

import hashlib
import io
import re
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from service.infrastructure.blobs.filesystem import FilesystemBlobs
from service.infrastructure.data_directory import DATABASE, DataDirectory
from service.infrastructure.database.tables import BLOBS

_BLOB: Final = re.compile(r"blobs/([0-9a-f]{64})")


class BackupError(Exception):
    """The backup file or the data directory cannot be used; the message gives the reason."""


@dataclass(slots=True)
class IntegrityReport:
    """The number of rows and blobs checked, and the problems found."""

    blobs: int = 0
    rows: int = 0
    problems: list[str] = field(default_factory=list)


def check(directory: DataDirectory) -> IntegrityReport:
    """Verify that all referenced blobs exist and match their digests, without writing anything."""
    report = IntegrityReport()
    blobs = FilesystemBlobs(directory.blobs)
    with closing(_open_read_only(directory)) as database:
        verdict = database.execute("PRAGMA integrity_check").fetchone()[0]
        if verdict != "ok":
            report.problems.append(f"{directory.database}: {verdict}")
        checked: dict[str, str | None] = {}
        for row_label, name in _references(database):
            report.rows += 1
            if name not in checked:
                report.blobs += 1
                checked[name] = _blob_problem(blobs.path(name), name)
            if checked[name] is not None:
                report.problems.append(f"{row_label}: {checked[name]}")
    return report


def backup(directory: DataDirectory, target: Path) -> IntegrityReport:
    """Write a consistent copy of the data directory to a tar file, atomically."""
    report = IntegrityReport()
    blobs = FilesystemBlobs(directory.blobs)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        copy, partial = Path(scratch) / DATABASE, Path(scratch) / "partial.tar"
        with (
            closing(_open_read_only(directory)) as source,
            closing(sqlite3.connect(copy)) as database,
        ):
            source.backup(database)
            references = [name for _, name in _references(database)]
        report.rows = len(references)
        with tarfile.open(partial, "w") as archive:
            archive.add(copy, DATABASE)
            for name in sorted(set(references)):
                report.blobs += 1
                try:
                    data = blobs.path(name).read_bytes()
                except OSError as error:
                    report.problems.append(f"blob {name} cannot be read: {error.strerror}")
                    continue
                if hashlib.sha256(data).hexdigest() != name:
                    report.problems.append(
                        f"blob {name} is damaged: its bytes do not match its digest"
                    )
                entry = tarfile.TarInfo(f"blobs/{name}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        partial.replace(target)
    return report


def restore(source: Path, directory: DataDirectory) -> IntegrityReport:
    """Restore a tar file into an empty data directory.

    Raises
    ------
    BackupError
        If the directory contains data, or the file is not a complete backup. No database is then
        written.
    """
    if directory.database.exists() or any(directory.blobs.glob("??/*")):
        raise BackupError(
            f"{directory.root} already contains data; restore into an empty directory"
        )
    blobs = FilesystemBlobs(directory.blobs)
    blobs.prepare()
    restored = directory.database.with_suffix(".restored")
    try:
        for name, data in _members(source):
            if name is None:
                restored.write_bytes(data)
                continue
            path = blobs.path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    except (tarfile.TarError, OSError) as error:
        raise BackupError(f"{source} cannot be read: {error}") from error
    if not restored.exists():
        raise BackupError(f"{source} does not contain a database")
    # The database comes last: a directory without one is recognised as incomplete.
    restored.replace(directory.database)
    return check(directory)


def _members(source: Path) -> Iterator[tuple[str | None, bytes]]:
    """Yield the name and the verified bytes of each blob; the name of the database is None."""
    with tarfile.open(source, "r") as archive:
        for entry in archive:
            file = archive.extractfile(entry)
            match = _BLOB.fullmatch(entry.name)
            if file is None or (match is None and entry.name != DATABASE):
                name = repr(entry.name[:80])
                raise BackupError(f"{source} contains {name}; it is not a neurond backup")
            data = file.read()
            if match is not None and hashlib.sha256(data).hexdigest() != match[1]:
                raise BackupError(f"blob {match[1]} is damaged in {source}")
            yield match and match[1], data


def _open_read_only(directory: DataDirectory) -> sqlite3.Connection:
    """Return a read-only connection."""
    if not directory.database.exists():
        raise BackupError(f"no database found in {directory.root}")
    return sqlite3.connect(f"file:{directory.database}?mode=ro", uri=True)


def _references(database: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Yield a label of each row that refers to a blob, and the name of the blob."""
    database.row_factory = sqlite3.Row
    for column, label in BLOBS.items():
        for row in database.execute(f"SELECT * FROM {column.table.name}"):  # noqa: S608 - constants
            yield label.format(**dict(row)), row[column.name]


def _blob_problem(path: Path, name: str) -> str | None:
    """Return the problem with a blob, or None if it is intact."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return f"blob {name} is missing ({error.strerror})"
    if hashlib.sha256(data).hexdigest() != name:
        return f"blob {name} is damaged: its bytes do not match its digest"
    return None
