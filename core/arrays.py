"""Array types of the engine, and the validation of arrays that callers pass in."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from core.errors import ConfigurationError, NonFiniteError, ShapeError

Array = npt.NDArray[Any]

DTYPES: Final[dict[str, np.dtype[Any]]] = {"float32": np.dtype("<f4"), "float64": np.dtype("<f8")}


def parse_dtype(name: str) -> np.dtype[Any]:
    """Return the dtype for a name, little-endian as in all stored formats.

    Raises
    ------
    ConfigurationError
        If the name is neither "float32" nor "float64".
    """
    try:
        return DTYPES[name]
    except (KeyError, TypeError):
        problem = f"dtype must be one of {', '.join(DTYPES)}, got {name!r}"
        raise ConfigurationError(problem, path=("dtype",)) from None


def as_rows(values: object, columns: int, dtype: np.dtype[Any], name: str = "inputs") -> Array:
    """Return ``values`` as a finite array of ``dtype``.

    Parameters
    ----------
    values : (rows, columns)
        Any array-like of numbers.
    columns
        Expected number of columns.
    dtype
        The dtype of the result.
    name
        Name of the values in error messages.

    Returns
    -------
    rows : (rows, columns)

    Raises
    ------
    ShapeError
        If ``values`` does not have two dimensions or has another number of columns.
    NonFiniteError
        If a value is not finite, or overflows ``dtype``. The path is (row, column).
    """
    with np.errstate(over="ignore"):  # an overflow becomes infinity, which is rejected below
        rows = np.asarray(values, dtype=dtype)
    if rows.ndim != 2 or rows.shape[1] != columns:
        raise ShapeError(name, expected=(None, columns), got=rows.shape)
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise NonFiniteError(
            f"{name}[{row}][{column}] as {dtype.name}", path=(int(row), int(column))
        )
    return rows
