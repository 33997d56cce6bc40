"""Answers of trained networks."""

from functools import partial

from fastapi import APIRouter, Response

from service.api.dependencies import NetworkRef, Parts, Predictor, Services, VersionRef
from service.api.native.inference import codec
from service.api.native.inference.schemas import (
    ClassifyBody,
    ClassifyRequest,
    EvaluateBody,
    EvaluateRequest,
    GradientCheckBody,
    GradientCheckRequest,
    PredictBody,
)
from service.api.strict import CallRoute
from service.application.predictions import classes_of_served

router = APIRouter(prefix="/v1/networks/{network}", tags=["inference"], route_class=CallRoute)


@router.post("/classify", summary="Classify", response_model=ClassifyBody)
async def classify(
    network: NetworkRef, body: ClassifyRequest, parts: Parts, owner: Predictor
) -> Response:
    """Return the class of each raw row."""
    return await _classify(parts, owner, (network, None), body)


@router.post(
    "/versions/{ref}/classify", summary="Classify by a version", response_model=ClassifyBody
)
async def classify_by_version(
    network: NetworkRef, ref: VersionRef, body: ClassifyRequest, parts: Parts, owner: Predictor
) -> Response:
    """Return the class of each raw row; "live" answers while the network is training."""
    return await _classify(parts, owner, (network, ref), body)


async def _classify(
    parts: Services, owner: str, place: tuple[str, str | None], body: ClassifyRequest
) -> Response:
    served = await parts.inference.served(owner, *place)
    write = partial(codec.classified, served, classes_of_served(served), body.top_k)
    told = await parts.inference.answer(served, body.inputs, write)
    parts.metrics.rows(len(body.inputs))
    return Response(told, media_type="application/json")


@router.post("/predict", summary="Predict", response_model=PredictBody)
async def predict(
    network: NetworkRef, body: ClassifyRequest, parts: Parts, owner: Predictor
) -> Response:
    """Return the outputs for each raw row."""
    return await _predict(parts, owner, (network, None), body)


@router.post("/versions/{ref}/predict", summary="Predict by a version", response_model=PredictBody)
async def predict_by_version(
    network: NetworkRef, ref: VersionRef, body: ClassifyRequest, parts: Parts, owner: Predictor
) -> Response:
    """Return the outputs of a version for each raw row."""
    return await _predict(parts, owner, (network, ref), body)


async def _predict(
    parts: Services, owner: str, place: tuple[str, str | None], body: ClassifyRequest
) -> Response:
    served = await parts.inference.served(owner, *place)
    told = await parts.inference.answer(served, body.inputs, partial(codec.predicted, served))
    parts.metrics.rows(len(body.inputs))
    return Response(told, media_type="application/json")


@router.post("/evaluate", summary="Evaluate", response_model_exclude_none=True)
async def evaluate(
    network: NetworkRef, body: EvaluateRequest, parts: Parts, owner: Predictor
) -> EvaluateBody:
    """Return loss and metrics over a dataset."""
    return await _evaluate(parts, owner, (network, None), body)


@router.post(
    "/versions/{ref}/evaluate", summary="Evaluate a version", response_model_exclude_none=True
)
async def evaluate_version(
    network: NetworkRef, ref: VersionRef, body: EvaluateRequest, parts: Parts, owner: Predictor
) -> EvaluateBody:
    """Return loss and metrics of a version over a dataset."""
    return await _evaluate(parts, owner, (network, ref), body)


async def _evaluate(
    parts: Services, owner: str, place: tuple[str, str | None], body: EvaluateRequest
) -> EvaluateBody:
    served = await parts.inference.served(owner, *place)
    dataset = await parts.datasets.get(owner, body.dataset)
    report = await parts.inference.evaluate(served, dataset)
    return EvaluateBody(
        network=served.network.name, version=served.version, dataset=dataset.name, **report
    )


@router.post("/gradient-check", summary="Check the gradient")
async def gradient_check(
    network: NetworkRef, body: GradientCheckRequest, parts: Parts, owner: Predictor
) -> GradientCheckBody:
    """Hold backpropagation against central differences, in float64."""
    served = await parts.inference.served(owner, network, None)
    if body.dataset is not None:
        dataset = await parts.datasets.get(owner, body.dataset)
        report = await parts.inference.check_gradient(served, dataset, body.rows)
    else:
        report = await parts.inference.check_gradient_rows(
            served, body.inputs or [], body.targets or []
        )
    return GradientCheckBody(network=served.network.name, **report)
