"""Answers of trained networks."""

from functools import partial

from fastapi import APIRouter, Response

from service.api.dependencies import NetworkRef, PredictTenant, Services, ServicesDep, VersionRef
from service.api.strict import CallRoute
from service.api.v1.inference import codec
from service.api.v1.inference.schemas import (
    ClassifyBody,
    ClassifyRequest,
    EvaluateBody,
    EvaluateRequest,
    GradientCheckBody,
    GradientCheckRequest,
    PredictBody,
)
from service.application.inference.predictions import class_names_of

router = APIRouter(prefix="/v1/networks/{network}", tags=["inference"], route_class=CallRoute)


@router.post("/classify", summary="Classify", response_model=ClassifyBody)
async def classify(
    network: NetworkRef, body: ClassifyRequest, services: ServicesDep, tenant: PredictTenant
) -> Response:
    """Return the class of each raw row."""
    return await _classify(services, tenant, (network, None), body)


@router.post(
    "/versions/{ref}/classify", summary="Classify by a version", response_model=ClassifyBody
)
async def classify_by_version(
    network: NetworkRef,
    ref: VersionRef,
    body: ClassifyRequest,
    services: ServicesDep,
    tenant: PredictTenant,
) -> Response:
    """Return the class of each raw row; "live" answers while the network is training."""
    return await _classify(services, tenant, (network, ref), body)


async def _classify(
    services: Services, tenant: str, place: tuple[str, str | None], body: ClassifyRequest
) -> Response:
    served = await services.inference.load(tenant, *place)
    write = partial(codec.classified, served, class_names_of(served), body.top_k)
    told = await services.inference.answer(served, body.inputs, write)
    services.metrics.rows(len(body.inputs))
    return Response(told, media_type="application/json")


@router.post("/predict", summary="Predict", response_model=PredictBody)
async def predict(
    network: NetworkRef, body: ClassifyRequest, services: ServicesDep, tenant: PredictTenant
) -> Response:
    """Return the outputs for each raw row."""
    return await _predict(services, tenant, (network, None), body)


@router.post("/versions/{ref}/predict", summary="Predict by a version", response_model=PredictBody)
async def predict_by_version(
    network: NetworkRef,
    ref: VersionRef,
    body: ClassifyRequest,
    services: ServicesDep,
    tenant: PredictTenant,
) -> Response:
    """Return the outputs of a version for each raw row."""
    return await _predict(services, tenant, (network, ref), body)


async def _predict(
    services: Services, tenant: str, place: tuple[str, str | None], body: ClassifyRequest
) -> Response:
    served = await services.inference.load(tenant, *place)
    told = await services.inference.answer(served, body.inputs, partial(codec.predicted, served))
    services.metrics.rows(len(body.inputs))
    return Response(told, media_type="application/json")


@router.post("/evaluate", summary="Evaluate", response_model_exclude_none=True)
async def evaluate(
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
    services: Services, tenant: str, place: tuple[str, str | None], body: EvaluateRequest
) -> EvaluateBody:
    served = await services.inference.load(tenant, *place)
    dataset = await services.datasets.get(tenant, body.dataset)
    report = await services.inference.evaluate(served, dataset)
    return EvaluateBody(
        network=served.network.name, version=served.version, dataset=dataset.name, **report
    )


@router.post("/gradient-check", summary="Check the gradient")
async def gradient_check(
    network: NetworkRef, body: GradientCheckRequest, services: ServicesDep, tenant: PredictTenant
) -> GradientCheckBody:
    """Hold backpropagation against central differences, in float64."""
    served = await services.inference.load(tenant, network, None)
    if body.dataset is not None:
        dataset = await services.datasets.get(tenant, body.dataset)
        report = await services.inference.check_gradient(served, dataset, body.rows)
    else:
        report = await services.inference.check_gradient_rows(
            served, body.inputs or [], body.targets or []
        )
    return GradientCheckBody(network=served.network.name, **report)
