"""What arrays the engine works on: their types, and the checks at its door."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from core.errors import ConfigurationError, NonFiniteError, ShapeError

Array = npt.NDArray[Any]

DTYPES: Final[dict[str, np.dtype[Any]]] = {"float32": np.dtype("<f4"), "float64": np.dtype("<f8")}


def dtype_named(name: str) -> np.dtype[Any]:
    """Return the dtype of that name, little-endian as in every stored format."""
    try:
        return DTYPES[name]
    except (KeyError, TypeError):
        problem = f"dtype must be one of {', '.join(DTYPES)}, got {name!r}"
        raise ConfigurationError(problem, path=("dtype",)) from None


def as_rows(values: object, columns: int, dtype: np.dtype[Any], what: str = "inputs") -> Array:
    """Return ``values`` as a finite (rows, columns) array of ``dtype``.

    Raises
    ------
    ShapeError
        When ``values`` is no rectangle of that width.
    NonFiniteError
        When a number is not finite, or is too large for ``dtype``.
    """
    with np.errstate(over="ignore"):  # an overflow shows as infinity, which is refused below
        rows = np.asarray(values, dtype=dtype)
    if rows.ndim != 2 or rows.shape[1] != columns:
        raise ShapeError(what, expected=(None, columns), got=rows.shape)
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise NonFiniteError(
            f"{what}[{row}][{column}] as {dtype.name}", path=(int(row), int(column))
        )
    return rows
