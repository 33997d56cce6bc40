"""Checks, backs up and restores a data directory, also while a server uses it.

SQLite's backup API copies the database as a consistent snapshot during concurrent writes. Blobs are
immutable, so the blobs that the snapshot refers to can be copied after it.
"""

import hashlib
import io
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from service.infrastructure.blobs.filesystem import FilesystemBlobs
from service.infrastructure.data_directory import DATABASE, DataDirectory
from service.infrastructure.database.tables import BLOBS

CHUNK_BYTES: Final = 1 << 20
DIGEST: Final = re.compile("[0-9a-f]{64}")
TABLES: Final = "SELECT name FROM sqlite_master WHERE type = 'table'"
PROGRAMS: Final = "SELECT name FROM sqlite_master WHERE type IN ('view', 'trigger')"
"""Programs of a database; the database of neurond has none."""

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
                problem = _blob_problem(blobs.path(name), name)
                if problem is not None:
                    report.problems.append(f"{problem}; the backup is complete except for it")
                    continue
                report.blobs += 1
                data = blobs.path(name).read_bytes()
                entry = tarfile.TarInfo(f"blobs/{name}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        partial.replace(target)
    return report


def restore(source: Path, directory: DataDirectory) -> IntegrityReport:
    """Restore a tar file into an empty data directory.

    All files are written to a temporary directory in the data directory, and renamed at the end, so
    that a restore that fails leaves nothing. A backup of damaged data is restored, and the report
    names what it lacks.

    Raises
    ------
    BackupError
        If the directory contains data, or the file is not a backup.
    """
    if directory.database.exists() or any(directory.blobs.glob("??/*")):
        raise BackupError(
            f"{directory.root} already contains data; restore into an empty directory"
        )
    with tempfile.TemporaryDirectory(prefix="restore-", dir=directory.root) as scratch:
        staging = DataDirectory(Path(scratch))
        blobs = FilesystemBlobs(staging.blobs)
        blobs.prepare()
        try:
            with _BoundedReader(source) as file:
                _extract(file, staging, blobs)
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            raise BackupError(f"{source} cannot be restored: {error}") from error
        if not staging.database.exists():
            raise BackupError(f"{source} does not contain a database")
        try:
            _check_programs(staging)
            report = check(staging)
        except (sqlite3.Error, TypeError, ValueError, KeyError, IndexError) as error:
            raise BackupError(f"{source} contains a database that is damaged: {error}") from error
        if directory.blobs.exists():
            shutil.rmtree(directory.blobs)
        staging.blobs.rename(directory.blobs)
        # The database comes last: a directory without one is recognised as incomplete.
        staging.database.rename(directory.database)
        return report


def _check_programs(directory: DataDirectory) -> None:
    """Raise BackupError if the database contains views or triggers, which could do anything."""
    with closing(_open_read_only(directory)) as database:
        programs = [row[0] for row in database.execute(PROGRAMS)]
    if programs:
        raise BackupError(f"the database contains {programs[0]!r}; it is not one of neurond")


def _extract(file: "_BoundedReader", staging: DataDirectory, blobs: FilesystemBlobs) -> None:
    """Write the members of an archive into a directory, with bounded memory."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for entry in archive:
            match = _BLOB.fullmatch(entry.name)
            if not entry.isreg() or entry.issparse() or (match is None and entry.name != DATABASE):
                name = repr(entry.name[:80])
                raise BackupError(f"the archive contains {name}; it is not a neurond backup")
            path = staging.database if match is None else blobs.path(match[1])
            free = shutil.disk_usage(staging.root).free
            if entry.size > free:
                raise BackupError(f"{entry.name} has {entry.size} bytes, only {free} are free")
            path.parent.mkdir(parents=True, exist_ok=True)
            digest = _copy(archive, entry, path)
            if match is not None and digest != match[1]:
                raise BackupError(f"blob {match[1]} is damaged in the archive")


def _copy(archive: tarfile.TarFile, entry: tarfile.TarInfo, path: Path) -> str:
    """Write a member to a new file, and return its digest."""
    digest = hashlib.sha256()
    content = archive.extractfile(entry)
    with path.open("xb") as target:
        while content is not None and (part := content.read(CHUNK_BYTES)):
            digest.update(part)
            target.write(part)
        target.flush()
        os.fsync(target.fileno())
    if path.stat().st_size != entry.size:
        raise BackupError(f"the archive ends within {entry.name}")
    return digest.hexdigest()


@final
class _BoundedReader(io.FileIO):
    """A file that refuses long reads: an archive may declare headers of gigabytes."""

    def read(self, size: int | None = -1, /) -> bytes | Any:
        """Return bytes; raise BackupError for more than any header or part of a file has."""
        if size is None or not 0 <= size <= CHUNK_BYTES:
            raise BackupError("the archive has a header that is too long; it is not a backup")
        return super().read(size)


def _open_read_only(directory: DataDirectory) -> sqlite3.Connection:
    """Return a read-only connection."""
    if not directory.database.exists():
        raise BackupError(f"no database found in {directory.root}")
    return sqlite3.connect(f"file:{directory.database}?mode=ro", uri=True)


def _references(database: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Yield a label of each row that refers to a blob, and the name of the blob."""
    database.row_factory = sqlite3.Row
    tables = {row["name"] for row in database.execute(TABLES)}
    for column, label in BLOBS.items():
        if column.table.name not in tables:
            raise BackupError(f"the database has no table {column.table.name}")
        for row in database.execute(f"SELECT * FROM {column.table.name}"):  # noqa: S608 - constants
            name = row[column.name]
            if not isinstance(name, str) or not DIGEST.fullmatch(name):
                raise BackupError(f"{label.format(**dict(row))} has an invalid digest")
            yield label.format(**dict(row)), name


def _blob_problem(path: Path, name: str) -> str | None:
    """Return the problem with a blob, or None if it is intact."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return f"blob {name} is missing"
    except OSError as error:
        return f"blob {name} cannot be read: {error.strerror}"
    if digest != name:
        return f"blob {name} is damaged: its bytes do not match its digest"
    return None
