"""The inference pipeline, which the inference operations of all protocols share.

    match -> authenticate and check limits -> decode -> predict -> encode -> response headers

Two adapters feed it. `service.api.inference_middleware` handles any request, as an ASGI
application. The HTTP protocol (`service.server.inference_protocol`) calls `start` for a small
request that has arrived completely, and needs no task for it. If a request must wait (for a
version that is not in memory, for the tenant that an admin acts for, or for many rows), `start`
returns False, and the same functions run in the ASGI adapter.
"""

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Final, NamedTuple, final

from fastapi import Request, Response
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from core.arrays import Array
from service.api import errors, tracing
from service.api.body import read_body
from service.api.dependencies import (
    ACTING_AS,
    Services,
    authenticate,
    id_to_look_up,
    named_tenant,
)
from service.api.encoding import routed_path, unescaped
from service.api.protocols.base import (
    Call,
    Headers,
    InferenceProtocol,
    InferenceRequest,
    InferenceResponse,
    Operation,
)
from service.api.query import check_query_string
from service.api.request_checks import (
    SECURITY_HEADERS,
    allows_origin,
    check_origin,
    choose_request_id,
)
from service.api.strict_json import parse_json
from service.application.access.api_keys import allowed
from service.application.access.rate_limits import CLASSES
from service.application.inference.inference import fits_inline
from service.application.inference.loaded_model import LoadedModel
from service.application.request_id import request_id
from service.domain.errors import ServiceError
from service.domain.keys import Caller
from service.domain.keys import Scope as KeyScope

log = logging.getLogger(__name__)

CACHED_PATHS: Final = 4096
CACHED_HEADERS: Final = 1024

COMMON_HEADERS: Final = b"".join(
    b"%s: %s\r\n" % (name.encode(), value.encode())
    for name, value in (*SECURITY_HEADERS.items(), ("cache-control", "no-store"))
)
CLOSE: Final = b"connection: close\r\n"


class FinishedResponse(NamedTuple):
    """A complete response.

    Attributes
    ----------
    headers
        Header lines as they are sent, each with its line ending.
    """

    status: int
    headers: bytes
    body: bytes


@final
class InferencePipeline:
    """The stages of an inference request.

    Parameters
    ----------
    operations
        If a path matches several, the first is used.
    protocols
        Render the errors at their paths.
    traced
        True to record a span for each request.

    Attributes
    ----------
    services
        The services of the application. None while it starts.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        protocols: Sequence[InferenceProtocol],
        *,
        traced: bool,
    ) -> None:
        self.services: Services | None = None
        self._protocols, self._traced = protocols, traced
        self._patterns = [(_pattern(operation.path), operation) for operation in operations]
        self._match = lru_cache(CACHED_PATHS)(self._match_path)

    def match(
        self, path: str, headers: Mapping[bytes, bytes], address: str, query: bytes = b""
    ) -> InferenceRequest | None:
        """Return the inference request of a POST, or None if the path is not an operation.

        Parameters
        ----------
        headers
            Names in lower case. If a header is repeated, the first value.
        """
        matched = self._match(path)
        if matched is None or self.services is None:
            return None
        operation, network, version = matched
        started = time.perf_counter()
        request = InferenceRequest(
            operation, network, version, path, headers, address, choose_request_id(headers), started
        )
        request.query = query
        if self._traced:
            request.span = tracing.start_span(request)
        return request

    def answers(self, scope: Scope) -> bool:
        """Return True if the request of an ASGI scope is an inference operation."""
        path = routed_path(scope.get("raw_path") or b"", scope["path"])
        return scope.get("method") == "POST" and self._match(path) is not None

    def _match_path(self, path: str) -> tuple[Operation, str | None, str | None] | None:
        for pattern, operation in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                network, version, *_ = (*map(unescaped, match.groups()), None, None)
                return operation, network, version
        return None

    def authenticate(self, request: InferenceRequest, services: Services) -> None:
        """Check origin, key, scope and rate of a request, once."""
        if request.caller is not None:
            return
        check_origin(services, "POST", request.headers)
        caller = authenticate(services, request.header(b"authorization") or "", request.address)
        tenant = named_tenant(caller, request.header(ACTING_AS.encode()))
        if tenant is not None:
            caller = replace(caller, tenant=tenant)
        request.caller = allowed(caller, KeyScope.PREDICT)
        services.rate_limiter.acquire(caller, CLASSES[KeyScope.PREDICT])
        if request.query:
            check_query_string(request.query)
        if tenant is None:
            request.lookup = id_to_look_up(caller, [request.network])

    def admit(self, request: InferenceRequest) -> bool:
        """Authenticate a request whose headers have arrived; return False if it is rejected."""
        services = self.services
        try:
            if services is not None:
                self.authenticate(request, services)
        except ServiceError as error:
            request.rejection = error
        return request.rejection is None

    def decode(self, request: InferenceRequest, model: LoadedModel, services: Services) -> Call:
        """Return the call that the body of a request describes."""
        operation, started = request.operation, time.perf_counter_ns()
        try:
            if len(request.body) > services.limits.inline_bytes:
                operation.check_large(services.limits, model, request)
            call = operation.decode(request, model)
        except (ServiceError, ValidationError):
            model.statistics.failed()
            raise
        request.decoding = time.perf_counter_ns() - started
        return call

    def encode(
        self, request: InferenceRequest, model: LoadedModel, call: Call, outputs: Array
    ) -> InferenceResponse:
        """Return the response for the outputs of a call, and count its rows and durations."""
        started = time.perf_counter_ns()
        response = call.encode(outputs)
        rows = len(outputs)
        model.statistics.coded(rows, request.decoding, time.perf_counter_ns() - started)
        if self.services is not None:
            self.services.metrics.rows(rows)
        return response

    def finish(self, request: InferenceRequest, response: InferenceResponse) -> FinishedResponse:
        """Count a request, and return its response with the headers that every response has."""
        body, own, status = response
        headers = b"%scontent-length: %d\r\nx-request-id: %s\r\n%s" % (
            _encode_headers(own),
            len(body),
            request.id.encode(),
            COMMON_HEADERS,
        )
        services = self.services
        if services is not None:
            if services.cors_origins and allows_origin(services, request.headers):
                headers = headers.replace(b"same-origin", b"cross-origin", 1)
            seconds = time.perf_counter() - request.started
            services.metrics.request("POST", request.operation.path, status, seconds)
            if services.closing.is_set():
                headers += CLOSE
        if request.span is not None:
            tracing.end_span(request, status)
        return FinishedResponse(status, headers, body)

    def error(self, request: InferenceRequest, error: Exception) -> FinishedResponse:
        """Return the finished response for an error, in the form of the request's protocol."""
        request_id.set(request.id)
        context = errors.ErrorContext(self._protocols, request.path, request.id)
        if isinstance(error, ServiceError):
            response = errors.service_error(context, error)
        elif isinstance(error, ValidationError):
            response = errors.validation_error(context, error, _json_of(request))
        else:
            log.error("unexpected error in the inference pipeline", exc_info=error)
            response = errors.internal_error(context)
        return self.finish(request, _of(response))

    def start(self, request: InferenceRequest, respond: Callable[[FinishedResponse], None]) -> bool:
        """Answer a request whose body has arrived, at the end of this event-loop iteration.

        Returns
        -------
        bool
            False, with nothing answered, if the request must wait for something.
        """
        services = self.services
        if services is None or services.closing.is_set():
            return False
        try:
            self.authenticate(request, services)
            if request.lookup is not None:
                return False
            caller = _caller(request)
            inference = services.inference
            model = inference.get_loaded(caller.tenant, request.network, request.version)
            if model is None:
                return False
            if request.operation.check_model is not None:
                request.operation.check_model(services, model, request.network or "")
            call = self.decode(request, model, services)
            if not fits_inline(model, call.rows):
                return False
            respond_to = partial(self._respond, request, model, call, respond)
            inference.submit(model, call.rows, respond_to)
        except Exception as error:  # noqa: BLE001 - every error is answered
            respond(self.error(request, error))
        return True

    def _respond(
        self,
        request: InferenceRequest,
        model: LoadedModel,
        call: Call,
        respond: Callable[[FinishedResponse], None],
        outputs: Array | Exception,
    ) -> None:
        """Respond with the outputs, or with an error."""
        try:
            if isinstance(outputs, Exception):
                response = self.error(request, outputs)
            else:
                response = self.finish(request, self.encode(request, model, call, outputs))
        except Exception as error:  # noqa: BLE001 - every error is answered
            response = self.error(request, error)
        try:
            respond(response)
        except Exception:
            log.exception("cannot write a response")

    async def handle(self, request: InferenceRequest, http: Request) -> FinishedResponse:
        """Return the response to a request, whatever it must wait for."""
        services = self.services
        assert services is not None  # noqa: S101 - without services, `match` returns None
        if request.rejection is not None:
            return self.error(request, request.rejection)
        try:
            self.authenticate(request, services)
            caller = _caller(request)
            if request.lookup is not None:  # an admin acts for the tenant of the network
                tenant = await services.authenticator.tenant_of(request.lookup)
                caller = caller if tenant is None else replace(caller, tenant=tenant)
            model = await services.inference.load(caller.tenant, request.network, request.version)
            if request.operation.check_model is not None:
                request.operation.check_model(services, model, request.network or "")
            limit: int = getattr(services.limits, request.operation.limit)

            def decode(body: bytes) -> Call:
                request.body = body
                return self.decode(request, model, services)

            body = await read_body(http, limit)
            call = await services.large_bodies.decode(body, limit, decode)
            encode = partial(self.encode, request, model, call)
            response = await services.inference.predict(model, call.rows, encode)
        except ClientDisconnect:
            raise
        except ServiceError as error:
            request.body = b""  # before another large body takes its place in memory
            return self.error(request, error)
        except Exception as error:  # noqa: BLE001 - every error is answered
            return self.error(request, error)
        return self.finish(request, response)


@lru_cache(CACHED_HEADERS)
def _encode_headers(headers: Headers) -> bytes:
    """Return headers as they are sent. Cached, because most responses have the same ones."""
    return b"".join([b"%s: %s\r\n" % header for header in headers])


def _pattern(template: str) -> re.Pattern[str]:
    """Return the pattern of a path template."""
    parts = re.split(r"({\w+})", template)
    return re.compile(
        "".join("([^/]+)" if part.startswith("{") else re.escape(part) for part in parts)
    )


def _caller(request: InferenceRequest) -> Caller:
    assert request.caller is not None  # noqa: S101 - authenticated before
    return request.caller


def _json_of(request: InferenceRequest) -> object:
    """Return the value of a JSON body, for the pointers of errors in it."""
    return parse_json(request.body)


def _of(response: Response) -> InferenceResponse:
    """Convert a response of the framework; `finish` computes its length again."""
    headers = (header for header in response.raw_headers if header[0] != b"content-length")
    return InferenceResponse(bytes(response.body), tuple(headers), response.status_code)
