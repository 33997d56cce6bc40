"""Interfaces of the exchange formats."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from core.network import Network
from core.preprocessing import Preprocessing


@dataclass(frozen=True, slots=True)
class Model:
    """A network with its labels and preprocessing.

    Attributes
    ----------
    network
        The network.
    labels
        Names of the classes. None if they are unknown.
    preprocessing
        Preprocessing of raw inputs and targets.
    notes
        For a model that was read: the information missing in its file or document, and the
        assumptions made instead.
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
        """Return True if the document claims to be of this format."""

    @abstractmethod
    def read(self, document: Mapping[str, Any]) -> Model:
        """Return the model of a document.

        Raises
        ------
        EngineError
            If the document violates the format. The path locates the error.
        """


class ModelWriter(Protocol):
    """A format in which a model can be downloaded.

    Attributes
    ----------
    type
        Name of the format in ``?format=``.
    media_type
        Name of the format in an Accept header.
    suffix
        File name suffix, with the dot.
    """

    type: ClassVar[str]
    media_type: ClassVar[str]
    suffix: ClassVar[str]

    def write(self, model: Model) -> bytes:
        """Return the file. Equal models give equal bytes."""


class ModelReader(Protocol):
    """A file format, as opposed to a JSON document, that a model can be read from."""

    type: ClassVar[str]
    media_type: ClassVar[str]
    suffix: ClassVar[str]

    def read(self, data: bytes, max_parameters: int) -> Model:
        """Return the model of a file.

        A few kilobytes can declare any number of parameters, so the limit is checked while reading.

        Parameters
        ----------
        data
            The file.
        max_parameters
            Maximum number of parameters.

        Raises
        ------
        EngineError
            If the file violates the format or has more than ``max_parameters`` parameters.
        """
