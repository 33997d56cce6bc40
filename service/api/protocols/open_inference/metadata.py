"""What networks take and give, and how they are set up."""

from typing import Any, Final

from fastapi import APIRouter

from service.api.dependencies import NetworkRef, Parts, Reader, Services
from service.api.protocols.open_inference import codec
from service.api.protocols.open_inference.schemas import ModelMetadata, TensorMetadata, Version
from service.application.served import Served

PLATFORM: Final = "neurond_numpy"

router = APIRouter()


@router.get("/models/{model}", summary="What does a network take and give?")
async def model_metadata(model: NetworkRef, parts: Parts, owner: Reader) -> ModelMetadata:
    """Tell the tensors of the version that answers when none is named."""
    return _metadata(model, (await parts.inference.served(owner, model, None)))


@router.get("/models/{model}/versions/{version}", summary="What does a version take and give?")
async def version_metadata(
    model: NetworkRef, version: Version, parts: Parts, owner: Reader
) -> ModelMetadata:
    """Tell the tensors of a version."""
    return _metadata(model, (await parts.inference.served(owner, model, version)))


@router.get("/models/{model}/config", summary="How is a network set up?")
async def model_configuration(model: NetworkRef, parts: Parts, owner: Reader) -> dict[str, Any]:
    """Tell the configuration, in Triton's form."""
    return _configuration(model, parts, await parts.inference.served(owner, model, None))


@router.get("/models/{model}/versions/{version}/config", summary="How is a version set up?")
async def version_configuration(
    model: NetworkRef, version: Version, parts: Parts, owner: Reader
) -> dict[str, Any]:
    """Tell the configuration of a version."""
    return _configuration(model, parts, await parts.inference.served(owner, model, version))


def _tensors(served: Served) -> tuple[list[TensorMetadata], list[TensorMetadata]]:
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


def _metadata(model: str, served: Served) -> ModelMetadata:
    inputs, outputs = _tensors(served)
    versions = [str(number) for number in range(served.network.latest_version + 1)]
    return ModelMetadata(
        name=model, versions=versions, platform=PLATFORM, inputs=inputs, outputs=outputs
    )


def _configuration(model: str, parts: Services, served: Served) -> dict[str, Any]:
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
        "max_batch_size": parts.limits.rows_per_call,
        **told,
        "version_policy": {"all": {}},
    }
