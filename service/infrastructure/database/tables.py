"""The tables. Rows of a tenant's records have a ``tenant`` column, or refer to one that has."""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)
_Time = DateTime(timezone=True)

networks: Final = Table(
    "networks",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("input_shape", JSON, nullable=False),
    Column("layers", JSON, nullable=False),
    Column("dtype", String(16), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("parameter_count", Integer, nullable=False),
    Column("labels", JSON),
    Column("metadata", JSON, nullable=False),
    Column("latest_version", Integer, nullable=False),
    Column("aliases", JSON, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", _Time, nullable=False),
    Column("demo", Boolean, nullable=False, server_default=false()),
    Column("last_number", Integer, nullable=False, server_default="0"),
    Column("features", JSON),
    UniqueConstraint("tenant", "name"),
)

keys: Final = Table(
    "keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("prefix", String(12), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("created_at", _Time, nullable=False),
    Column("expires_at", _Time),
    Column("revoked_at", _Time),
    Column("quotas", JSON),
    UniqueConstraint("prefix"),
)

versions: Final = Table(
    "versions",
    metadata,
    Column("network_id", ForeignKey("networks.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("origin", String(16), nullable=False),
    Column("weights_sha256", String(64), nullable=False),
    Column("created_at", _Time, nullable=False),
    Column("parent", Integer),
    Column("job_id", String(40)),
    Column("dataset_sha256", String(64)),
    Column("training", JSON),
    Column("metrics", JSON),
    Column("preprocessing", JSON),
)

datasets: Final = Table(
    "datasets",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("input_shape", JSON, nullable=False),
    Column("task", String(16), nullable=False),
    Column("columns", JSON, nullable=False),
    Column("outputs", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("labels", JSON),
    Column("class_counts", JSON),
    Column("hidden", Boolean, nullable=False),
    Column("named", Boolean, nullable=False),
    Column("created_at", _Time, nullable=False),
    UniqueConstraint("tenant", "name"),
)

jobs: Final = Table(
    "jobs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("network_id", String(40), nullable=False),
    Column("network_name", Text, nullable=False),
    Column("dataset_id", String(40), nullable=False),
    Column("dataset_name", Text, nullable=False),
    Column("status", String(16), nullable=False),
    Column("base_version", Integer, nullable=False),
    Column("training", JSON, nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("worker_crashes", Integer, nullable=False),
    Column("stop_reason", String(32)),
    Column("result_version", Integer),
    Column("progress", JSON, nullable=False),
    Column("error", JSON),
    Column("last_event", Integer, nullable=False),
    Column("lease_owner", String(40)),
    Column("lease_until", _Time),
    Column("created_at", _Time, nullable=False),
    Column("started_at", _Time),
    Column("finished_at", _Time),
    Column("split_version", Integer),
    Column("demo", Boolean, nullable=False, server_default=false()),
    Index("ix_jobs_status_id", "status", "id"),
    Index("ix_jobs_status_tenant", "status", "tenant"),
    Index("ix_jobs_tenant_id", "tenant", "id"),
    Index("ix_jobs_network_id", "network_id"),
    Index("ix_jobs_dataset_id", "dataset_id"),
    Index("ix_jobs_fingerprint", "fingerprint"),
)

job_events: Final = Table(
    "job_events",
    metadata,
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("first_id", Integer, primary_key=True),
    Column("last_id", Integer, nullable=False),
    Column("type", String(16), nullable=False),
    Column("data", JSON, nullable=False),
    Index("ix_job_events_job_id_last_id", "job_id", "last_id"),
)

checkpoints: Final = Table(
    "checkpoints",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("blob", String(64), nullable=False),
    Column("created_at", _Time, nullable=False),
    Column("train_loss", Double),
    Column("validation_loss", Double),
    Column("best_epoch", Integer),
    Column("preprocessing", JSON),
    Column("requested", Boolean, nullable=False),
    Column("split_version", Integer),
    Index("ix_checkpoints_job_id_epoch", "job_id", "epoch"),
)

idempotency: Final = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("fingerprint", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("created_at", _Time, nullable=False, index=True),
)

BLOBS: Final = {
    versions.c.weights_sha256: "version {number} of {network_id}",
    datasets.c.sha256: "dataset {id}",
    checkpoints.c.blob: "checkpoint {id} of {job_id}",
}
"""Every column that names a blob, with a format string that describes its row."""
