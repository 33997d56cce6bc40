"""Request and response bodies of networks, versions and aliases."""

import math
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from service.api.schemas import Body, Links, Name, Seed, Time, links
from service.application.component_names import ACTIVATION_NAMES, INITIALIZER_NAMES
from service.application.networks.networks import NewNetwork
from service.domain.identifiers import is_plain
from service.domain.limits import MAX_WIDTH
from service.domain.networks import NetworkRecord, Version

DIGITS: dict[str, Any] = {
    "name": "digits",
    "input_shape": [25],
    "layers": [
        {"type": "dense", "units": 32, "activation": "relu"},
        {"type": "dense", "units": 16, "activation": "relu"},
        {"type": "dense", "units": 10, "activation": "softmax"},
    ],
    "labels": list("0123456789"),
}

Label = Annotated[str, Field(min_length=1, max_length=200)]


def _check_text(text: str) -> str:
    """Return a text that every database accepts."""
    if not is_plain(text, allowed="\t\n\r"):
        message = "a text must not contain control characters or lone surrogates"
        raise ValueError(message)
    return text


Text = Annotated[str, AfterValidator(_check_text)]


def _check_metadata(value: object) -> object:
    """Return a metadata value: a text, a finite number, or a boolean."""
    if isinstance(value, str) and len(value) <= MAX_METADATA_LENGTH:
        return _check_text(value)
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) <= 2**53):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    message = (
        f"expected a text of at most {MAX_METADATA_LENGTH} characters, a boolean, an integer "
        "within 2^53, or a finite number"
    )
    raise ValueError(message)


MAX_METADATA_LENGTH: Final = 2000
MetadataValue = Annotated[
    Any,
    AfterValidator(_check_metadata),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "maxLength": MAX_METADATA_LENGTH},
                {"type": "boolean"},
                {"type": "integer", "minimum": -(2**53), "maximum": 2**53},
                {"type": "number"},
            ]
        }
    ),
]
Metadata = Annotated[
    dict[Annotated[Text, Field(max_length=200)], MetadataValue], Field(max_length=64)
]


class ActivationBody(Body):
    """An activation function with its option."""

    type: str = Field(json_schema_extra={"enum": list(ACTIVATION_NAMES)})
    negative_slope: float | None = Field(None, ge=0.0, le=1.0)


class DenseBody(Body):
    """A fully connected layer."""

    type: Literal["dense"]
    units: int = Field(ge=1)
    activation: (
        Annotated[str, Field(json_schema_extra={"enum": list(ACTIVATION_NAMES)})] | ActivationBody
    ) = "linear"
    negative_slope: float | None = Field(None, ge=0.0, le=1.0, description="Option of leaky_relu.")
    initializer: (
        Annotated[str, Field(json_schema_extra={"enum": list(INITIALIZER_NAMES)})] | None
    ) = Field(
        None, description="The default is He for relu and leaky_relu, and Xavier for the others."
    )


class DropoutBody(Body):
    """A layer that sets outputs to zero at random during training."""

    type: Literal["dropout"]
    rate: float = Field(ge=0.0, lt=1.0, description="Probability of a zero.")


LayerBody = Annotated[DenseBody | DropoutBody, Field(discriminator="type")]


class NetworkOptions(Body):
    """Optional properties of a new network."""

    name: Name | None = None
    labels: list[Label] | None = Field(
        None,
        min_length=1,
        max_length=MAX_WIDTH,
        description="Names of the classes. The default is their indices.",
    )
    dtype: Literal["float32", "float64"] | None = Field(
        None, description="Type of the parameters. The default is float32."
    )
    seed: Seed | None = Field(
        None, description="Seed of the initial weights. The default is a random seed."
    )
    metadata: Metadata | None = None
    demo: bool = Field(
        default=False,
        description="True for a demonstration: it is deleted after a week by default, and never "
        "is the default network.",
    )


class CreateNetwork(NetworkOptions):
    """A network to create."""

    model_config = ConfigDict(json_schema_extra={"examples": [DIGITS]})

    input_shape: list[Annotated[int, Field(ge=1)]] = Field(
        min_length=1, max_length=1, description="Number of input columns, as a list of one."
    )
    layers: list[LayerBody] = Field(min_length=1, max_length=1000)

    def new_network(self) -> NewNetwork:
        """Return the network for the use case."""
        return NewNetwork(
            self.input_shape,
            [layer.model_dump(exclude_unset=True) for layer in self.layers],
            self.name,
            self.labels,
            self.dtype or "float32",
            self.seed,
            self.metadata,
            self.demo,
        )


class ChangeNetwork(Body):
    """Changes to a network; null removes a value, and resets the name to the id."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"metadata": {"team": "vision"}}]})

    name: Name | None = None
    labels: list[Label] | None = Field(None, min_length=1, max_length=MAX_WIDTH)
    metadata: Metadata | None = None


class FeatureBody(BaseModel):
    """A column that a network reads."""

    name: str
    kind: str
    required: bool = Field(description="Whether a row must have a value for it.")


class NetworkBody(BaseModel):
    """A network."""

    id: str
    name: str
    input_shape: list[int]
    output_shape: list[int]
    layers: list[dict[str, Any]]
    labels: list[str] | None = Field(description="Null if the outputs are not probabilities.")
    features: list[FeatureBody] | None = Field(
        description="Columns that the network reads, by name; null until a dataset defines them."
    )
    dtype: str
    seed: int
    parameter_count: int
    latest_version: int
    aliases: dict[str, int]
    metadata: dict[str, str | bool | int | float]
    demo: bool
    created_at: Time
    links: Links


class ImportReport(BaseModel):
    """The format of an imported document, and the values it lacked."""

    format: str
    notes: list[str] = Field(description="Missing values, and the assumptions made instead.")


class ImportedBody(NetworkBody):
    """A network that was imported from a document."""

    import_report: ImportReport


class NetworkList(BaseModel):
    """A page of networks, newest first."""

    data: list[NetworkBody]
    has_more: bool


class VersionBody(BaseModel):
    """A version of a network: an immutable set of weights."""

    network: str
    network_id: str
    version: int
    origin: Literal["initial", "job", "upload", "import"]
    parent: int | None
    job: str | None
    dataset_sha256: str | None
    training: dict[str, Any] | None
    metrics: dict[str, Any] | None
    weights_sha256: str
    preprocessing: bool = Field(description="True if raw rows are standardized first.")
    aliases: list[str]
    created_at: Time
    links: Links


class UploadedBody(VersionBody):
    """A version that was uploaded as a document."""

    notes: list[str] = Field(description="Values that the document lacks.")


class CheckedBody(BaseModel):
    """The result of a dry run: the document is compatible with the network."""

    valid: bool = True
    weights_sha256: str
    parameter_count: int
    notes: list[str]


class VersionList(BaseModel):
    """A page of versions, newest first."""

    data: list[VersionBody]
    has_more: bool


class SetAlias(Body):
    """The version that an alias refers to."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"version": 0}]})

    version: int = Field(ge=0, le=2**31 - 1)


def network_path(network: NetworkRecord) -> str:
    """Return the path of a network."""
    return f"/v1/networks/{network.id}"


def network_fields(network: NetworkRecord) -> dict[str, Any]:
    """Return the fields of the response body for a network."""
    return {
        "id": network.id,
        "name": network.name,
        "input_shape": network.input_shape,
        "output_shape": [network.units],
        "layers": network.layers,
        "labels": network.effective_labels,
        "features": network.features,
        "dtype": network.dtype,
        "seed": network.seed,
        "parameter_count": network.parameter_count,
        "latest_version": network.latest_version,
        "aliases": network.aliases,
        "metadata": network.metadata,
        "demo": network.demo,
        "created_at": network.created_at,
        "links": links(
            network_path(network),
            versions="versions",
            weights="weights",
            classify="classify",
            predict="predict",
            evaluate="evaluate",
        ),
    }


def network_body(network: NetworkRecord) -> NetworkBody:
    """Return the response body for a network."""
    return NetworkBody(**network_fields(network))


def version_fields(network: NetworkRecord, version: Version) -> dict[str, Any]:
    """Return the fields of the response body for a version."""
    path = f"{network_path(network)}/versions/{version.number}"
    return {
        "network": network.name,
        "network_id": network.id,
        "version": version.number,
        "origin": version.origin,
        "parent": version.parent,
        "job": version.job_id,
        "dataset_sha256": version.dataset_sha256,
        "training": version.training,
        "metrics": version.metrics,
        "weights_sha256": version.weights_sha256,
        "preprocessing": version.preprocessing is not None,
        "aliases": sorted(
            alias for alias, number in network.aliases.items() if number == version.number
        ),
        "created_at": version.created_at,
        "links": links(path, weights="weights", classify="classify", predict="predict"),
    }


def version_body(network: NetworkRecord, version: Version) -> VersionBody:
    """Return the response body for a version."""
    return VersionBody(**version_fields(network, version))
