"""Bodies of the protocol, for the documentation; `codec` reads and writes them."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from service.api.examples import SEVEN


class PredictRequest(BaseModel):
    """Rows in row form, or all rows as one tensor."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"instances": [SEVEN]}]})

    instances: list[Any] | None = Field(None, description='Rows, or {"input": row} each.')
    inputs: Any = Field(None, description='A tensor, or {"input": tensor}.')
    signature_name: str = "serving_default"


class PredictResponse(BaseModel):
    """The outputs for each row, as `predictions` or `outputs` like the form of the request."""

    predictions: list[list[float]] | None = None
    outputs: list[list[float]] | None = None


class ExamplesRequest(BaseModel):
    """Examples as dictionaries of features."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"examples": [{"input": SEVEN}]}]})

    examples: list[dict[str, Any]]
    context: dict[str, Any] | None = None
    signature_name: str = "serving_default"


class ClassifyResults(BaseModel):
    """For each example a list of [label, score], or one number."""

    results: list[Any]


class ModelNames(BaseModel):
    """The names of the networks."""

    models: list[str]


class KServeError(BaseModel):
    """An error."""

    error: str
