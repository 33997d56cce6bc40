"""What an exchange format reads and writes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from core.network import Network
from core.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True)
class Model:
    """A network with what belongs to it.

    Attributes
    ----------
    labels
        Names of the classes; None where nobody gave any.
    preprocessing
        What raw rows go through first.
    notes
        What a read document did not carry, and what was assumed.
    """

    network: Network
    labels: tuple[str, ...] | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    notes: tuple[str, ...] = ()


class DocumentFormat(ABC):
    """A format whose files are JSON documents."""

    type: ClassVar[str]

    @abstractmethod
    def recognizes(self, document: Mapping[str, Any]) -> bool:
        """Tell whether the document is meant to be of this format."""

    @abstractmethod
    def read(self, document: Mapping[str, Any]) -> Model:
        """Return the model of a document.

        Raises
        ------
        EngineError
            With the path of what does not fit.
        """


class Writes(Protocol):
    """Something that a model can be downloaded as.

    Attributes
    ----------
    type
        Its name in ``?format=``.
    media_type
        Its name in an Accept header.
    suffix
        Of a file of this format, with the dot.
    """

    type: ClassVar[str]
    media_type: ClassVar[str]
    suffix: ClassVar[str]

    def write(self, model: Model) -> bytes:
        """Return the file, the same bytes for the same model."""


class Reads(Protocol):
    """A format of files, not of JSON documents, that a model can be made of."""

    type: ClassVar[str]
    media_type: ClassVar[str]
    suffix: ClassVar[str]

    def read(self, data: bytes, max_parameters: int) -> Model:
        """Return the model of a file.

        A few kilobytes can stand for any number of parameters, so their bound is held while
        reading.

        Raises
        ------
        EngineError
            When the file is not what its format says, or holds more.
        """
