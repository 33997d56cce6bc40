"""Bodies of inference calls."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.api.examples import SEVEN
from service.api.schemas import Body
from service.api.v1.datasets.schemas import Rows, Targets
from service.domain.limits import MAX_WIDTH


class ClassifyRequest(Body):
    """Rows to classify."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inputs": [SEVEN], "top_k": 3}]})

    inputs: Rows = Field(min_length=1, max_length=100_000)
    top_k: int | None = Field(None, ge=1, le=MAX_WIDTH, description="Tell this many best classes.")


class TopBody(BaseModel):
    """One of the most probable classes."""

    label: str
    probability: float


class PredictionBody(BaseModel):
    """What a network says of one row."""

    label: str
    class_index: int
    probability: float
    probabilities: list[float]
    top: list[TopBody] | None = None


class ClassifyBody(BaseModel):
    """The class of each row."""

    network: str
    version: int
    predictions: list[PredictionBody]


class PredictBody(BaseModel):
    """The outputs of each row."""

    network: str
    version: int
    outputs: list[list[float]]


class EvaluateRequest(Body):
    """A dataset to evaluate on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"dataset": "digits-1000"}]})

    dataset: str = Field(max_length=200)


class EvaluateBody(BaseModel):
    """Loss and metrics; classification and regression have their own."""

    model_config = ConfigDict(extra="allow")

    network: str
    version: int
    dataset: str
    task: Literal["classification", "regression"]
    rows: int
    loss: float
    accuracy: float | None = None
    top_3_accuracy: float | None = None
    labels: list[str] | None = None
    confusion_matrix: list[list[int]] | None = Field(None, description="[actual][predicted]")
    per_class: list[dict[str, Any]] | None = None
    mse: float | None = None
    mae: float | None = None
    r2: float | None = None


class GradientCheckRequest(Body):
    """Rows to check on, in the body or of a dataset."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"dataset": "digits-1000", "rows": 8}]}
    )

    inputs: Rows | None = Field(None, min_length=1, max_length=1000)
    targets: Targets | None = Field(None, min_length=1, max_length=1000)
    dataset: Annotated[str, Field(max_length=200)] | None = None
    rows: int = Field(8, ge=1, le=64)

    @model_validator(mode="after")
    def one_source(self) -> "GradientCheckRequest":
        """Demand either rows or a dataset."""
        inline = self.inputs is not None and self.targets is not None
        half = (self.inputs is None) != (self.targets is None)
        if half or inline == (self.dataset is not None):
            message = "give either inputs and targets, or a dataset"
            raise ValueError(message)
        return self


class GradientCheckBody(BaseModel):
    """Backpropagation against central differences."""

    network: str
    version: int
    loss: Any
    rows: int
    tolerance: float
    largest_relative_error: float
    passed: bool
    verdict: Literal["passed", "failed"]
    layers: list[dict[str, Any]]
