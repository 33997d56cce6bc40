"""Reads npz and npy files; checks directory and headers before it allocates arrays."""

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
"""Maximum ratio of the decompressed to the compressed size of a large array."""

MIN_INFLATION_CHECK_SIZE: Final = 8_000_000
"""`MAX_INFLATION` applies to arrays with more numbers; a smaller array may be all zeros."""


def read_npz(path: Path, task: Task | None, limits: Limits) -> Table:
    """Return the table of an npz file with the arrays ``inputs`` and ``targets``.

    Raises
    ------
    InvalidRequestError
        If an array is missing, has the wrong dtype or shape, or contains NaN or infinity.
    """
    try:
        with path.open("rb") as file:
            check_end(file)
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if sorted(names) != ["inputs.npy", "targets.npy"]:
                problem = "an npz dataset must contain exactly two arrays, inputs and targets"
                raise InvalidRequestError.at("", "wrong_members", problem)
            max_bytes = limits.table_bytes
            inputs = _member(archive, "inputs", limits, max_bytes)
            targets = _member(archive, "targets", limits, max_bytes - inputs.nbytes)
    except FormatError as error:
        raise MalformedBodyError(str(error)) from error
    except UNREADABLE as error:
        raise MalformedBodyError(f"invalid npz file: {error}") from error
    if inputs.ndim != 2 or not inputs.shape[1]:
        problem = f"inputs must have the shape (rows, columns), got {inputs.shape}"
        raise InvalidRequestError.at("/inputs", "shape_error", problem)
    if targets.ndim not in {1, 2} or len(targets) != len(inputs) or not targets.size:
        problem = (
            f"targets must have the shape ({len(inputs)},) or ({len(inputs)}, outputs), "
            f"got {targets.shape}"
        )
        raise InvalidRequestError.at("/targets", "shape_error", problem)
    columns = [f"x{index}" for index in range(inputs.shape[1])]
    return build_table(inputs, RawTargets(numbers=targets), columns, task, "/targets", limits)


def _member(archive: zipfile.ZipFile, name: str, limits: Limits, max_bytes: int) -> Array:
    """Return an array as float64; check that it fits ``max_bytes`` before it is read."""
    info = archive.getinfo(f"{name}.npy")
    if info.flag_bits & 0x1:
        raise MalformedBodyError("the npz is encrypted")
    with archive.open(info) as file:
        shape, fortran, dtype = read_header(file, name)
        size = math.prod(shape)
        if dtype.kind not in KINDS:
            problem = f"{name} has the dtype {dtype}; expected numbers"
            raise InvalidRequestError.at(f"/{name}", "wrong_kind", problem)
        rows = shape[0] if shape else 0
        if rows > limits.dataset_rows or max(shape[1:], default=1) > limits.dataset_columns:
            raise InvalidRequestError.at(
                f"/{name}", "too_large", f"{name} of shape {shape} is too large"
            )
        compress = min(info.compress_size, Path(str(archive.filename)).stat().st_size)
        grown = size > MIN_INFLATION_CHECK_SIZE and size * dtype.itemsize > MAX_INFLATION * max(
            compress, 1024
        )
        if grown or 8 * size > max_bytes:
            raise InvalidRequestError.at(
                f"/{name}", "too_large", f"{name} of shape {shape} is too large"
            )
        data = file.read(size * dtype.itemsize + 1)
    if len(data) != size * dtype.itemsize:
        raise MalformedBodyError(f"the size of {name} does not match its header")
    values = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    array = np.ascontiguousarray(values, np.float64)
    if not np.isfinite(array).all():
        indices = np.argwhere(~np.isfinite(array))[:MAX_FIELD_ERRORS].tolist()
        field_errors = [_not_finite(name, index) for index in indices]
        raise InvalidRequestError(field_errors[0].detail, field_errors)
    return array


def _not_finite(name: str, index: list[int]) -> FieldError:
    """Return the error for the number at an index."""
    where = tuple(zip(("row", "column"), index, strict=False))
    subscript = "".join(f"[{part}]" for part in index)
    problem = f"{name}{subscript} must be a finite number"
    return FieldError(pointer(name, *index), "not_finite", problem, where)


def rows_of_npy(body: bytes) -> Array:
    """Return the rows of an npy body, (rows, columns) float64; a vector is a single row.

    Raises
    ------
    InvalidRequestError
        If the body is not an npy file, or its size does not match its header.
    """
    stream = io.BytesIO(body)
    try:
        rows = read_array(stream, "the body", len(body))
    except (FormatError, ValueError, EOFError) as error:
        raise InvalidRequestError(f"invalid npy file: {error!s:.200}") from error
    if stream.read(1):
        raise InvalidRequestError("the npy file has extra bytes after its array")
    return np.atleast_2d(rows).astype(np.float64)
