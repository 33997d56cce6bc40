"""The newest snapshots of networks that are training: the version `live`."""

from dataclasses import dataclass
from typing import Final, final

from core import safetensors as tensors
from core.network import Network
from service.application.ports import BlobCorruptError, BlobStore, Database
from service.application.training.worker_protocol import SnapshotReport
from service.domain.networks import NetworkRecord

MAX_REMOTE_SNAPSHOTS: Final = 16
"""Snapshots of jobs that other servers train."""


@dataclass(frozen=True, slots=True)
class LiveSnapshot:
    """A snapshot and the job that it is of."""

    job_id: str
    base_version: int
    snapshot: SnapshotReport


@final
class LiveSnapshots:
    """The snapshots by network.

    Parameters
    ----------
    alone
        Whether no other server can be training one of the networks.
    """

    def __init__(self, database: Database, blobs: BlobStore, *, alone: bool) -> None:
        self._database, self._blobs, self._alone = database, blobs, alone
        self._boards: dict[str, LiveSnapshot] = {}
        self._remote: dict[str, tuple[str, LiveSnapshot]] = {}

    def publish(self, network_id: str, live: LiveSnapshot) -> None:
        """Show a newer snapshot."""
        self._boards[network_id] = live

    def remove(self, network_id: str, job_id: str) -> None:
        """Take a job's snapshot down."""
        live = self._boards.get(network_id)
        if live is not None and live.job_id == job_id:
            del self._boards[network_id]

    def get(self, network_id: str) -> LiveSnapshot | None:
        """Return the newest snapshot that was seen."""
        _, seen = self._remote.get(network_id, ("", None))
        return self._boards.get(network_id, seen)

    async def load(self, network: NetworkRecord) -> LiveSnapshot | None:
        """Return the newest snapshot; the latest checkpoint of a job that another server trains."""
        if not self._alone and network.id not in self._boards:
            await self._load_remote(network)
        return self.get(network.id)

    async def _load_remote(self, network: NetworkRecord) -> None:
        async with self._database.read() as work:
            held = [job for job in await work.jobs.leased_by(None) if job.network_id == network.id]
            latest = (await work.checkpoints.of(held[0].id))[:1] if held else []
        if not latest:
            self._remote.pop(network.id, None)
            return
        [checkpoint] = latest
        if checkpoint.id == self._remote.get(network.id, ("", None))[0]:
            return
        try:
            arrays, _ = tensors.decode(await self._blobs.get(checkpoint.blob))
        except BlobCorruptError:  # pruned and swept, or damaged: what was seen before still holds
            return
        engine = Network.from_spec(network.spec())
        engine.parameters[:] = arrays["parameters"]
        snapshot = SnapshotReport(checkpoint.epoch, engine.to_bytes(), checkpoint.preprocessing)
        live = LiveSnapshot(held[0].id, held[0].base_version, snapshot)
        self._remote[network.id] = (checkpoint.id, live)
        if len(self._remote) > MAX_REMOTE_SNAPSHOTS:
            del self._remote[next(iter(self._remote))]
