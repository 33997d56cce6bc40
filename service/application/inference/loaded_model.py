"""A loaded version of a network and its statistics."""

import time
from dataclasses import dataclass, field
from typing import Any, Final, final

from core.formats import Model
from core.inference import Forward
from service.domain.networks import NetworkRecord

MAX_BATCH_SIZES: Final = 64
"""Batch sizes that are counted separately; further sizes count only in the totals."""


@final
@dataclass(slots=True)
class InferenceStatistics:
    """Inference statistics of a version since the server started.

    Attributes
    ----------
    rows
        Rows of all forward passes.
    requests
        Successful requests; several requests may share a forward pass.
    executions
        Forward passes.
    nanoseconds
        Time spent on forward passes.
    decoding, encoding
        Nanoseconds spent on bodies, for protocols that report it.
    failures
        Rejected requests.
    last_at
        Unix time of the last forward pass.
    by_batch
        Executions, and nanoseconds of execution, decoding and encoding, for each number of rows.
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
        elif len(self.by_batch) < MAX_BATCH_SIZES:
            self.by_batch[rows] = [1, nanoseconds, 0, 0]

    def coded(self, rows: int, decoding: int, encoding: int) -> None:
        """Count the nanoseconds spent on decoding and encoding the bodies of a forward pass."""
        self.decoding += decoding
        self.encoding += encoding
        batch = self.by_batch.get(rows)
        if batch is not None:
            batch[2] += decoding
            batch[3] += encoding

    def failed(self) -> None:
        """Count a rejected request."""
        self.failures += 1


@final
@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A version in memory, ready for inference.

    Attributes
    ----------
    classes
        Names of the classes; None if the outputs are not probabilities.
    training
        The training config of the version, or None.
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
        """Approximate memory: the model and its copies for batches and for single rows."""
        return 4 * int(self.model.network.parameters.nbytes) + 8192
