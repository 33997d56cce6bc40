"""The engine's refusals as the service's."""

from core.errors import EngineError
from service.domain.errors import FieldError, InvalidRequestError, pointer


def translate_engine_error(error: EngineError, *prefix: str | int) -> InvalidRequestError:
    """Return the engine's refusal as the service's, naming the place."""
    place = pointer(*prefix, *error.path)
    return InvalidRequestError(str(error), [FieldError(place, _code(error), str(error))])


def _code(error: EngineError) -> str:
    """Return snake_case of the error's name: ShapeError is shape_error."""
    name = type(error).__name__
    return "".join(f"_{sign.lower()}" if sign.isupper() else sign for sign in name).lstrip("_")
