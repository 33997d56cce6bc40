"""The latest snapshots of networks in training, served as the version `live`."""

from dataclasses import dataclass
from typing import Final, final

from core import safetensors as tensors
from core.network import Network
from service.application.ports.blobs import BlobCorruptError, BlobStore
from service.application.ports.database import Database
from service.application.training.worker_protocol import SnapshotReport
from service.domain.networks import NetworkRecord

MAX_REMOTE_SNAPSHOTS: Final = 16
"""Maximum number of snapshots of jobs on other servers."""


@dataclass(frozen=True, slots=True)
class LiveSnapshot:
    """A snapshot and its job."""

    job_id: str
    base_version: int
    snapshot: SnapshotReport


@final
class LiveSnapshots:
    """The latest snapshot of each network in training.

    Parameters
    ----------
    alone
        True if no other server can train one of the networks.
    """

    def __init__(self, database: Database, blobs: BlobStore, *, alone: bool) -> None:
        self._database, self._blobs, self._alone = database, blobs, alone
        self._local: dict[str, LiveSnapshot] = {}
        self._remote: dict[str, tuple[str, LiveSnapshot]] = {}

    def publish(self, network_id: str, live: LiveSnapshot) -> None:
        """Replace a network's snapshot by a newer one."""
        self._local[network_id] = live

    def remove(self, network_id: str, job_id: str) -> None:
        """Remove a job's snapshot."""
        live = self._local.get(network_id)
        if live is not None and live.job_id == job_id:
            del self._local[network_id]

    def get(self, network_id: str) -> LiveSnapshot | None:
        """Return the latest known snapshot, without reading the database."""
        _, remote = self._remote.get(network_id, ("", None))
        return self._local.get(network_id, remote)

    async def load(self, network: NetworkRecord) -> LiveSnapshot | None:
        """Return the latest snapshot; for a job on another server, its latest checkpoint."""
        if not self._alone and network.id not in self._local:
            await self._load_remote(network)
        return self.get(network.id)

    async def _load_remote(self, network: NetworkRecord) -> None:
        async with self._database.read() as work:
            leased = await work.jobs.leased_by(None)
            jobs = [job for job in leased if job.network_id == network.id]
            latest = (await work.checkpoints.of(jobs[0].id))[:1] if jobs else []
        if not latest:
            self._remote.pop(network.id, None)
            return
        [checkpoint] = latest
        if checkpoint.id == self._remote.get(network.id, ("", None))[0]:
            return
        try:
            arrays, _ = tensors.decode(await self._blobs.get(checkpoint.blob))
        except BlobCorruptError:  # deleted or corrupt: the previous snapshot remains
            return
        neural_network = Network.from_config(network.config())
        neural_network.parameters[:] = arrays["parameters"]
        weights = neural_network.to_bytes()
        snapshot = SnapshotReport(checkpoint.epoch, weights, checkpoint.preprocessing)
        live = LiveSnapshot(jobs[0].id, jobs[0].base_version, snapshot)
        self._remote[network.id] = (checkpoint.id, live)
        if len(self._remote) > MAX_REMOTE_SNAPSHOTS:
            del self._remote[next(iter(self._remote))]
