"""Monitoring."""

from typing import Protocol


class Metrics(Protocol):
    """Records metrics for monitoring."""

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""

    def rows(self, count: int) -> None:
        """Count predicted rows."""

    def gauge(self, name: str, help_text: str, values: dict[str, float], label: str = "") -> None:
        """Set a gauge, with one value for each value of the label."""

    def counter(self, name: str, help_text: str, value: float) -> None:
        """Set a counter to a value that is counted elsewhere."""

    def lag(self, seconds: float) -> None:
        """Record how much later than scheduled a callback of the event loop ran."""

    def text(self) -> bytes:
        """Return all metrics in the Prometheus text format."""
