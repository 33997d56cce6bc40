"""What Prometheus is told."""

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
    """How long requests of one kind took: how many in each bucket, and all together."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    seconds: float = 0.0


@final
class Prometheus(Collector):
    """See `service.api.dependencies.Metrics`.

    Requests are counted in plain numbers, on the event loop alone: the library's own histogram
    takes a lock for each of three numbers, which a small network's answer would feel. Labels are
    bounded: templates of routes, never paths.
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
        """Count rows that were answered."""
        self._rows += count

    def collect(self) -> Iterator[Metric]:
        """Yield what was counted, as the library asks for it."""
        requests = HistogramMetricFamily(
            "http_server_request_duration_seconds",
            "Time from a request's head to its answer's head.",
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
            "neurond_rows_answered", "Rows that networks answered.", self._rows
        )
        for name, (help_text, value) in self._counters.items():
            yield CounterMetricFamily(name, help_text, value)
        yield GaugeMetricFamily(
            "neurond_event_loop_lag_seconds",
            "The longest that something due had to wait since this was last asked for.",
            self._lag,
        )
        self._lag = 0.0

    def gauge(self, name: str, help_text: str, values: dict[str, float], label: str = "") -> None:
        """Set a gauge, or one for each value of a label."""
        gauge = self._gauges.get(name)
        if gauge is None:
            labels = (label,) if label else ()
            gauge = self._gauges[name] = Gauge(name, help_text, labels, registry=self._registry)
        for key, value in values.items():
            (gauge.labels(key) if label else gauge).set(value)

    def counter(self, name: str, help_text: str, value: float) -> None:
        """Set what is counted elsewhere."""
        self._counters[name] = (help_text, value)

    def lag(self, seconds: float) -> None:
        """Note how much later than due something ran on the event loop."""
        self._lag = max(self._lag, seconds)

    def text(self) -> bytes:
        """Return everything in the text format."""
        return generate_latest(self._registry)
