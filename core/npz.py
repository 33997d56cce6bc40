"""NumPy's npz and npy, validated before memory is allocated."""

import io
import lzma
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, Any, Final, NamedTuple

import numpy as np
from numpy.lib import format as npy

from core.arrays import Array
from core.errors import FormatError

KINDS: Final = frozenset("fiub")
"""Kinds of numeric dtypes."""
MAX_HEADER_BYTES: Final = 4096
MAX_MEMBERS: Final = 1000
MAX_DIRECTORY_BYTES: Final = 256 << 10
END_RECORD: Final = struct.Struct("<4s4H2LH")
"""End record of a zip archive.

Signature, disk numbers and entry counts, size and offset of the directory, length of the comment.
"""
UNREADABLE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
    OverflowError,
    ValueError,  # invalid offsets and names
)


class Header(NamedTuple):
    """The declaration of an array in a file, before the array is read.

    Attributes
    ----------
    compressed_size
        Bytes of the array in the archive; of a file outside an archive None.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    compressed_size: int | None = None


Check = Callable[[Header], None]
"""Raises if an array must not be read."""


def read_header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the shape, the Fortran order flag and the dtype of an npy file.

    The length of the header is checked before the header is read.

    Raises
    ------
    FormatError
        If the file is not an npy file or has an invalid header.
    """
    magic = file.read(8)
    size_bytes = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}.get(magic)
    if size_bytes is None:
        raise FormatError(f"{name} is not an npy file")
    size = file.read(size_bytes)
    length = int.from_bytes(size, "little")
    if length > MAX_HEADER_BYTES:
        raise FormatError(
            f"{name} has a header of {length} bytes, the maximum is {MAX_HEADER_BYTES}"
        )
    header = io.BytesIO(size + file.read(length))
    read = npy.read_array_header_1_0 if size_bytes == 2 else npy.read_array_header_2_0
    try:
        shape, fortran, dtype = read(header, max_header_size=MAX_HEADER_BYTES)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise FormatError(f"{name} has an invalid npy header: {error}") from error
    if any(type(part) is not int or part < 0 for part in shape):
        raise FormatError(f"{name} has the invalid shape {shape}")
    return shape, fortran, dtype


def read_array(
    file: IO[bytes],
    name: str,
    max_bytes: int,
    check: Check | None = None,
    compressed_size: int | None = None,
) -> Array:
    """Return the array of an npy file.

    Parameters
    ----------
    check
        Called before the array is read.

    Raises
    ------
    FormatError
        If the file is invalid, is not numeric or has more than ``max_bytes`` bytes of data.
    """
    shape, fortran, dtype = read_header(file, name)
    if check is not None:
        check(Header(name, shape, dtype, compressed_size))
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind not in KINDS:
        raise FormatError(f"{name} has the dtype {dtype}, expected a numeric dtype")
    if size > max_bytes:
        raise FormatError(
            f"{name} of shape {shape} has {size} bytes, the remaining maximum is {max_bytes}"
        )
    data = file.read(size + 1)
    if len(data) != size:
        raise FormatError(f"{name} does not have as many values as its header declares")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def read_archive(file: IO[bytes], max_bytes: int, check: Check | None = None) -> dict[str, Array]:
    """Return the arrays of an npz file by name.

    Parameters
    ----------
    file
        A seekable binary file.
    check
        Called before each array is read.

    Raises
    ------
    FormatError
        If the file is not an npz file, or its arrays have more than ``max_bytes`` bytes in total.
    """
    arrays: dict[str, Array] = {}
    check_end(file)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check_directory(members)
            for info in members:
                name = info.filename.removesuffix(".npy")
                with archive.open(info) as member:
                    size = info.compress_size
                    arrays[name] = read_array(member, name[:80], max_bytes, check, size)
                max_bytes -= arrays[name].nbytes
    except FormatError:
        raise
    except UNREADABLE as error:
        raise FormatError(f"not a valid npz file: {error!s:.200}") from error
    return arrays


def check_end(file: IO[bytes]) -> None:
    """Validate the end record of an archive.

    It is checked first, because `zipfile` reads the whole directory into memory.

    Raises
    ------
    FormatError
        If there are too many members, or the end record is missing.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - END_RECORD.size - 0xFFFF))
    tail = file.read()
    position = tail.rfind(b"PK\x05\x06")
    if position < 0 or len(tail) - position < END_RECORD.size:
        raise FormatError("not a valid npz file: the end record is missing")
    _, _, _, _, entries, directory, _, _ = END_RECORD.unpack_from(tail, position)
    extended = tail[max(0, position - 20) : position].startswith(b"PK\x06\x07")
    if extended or entries > MAX_MEMBERS or directory > MAX_DIRECTORY_BYTES:
        raise FormatError(f"the npz file has more than {MAX_MEMBERS} members")


def _check_directory(members: list[zipfile.ZipInfo]) -> None:
    """Raise FormatError if the directory has too many or encrypted members."""
    if len(members) > MAX_MEMBERS:
        raise FormatError(f"the npz file has {len(members)} members, the maximum is {MAX_MEMBERS}")
    if len({info.filename.removesuffix(".npy") for info in members}) != len(members):
        raise FormatError("the npz file repeats a name")
    if any(info.flag_bits & 0x1 for info in members):
        raise FormatError("the npz file is encrypted")


def write_archive(arrays: dict[str, Array]) -> bytes:
    """Return an npz file. Equal arrays give equal bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            with archive.open(entry, "w") as file:
                npy.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getvalue()
