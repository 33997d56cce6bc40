"""Bodies of the protocol, for the documentation; `codec` reads and writes them."""

from typing import Annotated, Any, Final

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from service.api.examples import SEVEN


class InputTensor(BaseModel):
    """An input tensor."""

    name: str = Field(description='Name of the input, "input".')
    shape: list[int]
    datatype: str = Field(description="FP32, FP64, BOOL, or an integer type; FP16 as binary data.")
    data: list[Any] | None = Field(None, description="Flat or nested; absent for binary data.")
    parameters: dict[str, Any] | None = None


class OutputChoice(BaseModel):
    """A requested output."""

    name: str = Field(description='"output", or "label" if the network is a classifier.')
    parameters: dict[str, Any] | None = None


class InferRequest(BaseModel):
    """An inference request."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"inputs": [{"name": "input", "shape": [1, 25], "datatype": "FP32", "data": SEVEN}]}
            ]
        }
    )

    id: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: list[InputTensor]
    outputs: list[OutputChoice] | None = None


class OutputTensor(BaseModel):
    """An output tensor."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class InferResponse(BaseModel):
    """An inference response."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class ServerMetadata(BaseModel):
    """The name, version and extensions of the server."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """The name, datatype and shape of a tensor; -1 means any number of rows."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """The inputs and outputs of a network."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class InferError(BaseModel):
    """An error."""

    error: str


FAILURES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": InferError} for status in (400, 401, 403, 404, 413, 415, 429, 503)
}
Version = Annotated[
    str,
    Path(
        description='Version number, alias, "latest" or "live".',
        openapi_examples={"here": {"value": "0"}},
    ),
]
