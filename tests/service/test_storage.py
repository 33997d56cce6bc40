"""Blobs and the data directory: any operation may fail, and no blob is partially written."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.application.ports.blobs import BlobCorruptError
from service.domain.errors import UnavailableError
from service.infrastructure.blobs.filesystem import FilesystemBlobs
from service.infrastructure.data_directory import DataDirectory, DataDirectoryError

OPERATIONS = [
    (Path, "mkdir"),
    (Path, "open"),
    (os, "fsync"),
    (Path, "replace"),
    (os, "open"),
]


class FailingDisk:
    """Make the n-th of these operations fail with an OSError."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, code: int) -> None:
        self.count, self.at, self.code = 0, at, code
        for holder, name in OPERATIONS:
            patch.setattr(holder, name, self._counted(getattr(holder, name)))

    def _counted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                raise OSError(self.code, os.strerror(self.code))
            return original(*args, **kwargs)

        return operation


@pytest.fixture
def blobs(tmp_path: Path) -> FilesystemBlobs:
    blobs = FilesystemBlobs(tmp_path / "blobs")
    blobs.prepare()
    return blobs


async def test_storing_an_existing_blob_syncs_its_directories(
    blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await blobs.put(b"weights")
    synced = list[int]()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))

    name = await blobs.put(b"weights")

    folders = (blobs.path(name).parent, blobs.path(name).parent.parent)
    assert synced == [folder.stat().st_ino for folder in folders]


@pytest.mark.parametrize(
    ("code", "expected"), [(errno.ENOSPC, "storage_full"), (errno.EIO, "storage_unavailable")]
)
async def test_a_failed_operation_leaves_no_partial_blob(
    blobs: FilesystemBlobs, tmp_path: Path, code: int, expected: str
) -> None:
    data, at, failed = b"weights" * 100, 0, True
    while failed:
        at += 1
        with pytest.MonkeyPatch.context() as patch:
            disk = FailingDisk(patch, at, code)
            try:
                await blobs.put(data + bytes([at]))
                failed = disk.count >= at
            except UnavailableError as error:
                assert error.error_code == expected  # noqa: PT017 - the loop ends when none fails
        assert list((tmp_path / "blobs" / "tmp").iterdir()) == []
        for file in (tmp_path / "blobs").glob("??/*"):
            await blobs.get(file.parent.name + file.name)

    assert at > 5
    assert await blobs.get(await blobs.put(data)) == data


async def test_a_truncated_blob_is_reported_and_can_be_stored_again(blobs: FilesystemBlobs) -> None:
    name = await blobs.put(b"all of it")
    blobs.path(name).write_bytes(b"all")
    with pytest.raises(BlobCorruptError):
        await blobs.get(name)

    assert await blobs.put(b"all of it") == name

    assert await blobs.get(name) == b"all of it"


async def test_a_sweep_removes_only_old_unreferenced_blobs(
    blobs: FilesystemBlobs, tmp_path: Path
) -> None:
    referenced, unreferenced = await blobs.put(b"referenced"), await blobs.put(b"unreferenced")
    (tmp_path / "blobs" / "no").write_text("a file among the folders")

    assert await blobs.sweep({referenced}, grace=60.0) == 0
    assert await blobs.sweep({referenced}, grace=-60.0) == 1

    assert await blobs.get(referenced) == b"referenced"
    with pytest.raises(BlobCorruptError):
        await blobs.get(unreferenced)


async def test_files_of_interrupted_writes_are_removed_on_preparation(
    blobs: FilesystemBlobs, tmp_path: Path
) -> None:
    (tmp_path / "blobs" / "tmp" / "half").write_text("half")
    (tmp_path / "blobs" / "tmp" / "folder").mkdir()

    blobs.prepare()

    assert [file.name for file in (tmp_path / "blobs" / "tmp").iterdir()] == ["folder"]
    await blobs.ping()


@pytest.mark.parametrize("operation", ["get", "ping", "sweep"])
async def test_a_disk_error_is_raised_as_unavailable(
    blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    name = await blobs.put(b"x")

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EIO, "I/O error")

    for method in ("read_bytes", "write_bytes", "iterdir"):
        monkeypatch.setattr(Path, method, fail)

    calls: dict[str, Callable[[], Any]] = {
        "get": lambda: blobs.get(name),
        "ping": blobs.ping,
        "sweep": lambda: blobs.sweep(set(), grace=0.0),
    }
    with pytest.raises(UnavailableError):
        await calls[operation]()


def test_a_data_directory_has_one_holder_and_can_be_released(tmp_path: Path) -> None:
    first, second = DataDirectory(tmp_path / "data"), DataDirectory(tmp_path / "data")
    first.acquire()
    (first.uploads / "half").write_text("half")

    with pytest.raises(DataDirectoryError, match="in use by another server"):
        second.acquire()
    first.release()
    second.acquire()

    assert list(second.uploads.iterdir()) == []
    assert not second.has_orphaned_blobs()
    second.release()
    second.release()
