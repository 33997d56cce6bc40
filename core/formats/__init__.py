"""The exchange formats: JSON documents, files, and code; one table for each."""

from collections.abc import Mapping
from typing import Any, Final

from core.errors import FormatError
from core.formats.base import DocumentFormat, Model, Reads, Writes
from core.formats.code import JavaScriptCode, PythonCode
from core.formats.json_format import NativeJson
from core.formats.npz_format import Npz
from core.formats.safetensors_format import Safetensors
from core.formats.seed_json import SeedJson
from core.formats.sklearn_json import SklearnJson

DOCUMENT_FORMATS: Final[tuple[DocumentFormat, ...]] = (NativeJson(), SklearnJson(), SeedJson())
FILE_FORMATS: Final[tuple[Reads, ...]] = (Npz(), Safetensors())
WRITTEN_FORMATS: Final[tuple[Writes, ...]] = (Npz(), Safetensors(), PythonCode(), JavaScriptCode())
"""What a model can be downloaded as, beside the native document."""


def read_document(document: Mapping[str, Any]) -> tuple[str, Model]:
    """Return the name of the document's format, and its model.

    Raises
    ------
    EngineError
        With the path of what does not fit.
    """
    for candidate in DOCUMENT_FORMATS:
        if candidate.recognizes(document):
            return candidate.type, candidate.read(document)
    problem = (
        'neither a neurond-weights document ("format"), nor one of the original ("layers"), nor '
        'the numbers of scikit-learn ("coefs_")'
    )
    raise FormatError(problem)


__all__ = [
    "DOCUMENT_FORMATS",
    "FILE_FORMATS",
    "WRITTEN_FORMATS",
    "Model",
    "Reads",
    "Writes",
    "read_document",
]
