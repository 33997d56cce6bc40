"""Settings: every one can be given as NEUROND_<NAME> in the environment."""

import difflib
import math
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AliasChoices, Field, SecretStr, StringConstraints, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Protocol(StrEnum):
    """Inference protocols that others made."""

    OPEN_INFERENCE = "open_inference"
    KSERVE_V1 = "kserve_v1"
    SAGEMAKER = "sagemaker"
    VERTEX = "vertex"
    MLFLOW = "mlflow"
    AZURE_ML = "azure_ml"


CPU_MAX: Final = Path("/sys/fs/cgroup/cpu.max")
"""Where a container's share of the CPU is told: quota and period in microseconds, or "max"."""


def cores() -> int:
    """Return how many cores this process may keep busy, going by its affinity and its quota."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = CPU_MAX.read_text().split()
        return max(1, min(allowed, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or no quota
        return allowed


def default_workers() -> int:
    """Return one less than the cores this process may use, at least one."""
    return max(1, cores() - 1)


PREFIX: Final = "NEUROND_"

CLIENT_VARIABLES: Final = frozenset({"NEUROND_API_KEY", "NEUROND_URL"})
"""Environment variables that clients of the server read."""

Route = Annotated[str, StringConstraints(pattern="^/")]


class Settings(BaseSettings):
    """What can be set; the reference page is made from these descriptions."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, populate_by_name=True, env_ignore_empty=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(
        8000,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("NEUROND_PORT", "AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT"),
        description="Port to listen on; 0 picks a free one. AIP_HTTP_PORT (Vertex AI) and "
        "SAGEMAKER_BIND_TO_PORT set it too.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="PostgreSQL instead of SQLite: postgresql://user:password@host/name; takes "
        "neurond[postgres].",
    )
    data_dir: Path = Field(
        Path("neurond-data"),
        description="Folder that holds everything: the database, weights, datasets, checkpoints.",
    )
    workers: int = Field(
        default_factory=default_workers,
        ge=1,
        le=256,
        description="Trainings that run at the same time, each in a process of its own.",
    )
    worker_memory_bytes: int = Field(
        8 << 30,
        ge=0,
        description="Address space of a worker; 0 is no limit. Beyond, its job fails.",
    )
    log_level: str = Field("info", description="debug, info, warning or error.")
    telemetry: bool = Field(
        default=False,
        description="Send traces where the OTEL_* variables say; takes neurond[telemetry], and "
        "time on the hot path.",
    )
    access_log: bool = Field(
        default=False, description="Log every request; costs time on the hot path."
    )
    model_cache_bytes: int = Field(
        256 << 20, ge=0, description="Memory for loaded networks; the least recently used go out."
    )
    shutdown_grace_seconds: float = Field(
        20.0, ge=0.0, description="How long requests in flight may take to end at a shutdown."
    )
    drain_seconds: float = Field(
        0.5,
        ge=0.0,
        description="How long /readyz answers 503 before the server stops accepting connections.",
    )
    allow_anonymous: bool = Field(
        default=False,
        description="Answer everyone while there is no key, also on other addresses than loopback.",
    )
    bootstrap_key: SecretStr | None = Field(
        None,
        description="An admin key that is made at start where there is none: "
        "nrd_<12 hexadecimal digits>_<at least 22 signs>.",
    )
    bootstrap_key_file: Path | None = Field(
        None,
        description="File with such a key; where it does not exist and there is no key yet, "
        "one is drawn and written there.",
    )
    default_network: str | None = Field(
        None,
        description="Network that answers where a protocol names none; else the only one there is.",
    )
    protocols: frozenset[Protocol] = Field(
        frozenset(Protocol),
        description="Protocols that are spoken beside the native one, as a JSON list.",
    )
    model_dir: Path | None = Field(
        None,
        description="Folder whose weights documents become networks at start, "
        "each named after its file.",
    )
    aip_health_route: Route | None = Field(
        None,
        validation_alias="AIP_HEALTH_ROUTE",
        description="Vertex AI: path of the health check.",
    )
    aip_predict_route: Route | None = Field(
        None, validation_alias="AIP_PREDICT_ROUTE", description="Vertex AI: path of predictions."
    )
    rate_limit_read: float = Field(
        100.0, ge=0.0, description="Reads a second for each key, twice that at once; 0 is no limit."
    )
    rate_limit_write: float = Field(
        60.0, ge=0.0, description="Changes a second for each key; 0 is no limit."
    )
    rate_limit_upload: float = Field(
        30.0, ge=0.0, description="Files and weights taken a second for each key; 0 is no limit."
    )
    rate_limit_auth_failures: float = Field(
        1000.0,
        ge=0.0,
        description="Requests a second without a valid key that are answered 401 to one address, "
        "and 429 beyond; those with a valid key are answered all the same. 0 is no limit.",
    )
    rate_limit_predict: float = Field(
        0.0, ge=0.0, description="Predictions a second for each key; 0 is no limit."
    )
    max_streams: int = Field(1200, ge=1, description="Event streams at a time, in all.")
    max_streams_per_tenant: int = Field(
        1200, ge=1, description="Event streams at a time for one tenant."
    )
    max_connections: int = Field(
        4096, ge=1, description="Connections at a time; beyond, requests are answered 503."
    )
    max_json_bytes: int = Field(8 << 20, ge=1024, description="Longest JSON body.")
    max_inference_bytes: int = Field(
        32 << 20, ge=1024, description="Longest body of an inference protocol, unpacked."
    )
    max_weights_bytes: int = Field(
        64 << 20, ge=1024, description="Longest weights document or file."
    )
    max_dataset_bytes: int = Field(256 << 20, ge=1024, description="Longest dataset upload.")
    max_layers: int = Field(16, ge=1, le=1000, description="Most layers of a network.")
    max_width: int = Field(
        4096,
        ge=1,
        le=65_536,  # limits.WIDEST
        description="Most inputs, columns or classes of a dataset, or units of a layer.",
    )
    max_parameters: int = Field(2_000_000, ge=1, description="Most parameters of a network.")
    max_epochs: int = Field(100_000, ge=1, description="Most epochs of a job.")
    max_rows_per_call: int = Field(
        10_000, ge=1, le=100_000, description="Most rows of one inference call."
    )
    max_queued_jobs: int = Field(10_000, ge=1, description="Most queued jobs in all.")
    max_queued_jobs_per_tenant: int = Field(
        1000, ge=1, description="Most queued jobs of a tenant, where there are keys."
    )
    max_running_jobs_per_tenant: int | None = Field(
        default=None, ge=1, description="Most running jobs of a tenant; as many as can run."
    )
    max_attempts: int = Field(
        3, ge=1, description="Attempts at a job whose worker is lost, before it fails."
    )

    @model_validator(mode="before")
    @classmethod
    def reject_unknown_variables(cls, values: Any) -> Any:
        """Reject a variable that starts with NEUROND_ and is not a setting: a typo, mostly."""
        known = {PREFIX + name.upper() for name in cls.model_fields} | CLIENT_VARIABLES
        known -= {"NEUROND_AIP_HEALTH_ROUTE", "NEUROND_AIP_PREDICT_ROUTE"}
        for name in os.environ:
            if name.startswith(PREFIX) and name not in known:
                nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
                message = f"unknown setting {name}; did you mean {nearest}?"
                raise ValueError(message)
        return values
