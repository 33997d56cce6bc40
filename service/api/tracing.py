"""Spans of inference requests; FastAPI creates those of all other requests."""

from typing import Final

from opentelemetry import propagate, trace
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import SpanKind, StatusCode

from service.api.protocols.base import InferenceRequest

_tracer: Final = trace.get_tracer("neurond")


class _Headers(Getter[InferenceRequest]):
    """Reads the trace context from the headers of a request."""

    def get(self, carrier: InferenceRequest, key: str) -> list[str] | None:
        value = carrier.header(key.lower().encode())
        return None if value is None else [value]

    def keys(self, carrier: InferenceRequest) -> list[str]:
        return [name.decode("latin-1") for name in carrier.headers]


_getter: Final = _Headers()


def start_span(request: InferenceRequest) -> trace.Span:
    """Return a span that is a child of the client's; names follow OpenTelemetry's conventions."""
    return _tracer.start_span(
        f"POST {request.operation.path}",
        context=propagate.extract(request, getter=_getter),
        kind=SpanKind.SERVER,
        attributes={
            "http.request.method": "POST",
            "http.route": request.operation.path,
            "url.path": request.path,
            "url.scheme": "http",
        },
    )


def end_span(request: InferenceRequest, status: int) -> None:
    """End the span of a request."""
    span = request.span
    if span is not None:
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end()
