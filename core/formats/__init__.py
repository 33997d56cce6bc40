"""The exchange formats; the table below names those that are JSON documents."""

from collections.abc import Mapping
from typing import Any, Final

from core.errors import FormatError
from core.formats.base import DocumentFormat, Model
from core.formats.json_format import NativeJson
from core.formats.seed_json import SeedJson

DOCUMENT_FORMATS: Final[tuple[DocumentFormat, ...]] = (NativeJson(), SeedJson())


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
    problem = 'neither a neurond-weights document ("format") nor one of the original ("layers")'
    raise FormatError(problem)


__all__ = ["DOCUMENT_FORMATS", "Model", "read_document"]
