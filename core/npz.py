"""NumPy's npz and npy, looked at before anything is allocated."""

import io
import lzma
import math
import struct
import zipfile
import zlib
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy

from core.arrays import Array
from core.errors import FormatError

KINDS: Final = frozenset("fiub")
"""Kinds of dtype that hold numbers."""
MAX_HEADER_BYTES: Final = 4096
MAX_MEMBERS: Final = 1000
MAX_DIRECTORY_BYTES: Final = 256 << 10
END: Final = struct.Struct("<4s4H2LH")
"""Of a zip's end record: signature, numbers of disks and entries, size and offset of the
directory, length of the comment that follows."""
UNREADABLE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    OverflowError,
    ValueError,  # offsets and names that no archive has
)


def read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order and dtype of an npy; the header's length is looked at before it is read.

    Raises
    ------
    FormatError
        When it is no npy, or its header is none.
    """
    magic = file.read(8)
    size_bytes = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}.get(magic)
    if size_bytes is None:
        raise FormatError(f"{name} is no npy file")
    size = file.read(size_bytes)
    length = int.from_bytes(size, "little")
    if length > MAX_HEADER_BYTES:
        raise FormatError(f"{name} has a header of {length} bytes")
    header = io.BytesIO(size + file.read(length))
    read = npy.read_array_header_1_0 if size_bytes == 2 else npy.read_array_header_2_0
    try:
        shape, fortran, dtype = read(header, max_header_size=MAX_HEADER_BYTES)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise FormatError(f"{name} has no npy header: {error}") from error
    if any(type(part) is not int or part < 0 for part in shape):
        raise FormatError(f"{name} has the shape {shape}")
    return shape, fortran, dtype


def read_array(file: IO[bytes], name: str, max_bytes: int) -> Array:
    """Return the array of an npy that takes at most so many bytes."""
    shape, fortran, dtype = read_header(file, name)
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind not in KINDS:
        raise FormatError(f"{name} holds {dtype}; numbers are due")
    if size > max_bytes:
        raise FormatError(f"{name} of shape {shape} is too large")
    data = file.read(size + 1)
    if len(data) != size:
        raise FormatError(f"{name} does not hold as many numbers as its header says")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def read_archive(data: bytes, max_bytes: int) -> dict[str, Array]:
    """Return the arrays of an npz, all together of at most so many bytes.

    Raises
    ------
    FormatError
        When it is no npz, or is larger inside than it may be.
    """
    found: dict[str, Array] = {}
    check_end(io.BytesIO(data))
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            _check_directory(members)
            for info in members:
                name = info.filename.removesuffix(".npy")
                with archive.open(info) as file:
                    found[name] = read_array(file, name[:80], max_bytes)
                max_bytes -= found[name].nbytes
    except FormatError:
        raise
    except UNREADABLE as error:
        raise FormatError(f"this is no npz file: {error!s:.200}") from error
    return found


def check_end(file: IO[bytes]) -> None:
    """Refuse an archive by its end record: its whole directory would be read into memory.

    Raises
    ------
    FormatError
        When there are too many members, or no end.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - END.size - 0xFFFF))
    tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) - place < END.size:
        raise FormatError("this is no npz file: it has no end record")
    _, _, _, _, entries, directory, _, _ = END.unpack_from(tail, place)
    extended = tail[max(0, place - 20) : place].startswith(b"PK\x06\x07")
    if extended or entries > MAX_MEMBERS or directory > MAX_DIRECTORY_BYTES:
        raise FormatError(f"the npz holds more than {MAX_MEMBERS} members")


def _check_directory(members: list[zipfile.ZipInfo]) -> None:
    """Refuse an archive that is no npz by what its directory says."""
    if len(members) > MAX_MEMBERS:
        raise FormatError(f"the npz holds {len(members)} members")
    if any(info.flag_bits & 0x1 for info in members):
        raise FormatError("the npz is encrypted")


def write_archive(arrays: dict[str, Array]) -> bytes:
    """Return an npz, the same bytes for the same arrays."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            with archive.open(entry, "w") as file:
                npy.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getvalue()
