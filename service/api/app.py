"""The HTTP application."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from fastapi import APIRouter, FastAPI

from service.api import docs, errors, health
from service.api import web_ui as page
from service.api.inference_pipeline import HotPath
from service.api.middleware.request_context import RequestContext
from service.api.protocols.base import InferenceProtocol
from service.api.v1.datasets import routes as datasets
from service.api.v1.datasets.schemas import BuiltinBody, RowsBody
from service.api.v1.inference import explain
from service.api.v1.inference import routes as inference
from service.api.v1.inference.codec import hot_classify, hot_predict
from service.api.v1.jobs import events, fit
from service.api.v1.jobs import routes as jobs
from service.api.v1.keys import routes as keys
from service.api.v1.networks import routes as networks
from service.api.v1.networks import weights
from service.version import VERSION

DESCRIPTION = """
Create, train, version and serve neural networks over HTTP.

Every operation has an example that works. In this order they tell one story: create the network
*digits* (`POST /v1/networks`), draw the dataset *digits-1000* (`POST /v1/datasets`), train
(`POST /v1/jobs`), look at the epochs (`GET /v1/jobs/{job}/history`), and classify a drawn seven
(`POST /v1/networks/{network}/classify`).
"""
TAGS = [
    {"name": "networks", "description": "Architectures, their versions, aliases and weights."},
    {"name": "datasets", "description": "Rows with targets: JSON, CSV, npz, or built in."},
    {"name": "jobs", "description": "Trainings in the background, with live progress."},
    {"name": "inference", "description": "Answers of trained networks."},
    {"name": "keys", "description": "Who may do what."},
    {"name": "open inference protocol", "description": "Version 2, as Triton and KServe speak it."},
    {"name": "kserve v1", "description": "Also TensorFlow Serving's REST."},
    {"name": "invocations", "description": "SageMaker's and MLflow's common door."},
    {"name": "sagemaker", "description": "Multi-model hosting."},
    {"name": "mlflow", "description": "The scoring server."},
    {"name": "vertex", "description": "Custom containers of Vertex AI."},
    {"name": "azure ml", "description": "The inference server of Azure ML."},
    {"name": "health", "description": "For those who run the server."},
]
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


HOT: Final = {
    ("v1", "networks", "classify"): hot_classify,
    ("v1", "networks", "predict"): hot_predict,
}


def create_api(
    lifespan: Lifespan, dialects: Sequence[InferenceProtocol], *, traced: bool = False
) -> FastAPI:
    """Return the application; its lifespan sets ``app.state.services``.

    ``app.state.hot`` answers plain inference calls before it, to a server that asks there.

    Parameters
    ----------
    dialects
        Protocols that are spoken beside the native one.
    traced
        Whether a span of each request goes where OpenTelemetry's own variables say.
    """
    app = FastAPI(
        title="neurond",
        version=VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        responses=errors.CONNECTION_ERRORS,
        openapi_url=None,  # api/docs.py tells it
        docs_url=None,
        redoc_url=None,
        telemetry={
            "tracing": traced,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": traced,
        },
        strict_content_type=False,  # api/strict.py refuses what matters, by name
        redirect_slashes=False,
    )
    native = APIRouter(responses=errors.COMMON_ERRORS)
    for module in (weights, networks, datasets, jobs, events, fit, inference, explain, keys):
        native.include_router(module.router)
    app.include_router(native)
    app.include_router(health.router)
    app.include_router(docs.router)
    for dialect in dialects:
        app.include_router(dialect.router)
    app.state.dialects = dialects
    hot = {**HOT, **{place: call for part in dialects for place, call in part.hot.items()}}
    app.state.hot = HotPath(app.state, hot)
    app.include_router(page.router)
    errors.install(app)
    app.add_middleware(RequestContext)
    _describe(app)
    return app


def _drop_unused(document: dict[str, Any]) -> None:
    """Remove the framework's own form of validation errors, which nobody is ever told."""
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    for operations in document["paths"].values():
        for operation in operations.values():
            told = operation.get("responses", {}).get("422", {})
            if "HTTPValidationError" in str(told.get("content", "")):
                del operation["responses"]["422"]


def _describe(app: FastAPI) -> None:
    """Complete the OpenAPI document by what no route declares by itself."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            schemas = document["components"]["schemas"]
            template = "#/components/schemas/{model}"
            spoken = [model for dialect in app.state.dialects for model in dialect.schemas]
            for model in (errors.Problem, BuiltinBody, RowsBody, *spoken):
                schema = model.model_json_schema(ref_template=template)
                schemas.update(schema.pop("$defs", {}))
                schemas[model.__name__] = schema
            _drop_unused(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
