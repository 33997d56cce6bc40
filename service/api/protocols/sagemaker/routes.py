"""Multi-model hosting: networks loaded from, and named by, the platform."""

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from service.api.body import read_compressed_body
from service.api.dependencies import NetworkRef, PredictTenant, ReadTenant, ServicesDep, TrainTenant
from service.api.protocols.base import FAILURES, InferenceProtocol, InvocationCodec
from service.api.protocols.invocations import BODY, RESPONSES, answer
from service.api.protocols.sagemaker import codec
from service.api.protocols.sagemaker.errors import error
from service.api.protocols.tabular import decoded
from service.application.ports import Page

PAGE: Final = 100
INVOCATIONS: Final = InvocationCodec(codec.KINDS, codec.takes, codec.decode, codec.encode)

router = APIRouter(prefix="/models", tags=["sagemaker"], responses=FAILURES)


class LoadModel(BaseModel):
    """A model to load: its name, and the folder where the platform unpacked it."""

    model_name: str = Field(min_length=1, max_length=200)
    url: str = Field(min_length=1, max_length=4096)


class _Load(msgspec.Struct, forbid_unknown_fields=True):
    """`LoadModel`, as it is decoded."""

    model_name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    url: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


LOAD: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/LoadModel"},
                "example": {"model_name": "digits", "url": "/opt/ml/models/1/model"},
            }
        },
    }
}


class ModelListItem(BaseModel):
    """A network as the platform knows it."""

    modelName: str  # noqa: N815 - the platform's name
    modelUrl: str  # noqa: N815 - the platform's name


class ModelListPage(BaseModel):
    """A page of networks."""

    models: list[ModelListItem]
    nextPageToken: str | None = None  # noqa: N815 - the platform's name


@router.post("", summary="Load a model", openapi_extra=LOAD)
async def load(request: Request, services: ServicesDep, tenant: TrainTenant) -> ModelListItem:
    """Make a network of the weights document in a folder below NEUROND_MODEL_DIR."""
    body = await read_compressed_body(request, services.limits.json_bytes)
    asked = decoded(body, _Load)
    network = await services.model_directory.load(tenant, asked.model_name, asked.url)
    return ModelListItem(modelName=network.name, modelUrl=asked.url)


@router.get("", summary="List models", response_model_exclude_none=True)
async def list_models(
    services: ServicesDep,
    tenant: ReadTenant,
    next_page_token: Annotated[str | None, Query(max_length=64)] = None,
) -> ModelListPage:
    """List the networks, newest first."""
    found = await services.networks.page(tenant, Page(PAGE, next_page_token))
    return ModelListPage(
        models=[
            ModelListItem(modelName=network.name, modelUrl=network.metadata.get("model_url", ""))
            for network in found[:PAGE]
        ],
        nextPageToken=found[PAGE - 1].id if len(found) > PAGE else None,
    )


@router.get("/{model}", summary="Look at a model")
async def get_model(model: NetworkRef, services: ServicesDep, tenant: ReadTenant) -> ModelListItem:
    """Tell that a network is there."""
    network = await services.networks.get(tenant, model)
    return ModelListItem(modelName=network.name, modelUrl=network.metadata.get("model_url", ""))


@router.delete("/{model}", summary="Unload a model", response_class=Response)
async def unload(model: NetworkRef, services: ServicesDep, tenant: TrainTenant) -> Response:
    """Remove a network that was loaded here; others are deleted by the native API alone."""
    await services.model_directory.unload(tenant, model)
    return Response(status_code=200)


@router.post(
    "/{model}/invoke", summary="Predict by a model", openapi_extra=BODY, responses=RESPONSES
)
async def invoke(
    model: NetworkRef, request: Request, services: ServicesDep, tenant: PredictTenant
) -> Response:
    """Answer rows as ``/invocations`` does."""
    return await answer(request, services, tenant, model, [INVOCATIONS])


PROTOCOL: Final = InferenceProtocol(
    router=router,
    owns=lambda path: path == "/models" or path.startswith("/models/"),
    error=error,
    invocations=INVOCATIONS,
    schemas=(LoadModel,),
)
