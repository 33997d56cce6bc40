"""The HTTP application."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from starlette.datastructures import State

from service.api import docs, errors, guide, health, web_ui
from service.api.inference_middleware import InferenceMiddleware
from service.api.inference_pipeline import InferencePipeline
from service.api.middleware.cors import CrossOrigin
from service.api.middleware.request_context import RequestContext
from service.api.protocols.base import InferenceProtocol
from service.api.query import check_query
from service.api.v1 import retention
from service.api.v1.datasets import routes as datasets
from service.api.v1.datasets.schemas import BuiltinBody, RowsBody
from service.api.v1.inference import explain
from service.api.v1.inference import routes as inference
from service.api.v1.inference.codec import OPERATIONS
from service.api.v1.jobs import events, fit
from service.api.v1.jobs import routes as jobs
from service.api.v1.keys import routes as keys
from service.api.v1.networks import routes as networks
from service.api.v1.networks import weights
from service.version import VERSION

DESCRIPTION = """
Create, train, version and serve neural networks over HTTP.

Every operation has an example that works. Run them in this order: create the network *digits*
(`POST /v1/networks`), generate the dataset *digits-1000* (`POST /v1/datasets`), train
(`POST /v1/jobs`), read the epochs (`GET /v1/jobs/{job}/history`), and classify a drawn seven
(`POST /v1/networks/{network}/classify`).
"""
TAGS = [
    {"name": "networks", "description": "Architectures, their versions, aliases and weights."},
    {"name": "datasets", "description": "Rows with targets: JSON, CSV, npz or built-in."},
    {"name": "jobs", "description": "Training in the background, with live progress."},
    {"name": "inference", "description": "Predictions of trained networks."},
    {"name": "keys", "description": "API keys, their scopes and tenants."},
    {
        "name": "open inference protocol",
        "description": "Open Inference Protocol version 2, as in Triton and KServe.",
    },
    {"name": "kserve v1", "description": "KServe V1, and the REST API of TensorFlow Serving."},
    {"name": "invocations", "description": "The endpoint that SageMaker and MLflow share."},
    {"name": "sagemaker", "description": "SageMaker multi-model endpoints."},
    {"name": "mlflow", "description": "The MLflow scoring server."},
    {"name": "vertex", "description": "Custom containers of Vertex AI."},
    {"name": "azure ml", "description": "The inference server of Azure ML."},
    {"name": "health", "description": "Health checks, metrics and versions, for operators."},
]
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_api(
    lifespan: Lifespan,
    protocols: Sequence[InferenceProtocol],
    *,
    traced: bool = False,
    cors_origins: Collection[str] = (),
) -> FastAPI:
    """Return the application.

    The lifespan must set ``app.state.services``. ``app.state.pipeline`` handles all inference
    operations before the routes do.

    Parameters
    ----------
    protocols
        Inference protocols to serve in addition to the native API. If two protocols have the same
        path, the earlier one handles it.
    traced
        True to record a span for each request. The environment variables of OpenTelemetry
        configure the exporter.
    cors_origins
        Origins whose pages may use the API.
    """
    state = State()
    operations = [operation for protocol in protocols for operation in protocol.operations]
    pipeline = InferencePipeline([*operations, *OPERATIONS], protocols, traced=traced)
    app = FastAPI(
        title="neurond",
        version=VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        responses=errors.CONNECTION_ERRORS,
        generate_unique_id_function=lambda route: route.name,
        openapi_url=None,  # service/api/docs.py serves the document
        docs_url=None,
        redoc_url=None,
        telemetry={
            "tracing": traced,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": traced,
            "exclude": pipeline.answers,
        },
        strict_content_type=False,  # StrictRoute checks it, with its own error message
        redirect_slashes=False,
    )
    app.state = state
    state.pipeline, state.protocols = pipeline, protocols
    strict = [Depends(check_query)]
    native = APIRouter(responses=errors.COMMON_ERRORS, dependencies=strict)
    for module in (
        weights,
        networks,
        datasets,
        jobs,
        events,
        fit,
        inference,
        explain,
        keys,
        retention,
    ):
        native.include_router(module.router)
    app.include_router(native)
    for router in (health.router, *(protocol.router for protocol in protocols)):
        app.include_router(router, dependencies=strict)
    for router in (docs.router, guide.router, web_ui.router):
        app.include_router(router)
    errors.install(app)
    app.add_middleware(RequestContext)
    app.add_middleware(InferenceMiddleware, pipeline=pipeline)
    if cors_origins:
        app.add_middleware(CrossOrigin, origins=cors_origins)
    _complete_openapi(app)
    return app


def _drop_unused(document: dict[str, Any]) -> None:
    """Remove FastAPI's schemas of validation errors, which the API does not return."""
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    for operations in document["paths"].values():
        for operation in operations.values():
            response = operation.get("responses", {}).get("422", {})
            if "HTTPValidationError" in str(response.get("content", "")):
                del operation["responses"]["422"]


def _complete_openapi(app: FastAPI) -> None:
    """Add the schemas that no route declares to the OpenAPI document."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            schemas = document["components"]["schemas"]
            template = "#/components/schemas/{model}"
            codecs = [model for protocol in app.state.protocols for model in protocol.schemas]
            for model in (errors.Problem, BuiltinBody, RowsBody, *codecs):
                schema = model.model_json_schema(ref_template=template)
                schemas.update(schema.pop("$defs", {}))
                schemas[model.__name__] = schema
            _drop_unused(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
