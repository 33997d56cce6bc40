"""NumPy's npz, its directory and headers checked before anything is allocated."""

import io
import math
import zipfile
from pathlib import Path
from typing import Final

import numpy as np

from core.arrays import Array
from core.errors import FormatError
from core.npz import KINDS, UNREADABLE, check_end, read_array, read_header
from service.application.datasets.tables import RawTargets, Table, build_table
from service.domain.datasets import Task
from service.domain.errors import (
    MAX_FIELD_ERRORS,
    FieldError,
    InvalidRequestError,
    MalformedBodyError,
    pointer,
)
from service.domain.limits import Limits

MAX_INFLATION: Final = 200
"""Times that a large member may grow when it is unpacked."""

LARGE: Final = 8_000_000
"""Numbers from which on that is looked at: a smaller array may hold nothing but zeros."""


def read_npz(path: Path, task: Task | None, limits: Limits) -> Table:
    """Return the table of an npz file with the arrays ``inputs`` and ``targets``.

    Raises
    ------
    InvalidRequest
        When an array is missing, of the wrong kind or shape, or holds NaN or infinity.
    """
    try:
        with path.open("rb") as file:
            check_end(file)
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if sorted(names) != ["inputs.npy", "targets.npy"]:
                problem = "an npz dataset holds exactly two arrays, inputs and targets"
                raise InvalidRequestError.at("", "wrong_members", problem)
            left = limits.table_bytes
            inputs = _member(archive, "inputs", limits, left)
            targets = _member(archive, "targets", limits, left - inputs.nbytes)
    except FormatError as error:
        raise MalformedBodyError(str(error)) from error
    except UNREADABLE as error:
        raise MalformedBodyError(f"this is no npz file: {error}") from error
    if inputs.ndim != 2 or not inputs.shape[1]:
        problem = f"inputs must be (rows, columns), got {inputs.shape}"
        raise InvalidRequestError.at("/inputs", "shape_error", problem)
    if targets.ndim not in {1, 2} or len(targets) != len(inputs) or not targets.size:
        problem = (
            f"targets must be ({len(inputs)},) or ({len(inputs)}, outputs), got {targets.shape}"
        )
        raise InvalidRequestError.at("/targets", "shape_error", problem)
    columns = [f"x{index}" for index in range(inputs.shape[1])]
    return build_table(inputs, RawTargets(numbers=targets), columns, task, "/targets", limits)


def _member(archive: zipfile.ZipFile, name: str, limits: Limits, max_bytes: int) -> Array:
    """Return one array as float64 of at most so many bytes, known before it is read."""
    info = archive.getinfo(f"{name}.npy")
    if info.flag_bits & 0x1:
        raise MalformedBodyError("the npz is encrypted")
    with archive.open(info) as file:
        shape, fortran, dtype = read_header(file, name)
        size = math.prod(shape)
        if dtype.kind not in KINDS:
            problem = f"{name} holds {dtype}; numbers are due"
            raise InvalidRequestError.at(f"/{name}", "wrong_kind", problem)
        rows = shape[0] if shape else 0
        if rows > limits.dataset_rows or max(shape[1:], default=1) > limits.dataset_columns:
            raise InvalidRequestError.at(
                f"/{name}", "too_large", f"{name} of shape {shape} is too large"
            )
        compress = min(info.compress_size, Path(str(archive.filename)).stat().st_size)
        grown = size > LARGE and size * dtype.itemsize > MAX_INFLATION * max(compress, 1024)
        if grown or 8 * size > max_bytes:
            raise InvalidRequestError.at(
                f"/{name}", "too_large", f"{name} of shape {shape} is too large"
            )
        data = file.read(size * dtype.itemsize + 1)
    if len(data) != size * dtype.itemsize:
        raise MalformedBodyError(f"{name} does not hold as many numbers as its header says")
    values = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    array = np.ascontiguousarray(values, np.float64)
    if not np.isfinite(array).all():
        places = np.argwhere(~np.isfinite(array))[:MAX_FIELD_ERRORS].tolist()
        field_errors = [_not_finite(name, place) for place in places]
        raise InvalidRequestError(field_errors[0].detail, field_errors)
    return array


def _not_finite(name: str, place: list[int]) -> FieldError:
    """Return what is wrong with one number."""
    where = tuple(zip(("row", "column"), place, strict=False))
    at = "".join(f"[{index}]" for index in place)
    return FieldError(
        pointer(name, *place), "not_finite", f"{name}{at} must be a finite number", where
    )


def rows_of_npy(body: bytes) -> Array:
    """Return the rows of an npy body in float64; a single vector is one row.

    Raises
    ------
    InvalidRequest
        When it is no npy, or does not hold as many numbers as its header says.
    """
    stream = io.BytesIO(body)
    try:
        rows = read_array(stream, "the body", len(body))
    except (FormatError, ValueError, EOFError) as error:
        raise InvalidRequestError(f"the body is no npy file: {error!s:.200}") from error
    if stream.read(1):
        raise InvalidRequestError("bytes follow the array of the npy file")
    return np.atleast_2d(rows).astype(np.float64)
