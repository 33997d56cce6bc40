"""Inference with trained networks: classify, predict, evaluate, check the gradient."""

from fastapi import APIRouter, Response

from service.api.dependencies import NetworkRef, PredictTenant, Services, ServicesDep, VersionRef
from service.api.protocols.base import answered_by_pipeline
from service.api.routing import RowsRoute
from service.api.v1.inference.schemas import (
    ClassifyBody,
    ClassifyRequest,
    EvaluateBody,
    EvaluateRequest,
    GradientCheckBody,
    GradientCheckRequest,
    PredictBody,
)

router = APIRouter(prefix="/v1/networks/{network}", tags=["inference"], route_class=RowsRoute)


@router.post("/classify", summary="Classify rows", response_model=ClassifyBody)
async def classify_rows(
    network: NetworkRef, body: ClassifyRequest, tenant: PredictTenant
) -> Response:
    """Return the class of each raw row."""
    return answered_by_pipeline(network, body, tenant)


@router.post(
    "/versions/{ref}/classify",
    summary="Classify rows with a version",
    response_model=ClassifyBody,
)
async def classify_rows_with_version(
    network: NetworkRef, ref: VersionRef, body: ClassifyRequest, tenant: PredictTenant
) -> Response:
    """Return the class of each raw row; "live" is available while the network is training."""
    return answered_by_pipeline(network, ref, body, tenant)


@router.post("/predict", summary="Predict rows", response_model=PredictBody)
async def predict_rows(
    network: NetworkRef, body: ClassifyRequest, tenant: PredictTenant
) -> Response:
    """Return the outputs for each raw row."""
    return answered_by_pipeline(network, body, tenant)


@router.post(
    "/versions/{ref}/predict",
    summary="Predict rows with a version",
    response_model=PredictBody,
)
async def predict_rows_with_version(
    network: NetworkRef, ref: VersionRef, body: ClassifyRequest, tenant: PredictTenant
) -> Response:
    """Return the outputs of a version for each raw row."""
    return answered_by_pipeline(network, ref, body, tenant)


@router.post("/evaluate", summary="Evaluate a network", response_model_exclude_none=True)
async def evaluate_network(
    network: NetworkRef, body: EvaluateRequest, services: ServicesDep, tenant: PredictTenant
) -> EvaluateBody:
    """Return loss and metrics over a dataset."""
    return await _evaluate(services, tenant, (network, None), body)


@router.post(
    "/versions/{ref}/evaluate", summary="Evaluate a version", response_model_exclude_none=True
)
async def evaluate_version(
    network: NetworkRef,
    ref: VersionRef,
    body: EvaluateRequest,
    services: ServicesDep,
    tenant: PredictTenant,
) -> EvaluateBody:
    """Return loss and metrics of a version over a dataset."""
    return await _evaluate(services, tenant, (network, ref), body)


async def _evaluate(
    services: Services, tenant: str, reference: tuple[str, str | None], body: EvaluateRequest
) -> EvaluateBody:
    model = await services.inference.load(tenant, *reference)
    dataset = await services.datasets.get(tenant, body.dataset)
    report = await services.inference.evaluate(model, dataset)
    return EvaluateBody(
        network=model.network.name, version=model.version, dataset=dataset.name, **report
    )


@router.post("/gradient-check", summary="Check the gradient")
async def check_gradient(
    network: NetworkRef, body: GradientCheckRequest, services: ServicesDep, tenant: PredictTenant
) -> GradientCheckBody:
    """Compare the gradients of backpropagation with central differences, in float64."""
    model = await services.inference.load(tenant, network, None)
    if body.dataset is not None:
        dataset = await services.datasets.get(tenant, body.dataset)
        report = await services.inference.check_gradient(model, dataset, body.rows)
    else:
        report = await services.inference.check_gradient_rows(
            model, body.inputs or [], body.targets or []
        )
    return GradientCheckBody(network=model.network.name, **report)
