"""Parts built from plain documents and described as such: ``{"type": "leaky_relu", ...}``.

The dataclass fields of a part are its configuration; nothing lists them a second time.
"""

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Final, TypeVar

from core.errors import ConfigurationError, UnknownTypeError

P = TypeVar("P")


def build(table: Mapping[str, type[P]], kind: str, config: object) -> P:
    """Return the part that ``config`` describes.

    Parameters
    ----------
    table
        The parts by name.
    kind
        What the table holds, for messages: "activation", "optimizer".
    config
        A name, or a mapping with ``type`` and the part's fields.

    Raises
    ------
    UnknownTypeError
        When the table has no part of that name.
    ConfigurationError
        When a field is missing, unknown, of the wrong kind or out of range.
    """
    given: Mapping[str, Any] = config if isinstance(config, Mapping) else {}
    options = dict(given) if isinstance(config, Mapping) else {"type": config}
    name = options.pop("type", None)
    if not isinstance(name, str) or name not in table:
        raise UnknownTypeError(kind, name, table, path=("type",) if "type" in given else ())
    part = table[name]
    known = {field.name: field for field in fields(part)}  # type: ignore[arg-type]
    for key, value in options.items():
        if key not in known:
            allowed = ", ".join(known) or "nothing"
            problem = f"{name} takes {allowed}; {str(key)[:80]!r} is unknown"
            raise ConfigurationError(problem, path=(key,))
        _check_kind(key, str(known[key].type), value)
    for key, field in known.items():
        required = field.default is MISSING and field.default_factory is MISSING
        if required and key not in options:
            raise ConfigurationError(f"{name} needs {key!r}", path=(key,))
    return part(**{key: _as_kind(str(known[key].type), value) for key, value in options.items()})


def describe(part: Any) -> dict[str, Any]:
    """Return the document from which `build` makes an equal part."""
    described: dict[str, Any] = {"type": part.type}
    for field in fields(part):
        described[field.name] = getattr(part, field.name)
    return described


def require(field: str, value: float, *, low: float, high: float = math.inf) -> None:
    """Refuse a number outside [low, high]."""
    if not low <= value <= high:
        span = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise ConfigurationError(f"{field} must be {span}, got {value}", path=(field,))


KINDS: Final = {"bool": "true or false", "int": "a whole number", "float": "a number"}
MAX_SAFE_INTEGER: Final = 2**53 - 1
"""Whole numbers beyond are not the same in every language that speaks JSON."""


def _as_kind(kind: str, value: Any) -> Any:
    """Return a whole number as a float where a float is due, so that equal parts are equal."""
    return float(value) if "float" in kind and isinstance(value, int) else value


def _check_kind(field: str, annotation: str, value: object) -> None:
    """Refuse a value that is not of the annotated kind; a bool is no number."""
    kind = annotation.removeprefix("<class '").removesuffix("'>")
    if kind == "bool":
        fits = isinstance(value, bool)
    elif kind == "int":
        fits = (
            isinstance(value, int)
            and not isinstance(value, bool)
            and abs(value) <= MAX_SAFE_INTEGER
        )
    elif kind == "float":
        fits = (
            isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e308
        )
    else:
        fits = True
    if not fits:
        raise ConfigurationError(
            f"{field} must be {KINDS[kind]}, got {str(value)[:80]!r}", path=(field,)
        )
