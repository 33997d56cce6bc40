"""A data folder looked through, copied while it is in use, and brought back.

The database is copied by SQLite's own backup, which gives one moment of it however much is written
meanwhile. Blobs never change, so those that this moment refers to can be copied after it.
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
    """The archive or the folder cannot be used; the message says why."""


@dataclass(slots=True)
class IntegrityReport:
    """What a look through a folder found."""

    blobs: int = 0
    rows: int = 0
    problems: list[str] = field(default_factory=list)


def check(folder: DataDirectory) -> IntegrityReport:
    """Look at every row's blob and every blob's digest; reading alone, also beside a server."""
    findings = IntegrityReport()
    blobs = FilesystemBlobs(folder.blobs)
    with closing(_opened(folder)) as database:
        sound = database.execute("PRAGMA integrity_check").fetchone()[0]
        if sound != "ok":
            findings.problems.append(f"{folder.database}: {sound}")
        looked: dict[str, str | None] = {}
        for what, name in _references(database):
            findings.rows += 1
            if name not in looked:
                findings.blobs += 1
                looked[name] = _wrong(blobs.path(name), name)
            if looked[name] is not None:
                findings.problems.append(f"{what}: {looked[name]}")
    return findings


def backup(folder: DataDirectory, target: Path) -> IntegrityReport:
    """Write one moment of a folder into a tar file, which appears when it is whole."""
    findings = IntegrityReport()
    blobs = FilesystemBlobs(folder.blobs)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        copy, partial = Path(scratch) / DATABASE, Path(scratch) / "partial.tar"
        with closing(_opened(folder)) as source, closing(sqlite3.connect(copy)) as database:
            source.backup(database)
            references = [name for _, name in _references(database)]
        findings.rows = len(references)
        with tarfile.open(partial, "w") as archive:
            archive.add(copy, DATABASE)
            for name in sorted(set(references)):
                findings.blobs += 1
                try:
                    data = blobs.path(name).read_bytes()
                except OSError as error:
                    findings.problems.append(f"blob {name}: {error.strerror}")
                    continue
                if hashlib.sha256(data).hexdigest() != name:
                    findings.problems.append(f"blob {name}: its bytes have changed")
                entry = tarfile.TarInfo(f"blobs/{name}")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        partial.replace(target)
    return findings


def restore(source: Path, folder: DataDirectory) -> IntegrityReport:
    """Bring a tar file back into a folder that holds nothing yet.

    Raises
    ------
    ArchiveUnusable
        When the folder is in use, or the file is no whole backup; the folder is then as it was.
    """
    if folder.database.exists() or any(folder.blobs.glob("??/*")):
        raise BackupError(f"{folder.root} holds data already; restore into an empty folder")
    blobs = FilesystemBlobs(folder.blobs)
    blobs.prepare()
    restored = folder.database.with_suffix(".restored")
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
        raise BackupError(f"{source} holds no database")
    # The database comes last: a folder without one is not taken for a whole one.
    restored.replace(folder.database)
    return check(folder)


def _members(source: Path) -> Iterator[tuple[str | None, bytes]]:
    """Yield each blob's name and bytes, checked; the database has no name."""
    with tarfile.open(source, "r") as archive:
        for entry in archive:
            file = archive.extractfile(entry)
            match = _BLOB.fullmatch(entry.name)
            if file is None or (match is None and entry.name != DATABASE):
                raise BackupError(f"{source} holds {entry.name[:80]!r}: no backup of ours")
            data = file.read()
            if match is not None and hashlib.sha256(data).hexdigest() != match[1]:
                raise BackupError(f"blob {match[1]} is damaged in {source}")
            yield match and match[1], data


def _opened(folder: DataDirectory) -> sqlite3.Connection:
    """Return a connection that only reads."""
    if not folder.database.exists():
        raise BackupError(f"there is no database in {folder.root}")
    return sqlite3.connect(f"file:{folder.database}?mode=ro", uri=True)


def _references(database: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Yield what refers to a blob, and the blob's name."""
    database.row_factory = sqlite3.Row
    for column, told in BLOBS.items():
        for row in database.execute(f"SELECT * FROM {column.table.name}"):  # noqa: S608 - our own
            yield told.format(**dict(row)), row[column.name]


def _wrong(path: Path, name: str) -> str | None:
    """Return what is wrong with a blob."""
    try:
        data = path.read_bytes()
    except OSError as error:
        return f"blob {name} is missing ({error.strerror})"
    if hashlib.sha256(data).hexdigest() != name:
        return f"blob {name} is damaged: its bytes have changed"
    return None
