"""Features: the named columns that a network reads."""

from collections.abc import Sequence
from typing import Any

from service.domain.errors import FieldError, InvalidRequestError


def features_of(columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the features that named columns define."""
    return [{"name": name, "kind": "number", "required": True} for name in columns]


def column_order(
    features: Sequence[str], columns: Sequence[str], location: str
) -> list[int] | None:
    """Return the column of each feature, or None if the columns are the features already.

    Parameters
    ----------
    location
        JSON pointer of the columns, for errors.

    Raises
    ------
    InvalidRequestError
        If a column is missing; the error names it.
    """
    if list(columns) == list(features):
        return None
    at = {name: index for index, name in enumerate(columns)}
    missing = [name for name in features if name not in at]
    if missing:
        problem = f"the column {missing[0][:80]!r}, which the network reads, is missing"
        field_errors = [
            FieldError(location, "missing_column", f"the column {name[:80]!r} is missing")
            for name in missing[:20]
        ]
        raise InvalidRequestError(problem, field_errors)
    return [at[name] for name in features]
