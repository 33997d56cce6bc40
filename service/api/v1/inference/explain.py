"""Explanations of predictions, and the comparison of two versions."""

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
    """Rows whose predictions to explain."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"inputs": [SEVEN], "method": "integrated_gradients"}]}
    )

    inputs: Rows = Field(min_length=1, max_length=100)
    method: Literal["gradient", "integrated_gradients"] = "integrated_gradients"
    target: str | None = Field(
        None,
        max_length=200,
        description="Label of the class to explain, or index of the output for regression. The "
        "default is the most probable class or the largest output of each row.",
    )


class ExplanationBody(BaseModel):
    """The attributions of one output to the inputs of a row."""

    target: str
    output: float
    attributions: list[float] = Field(description="One number for each input.")
    baseline_output: float | None = Field(
        None, description="Output for the baseline. For integrated gradients only."
    )
    completeness_gap: float | None = Field(
        None,
        description="Part of the output that the attributions do not explain. For integrated "
        "gradients only.",
    )


class ExplainBody(BaseModel):
    """An explanation for each row."""

    network: str
    version: int
    method: str
    explanations: list[ExplanationBody]


class LayerChange(BaseModel):
    """The change of the weights or biases of a layer."""

    layer: int
    parameter: str
    norm_from: float
    norm_to: float
    norm_of_change: float
    largest_change: float
    at: list[int] = Field(description="Index of the largest change.")


class DiffBody(BaseModel):
    """The differences between two versions."""

    model_config = ConfigDict(populate_by_name=True)

    network: str
    from_version: int = Field(alias="from")
    to: int
    layers: list[LayerChange]
    predictions: dict[str, Any] | None = Field(
        None,
        description="Number of rows, number of changed predictions, examples, and changes of the "
        "outputs over the dataset.",
    )


@router.post("/explain", summary="Explain predictions", response_model_exclude_none=True)
async def explain_predictions(
    network: NetworkRef, body: ExplainRequest, services: ServicesDep, tenant: PredictTenant
) -> ExplainBody:
    """Return the attributions of an output to each input, by gradient or integrated gradients."""
    return await _explain(services, tenant, (network, None), body)


@router.post(
    "/versions/{ref}/explain",
    summary="Explain predictions of a version",
    response_model_exclude_none=True,
)
async def explain_predictions_with_version(
    network: NetworkRef,
    ref: VersionRef,
    body: ExplainRequest,
    services: ServicesDep,
    tenant: PredictTenant,
) -> ExplainBody:
    """Return the attributions of an output of a version to each input."""
    return await _explain(services, tenant, (network, ref), body)


async def _explain(
    services: Services, tenant: str, reference: tuple[str, str | None], body: ExplainRequest
) -> ExplainBody:
    model = await services.inference.load(tenant, *reference)
    explanations = await services.explanations.explain(model, body.inputs, body.method, body.target)
    return ExplainBody(
        network=model.network.name,
        version=model.version,
        method=body.method,
        explanations=[ExplanationBody(**asdict(explanation)) for explanation in explanations],
    )


@router.get("/diff", summary="Compare two versions", response_model_exclude_none=True)
async def compare_versions(
    network: NetworkRef,
    services: ServicesDep,
    tenant: ReadTenant,
    from_: Annotated[
        str,
        Query(
            alias="from",
            min_length=1,
            max_length=64,
            description='Version to compare with: number, alias or "latest".',
            openapi_examples={"here": {"value": "0"}},
        ),
    ],
    to: Annotated[
        str,
        Query(
            min_length=1,
            max_length=64,
            description='Version to compare: number, alias or "latest".',
        ),
    ] = "latest",
    dataset: Annotated[
        str | None,
        Query(
            max_length=200,
            description="Id or name of a dataset on whose rows to compare the predictions.",
        ),
    ] = None,
) -> DiffBody:
    """Return the change of the parameters for each layer, and the changed predictions."""
    before = await services.inference.load(tenant, network, from_)
    after = await services.inference.load(tenant, network, to)
    record = None if dataset is None else await services.datasets.get(tenant, dataset)
    changes = await services.explanations.compare(before, after, record)
    return DiffBody.model_validate(
        {"network": before.network.name, "from": before.version, "to": after.version, **changes}
    )
