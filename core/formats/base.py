"""What an exchange format reads and writes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

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
