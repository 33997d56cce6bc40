"""NumPy's npz, its directory and headers checked before anything is allocated."""

import io
import lzma
import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy

from core.arrays import Array
from service.application.dataset_rows import RawTargets, Table, decide
from service.domain.datasets import Task
from service.domain.errors import InvalidRequest, MalformedBody
from service.domain.limits import Limits

KINDS: Final = frozenset("fiub")
MEMBERS: Final = ("inputs", "targets")
MOST_INFLATION: Final = 200
"""Times that a member may grow when it is unpacked; real data stays far below."""
LONGEST_HEADER: Final = 4096
UNREADABLE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    OSError,
)


def read_npz(path: Path, task: Task | None, limits: Limits) -> Table:
    """Return the table of an npz file with the arrays ``inputs`` and ``targets``.

    Raises
    ------
    InvalidRequest
        When an array is missing, of the wrong kind or shape, or holds NaN or infinity.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if sorted(names) != ["inputs.npy", "targets.npy"]:
                problem = "an npz dataset holds exactly two arrays, inputs and targets"
                raise InvalidRequest.at("", "wrong_members", problem)
            inputs, targets = (_member(archive, name, limits) for name in MEMBERS)
    except UNREADABLE as error:
        raise MalformedBody(f"this is no npz file: {error}") from error
    if inputs.ndim != 2 or not inputs.shape[1]:
        problem = f"inputs must be (rows, columns), got {inputs.shape}"
        raise InvalidRequest.at("/inputs", "shape_error", problem)
    if targets.ndim not in {1, 2} or len(targets) != len(inputs) or not targets.size:
        problem = (
            f"targets must be ({len(inputs)},) or ({len(inputs)}, outputs), got {targets.shape}"
        )
        raise InvalidRequest.at("/targets", "shape_error", problem)
    columns = [f"x{index}" for index in range(inputs.shape[1])]
    return decide(inputs, RawTargets(numbers=targets), columns, task, "/targets")


def _member(archive: zipfile.ZipFile, name: str, limits: Limits) -> Array:
    """Return one array as float64; its size is known before it is read."""
    info = archive.getinfo(f"{name}.npy")
    if info.flag_bits & 0x1:
        raise MalformedBody("the npz is encrypted")
    with archive.open(info) as file:
        shape, fortran, dtype = _header(file, name)
        size = math.prod(shape)
        if dtype.kind not in KINDS:
            problem = f"{name} holds {dtype}; numbers are due"
            raise InvalidRequest.at(f"/{name}", "wrong_kind", problem)
        rows = shape[0] if shape else 0
        if rows > limits.dataset_rows or max(shape[1:], default=1) > limits.dataset_columns:
            raise InvalidRequest.at(
                f"/{name}", "too_large", f"{name} of shape {shape} is too large"
            )
        grown = size * dtype.itemsize > MOST_INFLATION * max(info.compress_size, 1024)
        if grown or 8 * size > 2 * limits.dataset_bytes:
            raise InvalidRequest.at(
                f"/{name}", "too_large", f"{name} of shape {shape} is too large"
            )
        data = file.read(size * dtype.itemsize + 1)
    if len(data) != size * dtype.itemsize:
        raise MalformedBody(f"{name} does not hold as many numbers as its header says")
    values = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    array = np.ascontiguousarray(values, np.float64)
    if not np.isfinite(array).all():
        place = "/".join(map(str, np.argwhere(~np.isfinite(array))[0]))
        problem = f"{name} holds NaN or infinity"
        raise InvalidRequest.at(f"/{name}/{place}", "not_finite", problem)
    return array


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order and dtype; the header's length is looked at before it is read."""
    magic = file.read(8)
    size_bytes = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}.get(magic)
    if size_bytes is None:
        raise MalformedBody(f"{name} is no npy file")
    size = file.read(size_bytes)
    length = int.from_bytes(size, "little")
    if length > LONGEST_HEADER:
        raise MalformedBody(f"{name} has a header of {length} bytes")
    header = io.BytesIO(size + file.read(length))
    read = npy.read_array_header_1_0 if size_bytes == 2 else npy.read_array_header_2_0
    try:
        shape, fortran, dtype = read(header, max_header_size=LONGEST_HEADER)
    except (ValueError, SyntaxError, TypeError) as error:
        raise MalformedBody(f"{name} has no npy header: {error}") from error
    if any(type(part) is not int or part < 0 for part in shape):
        raise MalformedBody(f"{name} has the shape {shape}")
    return shape, fortran, dtype
