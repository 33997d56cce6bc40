"""Multi-model hosting: networks loaded from, and named by, the platform."""

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from service.api.dependencies import NetworkRef, Parts, Predictor, Reader, Trainer
from service.api.dialect import FAILURES, Dialect, Invocations
from service.api.invocations import BODY, TOLD, answer
from service.api.protocols.sagemaker import codec
from service.api.protocols.sagemaker.errors import error
from service.api.raw import read_packed
from service.api.tabular import decoded
from service.application.ports import Page

PAGE: Final = 100
INVOCATIONS: Final = Invocations(codec.KINDS, codec.takes, codec.decode, codec.encode)

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


class LoadedModel(BaseModel):
    """A network as the platform knows it."""

    modelName: str  # noqa: N815 - the platform's name
    modelUrl: str  # noqa: N815 - the platform's name


class LoadedModels(BaseModel):
    """A page of networks."""

    models: list[LoadedModel]
    nextPageToken: str | None = None  # noqa: N815 - the platform's name


@router.post("", summary="Load a model", openapi_extra=LOAD)
async def load(request: Request, parts: Parts, owner: Trainer) -> LoadedModel:
    """Make a network of the weights document in a folder below NEUROND_MODEL_DIR."""
    body = await read_packed(request, parts.limits.json_bytes)
    asked = decoded(body, _Load)
    network = await parts.shelf.load(owner, asked.model_name, asked.url)
    return LoadedModel(modelName=network.name, modelUrl=asked.url)


@router.get("", summary="List models", response_model_exclude_none=True)
async def list_models(
    parts: Parts,
    owner: Reader,
    next_page_token: Annotated[str | None, Query(max_length=64)] = None,
) -> LoadedModels:
    """List the networks, newest first."""
    found = await parts.networks.page(owner, Page(PAGE, next_page_token))
    return LoadedModels(
        models=[
            LoadedModel(modelName=network.name, modelUrl=network.metadata.get("model_url", ""))
            for network in found[:PAGE]
        ],
        nextPageToken=found[PAGE - 1].id if len(found) > PAGE else None,
    )


@router.get("/{model}", summary="Look at a model")
async def get_model(model: NetworkRef, parts: Parts, owner: Reader) -> LoadedModel:
    """Tell that a network is there."""
    network = await parts.networks.get(owner, model)
    return LoadedModel(modelName=network.name, modelUrl=network.metadata.get("model_url", ""))


@router.delete("/{model}", summary="Unload a model", response_class=Response)
async def unload(model: NetworkRef, parts: Parts, owner: Trainer) -> Response:
    """Remove a network that was loaded here; others are deleted by the native API alone."""
    await parts.shelf.unload(owner, model)
    return Response(status_code=200)


@router.post("/{model}/invoke", summary="Predict by a model", openapi_extra=BODY, responses=TOLD)
async def invoke(model: NetworkRef, request: Request, parts: Parts, owner: Predictor) -> Response:
    """Answer rows as ``/invocations`` does."""
    return await answer(request, parts, owner, model, [INVOCATIONS])


DIALECT: Final = Dialect(
    router=router,
    owns=lambda path: path == "/models" or path.startswith("/models/"),
    error=error,
    invocations=INVOCATIONS,
    schemas=(LoadModel,),
)
