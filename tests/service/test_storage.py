"""Blobs and the data folder: every operation may fail, and nothing is ever half written."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.application.ports import BlobCorruptError
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


class Fails:
    """Lets the n-th of these operations fail, as a disk would."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, code: int) -> None:
        self.count, self.at, self.code = 0, at, code
        for holder, name in OPERATIONS:
            patch.setattr(holder, name, self._counted(getattr(holder, name)))

    def _counted(self, honest: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                raise OSError(self.code, os.strerror(self.code))
            return honest(*args, **kwargs)

        return operation


@pytest.fixture
def blobs(tmp_path: Path) -> FilesystemBlobs:
    made = FilesystemBlobs(tmp_path / "blobs")
    made.prepare()
    return made


async def test_the_names_of_a_blob_that_is_there_are_made_durable_too(
    blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await blobs.put(b"weights")
    synced = list[int]()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))

    name = await blobs.put(b"weights")

    folders = (blobs.path(name).parent, blobs.path(name).parent.parent)
    assert synced == [folder.stat().st_ino for folder in folders]


@pytest.mark.parametrize(
    ("code", "told"), [(errno.ENOSPC, "storage_full"), (errno.EIO, "storage_unavailable")]
)
async def test_whichever_operation_fails_a_blob_is_whole_or_not_there(
    blobs: FilesystemBlobs, tmp_path: Path, code: int, told: str
) -> None:
    data, at, failed = b"weights" * 100, 0, True
    while failed:
        at += 1
        with pytest.MonkeyPatch.context() as patch:
            fails = Fails(patch, at, code)
            try:
                await blobs.put(data + bytes([at]))
                failed = fails.count >= at
            except UnavailableError as error:
                assert error.error_code == told  # noqa: PT017 - the loop ends when none fails
        assert list((tmp_path / "blobs" / "tmp").iterdir()) == []
        for file in (tmp_path / "blobs").glob("??/*"):
            await blobs.get(file.parent.name + file.name)

    assert at > 5
    assert await blobs.get(await blobs.put(data)) == data


async def test_a_blob_cut_short_by_a_power_cut_is_written_again(blobs: FilesystemBlobs) -> None:
    name = await blobs.put(b"all of it")
    blobs.path(name).write_bytes(b"all")
    with pytest.raises(BlobCorruptError):
        await blobs.get(name)

    assert await blobs.put(b"all of it") == name

    assert await blobs.get(name) == b"all of it"


async def test_a_sweep_takes_what_nothing_refers_to_and_nothing_else(
    blobs: FilesystemBlobs, tmp_path: Path
) -> None:
    kept, lost = await blobs.put(b"kept"), await blobs.put(b"lost")
    (tmp_path / "blobs" / "no").write_text("a file among the folders")

    assert await blobs.sweep({kept}, grace=60.0) == 0
    assert await blobs.sweep({kept}, grace=-60.0) == 1

    assert await blobs.get(kept) == b"kept"
    with pytest.raises(BlobCorruptError):
        await blobs.get(lost)


async def test_what_an_interrupted_write_left_is_removed_at_the_start(
    blobs: FilesystemBlobs, tmp_path: Path
) -> None:
    (tmp_path / "blobs" / "tmp" / "half").write_text("half")
    (tmp_path / "blobs" / "tmp" / "folder").mkdir()

    blobs.prepare()

    assert [file.name for file in (tmp_path / "blobs" / "tmp").iterdir()] == ["folder"]
    await blobs.ping()


@pytest.mark.parametrize("operation", ["get", "ping", "sweep"])
async def test_a_disk_that_fails_is_told_as_such(
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


def test_a_folder_is_held_by_one_and_can_be_given_back(tmp_path: Path) -> None:
    first, second = DataDirectory(tmp_path / "data"), DataDirectory(tmp_path / "data")
    first.acquire()
    (first.uploads / "half").write_text("half")

    with pytest.raises(DataDirectoryError, match="held by another server"):
        second.acquire()
    first.release()
    second.acquire()

    assert list(second.uploads.iterdir()) == []
    assert not second.has_orphaned_blobs()
    second.release()
    second.release()
