"""What routes are given: the services, the caller, and parsed parameters."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Query, Request
from fastapi import Path as PathParameter
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AfterValidator, BeforeValidator

from service.api.encoding import unescaped
from service.api.sse import EncodedEvents
from service.application.access.api_keys import Authenticator, UnauthorizedError, allowed
from service.application.access.idempotency import IdempotentRequests
from service.application.access.rate_limits import CLASSES, UPLOAD, RateLimiter
from service.application.datasets.datasets import DatasetService
from service.application.inference.explanations import ExplanationService
from service.application.inference.inference import Inference
from service.application.jobs.checkpoints import CheckpointService
from service.application.jobs.event_streams import EventStreams
from service.application.jobs.fit import FitService
from service.application.jobs.jobs import JobService
from service.application.networks.model_directory import ModelDirectory
from service.application.networks.networks import NetworkService
from service.application.networks.weight_upload import WeightUpload
from service.application.networks.weights import WeightService
from service.application.ports import BlobStore, Database, Metrics, Page
from service.application.training.worker_protocol import Executor
from service.domain.errors import InvalidRequestError
from service.domain.identifiers import is_id
from service.domain.keys import Caller, Scope, is_tenant
from service.domain.limits import Limits


@dataclass(slots=True)
class Services:
    """Everything that the routes call.

    Attributes
    ----------
    uploads
        Folder for bodies while they are read.
    closing
        Set when the server was told to stop.
    """

    networks: NetworkService
    weights: WeightService
    weight_upload: WeightUpload
    model_directory: ModelDirectory
    datasets: DatasetService
    jobs: JobService
    fit: FitService
    event_streams: EventStreams
    checkpoints: CheckpointService
    inference: Inference
    explanations: ExplanationService
    authenticator: Authenticator
    rate_limiter: RateLimiter
    idempotent_requests: IdempotentRequests
    database: Database
    blobs: BlobStore
    executor: Executor
    limits: Limits
    metrics: Metrics
    events: EncodedEvents
    uploads: Path
    closing: asyncio.Event


def services_of(request: Request) -> Services:
    """Return what the application runs on."""
    services: Services = request.app.state.services
    return services


BEARER: Final = HTTPBearer(
    auto_error=False, description="A key; due once the server has any.", scheme_name="key"
)
NAMED: Final = ("network", "model", "dataset", "job")
"""Path parameters that hold references."""

ACTING_AS: Final = "x-neurond-tenant"
"""Header by which an admin acts for another tenant."""


def address_of(scope: Mapping[str, Any]) -> str:
    """Return where a request comes from; a Unix socket has no address."""
    client = scope.get("client")
    return client[0] if client else ""


def authenticated(request: Request) -> Caller:
    """Return who sends a request; its key is looked at once, however often it is asked."""
    caller: Caller | None = request.scope.get("caller")
    if caller is None:
        services, address = services_of(request), address_of(request.scope)
        try:
            caller = services.authenticator.authenticate(
                request.headers.get("authorization", ""), address
            )
        except UnauthorizedError:
            services.rate_limiter.record_failure(address)
            raise
        request.scope["caller"] = caller
    return caller


def named_tenant(caller: Caller, header: str | None) -> str | None:
    """Return the tenant that an admin names in `ACTING_AS`; None for all other callers."""
    if header is None or Scope.ADMIN not in caller.scopes:
        return None
    if not is_tenant(header):
        problem = f"{ACTING_AS} must be lower-case letters, digits, '.', '_' and '-'"
        raise InvalidRequestError.at("", "invalid_tenant", problem)
    return header


def id_to_look_up(caller: Caller, references: Sequence[str | None]) -> str | None:
    """Return the first id among references if an admin acts for its tenant.

    Without keys everything belongs to one tenant.
    """
    if caller.key_id is None or Scope.ADMIN not in caller.scopes:
        return None
    ids = (reference for reference in references if reference is not None and is_id(reference))
    return next(ids, None)


async def caller_of(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)] = None
) -> Caller:
    """Return the caller; an admin acts for the tenant of the resource in the path."""
    caller = authenticated(request)
    tenant = named_tenant(caller, request.headers.get(ACTING_AS))
    if tenant is None:
        reference = id_to_look_up(caller, [request.path_params.get(name) for name in NAMED])
        if reference is not None:
            tenant = await services_of(request).authenticator.tenant_of(reference)
    return caller if tenant is None else replace(caller, tenant=tenant)


def tenant_with(scope: Scope, kind: str | None = None) -> Any:
    """Return the dependency that gives the caller's tenant, allowed ``scope``.

    Parameters
    ----------
    kind
        What the request counts as; None is what the scope says.
    """
    counted = kind or CLASSES[scope]

    async def tenant(request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> str:
        services_of(request).rate_limiter.acquire(allowed(caller, scope), counted)
        return caller.tenant

    tenant.__name__ = f"owner_with_{scope}"
    return Depends(tenant)


def _digits(value: object) -> object:
    """Return a number of a query; Python takes 1_0 and digits of other scripts for one too."""
    if isinstance(value, str) and not WHOLE.fullmatch(value):
        message = "a whole number is due"
        raise ValueError(message)
    return value


WHOLE: Final = re.compile("-?[0-9]{1,18}")
Count = Annotated[int, BeforeValidator(_digits)]


def paged_by(pattern: str, what: str) -> Any:
    """Return the dependency that gives a page of what comes after something of that form."""

    async def page(
        limit: Annotated[Count, Query(ge=1, le=500, description="Most items of a page.")] = 50,
        after: Annotated[
            str | None,
            Query(max_length=64, pattern=f"^{pattern}$", description=f"After {what}."),
        ] = None,
    ) -> Page:
        return Page(limit, after)

    return Depends(page)


def paged(prefix: str) -> Any:
    """Return the dependency that gives a page of a list of things with such ids."""
    return paged_by(f"{prefix}_[0-9A-HJKMNP-TV-Z]{{26}}", "the last id of the page before")


def is_upload(request: Request) -> bool:
    """Tell whether the body is a file, which is streamed and not held in memory."""
    return media_type(request) in {"text/csv", "application/x-npz"}


def media_type(request: Request) -> str:
    """Return the body's media type without its options."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _parts(request: Request) -> Services:
    """Return what the application runs on; asynchronous, for FastAPI runs others in a thread."""
    return services_of(request)


ServicesDep = Annotated[Services, Depends(_parts)]
ReadTenant = Annotated[str, tenant_with(Scope.READ)]
PredictTenant = Annotated[str, tenant_with(Scope.PREDICT)]
TrainTenant = Annotated[str, tenant_with(Scope.TRAIN)]
UploadTenant = Annotated[str, tenant_with(Scope.TRAIN, UPLOAD)]
AdminTenant = Annotated[str, tenant_with(Scope.ADMIN)]
Unescaped: Final = AfterValidator(unescaped)
NetworkRef = Annotated[
    str,
    Unescaped,
    PathParameter(
        description="Id or name of a network.", openapi_examples={"here": {"value": "digits"}}
    ),
]
DatasetRef = Annotated[
    str,
    Unescaped,
    PathParameter(
        description="Id or name of a dataset.", openapi_examples={"here": {"value": "digits-1000"}}
    ),
]
JobRef = Annotated[
    str,
    Unescaped,
    PathParameter(
        description='Id of a job; "latest" is the newest.',
        openapi_examples={"here": {"value": "latest"}},
    ),
]
VersionRef = Annotated[
    str,
    Unescaped,
    PathParameter(
        description='Number, alias, "latest" or "live".',
        openapi_examples={"here": {"value": "latest"}},
    ),
]
IfMatch = Annotated[
    str | None, Header(description="Change only what still has this ETag; else 412.")
]
IfNoneMatch = Annotated[str | None, Header(description="Answer 304 when it still has this ETag.")]
