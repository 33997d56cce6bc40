"""Why a network says what it says, and what changed between two versions."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from service.api.dependencies import (
    NetworkRef,
    PredictTenant,
    ReadTenant,
    Services,
    ServicesDep,
    VersionRef,
)
from service.api.examples import SEVEN
from service.api.routing import RowsRoute
from service.api.schemas import Body
from service.api.v1.datasets.schemas import Rows

router = APIRouter(prefix="/v1/networks/{network}", tags=["inference"], route_class=RowsRoute)


class ExplainRequest(Body):
    """Rows to explain."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": [SEVEN], "method": "integrated_gradients"}]}
    )

    inputs: Rows = Field(min_length=1, max_length=100)
    method: Literal["gradient", "integrated_gradients"] = "integrated_gradients"
    target: str | None = Field(
        None,
        max_length=200,
        description="A label, or for regression the number of an output; else the row's own class.",
    )


class ExplanationBody(BaseModel):
    """What each input added to one output."""

    target: str
    output: float
    attributions: list[float]
    baseline_output: float | None = Field(
        None, description="Integrated gradients: the output for the baseline."
    )
    completeness_gap: float | None = Field(
        None, description="Integrated gradients: what the attributions leave unexplained."
    )


class ExplainBody(BaseModel):
    """An explanation of each row."""

    network: str
    version: int
    method: str
    explanations: list[ExplanationBody]


class LayerChange(BaseModel):
    """How far a layer's weights or biases moved."""

    layer: int
    parameter: str
    norm_from: float
    norm_to: float
    norm_of_change: float
    largest_change: float
    at: list[int]


class DiffBody(BaseModel):
    """How two versions differ."""

    model_config = ConfigDict(populate_by_name=True)

    network: str
    from_version: int = Field(alias="from")
    to: int
    layers: list[LayerChange]
    predictions: dict[str, Any] | None = Field(
        None, description="Over the dataset: rows, changed, examples, output changes."
    )


@router.post("/explain", summary="Explain", response_model_exclude_none=True)
async def explain(
    network: NetworkRef, body: ExplainRequest, services: ServicesDep, tenant: PredictTenant
) -> ExplainBody:
    """Tell what each input added to an output, by its gradient or by integrated gradients."""
    return await _explain(services, tenant, (network, None), body)


@router.post(
    "/versions/{ref}/explain", summary="Explain a version", response_model_exclude_none=True
)
async def explain_version(
    network: NetworkRef,
    ref: VersionRef,
    body: ExplainRequest,
    services: ServicesDep,
    tenant: PredictTenant,
) -> ExplainBody:
    """Tell what each input added to an output of a version."""
    return await _explain(services, tenant, (network, ref), body)


async def _explain(
    services: Services, tenant: str, place: tuple[str, str | None], body: ExplainRequest
) -> ExplainBody:
    served = await services.inference.load(tenant, *place)
    found = await services.explanations.explain(served, body.inputs, body.method, body.target)
    return ExplainBody(
        network=served.network.name,
        version=served.version,
        method=body.method,
        explanations=[ExplanationBody(**asdict(explanation)) for explanation in found],
    )


@router.get("/diff", summary="Compare two versions", response_model_exclude_none=True)
async def diff(
    network: NetworkRef,
    services: ServicesDep,
    tenant: ReadTenant,
    from_: Annotated[
        str,
        Query(
            alias="from",
            min_length=1,
            max_length=64,
            description="Number, alias or latest.",
            openapi_examples={"here": {"value": "0"}},
        ),
    ],
    to: Annotated[
        str, Query(min_length=1, max_length=64, description="Number, alias or latest.")
    ] = "latest",
    dataset: Annotated[
        str | None, Query(max_length=200, description="Also compare the answers to its rows.")
    ] = None,
) -> DiffBody:
    """Tell per layer how far the parameters moved, and which predictions changed."""
    one = await services.inference.load(tenant, network, from_)
    other = await services.inference.load(tenant, network, to)
    rows = None if dataset is None else await services.datasets.get(tenant, dataset)
    told = await services.explanations.compare(one, other, rows)
    return DiffBody.model_validate(
        {"network": one.network.name, "from": one.version, "to": other.version, **told}
    )
