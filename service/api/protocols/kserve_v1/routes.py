"""The paths of KServe V1 and TensorFlow Serving.

A model is a network; a label, TensorFlow Serving's alias, is an alias.
"""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Response

from service.api.dependencies import NetworkRef, PredictTenant, ReadTenant, ServicesDep
from service.api.protocols.base import (
    InferenceProtocol,
    Operation,
    answered_by_pipeline,
    error_text,
)
from service.api.protocols.kserve_v1 import codec
from service.api.protocols.kserve_v1.schemas import (
    ClassifyResults,
    ExamplesRequest,
    KServeError,
    ModelNames,
    PredictRequest,
    PredictResponse,
)
from service.application.inference.loaded_model import LoadedModel
from service.application.ports.repositories import Page

FAILURES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": KServeError} for status in (400, 401, 403, 404, 413, 415, 429, 503)
}
Version = Annotated[
    str,
    Path(description="Version number.", openapi_examples={"here": {"value": "0"}}),
]
Label = Annotated[
    str, Path(description="Alias of a version.", openapi_examples={"here": {"value": "latest"}})
]
VERBS: Final[dict[str, tuple[Any, type, type]]] = {
    "predict": (codec.decode_predict, PredictRequest, PredictResponse),
    "classify": (codec.decode_classify, ExamplesRequest, ClassifyResults),
    "regress": (codec.decode_regress, ExamplesRequest, ClassifyResults),
}
OPERATIONS: Final = tuple(
    Operation(f"/v1/models/{path}:{verb}", decode)
    for verb, (decode, _, _) in VERBS.items()
    for path in ("{model}", "{model}/versions/{version}", "{model}/labels/{label}")
)

router = APIRouter(prefix="/v1/models", tags=["kserve v1"], responses=FAILURES)


def _declare(verb: str) -> None:
    """Declare a verb for a model, for a version and for a label."""
    _, request, response = VERBS[verb]
    schema = {"$ref": f"#/components/schemas/{request.__name__}"}
    extra = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

    async def model(model: NetworkRef, tenant: PredictTenant) -> Response:
        return answered_by_pipeline(model, tenant)

    async def version(model: NetworkRef, version: Version, tenant: PredictTenant) -> Response:
        return answered_by_pipeline(model, version, tenant)

    async def label(model: NetworkRef, label: Label, tenant: PredictTenant) -> Response:
        return answered_by_pipeline(model, label, tenant)

    for path, endpoint, target in (
        ("/{model}:", model, "a model"),
        ("/{model}/versions/{version}:", version, "a version"),
        ("/{model}/labels/{label}:", label, "an alias"),
    ):
        router.add_api_route(
            path + verb,
            endpoint,
            methods=["POST"],
            summary=f"{verb.capitalize()} with {target}",
            description=f"Run TensorFlow Serving's {verb} with {target}.",
            response_model=response,
            openapi_extra=extra,
            name=f"{verb}_with_{endpoint.__name__}",
        )


for _verb in VERBS:
    _declare(_verb)


@router.get("", summary="List models")
async def list_models(services: ServicesDep, tenant: ReadTenant) -> ModelNames:
    """List the names of the networks, newest first, at most 500."""
    return ModelNames(
        models=[network.name for network in (await services.networks.page(tenant, Page(500)))[:500]]
    )


@router.get("/{model}", summary="Status of a model")
async def get_model_status(
    model: NetworkRef, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Return the status in the forms of KServe and TensorFlow Serving at once."""
    return _status(model, await services.inference.load(tenant, model, None))


@router.get("/{model}/versions/{version}", summary="Status of a version")
async def get_version_status(
    model: NetworkRef, version: Version, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Return the status of a version."""
    return _status(model, await services.inference.load(tenant, model, version))


@router.get("/{model}/labels/{label}", summary="Status of an alias")
async def get_label_status(
    model: NetworkRef, label: Label, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Return the status of an alias."""
    return _status(model, await services.inference.load(tenant, model, label))


@router.get("/{model}/metadata", summary="Signature of a model")
async def get_model_signature(
    model: NetworkRef, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Return the signature."""
    return _metadata(model, await services.inference.load(tenant, model, None))


@router.get("/{model}/versions/{version}/metadata", summary="Signature of a version")
async def get_version_signature(
    model: NetworkRef, version: Version, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Return the signature of a version."""
    return _metadata(model, await services.inference.load(tenant, model, version))


def _status(model: str, loaded: LoadedModel) -> dict[str, Any]:
    ok = {"error_code": "OK", "error_message": ""}
    version = {"version": str(loaded.version), "state": "AVAILABLE", "status": ok}
    return {"name": model, "ready": True, "model_version_status": [version]}


def _metadata(model: str, loaded: LoadedModel) -> dict[str, Any]:
    dtype = {"float32": "DT_FLOAT", "float64": "DT_DOUBLE"}[loaded.forward.dtype.name]

    def tensor(name: str, width: int) -> dict[str, Any]:
        dimensions = [{"size": str(size), "name": ""} for size in (-1, width)]
        shape = {"dim": dimensions, "unknown_rank": False}
        return {"dtype": dtype, "tensor_shape": shape, "name": f"{name}:0"}

    signature = {
        "inputs": {codec.INPUT: tensor(codec.INPUT, loaded.forward.inputs)},
        "outputs": {codec.OUTPUT: tensor(codec.OUTPUT, loaded.forward.units)},
        "method_name": "tensorflow/serving/predict",
    }
    identity = {"name": model, "signature_name": "", "version": str(loaded.version)}
    return {
        "model_spec": identity,
        "metadata": {"signature_def": {"signature_def": {codec.SIGNATURE: signature}}},
    }


PROTOCOL: Final = InferenceProtocol(
    router=router,
    owns=lambda path: path == "/v1/models" or path.startswith("/v1/models/"),
    error=error_text,
    operations=OPERATIONS,
    schemas=(PredictRequest, ExamplesRequest),
)
