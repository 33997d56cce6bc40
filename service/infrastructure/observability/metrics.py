"""What Prometheus is told."""

from typing import Final, final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@final
class Prometheus:
    """See `service.api.dependencies.Metrics`.

    Children are kept by their labels, which are bounded: templates of routes, never paths.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "http_server_request_duration_seconds",
            "Time from a request's head to its answer's head.",
            ("method", "route", "status"),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._rows = Counter(
            "neurond_rows_answered_total", "Rows that networks answered.", registry=self._registry
        )
        self._gauges: dict[str, Gauge] = {}
        self._children: dict[tuple[str, str, int], Histogram] = {}

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        key = (method, route, status)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._requests.labels(method, route, str(status))
        child.observe(seconds)

    def rows(self, count: int) -> None:
        """Count rows that were answered."""
        self._rows.inc(count)

    def gauge(self, name: str, help_text: str, values: dict[str, float], label: str = "") -> None:
        """Set a gauge, or one for each value of a label."""
        gauge = self._gauges.get(name)
        if gauge is None:
            labels = (label,) if label else ()
            gauge = self._gauges[name] = Gauge(name, help_text, labels, registry=self._registry)
        for key, value in values.items():
            (gauge.labels(key) if label else gauge).set(value)

    def text(self) -> bytes:
        """Return everything in the text format."""
        return generate_latest(self._registry)
