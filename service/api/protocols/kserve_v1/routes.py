"""The protocol's paths. A model is a network; a label, TensorFlow Serving's alias, is an alias."""

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response

from service.api.body import decode_in_thread_if_large, read_compressed_body
from service.api.dependencies import NetworkRef, PredictTenant, ReadTenant, Services, ServicesDep
from service.api.hot import Array
from service.api.protocols.base import InferenceProtocol, error_text
from service.api.protocols.kserve_v1 import codec
from service.api.protocols.kserve_v1.schemas import (
    ExamplesRequest,
    Failure,
    ModelList,
    PredictRequest,
    PredictResponse,
    Results,
)
from service.application.inference.loaded_model import LoadedModel
from service.application.inference.predictions import class_names_of, probabilities_of
from service.application.ports import Page

FAILURES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": Failure} for status in (400, 401, 403, 404, 413, 415, 429, 503)
}
Version = Annotated[
    str,
    Path(description="Number of a version.", openapi_examples={"here": {"value": "0"}}),
]
Label = Annotated[
    str, Path(description="Alias of a version.", openapi_examples={"here": {"value": "latest"}})
]
Verb = Callable[[Services, LoadedModel, bytes], Coroutine[Any, Any, tuple[bytes, int]]]
"""Returns its answer, and of how many rows."""

router = APIRouter(prefix="/v1/models", tags=["kserve v1"], responses=FAILURES)


async def _predict(services: Services, served: LoadedModel, body: bytes) -> tuple[bytes, int]:
    request = await decode_in_thread_if_large(services.limits, body, codec.decode_predict)
    write = partial(codec.encode_predict, columnar=request.columnar)
    return await services.inference.answer(served, request.rows, write), len(request.rows)


async def _classify(services: Services, served: LoadedModel, body: bytes) -> tuple[bytes, int]:
    labels = class_names_of(served)
    rows = await decode_in_thread_if_large(services.limits, body, codec.decode_examples)

    def write(outputs: Array) -> bytes:
        return codec.encode_classify(probabilities_of(outputs), labels)

    return await services.inference.answer(served, rows, write), len(rows)


async def _regress(services: Services, served: LoadedModel, body: bytes) -> tuple[bytes, int]:
    rows = await decode_in_thread_if_large(services.limits, body, codec.decode_examples)
    return await services.inference.answer(served, rows, codec.encode_regress), len(rows)


VERBS: Final[dict[str, tuple[Verb, type, type]]] = {
    "predict": (_predict, PredictRequest, PredictResponse),
    "classify": (_classify, ExamplesRequest, Results),
    "regress": (_regress, ExamplesRequest, Results),
}


def _declare(verb: str) -> None:
    """Declare a verb for a model, for a version and for a label."""
    call, asked, told = VERBS[verb]
    schema = {"$ref": f"#/components/schemas/{asked.__name__}"}
    extra = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

    async def by_model(
        model: NetworkRef, request: Request, services: ServicesDep, tenant: PredictTenant
    ) -> Response:
        return await _answer(call, request, services, (tenant, model, None))

    async def by_version(
        model: NetworkRef,
        version: Version,
        request: Request,
        services: ServicesDep,
        tenant: PredictTenant,
    ) -> Response:
        return await _answer(call, request, services, (tenant, model, version))

    async def by_label(
        model: NetworkRef,
        label: Label,
        request: Request,
        services: ServicesDep,
        tenant: PredictTenant,
    ) -> Response:
        return await _answer(call, request, services, (tenant, model, label))

    for path, endpoint, what in (
        ("/{model}:", by_model, "a network"),
        ("/{model}/versions/{version}:", by_version, "a version"),
        ("/{model}/labels/{label}:", by_label, "an alias"),
    ):
        router.add_api_route(
            path + verb,
            endpoint,
            methods=["POST"],
            summary=f"{verb.capitalize()} by {what}",
            description=f"TensorFlow Serving's {verb} of {what}.",
            response_model=told,
            openapi_extra=extra,
            name=f"{verb}_{endpoint.__name__}",
        )


for _verb in VERBS:
    _declare(_verb)


async def _answer(
    call: Verb, request: Request, services: Services, place: tuple[str, str, str | None]
) -> Response:
    served = await services.inference.load(*place)
    body = await read_compressed_body(request, services.limits.inference_bytes)
    told, rows = await call(services, served, body)
    services.metrics.rows(rows)
    return Response(told, media_type="application/json")


@router.get("", summary="Which models are there?")
async def list_models(services: ServicesDep, tenant: ReadTenant) -> ModelList:
    """List the names of the networks, newest first, at most 500."""
    return ModelList(
        models=[network.name for network in (await services.networks.page(tenant, Page(500)))[:500]]
    )


@router.get("/{model}", summary="Is a model ready?")
async def model_status(
    model: NetworkRef, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Tell the state in KServe's form and in TensorFlow Serving's at once."""
    return _status(model, await services.inference.load(tenant, model, None))


@router.get("/{model}/versions/{version}", summary="Is a version ready?")
async def version_status(
    model: NetworkRef, version: Version, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Tell the state of a version."""
    return _status(model, await services.inference.load(tenant, model, version))


@router.get("/{model}/labels/{label}", summary="Is an alias ready?")
async def label_status(
    model: NetworkRef, label: Label, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Tell the state of an alias."""
    return _status(model, await services.inference.load(tenant, model, label))


@router.get("/{model}/metadata", summary="What does a model take and give?")
async def model_metadata(
    model: NetworkRef, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Tell the signature."""
    return _metadata(model, await services.inference.load(tenant, model, None))


@router.get("/{model}/versions/{version}/metadata", summary="What does a version take and give?")
async def version_metadata(
    model: NetworkRef, version: Version, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Tell the signature of a version."""
    return _metadata(model, await services.inference.load(tenant, model, version))


def _status(model: str, served: LoadedModel) -> dict[str, Any]:
    sound = {"error_code": "OK", "error_message": ""}
    version = {"version": str(served.version), "state": "AVAILABLE", "status": sound}
    return {"name": model, "ready": True, "model_version_status": [version]}


def _metadata(model: str, served: LoadedModel) -> dict[str, Any]:
    dtype = {"float32": "DT_FLOAT", "float64": "DT_DOUBLE"}[served.forward.dtype.name]

    def tensor(name: str, width: int) -> dict[str, Any]:
        dimensions = [{"size": str(size), "name": ""} for size in (-1, width)]
        shape = {"dim": dimensions, "unknown_rank": False}
        return {"dtype": dtype, "tensor_shape": shape, "name": f"{name}:0"}

    signature = {
        "inputs": {codec.INPUT: tensor(codec.INPUT, served.forward.inputs)},
        "outputs": {codec.OUTPUT: tensor(codec.OUTPUT, served.forward.units)},
        "method_name": "tensorflow/serving/predict",
    }
    spec = {"name": model, "signature_name": "", "version": str(served.version)}
    return {
        "model_spec": spec,
        "metadata": {"signature_def": {"signature_def": {codec.SIGNATURE: signature}}},
    }


PROTOCOL: Final = InferenceProtocol(
    router=router,
    owns=lambda path: path == "/v1/models" or path.startswith("/v1/models/"),
    error=error_text,
    schemas=(PredictRequest, ExamplesRequest),
)
