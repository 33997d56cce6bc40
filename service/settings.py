"""Settings, read from the environment variables NEUROND_<NAME>."""

import difflib
import json
import math
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import (
    AliasChoices,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.domain.limits import DEFAULT_LIMITS, MAX_WIDTH


class Protocol(StrEnum):
    """Third-party inference protocols."""

    OPEN_INFERENCE = "open_inference"
    KSERVE_V1 = "kserve_v1"
    SAGEMAKER = "sagemaker"
    VERTEX = "vertex"
    MLFLOW = "mlflow"
    AZURE_ML = "azure_ml"


CPU_MAX: Final = Path("/sys/fs/cgroup/cpu.max")
"""The container's CPU limit: quota and period in microseconds, or "max"."""


def cores() -> int:
    """Return the number of cores that CPU affinity and quota allow this process to use."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = CPU_MAX.read_text().split()
        return max(1, min(allowed, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or no quota
        return allowed


def default_workers() -> int:
    """Return the number of available cores minus one, at least one."""
    return max(1, cores() - 1)


PREFIX: Final = "NEUROND_"

CLIENT_VARIABLES: Final = frozenset({"NEUROND_API_KEY", "NEUROND_URL"})
"""Environment variables that clients of the server read."""

Origin = Annotated[
    str,
    StringConstraints(
        pattern=r"^https?://[A-Za-z0-9.\-]+(:[0-9]{1,5})?$|^https?://\[[0-9a-f:]+\](:[0-9]{1,5})?$"
    ),
]
Route = Annotated[str, StringConstraints(pattern="^/")]


class Settings(BaseSettings):
    """All settings of the server; the reference page is generated from the descriptions."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, populate_by_name=True, env_ignore_empty=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(
        8000,
        ge=0,
        le=65535,
        validation_alias=AliasChoices("NEUROND_PORT", "AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT"),
        description="Port to listen on; 0 chooses a free one. AIP_HTTP_PORT (Vertex AI) and "
        "SAGEMAKER_BIND_TO_PORT are accepted as well.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="URL of a PostgreSQL database, postgresql://user:password@host/name; SQLite "
        "in the data directory by default. Requires the extra neurond[postgres].",
    )
    data_dir: Path = Field(
        Path("neurond-data"),
        description="Directory for all data: the database, weights, datasets and checkpoints.",
    )
    workers: int = Field(
        default_factory=default_workers,
        ge=1,
        le=256,
        description="Number of jobs that train at the same time, each in its own process.",
    )
    worker_memory_bytes: int = Field(
        8 << 30,
        ge=0,
        description="Maximum address space of a worker process, in bytes; 0 disables the limit. A "
        "job that exceeds it fails.",
    )
    log_level: str = Field(
        "info", description="Minimum level of log lines: debug, info, warning or error."
    )
    telemetry: bool = Field(
        default=False,
        description="Export traces as configured by the OTEL_* variables. Requires the extra "
        "neurond[telemetry]. Increases the latency of every request.",
    )
    access_log: bool = Field(
        default=False, description="Log every request. Increases the latency of every request."
    )
    model_cache_bytes: int = Field(
        256 << 20,
        ge=0,
        description="Memory for loaded networks, in bytes. Least recently used networks are "
        "evicted.",
    )
    shutdown_grace_seconds: float = Field(
        20.0,
        ge=0.0,
        description="Seconds that running requests are given to finish at shutdown.",
    )
    drain_seconds: float = Field(
        0.5,
        ge=0.0,
        description="Seconds that /readyz answers 503 at shutdown before the server stops "
        "accepting connections.",
    )
    allow_anonymous: bool = Field(
        default=False,
        description="While no API key exists, give every client full access, and allow the server "
        "to listen on an address that other machines can reach.",
    )
    cors_origins: Annotated[frozenset[Origin], NoDecode] = Field(
        frozenset(),
        description="Origins whose pages may use the API in a browser, separated by commas: "
        "https://app.example. None by default.",
    )
    bootstrap_key: SecretStr | None = Field(
        None,
        description="Admin key to create at start if no API key exists: "
        "nrd_<12 hexadecimal digits>_<at least 22 characters>.",
    )
    bootstrap_key_file: Path | None = Field(
        None,
        description="File with the admin key to create at start if no API key exists. If the "
        "file does not exist either, a key is generated and written to it.",
    )
    metrics_key_file: Path | None = Field(
        None,
        description="File with a key that can only read /metrics. If keys exist and the file does "
        "not, a key is generated and written to it at start.",
    )
    default_network: str | None = Field(
        None,
        description="Network for protocols whose requests do not name one. By default, the only "
        "network if there is exactly one.",
    )
    protocols: frozenset[Protocol] = Field(
        frozenset(Protocol),
        description="Inference protocols to serve in addition to the native API, as a JSON list; "
        "all by default.",
    )
    model_dir: Path | None = Field(
        None,
        description="Directory of weights documents to import as networks at start, each named "
        "after its file.",
    )
    aip_health_route: Route | None = Field(
        None,
        validation_alias="AIP_HEALTH_ROUTE",
        description="Path of the health check for Vertex AI.",
    )
    aip_predict_route: Route | None = Field(
        None,
        validation_alias="AIP_PREDICT_ROUTE",
        description="Path of predictions for Vertex AI.",
    )
    rate_limit_read: float = Field(
        100.0,
        ge=0.0,
        description="Read requests per second and key; 0 disables the limit. As with every rate "
        "limit, bursts of twice this number are allowed.",
    )
    rate_limit_write: float = Field(
        60.0,
        ge=0.0,
        description="Write requests per second and key; 0 disables the limit.",
    )
    rate_limit_upload: float = Field(
        30.0,
        ge=0.0,
        description="Uploads of files and weights per second and key; 0 disables the limit.",
    )
    rate_limit_auth_failures: float = Field(
        1000.0,
        ge=0.0,
        description="Requests without a valid key per second and client address that are answered "
        "401; further ones are answered 429. Requests with a valid key are not affected. 0 "
        "disables the limit.",
    )
    rate_limit_predict: float = Field(
        0.0,
        ge=0.0,
        description="Prediction requests per second and key; 0, the default, disables the limit.",
    )
    max_streams: int = Field(
        1200, ge=1, description="Maximum concurrent event streams of all tenants together."
    )
    max_streams_per_tenant: int = Field(
        1200, ge=1, description="Maximum concurrent event streams per tenant."
    )
    max_connections: int = Field(
        4096,
        ge=1,
        description="Maximum concurrent connections; requests on further ones are answered 503.",
    )
    max_json_bytes: int = Field(
        DEFAULT_LIMITS.json_bytes, ge=1024, description="Maximum size of a JSON body, in bytes."
    )
    max_inference_bytes: int = Field(
        DEFAULT_LIMITS.inference_bytes,
        ge=1024,
        description="Maximum size of a request body of an inference protocol after decompression, "
        "in bytes.",
    )
    max_decoding_bytes: int = Field(
        48 << 20,
        ge=1024,
        description="Maximum total size of the large bodies that are decoded at the same time, in "
        "bytes; others wait. A compressed body counts as the maximum size of its kind.",
    )
    max_weights_bytes: int = Field(
        DEFAULT_LIMITS.weights_bytes,
        ge=1024,
        description="Maximum size of a weights document or file, in bytes.",
    )
    max_dataset_bytes: int = Field(
        DEFAULT_LIMITS.dataset_bytes,
        ge=1024,
        description="Maximum size of a dataset upload, in bytes.",
    )
    max_layers: int = Field(
        DEFAULT_LIMITS.layers, ge=1, le=1000, description="Maximum layers of a network."
    )
    max_width: int = Field(
        DEFAULT_LIMITS.width,
        ge=1,
        le=MAX_WIDTH,
        description="Maximum inputs of a network, units of a layer, and columns or classes of a "
        "dataset.",
    )
    max_parameters: int = Field(
        DEFAULT_LIMITS.parameters, ge=1, description="Maximum parameters of a network."
    )
    max_epochs: int = Field(DEFAULT_LIMITS.epochs, ge=1, description="Maximum epochs of a job.")
    max_rows_per_call: int = Field(
        DEFAULT_LIMITS.rows_per_call,
        ge=1,
        le=100_000,
        description="Maximum rows of one inference call.",
    )
    max_queued_jobs: int = Field(
        DEFAULT_LIMITS.queued_jobs, ge=1, description="Maximum queued jobs of all tenants together."
    )
    max_queued_jobs_per_tenant: int = Field(
        DEFAULT_LIMITS.queued_jobs_per_tenant,
        ge=1,
        description="Maximum queued jobs per tenant; not applied while no API key exists.",
    )
    max_running_jobs_per_tenant: int | None = Field(
        default=None,
        ge=1,
        description="Maximum running jobs per tenant; unlimited by default.",
    )
    quota_bytes: int | None = Field(
        None,
        ge=0,
        description="Maximum bytes of weights, datasets and checkpoints per tenant; unlimited by "
        "default. As with every quota, a key can set another value for its tenant.",
    )
    quota_networks: int | None = Field(
        None, ge=0, description="Maximum networks per tenant; unlimited by default."
    )
    quota_datasets: int | None = Field(
        None, ge=0, description="Maximum datasets per tenant; unlimited by default."
    )
    retain_checkpoints_days: float | None = Field(
        0.0,
        ge=0.0,
        description="Days for which the automatic checkpoints of an ended job are retained; 0 "
        "deletes them when it ends. The last one of a job that was cancelled or failed is retained "
        "for at least 7 days, and requested ones as long as the job. As with every retention "
        "period, an empty JSON value (null) means for ever.",
    )
    retain_events_days: float | None = Field(
        None,
        ge=0.0,
        description="Days for which the epochs and messages of an ended job are retained; for "
        "ever by default.",
    )
    retain_boundary_frames_days: float | None = Field(
        7.0, ge=0.0, description="Days for which the boundary frames of an ended job are retained."
    )
    retain_jobs_days: float | None = Field(
        None, ge=0.0, description="Days for which ended jobs are retained; for ever by default."
    )
    retain_inline_datasets_days: float | None = Field(
        1.0,
        ge=0.0,
        description="Days for which rows that were sent with a job are retained after the job was "
        "deleted.",
    )
    retain_demos_days: float | None = Field(
        7.0, ge=0.0, description="Days for which networks and jobs of demonstrations are retained."
    )
    max_attempts: int = Field(
        DEFAULT_LIMITS.attempts,
        ge=1,
        description="Maximum attempts at a job whose worker crashes; after the last one the job "
        "fails.",
    )

    @field_validator("cors_origins", mode="before")
    @classmethod
    def split_origins(cls, value: Any) -> Any:
        """Return the origins of a list separated by commas, or of a JSON list."""
        if isinstance(value, str):
            if value.lstrip().startswith("["):
                return json.loads(value)
            return [origin.strip() for origin in value.split(",") if origin.strip()]
        return value

    @model_validator(mode="before")
    @classmethod
    def reject_unknown_variables(cls, values: Any) -> Any:
        """Reject a variable that starts with NEUROND_ and is not a setting, usually a typo."""
        known = {PREFIX + name.upper() for name in cls.model_fields} | CLIENT_VARIABLES
        known -= {"NEUROND_AIP_HEALTH_ROUTE", "NEUROND_AIP_PREDICT_ROUTE"}
        for name in os.environ:
            if name.startswith(PREFIX) and name not in known:
                nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
                message = f"unknown setting {name}; did you mean {nearest}?"
                raise ValueError(message)
        return values
