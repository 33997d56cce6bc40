"""Build components from configuration dicts such as ``{"type": "leaky_relu", ...}``, and back.

The dataclass fields of a component are its configuration. They are not listed a second time.
"""

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Final, TypeVar

from core.errors import ConfigurationError, UnknownTypeError

P = TypeVar("P")


def build(table: Mapping[str, type[P]], kind: str, config: object) -> P:
    """Return the component for a configuration.

    Parameters
    ----------
    table
        Component classes by name.
    kind
        Name of the table in error messages: "activation", "optimizer".
    config
        A name, or a mapping with ``type`` and the fields of the component.

    Raises
    ------
    UnknownTypeError
        If the table has no component of that name.
    ConfigurationError
        If a field is missing, unknown, of the wrong type or out of range.
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
            allowed = ", ".join(known) or "no fields"
            problem = f"unknown field {str(key)[:80]!r} of {name}; allowed: {allowed}"
            raise ConfigurationError(problem, path=(key,))
        _check_kind(key, str(known[key].type), value)
    for key, field in known.items():
        required = field.default is MISSING and field.default_factory is MISSING
        if required and key not in options:
            raise ConfigurationError(f"{name} requires the field {key!r}", path=(key,))
    return part(**{key: _as_kind(str(known[key].type), value) for key, value in options.items()})


def describe(part: Any) -> dict[str, Any]:
    """Return the configuration from which `build` creates an equal component."""
    config: dict[str, Any] = {"type": part.type}
    for field in fields(part):
        config[field.name] = getattr(part, field.name)
    return config


def require(field: str, value: float, *, low: float, high: float = math.inf) -> None:
    """Raise ConfigurationError if ``value`` is outside [low, high]."""
    if not low <= value <= high:
        span = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise ConfigurationError(f"{field} must be {span}, got {value}", path=(field,))


KINDS: Final = {"bool": "true or false", "int": "an integer", "float": "a number"}
MAX_SAFE_INTEGER: Final = 2**53 - 1
"""Larger integers are not exact in every JSON implementation."""


def _as_kind(kind: str, value: Any) -> Any:
    """Convert an int to float for a float field, so that equal components compare equal."""
    return float(value) if "float" in kind and isinstance(value, int) else value


def _check_kind(field: str, annotation: str, value: object) -> None:
    """Raise ConfigurationError if a value is not of the annotated type. A bool is not a number."""
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
