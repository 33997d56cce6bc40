"""The newest snapshots of networks that are training: the version `live`."""

from dataclasses import dataclass
from typing import Final, final

from core import tensors
from core.network import Network as Engine
from service.application.attempts import Snapshot
from service.application.ports import BlobCorrupt, Blobs, Store
from service.domain.networks import Network

ELSEWHERE_KEPT: Final = 16
"""Snapshots of jobs that other servers train."""


@dataclass(frozen=True, slots=True)
class Live:
    """A snapshot and the job that it is of."""

    job_id: str
    base_version: int
    snapshot: Snapshot


@final
class LiveBoard:
    """The snapshots by network.

    Parameters
    ----------
    alone
        Whether no other server can be training one of the networks.
    """

    def __init__(self, store: Store, blobs: Blobs, *, alone: bool) -> None:
        self._store, self._blobs, self._alone = store, blobs, alone
        self._boards: dict[str, Live] = {}
        self._elsewhere: dict[str, tuple[str, Live]] = {}

    def post(self, network_id: str, live: Live) -> None:
        """Show a newer snapshot."""
        self._boards[network_id] = live

    def clear(self, network_id: str, job_id: str) -> None:
        """Take a job's snapshot down."""
        live = self._boards.get(network_id)
        if live is not None and live.job_id == job_id:
            del self._boards[network_id]

    def get(self, network_id: str) -> Live | None:
        """Return the newest snapshot that was seen."""
        _, seen = self._elsewhere.get(network_id, ("", None))
        return self._boards.get(network_id, seen)

    async def look(self, network: Network) -> Live | None:
        """Return the newest snapshot; the latest checkpoint of a job that another server trains."""
        if not self._alone and network.id not in self._boards:
            await self._look_elsewhere(network)
        return self.get(network.id)

    async def _look_elsewhere(self, network: Network) -> None:
        async with self._store.read() as work:
            held = [job for job in await work.jobs.held_by(None) if job.network_id == network.id]
            latest = (await work.checkpoints.of(held[0].id))[:1] if held else []
        if not latest:
            self._elsewhere.pop(network.id, None)
            return
        [checkpoint] = latest
        if checkpoint.id == self._elsewhere.get(network.id, ("", None))[0]:
            return
        try:
            arrays, _ = tensors.decode(await self._blobs.get(checkpoint.blob))
        except BlobCorrupt:  # pruned and swept, or damaged: what was seen before still holds
            return
        engine = Engine.from_spec(network.spec())
        engine.parameters[:] = arrays["parameters"]
        snapshot = Snapshot(checkpoint.epoch, engine.to_bytes(), checkpoint.preprocessing)
        live = Live(held[0].id, held[0].base_version, snapshot)
        self._elsewhere[network.id] = (checkpoint.id, live)
        if len(self._elsewhere) > ELSEWHERE_KEPT:
            del self._elsewhere[next(iter(self._elsewhere))]
