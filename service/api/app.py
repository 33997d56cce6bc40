"""The HTTP application."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from service.api import docs, errors, health
from service.api.middleware.request_context import RequestContext
from service.api.native.datasets import routes as datasets
from service.api.native.datasets.schemas import BuiltinBody, RowsBody
from service.api.native.inference import routes as inference
from service.api.native.jobs import events, fit
from service.api.native.jobs import routes as jobs
from service.api.native.networks import routes as networks
from service.version import VERSION

DESCRIPTION = """
Create, train, version and serve neural networks over HTTP.

Try the operations from top to bottom: create the network *digits*, draw the dataset
*digits-1000*, train, look at the epochs, classify a drawn seven.
"""
TAGS = [
    {"name": "networks", "description": "Architectures, their versions, aliases and weights."},
    {"name": "datasets", "description": "Rows with targets: JSON, CSV, npz, or built in."},
    {"name": "jobs", "description": "Trainings in the background, with live progress."},
    {"name": "inference", "description": "Answers of trained networks."},
    {"name": "health", "description": "For those who run the server."},
]
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_api(lifespan: Lifespan) -> FastAPI:
    """Return the application; its lifespan sets ``app.state.services``."""
    app = FastAPI(
        title="neurond",
        version=VERSION,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        strict_content_type=False,  # api/strict.py refuses what matters, by name
        redirect_slashes=False,
    )
    native = APIRouter(responses=errors.EVERYWHERE)
    for module in (networks, datasets, jobs, events, fit, inference):
        native.include_router(module.router)
    app.include_router(native)
    app.include_router(health.router)
    app.include_router(docs.router)
    app.add_api_route("/", home, include_in_schema=False)
    errors.install(app)
    app.add_middleware(RequestContext)
    _describe(app)
    return app


async def home(request: Request) -> Response:
    """Answer a client that looks for signs of life; a browser is led to the documentation."""
    if "text/html" in request.headers.get("accept", ""):
        return docs.page()
    return JSONResponse({"status": "alive"})


def _describe(app: FastAPI) -> None:
    """Complete the OpenAPI document by what no route declares by itself."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            schemas = document["components"]["schemas"]
            template = "#/components/schemas/{model}"
            for model in (errors.Problem, BuiltinBody, RowsBody):
                schema = model.model_json_schema(ref_template=template)
                schemas.update(schema.pop("$defs", {}))
                schemas[model.__name__] = schema
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
