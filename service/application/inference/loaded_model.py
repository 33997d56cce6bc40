"""A version of a network, loaded."""

import time
from dataclasses import dataclass, field
from typing import Any, Final, final

from core.formats import Model
from core.inference import Forward
from service.domain.networks import NetworkRecord

BATCH_SIZES: Final = 64
"""Batch sizes whose runs are counted apart; what comes later counts in the totals alone."""


@final
@dataclass(slots=True)
class InferenceStatistics:
    """What a version was asked so far; durations in nanoseconds.

    Attributes
    ----------
    requests
        Calls that were answered; several may share a forward pass.
    executions
        Forward passes.
    decoding, encoding
        Time spent on bodies, where the protocol asks for it.
    by_batch
        Executions and their duration, decoding and encoding, for each number of rows.
    """

    rows: int = 0
    requests: int = 0
    executions: int = 0
    nanoseconds: int = 0
    decoding: int = 0
    encoding: int = 0
    failures: int = 0
    last_at: float = 0.0
    by_batch: dict[int, list[int]] = field(default_factory=dict)

    def ran(self, rows: int, nanoseconds: int, requests: int) -> None:
        """Count a forward pass."""
        self.rows += rows
        self.requests += requests
        self.executions += 1
        self.nanoseconds += nanoseconds
        self.last_at = time.time()
        batch = self.by_batch.get(rows)
        if batch is not None:
            batch[0] += 1
            batch[1] += nanoseconds
        elif len(self.by_batch) < BATCH_SIZES:
            self.by_batch[rows] = [1, nanoseconds, 0, 0]

    def coded(self, rows: int, decoding: int, encoding: int) -> None:
        """Count the time that bodies around a forward pass took."""
        self.decoding += decoding
        self.encoding += encoding
        batch = self.by_batch.get(rows)
        if batch is not None:
            batch[2] += decoding
            batch[3] += encoding

    def failed(self) -> None:
        """Count a call that was refused."""
        self.failures += 1


@final
@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A version ready to answer.

    Attributes
    ----------
    classes
        Names of the classes; None where the outputs are no probabilities.
    """

    network: NetworkRecord
    version: int
    model: Model
    statistics: InferenceStatistics
    forward: Forward
    classes: list[str] | None
    training: dict[str, Any] | None = None

    @property
    def bytes(self) -> int:
        """About what it takes: the model, and the numbers laid out for products and for a row."""
        return 4 * int(self.model.network.parameters.nbytes) + 8192
