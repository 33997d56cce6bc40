"""Bodies of the protocol, for the documentation; `codec` reads and writes them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.api.examples import SEVEN


class PredictRequest(BaseModel):
    """Rows, or one tensor."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"instances": [SEVEN]}]})

    instances: list[Any] | None = Field(None, description='Rows, or {"input": row} each.')
    inputs: Any = Field(None, description='A tensor, or {"input": tensor}.')
    signature_name: str = "serving_default"


class PredictResponse(BaseModel):
    """An output for each row, under the key that matches the form of the request."""

    predictions: list[list[float]] | None = None
    outputs: list[list[float]] | None = None


class ExamplesRequest(BaseModel):
    """Examples with their features."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"examples": [{"input": SEVEN}]}]})

    examples: list[dict[str, Any]]
    context: dict[str, Any] | None = None
    signature_name: str = "serving_default"


class ClassifyResults(BaseModel):
    """A list of [label, score] for each example, or one number."""

    results: list[Any]


class ModelNames(BaseModel):
    """Names of the networks."""

    models: list[str]


class KServeError(BaseModel):
    """An error."""

    error: str
