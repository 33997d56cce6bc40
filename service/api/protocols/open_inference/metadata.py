"""Metadata and configuration of models."""

from typing import Any, Final

from fastapi import APIRouter

from service.api.dependencies import NetworkRef, ReadTenant, Services, ServicesDep
from service.api.protocols.open_inference.decoding import INPUT, LABEL, OUTPUT
from service.api.protocols.open_inference.encoding import FLOAT_NAMES
from service.api.protocols.open_inference.schemas import ModelMetadata, TensorMetadata, Version
from service.application.inference.loaded_model import LoadedModel

PLATFORM: Final = "neurond_numpy"

router = APIRouter()


@router.get("/models/{model}", summary="Metadata of a model")
async def get_model_metadata(
    model: NetworkRef, services: ServicesDep, tenant: ReadTenant
) -> ModelMetadata:
    """Return the tensors of the default version."""
    return _metadata(model, (await services.inference.load(tenant, model, None)))


@router.get("/models/{model}/versions/{version}", summary="Metadata of a version")
async def get_version_metadata(
    model: NetworkRef, version: Version, services: ServicesDep, tenant: ReadTenant
) -> ModelMetadata:
    """Return the tensors of a version."""
    return _metadata(model, (await services.inference.load(tenant, model, version)))


@router.get("/models/{model}/config", summary="Configuration of a model")
async def get_model_configuration(
    model: NetworkRef, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Return the configuration in Triton's form."""
    return _configuration(model, services, await services.inference.load(tenant, model, None))


@router.get("/models/{model}/versions/{version}/config", summary="Configuration of a version")
async def get_version_configuration(
    model: NetworkRef, version: Version, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Return the configuration of a version."""
    return _configuration(model, services, await services.inference.load(tenant, model, version))


def _tensors(loaded: LoadedModel) -> tuple[list[TensorMetadata], list[TensorMetadata]]:
    """Return the input and output tensors."""
    datatype = FLOAT_NAMES[loaded.forward.dtype]
    inputs = [TensorMetadata(name=INPUT, datatype=datatype, shape=[-1, loaded.forward.inputs])]
    outputs = [TensorMetadata(name=OUTPUT, datatype=datatype, shape=[-1, loaded.forward.units])]
    if loaded.classes is not None:
        outputs.append(TensorMetadata(name=LABEL, datatype="BYTES", shape=[-1]))
    return inputs, outputs


def _metadata(model: str, loaded: LoadedModel) -> ModelMetadata:
    inputs, outputs = _tensors(loaded)
    versions = [str(number) for number in range(loaded.network.latest_version + 1)]
    return ModelMetadata(
        name=model, versions=versions, platform=PLATFORM, inputs=inputs, outputs=outputs
    )


def _configuration(model: str, services: Services, loaded: LoadedModel) -> dict[str, Any]:
    inputs, outputs = _tensors(loaded)
    kinds = {"BYTES": "STRING"}
    tensors = {
        name: [
            {
                "name": tensor.name,
                "data_type": f"TYPE_{kinds.get(tensor.datatype, tensor.datatype)}",
                "dims": tensor.shape[1:] or [1],
            }
            for tensor in tensors
        ]
        for name, tensors in (("input", inputs), ("output", outputs))
    }
    return {
        "name": model,
        "platform": PLATFORM,
        "backend": "neurond",
        "max_batch_size": services.limits.rows_per_call,
        **tensors,
        "version_policy": {"all": {}},
    }
