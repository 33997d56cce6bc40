"""A disk under a real server that can lose power, and fail at any operation.

`disk.c` intercepts the file operations of the server. It appends every change to a log, in order.
The test appends each acknowledged request to the same log. From the log, `Disk` builds the
directory as a power cut at any moment leaves it: without bytes and names that were not fsynced.
"""

import itertools
import json
import mmap
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("disk.c")
SHORT_WRITE = 0


def compile_library(folder: Path) -> Path:
    """Compile the library, and return its path."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None
    library = folder / "disk.so"
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True)  # noqa: S603 - our own source
    return library


@dataclass
class Operation:
    """A change of a file, or an acknowledged request."""

    op: str
    path: str = ""
    to: str = ""
    ino: int = 0
    at: int = 0
    size: int = 0
    length: int = 0
    data: bytes = b""
    acknowledged: Any = None


class Switch:
    """Configures the library to fail a future change."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(8))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 8)

    def fail(self, at: int, code: int) -> None:
        """Make the `at`-th change from now fail with the errno `code`."""
        self._shared[4:8] = struct.pack("i", code)
        self._shared[0:4] = struct.pack("i", at)

    def heal(self) -> bool:
        """Disable failures, and return True if a change failed."""
        left = int(struct.unpack("i", self._shared[0:4])[0])
        self._shared[0:4] = bytes(4)
        return left <= 0


@dataclass
class Log:
    """The log of changes and acknowledged requests."""

    path: Path

    def acknowledge(self, record: Any) -> None:
        """Append an acknowledged request."""
        line = json.dumps({"op": "acknowledge", "acknowledged": record}) + "\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, line.encode())
        os.close(descriptor)

    def operations(self) -> Iterator[Operation]:
        """Yield the logged operations."""
        with self.path.open("rb") as file:
            while line := file.readline():
                operation = Operation(**json.loads(line))
                operation.data = file.read(operation.size)
                yield operation


@dataclass
class _Node:
    """The bytes of a file, or the names of a directory: current, and durable on the disk."""

    current: Any
    durable: Any
    pending: list[Operation] = field(default_factory=list)


class Disk:
    """The state of a directory after each change.

    Parameters
    ----------
    seed
        None loses everything that was not fsynced. Otherwise each unsynced write survives at
        random, as on a disk with a cache.
    """

    def __init__(self, root: Path, seed: int | None = None) -> None:
        self._root = str(root)
        self._chance = None if seed is None else random.Random(seed)  # noqa: S311 - not for security
        self._numbers = itertools.count(-2, -1)
        self._files: dict[int, _Node] = {}
        self._folders: dict[str, _Node] = {self._root: _Node({}, {})}
        self._folder_of: dict[int, str] = {root.stat().st_ino: self._root}

    def apply(self, operation: Operation) -> None:
        """Apply an operation."""
        getattr(self, f"_{operation.op}")(operation)

    def _create(self, operation: Operation) -> None:
        self._files[operation.ino] = _Node(bytearray(), b"")
        self._name(operation.path, operation.ino)

    def _empty(self, operation: Operation) -> None:
        node = self._files.setdefault(operation.ino, _Node(bytearray(), b""))
        node.pending.append(Operation("cut", length=0))
        node.current = bytearray()

    def _write(self, operation: Operation) -> None:
        node = self._files[operation.ino]
        node.pending.append(operation)
        _patch(node.current, operation)

    def _cut(self, operation: Operation) -> None:
        node = self._files[operation.ino]
        node.pending.append(operation)
        _patch(node.current, operation)

    def _sync(self, operation: Operation) -> None:
        if operation.ino in self._folder_of:
            folder = self._folders[self._folder_of[operation.ino]]
            folder.durable = dict(folder.current)
        else:
            node = self._files[operation.ino]
            node.durable, node.pending = bytes(node.current), []

    def _mkdir(self, operation: Operation) -> None:
        self._folders[operation.path] = _Node({}, {})
        self._folder_of[operation.ino] = operation.path
        self._name(operation.path, -1)

    def _rename(self, operation: Operation) -> None:
        parent, name = os.path.split(operation.path)
        self._name(operation.to, self._folders[parent].current.pop(name))

    def _unlink(self, operation: Operation) -> None:
        parent, name = os.path.split(operation.path)
        self._folders[parent].current.pop(name, None)

    def _acknowledge(self, operation: Operation) -> None:
        pass

    def _name(self, path: str, number: int) -> None:
        parent, name = os.path.split(path)
        self._folders[parent].current[name] = number

    def write_durable_state(self, target: Path) -> None:
        """Write the directory to `target` as a power cut at this moment leaves it."""
        target.mkdir(parents=True)
        self._build(self._root, target)

    def _build(self, folder: str, target: Path) -> None:
        for name, number in self._folders[folder].durable.items():
            if name.endswith("-shm"):  # shared memory, which SQLite creates again
                continue
            if number == -1:
                (target / name).mkdir()
                self._build(f"{folder}/{name}", target / name)
            else:
                (target / name).write_bytes(self._bytes(self._files[number]))

    def _bytes(self, node: _Node) -> bytes:
        if self._chance is None:
            return bytes(node.durable)
        content = bytearray(node.durable)
        for operation in node.pending:
            if self._chance.random() < 0.5:
                _patch(content, operation)
        return bytes(content)


def _patch(content: bytearray, operation: Operation) -> None:
    """Apply a write or a truncation in place."""
    if operation.op == "cut":
        del content[operation.length :]
        content.extend(bytes(operation.length - len(content)))
        return
    if len(content) < operation.at:
        content.extend(bytes(operation.at - len(content)))
    content[operation.at : operation.at + len(operation.data)] = operation.data
