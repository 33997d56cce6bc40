"""The stored record of a dataset."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Task = Literal["classification", "regression"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Metadata of a dataset; its rows are stored in a blob.

    Attributes
    ----------
    sha256
        Digest of the stored arrays; it is also the name of their blob.
    named
        True if the rows came with names of their columns; otherwise these are x0, x1, ...
    outputs
        Numbers in a regression target; 1 for classification.
    """

    id: str
    tenant: str
    name: str
    rows: int
    input_shape: list[int]
    task: Task
    columns: list[str]
    outputs: int
    sha256: str
    created_at: datetime
    labels: list[str] | None = None
    class_counts: dict[str, int] | None = None
    hidden: bool = False
    named: bool = False

    @property
    def stored_bytes(self) -> int:
        """Bytes of the stored numbers."""
        return self.rows * (self.input_shape[0] + self.outputs) * 8
