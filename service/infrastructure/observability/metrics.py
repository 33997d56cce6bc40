"""Metrics for Prometheus."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, final

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@final
@dataclass(slots=True)
class _Durations:
    """Durations of the requests with one set of labels: a count per bucket, and the sum."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0


@final
class Prometheus(Collector):
    """Implements `service.api.dependencies.Metrics`.

    Requests are counted in plain numbers, only on the event loop. The histogram of the library
    acquires three locks per request, a notable cost for predictions of small networks. Labels have
    bounded cardinality, because they are templates of routes and never paths.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._rows = 0
        self._requests: dict[tuple[str, str, int], _Durations] = {}
        self._gauges: dict[str, Gauge] = {}
        self._counters: dict[str, tuple[str, float]] = {}
        self._lag = 0.0
        self._registry.register(self)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        key = (method, route, status)
        durations = self._requests.get(key)
        if durations is None:
            durations = self._requests[key] = _Durations()
        durations.counts[bisect_left(BUCKETS, seconds)] += 1
        durations.seconds += seconds

    def rows(self, count: int) -> None:
        """Count rows of inference requests."""
        self._rows += count

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; the library calls this for each scrape."""
        requests = HistogramMetricFamily(
            "http_server_request_duration_seconds",
            "Seconds from the headers of a request to the headers of its response.",
            labels=("method", "route", "status"),
        )
        for (method, route, status), durations in self._requests.items():
            total, buckets = 0, []
            for bound, count in zip([*map(str, BUCKETS), "+Inf"], durations.counts, strict=True):
                total += count
                buckets.append((bound, total))
            requests.add_metric((method, route, str(status)), buckets, durations.seconds)
        yield requests
        yield CounterMetricFamily(
            "neurond_rows_answered", "Rows of inference requests that were answered.", self._rows
        )
        for name, (help_text, value) in self._counters.items():
            yield CounterMetricFamily(name, help_text, value)
        yield GaugeMetricFamily(
            "neurond_event_loop_lag_seconds",
            "Maximum delay of a callback on the event loop since the last scrape, in seconds.",
            self._lag,
        )
        self._lag = 0.0

    def gauge(self, name: str, help_text: str, values: dict[str, float], label: str = "") -> None:
        """Set a gauge, or one gauge per value of a label."""
        gauge = self._gauges.get(name)
        if gauge is None:
            labels = (label,) if label else ()
            gauge = self._gauges[name] = Gauge(name, help_text, labels, registry=self._registry)
        for key, value in values.items():
            (gauge.labels(key) if label else gauge).set(value)

    def counter(self, name: str, help_text: str, value: float) -> None:
        """Set a counter that is maintained elsewhere."""
        self._counters[name] = (help_text, value)

    def lag(self, seconds: float) -> None:
        """Record the delay of a scheduled callback on the event loop."""
        self._lag = max(self._lag, seconds)

    def text(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
        return generate_latest(self._registry)
