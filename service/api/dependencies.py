"""Dependencies of the routes: services, caller, and parsed parameters."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Query, Request
from fastapi import Path as PathParameter
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AfterValidator, BeforeValidator

from service.api.body import LargeBodies
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
from service.application.ports.blobs import BlobStore
from service.application.ports.database import Database
from service.application.ports.metrics import Metrics
from service.application.ports.repositories import Page
from service.application.ports.workers import Executor
from service.application.retention.retention import RetentionService
from service.application.training.worker_protocol import Report, TrainingTask
from service.domain.errors import InvalidRequestError
from service.domain.identifiers import is_id
from service.domain.keys import Caller, Scope, is_tenant
from service.domain.limits import Limits


@dataclass(slots=True)
class Services:
    """The services that the routes call.

    Attributes
    ----------
    stored_bytes
        Stored bytes by kind, updated every minute.
    uploads
        Directory of temporary files for uploaded bodies.
    closing
        Set when the server starts to shut down.
    release_reserve
        Makes room on a full disk for a request that frees space; returns False if it cannot.
    cors_origins
        Origins whose pages may use the API.
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
    retention: RetentionService
    database: Database
    blobs: BlobStore
    executor: Executor[TrainingTask, Report]
    limits: Limits
    metrics: Metrics
    stored_bytes: dict[str, float]
    events: EncodedEvents
    large_bodies: LargeBodies
    uploads: Path
    closing: asyncio.Event
    release_reserve: Callable[[], Awaitable[bool]]
    cors_origins: frozenset[str] = frozenset()


def services_of(request: Request) -> Services:
    """Return the services of the application."""
    services: Services = request.app.state.services
    return services


BEARER: Final = HTTPBearer(
    auto_error=False,
    description="API key. Required if the server has at least one key.",
    scheme_name="key",
)
NAMED: Final = ("network", "model", "dataset", "job")
"""Path parameters that contain the id or name of a resource."""

ACTING_AS: Final = "x-neurond-tenant"
"""Request header in which an admin names the tenant to act for."""


def address_of(scope: Mapping[str, Any]) -> str:
    """Return the client's address; empty for a Unix socket."""
    client = scope.get("client")
    return client[0] if client else ""


def authenticated(request: Request) -> Caller:
    """Return the caller of a request; the key is checked once and the result is cached.

    Raises
    ------
    UnauthorizedError
        If the key is missing or invalid.
    """
    caller: Caller | None = request.scope.get("caller")
    if caller is None:
        caller = authenticate(
            services_of(request),
            request.headers.get("authorization", ""),
            address_of(request.scope),
        )
        request.scope["caller"] = caller
    return caller


def authenticate(services: Services, authorization: str, address: str) -> Caller:
    """Return the caller of a key; a failure counts against the address.

    Raises
    ------
    UnauthorizedError
        If the key is missing or invalid.
    """
    try:
        return services.authenticator.authenticate(authorization, address)
    except UnauthorizedError:
        services.rate_limiter.record_failure(address)
        raise


def named_tenant(caller: Caller, header: str | None) -> str | None:
    """Return the tenant that an admin names in the header `ACTING_AS`, or None.

    The header is ignored for callers without the admin scope.
    """
    if header is None or Scope.ADMIN not in caller.scopes:
        return None
    if not is_tenant(header):
        problem = f"{ACTING_AS} must contain only lower-case letters, digits, '.', '_' and '-'"
        raise InvalidRequestError.at("", "invalid_tenant", problem)
    return header


def id_to_look_up(caller: Caller, references: Sequence[str | None]) -> str | None:
    """Return the first id among the references if the caller is an admin, or None.

    An admin acts for the tenant of the resource with this id. Without keys there is only one
    tenant, so the result is None.
    """
    if caller.key_id is None or Scope.ADMIN not in caller.scopes:
        return None
    ids = (reference for reference in references if reference is not None and is_id(reference))
    return next(ids, None)


async def caller_of(
    request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)] = None
) -> Caller:
    """Return the caller.

    An admin acts for the tenant in the header `ACTING_AS`, otherwise for the tenant of the
    resource in the path.
    """
    caller = authenticated(request)
    tenant = named_tenant(caller, request.headers.get(ACTING_AS))
    if tenant is None:
        reference = id_to_look_up(caller, [request.path_params.get(name) for name in NAMED])
        if reference is not None:
            tenant = await services_of(request).authenticator.tenant_of(reference)
    return caller if tenant is None else replace(caller, tenant=tenant)


def tenant_with(scope: Scope, kind: str | None = None) -> Any:
    """Return a dependency that requires a scope and provides the caller's tenant.

    Parameters
    ----------
    kind
        Rate-limit class of the request; None is the class of the scope.
    """
    rate_class = kind or CLASSES[scope]

    async def tenant(request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> str:
        services_of(request).rate_limiter.acquire(allowed(caller, scope), rate_class)
        return caller.tenant

    tenant.__name__ = f"tenant_with_{scope}"
    return Depends(tenant)


def _check_digits(value: object) -> object:
    """Return a query value; reject integers such as 1_0 and other scripts' digits.

    Python's ``int`` accepts them.
    """
    if isinstance(value, str) and not INTEGER.fullmatch(value):
        message = "expected an integer of at most 18 digits"
        raise ValueError(message)
    return value


INTEGER: Final = re.compile("-?[0-9]{1,18}")
Count = Annotated[int, BeforeValidator(_check_digits)]


def paged_by(pattern: str, cursor: str) -> Any:
    """Return a dependency that provides the pagination parameters of a list.

    Parameters
    ----------
    pattern
        Regular expression of the query parameter ``after``.
    cursor
        Description of the value that ``after`` accepts.
    """

    async def pagination(
        limit: Annotated[
            Count, Query(ge=1, le=500, description="Maximum number of items per page.")
        ] = 50,
        after: Annotated[
            str | None,
            Query(
                max_length=64,
                pattern=f"^{pattern}$",
                description=f"Return the items after this one: {cursor}.",
            ),
        ] = None,
    ) -> Page:
        return Page(limit, after)

    return Depends(pagination)


def paged(prefix: str) -> Any:
    """Return a dependency that provides the pagination parameters of a list of ids.

    Parameters
    ----------
    prefix
        Prefix of the ids, without the underscore.
    """
    return paged_by(f"{prefix}_[0-9A-HJKMNP-TV-Z]{{26}}", "the last id of the previous page")


def is_upload(request: Request) -> bool:
    """Return True if the body is a dataset file, which is streamed to disk."""
    return media_type(request) in {"text/csv", "application/x-npz"}


def media_type(request: Request) -> str:
    """Return the media type of the body without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _provide_services(request: Request) -> Services:
    """Return the services; a coroutine, because FastAPI runs plain functions in a thread."""
    return services_of(request)


ServicesDep = Annotated[Services, Depends(_provide_services)]
ReadTenant = Annotated[str, tenant_with(Scope.READ)]
PredictTenant = Annotated[str, tenant_with(Scope.PREDICT)]
TrainTenant = Annotated[str, tenant_with(Scope.TRAIN)]
UploadTenant = Annotated[str, tenant_with(Scope.TRAIN, UPLOAD)]
MetricsTenant = Annotated[str, tenant_with(Scope.METRICS)]
AdminTenant = Annotated[str, tenant_with(Scope.ADMIN)]
Unescaped: Final = AfterValidator(unescaped)
NetworkRef = Annotated[
    str,
    Unescaped,
    PathParameter(
        description="Id or name of the network.", openapi_examples={"here": {"value": "digits"}}
    ),
]
DatasetRef = Annotated[
    str,
    Unescaped,
    PathParameter(
        description="Id or name of the dataset.",
        openapi_examples={"here": {"value": "digits-1000"}},
    ),
]
JobRef = Annotated[
    str,
    Unescaped,
    PathParameter(
        description='Id of the job, or "latest" for the newest job.',
        openapi_examples={"here": {"value": "latest"}},
    ),
]
VersionRef = Annotated[
    str,
    Unescaped,
    PathParameter(
        description='Version number, alias, "latest" or "live".',
        openapi_examples={"here": {"value": "latest"}},
    ),
]
IfMatch = Annotated[
    str | None,
    Header(
        description="Apply the change only if the resource has this ETag. Otherwise return 412."
    ),
]
IfNoneMatch = Annotated[
    str | None, Header(description="Return 304 if the resource still has this ETag.")
]
