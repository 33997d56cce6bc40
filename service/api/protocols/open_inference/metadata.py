"""What networks take and give, and how they are set up."""

from typing import Any, Final

from fastapi import APIRouter

from service.api.dependencies import NetworkRef, ReadTenant, Services, ServicesDep
from service.api.protocols.open_inference import codec
from service.api.protocols.open_inference.schemas import ModelMetadata, TensorMetadata, Version
from service.application.inference.loaded_model import LoadedModel

PLATFORM: Final = "neurond_numpy"

router = APIRouter()


@router.get("/models/{model}", summary="What does a network take and give?")
async def model_metadata(
    model: NetworkRef, services: ServicesDep, tenant: ReadTenant
) -> ModelMetadata:
    """Tell the tensors of the version that answers when none is named."""
    return _metadata(model, (await services.inference.load(tenant, model, None)))


@router.get("/models/{model}/versions/{version}", summary="What does a version take and give?")
async def version_metadata(
    model: NetworkRef, version: Version, services: ServicesDep, tenant: ReadTenant
) -> ModelMetadata:
    """Tell the tensors of a version."""
    return _metadata(model, (await services.inference.load(tenant, model, version)))


@router.get("/models/{model}/config", summary="How is a network set up?")
async def model_configuration(
    model: NetworkRef, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Tell the configuration, in Triton's form."""
    return _configuration(model, services, await services.inference.load(tenant, model, None))


@router.get("/models/{model}/versions/{version}/config", summary="How is a version set up?")
async def version_configuration(
    model: NetworkRef, version: Version, services: ServicesDep, tenant: ReadTenant
) -> dict[str, Any]:
    """Tell the configuration of a version."""
    return _configuration(model, services, await services.inference.load(tenant, model, version))


def _tensors(served: LoadedModel) -> tuple[list[TensorMetadata], list[TensorMetadata]]:
    """Return what goes in and what comes out."""
    datatype = codec.FLOAT_NAMES[served.forward.dtype.name]
    inputs = [
        TensorMetadata(name=codec.INPUT, datatype=datatype, shape=[-1, served.forward.inputs])
    ]
    outputs = [
        TensorMetadata(name=codec.OUTPUT, datatype=datatype, shape=[-1, served.forward.units])
    ]
    if served.classes is not None:
        outputs.append(TensorMetadata(name=codec.LABEL, datatype="BYTES", shape=[-1]))
    return inputs, outputs


def _metadata(model: str, served: LoadedModel) -> ModelMetadata:
    inputs, outputs = _tensors(served)
    versions = [str(number) for number in range(served.network.latest_version + 1)]
    return ModelMetadata(
        name=model, versions=versions, platform=PLATFORM, inputs=inputs, outputs=outputs
    )


def _configuration(model: str, services: Services, served: LoadedModel) -> dict[str, Any]:
    inputs, outputs = _tensors(served)
    kinds = {"BYTES": "STRING"}
    told = {
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
        **told,
        "version_policy": {"all": {}},
    }
