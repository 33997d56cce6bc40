"""Reads npz and npy files; checks directory and headers before it allocates arrays."""

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from core.arrays import Array
from core.errors import FormatError
from core.npz import KINDS, Header, read_archive, read_array
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

NAMES: Final = frozenset({"inputs", "targets"})
WRONG_MEMBERS: Final = "an npz dataset must contain exactly two arrays, inputs and targets"

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
            check = _HeaderCheck(limits, path.stat().st_size)
            arrays = read_archive(file, limits.table_bytes, check)
    except FormatError as error:
        raise MalformedBodyError(str(error)) from error
    if arrays.keys() != NAMES:
        raise InvalidRequestError.at("", "wrong_members", WRONG_MEMBERS)
    inputs, targets = _finite(arrays, "inputs"), _finite(arrays, "targets")
    if inputs.ndim != 2 or not inputs.shape[1]:
        problem = f"inputs must have the shape (rows, columns), got {inputs.shape}"
        raise InvalidRequestError.at("/inputs", "shape_error", problem)
    if targets.ndim not in {1, 2} or len(targets) != len(inputs) or not targets.size:
        problem = (
            f"targets must have the shape ({len(inputs)},) or ({len(inputs)}, outputs), "
            f"got {targets.shape}"
        )
        raise InvalidRequestError.at("/targets", "shape_error", problem)
    return build_table(inputs, RawTargets(numbers=targets), None, task, "/targets", limits)


class _HeaderCheck:
    """Checks the header of each array before the array is read.

    Parameters
    ----------
    file_size
        Bytes of the archive, an upper bound of what an array can be compressed to.
    """

    def __init__(self, limits: Limits, file_size: int) -> None:
        self._limits, self._file_size = limits, file_size
        self._remaining = limits.table_bytes

    def __call__(self, header: Header) -> None:
        """Raise InvalidRequestError if the array is unexpected, not numeric or too large."""
        name, shape, dtype, compressed_size = header
        if name not in NAMES:
            raise InvalidRequestError.at("", "wrong_members", WRONG_MEMBERS)
        if dtype.kind not in KINDS:
            problem = f"{name} has the dtype {dtype}; expected numbers"
            raise InvalidRequestError.at(f"/{name}", "wrong_kind", problem)
        size, limits = math.prod(shape), self._limits
        rows = shape[0] if shape else 0
        columns = max(shape[1:], default=1)
        compressed = max(min(compressed_size or 0, self._file_size), 1024)
        inflated = size * dtype.itemsize > MAX_INFLATION * compressed
        if (
            rows > limits.dataset_rows
            or columns > limits.dataset_columns
            or (inflated and size > MIN_INFLATION_CHECK_SIZE)
            or 8 * size > self._remaining
        ):
            problem = f"{name} of shape {shape} is too large"
            raise InvalidRequestError.at(f"/{name}", "too_large", problem)
        self._remaining -= 8 * size  # as float64


def _finite(arrays: Mapping[str, Array], name: str) -> Array:
    """Return an array as float64; raise InvalidRequestError if a number is not finite."""
    array = np.ascontiguousarray(arrays[name], np.float64)
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
