"""Request and response bodies of inference operations."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.api.examples import SEVEN
from service.api.schemas import Body
from service.api.v1.datasets.schemas import Rows, Targets
from service.domain.limits import MAX_WIDTH


class ClassifyRequest(Body):
    """Rows to classify or predict."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"inputs": [SEVEN], "top_k": 3}]})

    inputs: Rows = Field(
        min_length=1,
        max_length=100_000,
        description="Raw rows, which a version standardizes: lists of numbers in the order of the "
        "features, or objects by name.",
        json_schema_extra={
            "items": {
                "anyOf": [
                    {"type": "array", "items": {"type": "number"}, "minItems": 1},
                    {"type": "object", "additionalProperties": {"type": "number"}},
                ]
            }
        },
    )
    top_k: int | None = Field(
        None, ge=1, le=MAX_WIDTH, description="Number of most probable classes to return."
    )


class TopBody(BaseModel):
    """One of the most probable classes."""

    label: str
    probability: float


class PredictionBody(BaseModel):
    """The predicted class of one row."""

    label: str
    class_index: int
    probability: float
    probabilities: list[float] = Field(description="One probability for each class.")
    top: list[TopBody] | None = Field(
        None, description="The `top_k` most probable classes, best first."
    )


class ClassifyBody(BaseModel):
    """The predicted class of each row."""

    network: str
    version: int
    predictions: list[PredictionBody]


class PredictBody(BaseModel):
    """The outputs for each row."""

    network: str
    version: int
    outputs: list[list[float]]


class EvaluateRequest(Body):
    """The dataset to evaluate a network on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"dataset": "digits-1000"}]})

    dataset: str = Field(max_length=200, description="Id or name of the dataset.")


class EvaluateBody(BaseModel):
    """Loss and metrics; classification and regression have different metrics."""

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
    confusion_matrix: list[list[int]] | None = Field(
        None, description="Number of rows, indexed by [actual class][predicted class]."
    )
    per_class: list[dict[str, Any]] | None = None
    mse: float | None = None
    mae: float | None = None
    r2: float | None = None


class GradientCheckRequest(Body):
    """The rows to check the gradient on: either in the body, or from a dataset."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"dataset": "digits-1000", "rows": 8}]}
    )

    inputs: Rows | None = Field(None, min_length=1, max_length=1000)
    targets: Targets | None = Field(None, min_length=1, max_length=1000)
    dataset: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="Id or name of the dataset."
    )
    rows: int = Field(8, ge=1, le=64, description="Number of rows to use from the dataset.")

    @model_validator(mode="after")
    def check_source(self) -> "GradientCheckRequest":
        """Raise ValueError unless there is exactly one source of rows."""
        inline = self.inputs is not None and self.targets is not None
        incomplete = (self.inputs is None) != (self.targets is None)
        if incomplete or inline == (self.dataset is not None):
            message = "expected either inputs and targets, or a dataset"
            raise ValueError(message)
        return self


class GradientCheckBody(BaseModel):
    """The result of comparing backpropagation with central differences."""

    network: str
    version: int
    loss: Any
    rows: int
    tolerance: float
    largest_relative_error: float
    passed: bool
    verdict: Literal["passed", "failed"]
    layers: list[dict[str, Any]]
