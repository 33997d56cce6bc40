"""A version of a network, loaded."""

from dataclasses import dataclass
from typing import Any

from core.formats import Model
from service.domain.networks import Network


@dataclass(frozen=True, slots=True)
class Served:
    """A version ready to answer."""

    network: Network
    version: int
    model: Model
    training: dict[str, Any] | None = None

    @property
    def bytes(self) -> int:
        """About what it takes in memory."""
        return int(self.model.network.parameters.nbytes) + 4096
