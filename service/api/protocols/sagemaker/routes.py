"""SageMaker multi-model endpoints: networks that the platform loads, names and invokes."""

from functools import partial
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from service.api.body import read_small_body
from service.api.dependencies import NetworkRef, PredictTenant, ReadTenant, ServicesDep, TrainTenant
from service.api.protocols.base import (
    FAILURES,
    InferenceProtocol,
    InvocationCodec,
    Operation,
    answered_by_pipeline,
)
from service.api.protocols.invocations import BODY, RESPONSES, decode_invocation
from service.api.protocols.sagemaker import codec
from service.api.protocols.sagemaker.errors import error
from service.api.protocols.tabular import decoded
from service.application.ports.repositories import Page
from service.domain.networks import NetworkRecord

PAGE: Final = 100
INVOCATIONS: Final = InvocationCodec(codec.KINDS, codec.accepts, codec.decode, codec.encode)

router = APIRouter(prefix="/models", tags=["sagemaker"], responses=FAILURES)


class LoadModel(BaseModel):
    """A model to load: its name, and the directory where the platform unpacked it."""

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
async def load_model(request: Request, services: ServicesDep, tenant: TrainTenant) -> ModelListItem:
    """Create a network from the weights document in a directory below NEUROND_MODEL_DIR."""
    body = decoded(await read_small_body(request, services.limits.json_bytes), _Load)
    network = await services.model_directory.load(tenant, body.model_name, body.url)
    return ModelListItem(modelName=network.name, modelUrl=body.url)


@router.get("", summary="List models", response_model_exclude_none=True)
async def list_loaded_models(
    services: ServicesDep,
    tenant: ReadTenant,
    next_page_token: Annotated[str | None, Query(max_length=64)] = None,
) -> ModelListPage:
    """List the networks, newest first."""
    networks = await services.networks.page(tenant, Page(PAGE, next_page_token))
    return ModelListPage(
        models=[_item(network) for network in networks[:PAGE]],
        nextPageToken=networks[PAGE - 1].id if len(networks) > PAGE else None,
    )


@router.get("/{model}", summary="Get a model")
async def get_loaded_model(
    model: NetworkRef, services: ServicesDep, tenant: ReadTenant
) -> ModelListItem:
    """Return a network."""
    return _item(await services.networks.get(tenant, model))


@router.delete("/{model}", summary="Unload a model", response_class=Response)
async def unload_model(model: NetworkRef, services: ServicesDep, tenant: TrainTenant) -> Response:
    """Delete a network that was loaded here; others can be deleted by the native API only."""
    await services.model_directory.unload(tenant, model)
    return Response(status_code=200)


@router.post(
    "/{model}/invoke", summary="Predict with a model", openapi_extra=BODY, responses=RESPONSES
)
async def invoke_model(model: NetworkRef, tenant: PredictTenant) -> Response:
    """Predict rows, as ``/invocations`` does."""
    return answered_by_pipeline(model, tenant)


def _item(network: NetworkRecord) -> ModelListItem:
    return ModelListItem(modelName=network.name, modelUrl=network.metadata.get("model_url", ""))


PROTOCOL: Final = InferenceProtocol(
    router=router,
    owns=lambda path: path == "/models" or path.startswith("/models/"),
    error=error,
    operations=[
        Operation("/models/{model}/invoke", partial(decode_invocation, [INVOCATIONS])),
    ],
    invocations=INVOCATIONS,
    schemas=(LoadModel,),
)
