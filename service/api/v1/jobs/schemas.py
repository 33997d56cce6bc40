"""Request and response bodies of jobs."""

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
    """The data to train on: either a dataset, or inputs and targets in the body."""

    dataset: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="Id or name of the dataset."
    )
    inputs: Rows | None = Field(None, min_length=1, description="Rows of numbers.")
    targets: Targets | None = Field(None, min_length=1, description="One target for each row.")

    @model_validator(mode="after")
    def check_source(self) -> "DataBody":
        """Raise ValueError unless there is exactly one source of data."""
        incomplete = (self.inputs is None) != (self.targets is None)
        if incomplete or (self.inputs is not None) == (self.dataset is not None):
            message = "expected either a dataset, or inputs and targets"
            raise ValueError(message)
        return self


class CreateJob(DataBody):
    """A training job to queue."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"network": "digits", "dataset": "digits-1000", "training": {"epochs": 100}}
            ]
        }
    )

    network: str = Field(max_length=200, description="Id or name of the network.")
    training: TrainingBody | None = Field(
        None, description="Training configuration. Missing values get defaults."
    )
    on_duplicate: Literal["reject", "return", "replace"] | None = Field(
        None,
        description="How to handle an equal job that is queued or running: reject the request, "
        "return the existing job, or cancel and replace it. By default it is ignored.",
    )
    demo: bool = Field(
        default=False,
        description="True for a demonstration: these run one at a time, and are deleted after a "
        "week by default.",
    )


class ProgressBody(BaseModel):
    """The progress of a job; losses and metrics are null before the first epoch."""

    epoch: int
    epochs: int
    fraction: float = Field(description="Completed epochs divided by all epochs.")
    train_loss: float | None
    validation_loss: float | None
    train_accuracy: float | None
    validation_accuracy: float | None
    learning_rate: float | None
    gradient_norm: float | None
    epochs_per_second: float | None
    eta_seconds: float | None = Field(
        description="Estimated seconds until the job ends; null if unknown, or if it has ended."
    )
    elapsed_seconds: float
    best_epoch: int | None
    patience_left: int | None = Field(
        description="Epochs without improvement until early stopping; null if it is disabled."
    )


class JobError(BaseModel):
    """The reason why a job failed."""

    code: str
    detail: str


class JobBody(BaseModel):
    """A training job."""

    id: str
    network: str
    network_id: str
    dataset: str
    dataset_id: str
    status: Status
    terminal: bool
    stop_reason: str | None
    allowed_actions: list[str]
    queue_position: int | None = Field(description="Number of jobs ahead in the queue.")
    queue_seconds: float | None = Field(
        description="Estimated seconds until the job starts, based on the latest jobs."
    )
    attempt: int
    base_version: int = Field(
        description="Version that the training starts from. A job that has not started yet "
        "starts from the latest version at its start."
    )
    result_version: int | None
    progress: ProgressBody
    training: dict[str, Any]
    split_version: int | None = Field(
        description="Version of the split into training and validation rows."
    )
    demo: bool
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
    """The number of jobs that are cancelled, or will be when their workers stop."""

    cancelled: int


class EstimateBody(BaseModel):
    """The estimated cost of a valid job."""

    valid: bool = True
    parameters: int
    memory_bytes: int
    estimated_seconds: float
    training: dict[str, Any]


class HistoryBody(BaseModel):
    """The history of a job: columns of equal length, with one value per epoch."""

    epoch: list[int]
    train_loss: list[float]
    validation_loss: list[float | None]
    train_accuracy: list[float | None]
    validation_accuracy: list[float | None]
    learning_rate: list[float]
    gradient_norm: list[float | None]
    total_epochs: int
    sampled: bool
    hidden_epochs: int = Field(description="Number of epochs that sampling left out.")


class EventBody(BaseModel):
    """One event of a job."""

    id: int
    type: Literal["state", "epoch", "checkpoint", "log", "boundary", "end"]
    data: dict[str, Any]


class EventPage(BaseModel):
    """A page of events, oldest first."""

    data: list[EventBody]
    has_more: bool
    last_event_id: int


class CheckpointBody(BaseModel):
    """A saved training state, from which a job can resume."""

    id: str
    epoch: int
    best_epoch: int | None
    train_loss: float | None
    validation_loss: float | None
    split_version: int | None
    requested: bool = Field(description="True if a client requested it.")
    created_at: Time


class CheckpointList(BaseModel):
    """The stored checkpoints of a job, latest first."""

    data: list[CheckpointBody]
    has_more: bool = False


class FitNetwork(NetworkOptions):
    """A network to create; missing values are derived from the data."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"hidden": [16]}]})

    input_shape: list[Annotated[int, Field(ge=1)]] | None = Field(None, min_length=1, max_length=1)
    layers: list[LayerBody] | None = Field(None, min_length=1, max_length=1000)
    hidden: list[Annotated[int, Field(ge=1)]] | None = Field(
        None,
        max_length=1000,
        description="Units of each hidden relu layer. The default is one layer of 32 units.",
    )

    @model_validator(mode="after")
    def check_layers(self) -> "FitNetwork":
        """Raise ValueError if the layers are specified twice."""
        if self.layers is not None and self.hidden is not None:
            message = "expected either layers or hidden, got both"
            raise ValueError(message)
        return self


class FitBody(BaseModel):
    """A network that the request trained, with its version and job."""

    network: NetworkBody
    version: VersionBody
    metrics: dict[str, Any]
    job: JobBody
    classify_url: str


def job_body(job: Job, position: QueuePosition | None = None) -> JobBody:
    """Return the response body for a job."""
    progress = asdict(job.progress)
    if job.terminal:
        progress["eta_seconds"] = None  # the estimate of the last epoch is obsolete
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
        queue_position=None if position is None else position.ahead,
        queue_seconds=None if position is None else position.seconds,
        attempt=job.attempt,
        base_version=job.base_version,
        result_version=job.result_version,
        progress=ProgressBody(**progress, fraction=done),
        training=job.training,
        split_version=job.split_version,
        demo=job.demo,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        error=None if job.error is None else JobError(**job.error),
        links=links(
            f"/v1/jobs/{job.id}", history="history", events="events", checkpoints="checkpoints"
        ),
    )


def checkpoint_body(checkpoint: Checkpoint) -> CheckpointBody:
    """Return the response body for a checkpoint."""
    return CheckpointBody(
        id=checkpoint.id,
        epoch=checkpoint.epoch,
        best_epoch=checkpoint.best_epoch,
        train_loss=checkpoint.train_loss,
        validation_loss=checkpoint.validation_loss,
        split_version=checkpoint.split_version,
        requested=checkpoint.requested,
        created_at=checkpoint.created_at,
    )
