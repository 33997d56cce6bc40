"""Bodies of jobs."""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.api.schemas import Body, Links, Time, links
from service.api.v1.datasets.schemas import Rows, Targets
from service.api.v1.jobs.training_schemas import TrainingBody
from service.api.v1.networks.schemas import (
    LayerBody,
    NetworkBody,
    NetworkOptions,
    VersionBody,
)
from service.application.jobs.jobs import QueuePosition
from service.domain.jobs import Checkpoint, Job, Status, allowed_actions


class DataBody(Body):
    """Where the rows come from: a dataset, or the body itself."""

    dataset: Annotated[str, Field(max_length=200)] | None = None
    inputs: Rows | None = Field(None, min_length=1)
    targets: Targets | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def one_source(self) -> "DataBody":
        """Demand either a dataset or rows."""
        half = (self.inputs is None) != (self.targets is None)
        if half or (self.inputs is not None) == (self.dataset is not None):
            message = "give either a dataset, or inputs and targets"
            raise ValueError(message)
        return self


class CreateJob(DataBody):
    """A training to queue."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"network": "digits", "dataset": "digits-1000", "training": {"epochs": 100}}
            ]
        }
    )

    network: str = Field(max_length=200)
    training: TrainingBody | None = None
    on_duplicate: Literal["reject", "return", "replace"] | None = Field(
        None, description="What to do when equal work is queued or running."
    )


class ProgressBody(BaseModel):
    """How far it is."""

    epoch: int
    epochs: int
    fraction: float
    train_loss: float | None
    validation_loss: float | None
    train_accuracy: float | None
    validation_accuracy: float | None
    learning_rate: float | None
    gradient_norm: float | None
    epochs_per_second: float | None
    eta_seconds: float | None
    elapsed_seconds: float
    best_epoch: int | None
    patience_left: int | None


class JobError(BaseModel):
    """Why it failed."""

    code: str
    detail: str


class JobBody(BaseModel):
    """A training."""

    id: str
    network: str
    network_id: str
    dataset: str
    dataset_id: str
    status: Status
    terminal: bool
    stop_reason: str | None
    allowed_actions: list[str]
    queue_position: int | None
    queue_seconds: float | None = Field(
        description="About how long until it begins, going by the latest jobs."
    )
    attempt: int
    base_version: int
    result_version: int | None
    progress: ProgressBody
    training: dict[str, Any]
    created_at: Time
    started_at: Time | None
    finished_at: Time | None
    error: JobError | None
    links: Links


class JobList(BaseModel):
    """A page of jobs, newest first."""

    data: list[JobBody]
    has_more: bool


class CancelledBody(BaseModel):
    """How many jobs were cancelled, or are about to be."""

    cancelled: int


class EstimateBody(BaseModel):
    """What a job would take."""

    valid: bool = True
    parameters: int
    memory_bytes: int
    estimated_seconds: float
    training: dict[str, Any]


class HistoryBody(BaseModel):
    """Epochs as columns of equal length."""

    epoch: list[int]
    train_loss: list[float]
    validation_loss: list[float | None]
    train_accuracy: list[float | None]
    validation_accuracy: list[float | None]
    learning_rate: list[float]
    gradient_norm: list[float | None]
    total_epochs: int
    sampled: bool
    hidden_epochs: int = Field(description="Epochs that the sampling left out.")


class EventBody(BaseModel):
    """One event of a job."""

    id: int
    type: Literal["state", "epoch", "checkpoint", "log", "boundary", "end"]
    data: dict[str, Any]


class EventPage(BaseModel):
    """Some events, oldest first."""

    data: list[EventBody]
    has_more: bool
    last_event_id: int


class CheckpointBody(BaseModel):
    """A saved state of a training."""

    id: str
    epoch: int
    best_epoch: int | None
    train_loss: float | None
    validation_loss: float | None
    created_at: Time


class CheckpointList(BaseModel):
    """The checkpoints that are kept, latest first."""

    data: list[CheckpointBody]
    has_more: bool = False


class FitNetwork(NetworkOptions):
    """What to build where no network is named; what is not told is made to fit the data."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"hidden": [16]}]})

    input_shape: list[Annotated[int, Field(ge=1)]] | None = Field(None, min_length=1, max_length=1)
    layers: list[LayerBody] | None = Field(None, min_length=1, max_length=1000)
    hidden: list[Annotated[int, Field(ge=1)]] | None = Field(
        None, max_length=1000, description="Units of the hidden relu layers, else one of 32."
    )

    @model_validator(mode="after")
    def one_form(self) -> "FitNetwork":
        """Demand that the layers are told once."""
        if self.layers is not None and self.hidden is not None:
            message = "give either layers, or the units of hidden ones"
            raise ValueError(message)
        return self


class FitBody(BaseModel):
    """A network that was trained in this very call."""

    network: NetworkBody
    version: VersionBody
    metrics: dict[str, Any]
    job: JobBody
    classify_url: str


def job_body(job: Job, place: QueuePosition | None = None) -> JobBody:
    """Return a job as it is told."""
    progress = asdict(job.progress)
    if job.terminal:
        progress["eta_seconds"] = None  # nothing more will come
    epochs = job.progress.epochs
    done = job.progress.epoch / epochs if epochs else 0.0
    return JobBody(
        id=job.id,
        network=job.network_name,
        network_id=job.network_id,
        dataset=job.dataset_name,
        dataset_id=job.dataset_id,
        status=job.status,
        terminal=job.terminal,
        stop_reason=job.stop_reason,
        allowed_actions=allowed_actions(job.status),
        queue_position=None if place is None else place.ahead,
        queue_seconds=None if place is None else place.seconds,
        attempt=job.attempt,
        base_version=job.base_version,
        result_version=job.result_version,
        progress=ProgressBody(**progress, fraction=done),
        training=job.training,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        error=None if job.error is None else JobError(**job.error),
        links=links(
            f"/v1/jobs/{job.id}", history="history", events="events", checkpoints="checkpoints"
        ),
    )


def checkpoint_body(checkpoint: Checkpoint) -> CheckpointBody:
    """Return a checkpoint as it is told."""
    return CheckpointBody(
        id=checkpoint.id,
        epoch=checkpoint.epoch,
        best_epoch=checkpoint.best_epoch,
        train_loss=checkpoint.train_loss,
        validation_loss=checkpoint.validation_loss,
        created_at=checkpoint.created_at,
    )
