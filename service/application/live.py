"""The newest snapshots of networks that are training: the version `live`."""

from dataclasses import dataclass
from typing import final

from service.application.ports import Snapshot


@dataclass(frozen=True, slots=True)
class Live:
    """A snapshot and the job that it is of."""

    job_id: str
    base_version: int
    snapshot: Snapshot


@final
class LiveBoard:
    """The snapshots by network."""

    def __init__(self) -> None:
        self._boards: dict[str, Live] = {}

    def post(self, network_id: str, live: Live) -> None:
        """Show a newer snapshot."""
        self._boards[network_id] = live

    def clear(self, network_id: str, job_id: str) -> None:
        """Take a job's snapshot down."""
        live = self._boards.get(network_id)
        if live is not None and live.job_id == job_id:
            del self._boards[network_id]

    def get(self, network_id: str) -> Live | None:
        """Return the newest snapshot."""
        return self._boards.get(network_id)
