"""The exchange formats: tables of JSON documents, readable files and writable files."""

from collections.abc import Mapping
from typing import Any, Final

from core.errors import FormatError
from core.formats.base import DocumentFormat, Model, ModelReader, ModelWriter
from core.formats.code import JavaScriptCode, PythonCode
from core.formats.json_format import NativeJson
from core.formats.npz_format import Npz
from core.formats.safetensors_format import Safetensors
from core.formats.seed_json import SeedJson
from core.formats.sklearn_json import SklearnJson

DOCUMENT_FORMATS: Final[tuple[DocumentFormat, ...]] = (NativeJson(), SklearnJson(), SeedJson())
FILE_FORMATS: Final[tuple[ModelReader, ...]] = (Npz(), Safetensors())
WRITTEN_FORMATS: Final[tuple[ModelWriter, ...]] = (
    Npz(),
    Safetensors(),
    PythonCode(),
    JavaScriptCode(),
)
"""The formats in which a model can be downloaded, in addition to the native document."""


def read_document(document: Mapping[str, Any]) -> tuple[str, Model]:
    """Detect the format of a document and return the name of the format with the model.

    Raises
    ------
    EngineError
        If the document has no known format, or violates its format. The path locates the error.
    """
    for candidate in DOCUMENT_FORMATS:
        if candidate.recognizes(document):
            return candidate.type, candidate.read(document)
    problem = (
        'unknown document format: expected a neurond-weights document ("format"), one of the '
        'JavaScript original ("layers"), or scikit-learn attributes ("coefs_")'
    )
    raise FormatError(problem)


__all__ = [
    "DOCUMENT_FORMATS",
    "FILE_FORMATS",
    "WRITTEN_FORMATS",
    "Model",
    "ModelReader",
    "ModelWriter",
    "read_document",
]
