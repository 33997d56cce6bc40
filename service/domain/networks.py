"""The stored records of networks and their versions."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Origin = Literal["initial", "job", "upload", "import"]
Metadata = dict[str, str | int | float | bool]
"""User-defined keys and values."""


@dataclass(frozen=True, slots=True)
class Version:
    """An immutable set of weights.

    Attributes
    ----------
    weights_sha256
        Digest of the parameters' bytes; it is also the name of their blob.
    preprocessing
        Config of the transformation that raw rows pass through first, or None.
    """

    network_id: str
    number: int
    origin: Origin
    weights_sha256: str
    created_at: datetime
    parent: int | None = None
    job_id: str | None = None
    dataset_sha256: str | None = None
    training: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None
    preprocessing: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NetworkRecord:
    """A named architecture; its weights are added as versions.

    Attributes
    ----------
    labels
        Names of the classes; None until a client or a dataset sets them.
    revision
        Number of changes; used for the ETag.
    demo
        True for a network of a demonstration, which retention deletes.
    features
        Names and kinds of the columns that it reads, in their order; None until a dataset with
        names defines them.
    last_number
        The highest number that a version has had; numbers of deleted versions are not used again.
    """

    id: str
    tenant: str
    name: str
    input_shape: list[int]
    layers: list[dict[str, Any]]
    dtype: str
    seed: int
    parameter_count: int
    created_at: datetime
    labels: list[str] | None = None
    metadata: Metadata = field(default_factory=dict)
    latest_version: int = 0
    aliases: dict[str, int] = field(default_factory=dict)
    revision: int = 1
    demo: bool = False
    last_number: int = 0
    features: list[dict[str, Any]] | None = None

    @property
    def feature_names(self) -> list[str] | None:
        """Names of the features, or None if the network has none."""
        return None if self.features is None else [str(entry["name"]) for entry in self.features]

    @property
    def weights_bytes(self) -> int:
        """Bytes of the weights of a version."""
        return self.parameter_count * (8 if self.dtype == "float64" else 4)

    @property
    def units(self) -> int:
        """Number of outputs."""
        return int(self.layers[-1]["units"])

    @property
    def output_activation(self) -> str:
        """Name of the last layer's activation."""
        activation = self.layers[-1].get("activation", "linear")
        return str(activation["type"] if isinstance(activation, dict) else activation)

    @property
    def classes(self) -> int:
        """Number of classes; 0 if the outputs are not probabilities."""
        if self.output_activation == "sigmoid" and self.units == 1:
            return 2
        return self.units if self.output_activation in {"softmax", "sigmoid"} else 0

    @property
    def effective_labels(self) -> list[str] | None:
        """The labels, or class indices as a default; None for regression."""
        if self.labels is not None or not self.classes:
            return self.labels
        return [str(index) for index in range(self.classes)]

    def config(self) -> dict[str, Any]:
        """Return the config from which the engine builds the network."""
        return {"input_shape": self.input_shape, "layers": self.layers, "dtype": self.dtype}
