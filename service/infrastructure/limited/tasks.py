"""The tasks of limited processes."""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, Final

from core.errors import EngineError
from core.formats import FILE_FORMATS, ModelReader
from core.formats.safetensors_format import Safetensors
from service.application.engine_errors import translate_engine_error

Task = Callable[[Mapping[str, Any], bytes], tuple[dict[str, Any], bytes]]
"""Returns the head and the data of the result; raises InvalidRequestError or MemoryError."""


def _model_readers() -> dict[str, ModelReader]:
    """Return the readers of model files by format; they are imported once, by the template."""
    readers: list[ModelReader] = [*FILE_FORMATS]
    if importlib.util.find_spec("onnx") is not None:
        import service.infrastructure.onnx.reader  # noqa: F401, PLC0415 - loaded before the fork
        from service.infrastructure.onnx.format import Onnx  # noqa: PLC0415 - an extra

        readers.append(Onnx())
    return {reader.type: reader for reader in readers}


MODEL_READERS: Final = _model_readers()


def read_model(arguments: Mapping[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    """Read a model file, and return the model as safetensors, which holds all of it but notes."""
    try:
        model = MODEL_READERS[arguments["format"]].read(data, arguments["max_parameters"])
    except EngineError as error:
        raise translate_engine_error(error) from None
    return {"notes": list(model.notes)}, Safetensors().write(model)


TASKS: Final[dict[str, Task]] = {"read_model": read_model}
