"""Translates errors of the engine to errors of the service."""

from core.errors import EngineError
from service.domain.errors import FieldError, InvalidRequestError, pointer


def translate_engine_error(error: EngineError, *prefix: str | int) -> InvalidRequestError:
    """Return the service error for an engine error, with a JSON pointer to the invalid value."""
    location = pointer(*prefix, *error.path)
    return InvalidRequestError(str(error), [FieldError(location, _code(error), str(error))])


def _code(error: EngineError) -> str:
    """Return the class name of an error in snake case: ``shape_error`` for ``ShapeError``."""
    name = type(error).__name__
    words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return words.lstrip("_")
