"""Training configuration in request bodies."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from service.api.schemas import Body, Seed
from service.application.component_names import LOSS_NAMES, OPTIMIZER_NAMES, SCHEDULE_NAMES

Number = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]


class OptimizerBody(Body):
    """An optimizer with its options; an unknown option is rejected by name."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(json_schema_extra={"enum": list(OPTIMIZER_NAMES)})
    learning_rate: Annotated[float, Field(gt=0.0, le=1e6)] | None = None


class ScheduleBody(Body):
    """A learning-rate schedule with its options; an unknown option is rejected by name."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(json_schema_extra={"enum": list(SCHEDULE_NAMES)})


class LossBody(Body):
    """A loss function with its option."""

    type: str = Field(json_schema_extra={"enum": list(LOSS_NAMES)})
    delta: Number | None = Field(None, description="Option of the loss huber.")


class EarlyStoppingBody(Body):
    """Early stopping: end when the loss does not improve, and restore the best weights."""

    patience: Count = Field(20, description="Epochs to wait for an improvement.")
    min_delta: Number = Field(
        0.0, description="Decrease of the loss that an improvement must exceed."
    )


class LimitsBody(Body):
    """Limits that end a training before its last epoch."""

    seconds: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="Maximum duration in seconds. Unlimited by default."
    )
    target_loss: Number | None = Field(
        None, description="Loss at which the training ends. Ignored by default."
    )


Bounds = Annotated[
    list[Annotated[float, Field(ge=-1e6, le=1e6)]], Field(min_length=2, max_length=2)
]


class BoundaryBody(Body):
    """Boundary frames: the output of every unit on a grid, for a network with two inputs."""

    resolution: Annotated[int, Field(ge=4, le=64)] = Field(32, description="Grid points per axis.")
    x: Bounds = Field(default=[-1.0, 1.0], description="Range of the first input: [low, high].")
    y: Bounds = Field(default=[-1.0, 1.0], description="Range of the second input: [low, high].")

    @model_validator(mode="after")
    def check_ranges(self) -> "BoundaryBody":
        """Raise ValueError if a range is empty."""
        if self.x[0] >= self.x[1] or self.y[0] >= self.y[1]:
            message = "x and y must be [low, high] with low < high"
            raise ValueError(message)
        return self


class TrainingBody(Body):
    """A training configuration; see docs/explanation/defaults.md for the defaults."""

    epochs: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Maximum number of epochs. The default is about 3,000 steps, within 30 and "
        "300 epochs.",
    )
    batch_size: Count | None = Field(None, description="Rows per step. The default is 32.")
    loss: Annotated[str, Field(json_schema_extra={"enum": list(LOSS_NAMES)})] | LossBody | None = (
        Field(None, description="Loss function. The default depends on the last activation.")
    )
    optimizer: (
        Annotated[str, Field(json_schema_extra={"enum": list(OPTIMIZER_NAMES)})]
        | OptimizerBody
        | None
    ) = Field(
        None,
        description="Optimizer. The default is adamw with the learning rate 0.01 and the weight "
        "decay 0.3.",
    )
    schedule: (
        Annotated[str, Field(json_schema_extra={"enum": list(SCHEDULE_NAMES)})]
        | ScheduleBody
        | None
    ) = Field(None, description="Learning-rate schedule. The default is cosine.")
    validation_fraction: Annotated[float, Field(ge=0.0, le=0.9)] | None = Field(
        None,
        description="Fraction of the rows to validate on. The default is 0.2, or 0 for fewer than "
        "50 rows.",
    )
    early_stopping: EarlyStoppingBody | None = Field(
        None,
        description="Early stopping. By default it is enabled if there are validation rows and "
        "`epochs` is not set. null disables it.",
    )
    l2: Annotated[float, Field(ge=0.0, le=1e6)] | None = Field(
        None, description="Factor of the L2 penalty on the weights. The default is 0."
    )
    gradient_clip_norm: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="Maximum norm of the gradient. Unlimited by default."
    )
    shuffle: bool | None = Field(
        None, description="True to shuffle the rows in each epoch. The default is true."
    )
    standardize: bool | None = Field(
        None,
        description="True to standardize the inputs and regression targets. The default is true "
        "for an untrained network; a trained network keeps its preprocessing.",
    )
    seed: Seed | None = Field(
        None, description="Seed of the training. The default is a random seed."
    )
    limits: LimitsBody | None = Field(None, description="Limits on duration and loss.")
    boundary: BoundaryBody | None = Field(
        None,
        description="Adds about 100 `boundary` events, each with a grid of bytes for every unit, "
        "at most 256 KiB per event.",
    )

    def requested_values(self) -> dict[str, Any]:
        """Return the values that the client sent; the boundary config includes its defaults."""
        config = self.model_dump(exclude_unset=True)
        if self.boundary is not None:
            config["boundary"] = self.boundary.model_dump()
        return config
