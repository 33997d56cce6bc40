"""Records that tests of the application layer put into a database."""

from datetime import UTC, datetime

from service.application.jobs.event_bus import EventBus
from service.application.jobs.event_log import JobEventLog
from service.domain.datasets import Dataset
from service.domain.identifiers import new_id
from service.domain.jobs import Job, Progress, Status
from service.domain.networks import NetworkRecord, Version
from service.infrastructure.database.engine import SqlDatabase

TRAINING = {
    "epochs": 10,
    "batch_size": 4,
    "loss": "mse",
    "optimizer": {"type": "sgd"},
    "schedule": {"type": "constant"},
    "validation_fraction": 0.0,
    "early_stopping": None,
    "l2": 0.0,
    "gradient_clip_norm": None,
    "shuffle": True,
    "standardize": False,
    "seed": 1,
    "limits": {"seconds": None, "target_loss": None},
}


async def seeded_job(database: SqlDatabase) -> Job:
    """Store a network, a dataset and a queued job, and return the job."""
    now = datetime.now(UTC)
    network, dataset = new_id("net"), new_id("ds")
    layers = [{"type": "dense", "units": 1, "activation": "linear"}]
    job = Job(
        id=new_id("job"),
        tenant="me",
        network_id=network,
        network_name=network,
        dataset_id=dataset,
        dataset_name=dataset,
        status=Status.QUEUED,
        base_version=0,
        training=TRAINING,
        created_at=now,
        progress=Progress(epochs=10),
    )
    async with database.write() as work:
        await work.networks.add(
            NetworkRecord(network, "me", network, [1], layers, "float32", 1, 2, now)
        )
        await work.versions.add(Version(network, 0, "initial", "0" * 64, now))
        await work.datasets.add(
            Dataset(dataset, "me", dataset, 4, [1], "regression", ["x"], 1, "1" * 64, now)
        )
        return await JobEventLog(EventBus()).create(work, job)
