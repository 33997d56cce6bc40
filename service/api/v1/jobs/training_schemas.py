"""How to train, as a body says it."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from service.api.schemas import Body, Seed
from service.application.component_names import LOSS_NAMES, OPTIMIZER_NAMES, SCHEDULE_NAMES

Number = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]


class OptimizerBody(Body):
    """An optimizer; what it does not take is refused by name."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(json_schema_extra={"enum": list(OPTIMIZER_NAMES)})
    learning_rate: Number | None = None


class ScheduleBody(Body):
    """A schedule; what it does not take is refused by name."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(json_schema_extra={"enum": list(SCHEDULE_NAMES)})


class LossBody(Body):
    """A loss with its option."""

    type: str = Field(json_schema_extra={"enum": list(LOSS_NAMES)})
    delta: Number | None = Field(None, description="Of huber.")


class EarlyStoppingBody(Body):
    """Stop when nothing gets better, and keep the best weights."""

    patience: Count = 20
    min_delta: Number = 0.0


class LimitsBody(Body):
    """When to stop at the latest."""

    seconds: Annotated[float, Field(gt=0.0)] | None = None
    target_loss: Number | None = None


Bounds = Annotated[
    list[Annotated[float, Field(ge=-1e6, le=1e6)]], Field(min_length=2, max_length=2)
]


class BoundaryBody(Body):
    """Frames of what every unit says across the plane, for a network over two inputs."""

    resolution: Annotated[int, Field(ge=4, le=64)] = 32
    x: Bounds = Field(default=[-1.0, 1.0])
    y: Bounds = Field(default=[-1.0, 1.0])

    @model_validator(mode="after")
    def ordered(self) -> "BoundaryBody":
        """Demand that each range begins before it ends."""
        if self.x[0] >= self.x[1] or self.y[0] >= self.y[1]:
            message = "x and y are [low, high]"
            raise ValueError(message)
        return self


class TrainingBody(Body):
    """How to train; docs/explanation/defaults.md tells what stands where nothing is said."""

    epochs: Annotated[int, Field(ge=1)] | None = None
    batch_size: Count | None = None
    loss: Annotated[str, Field(json_schema_extra={"enum": list(LOSS_NAMES)})] | LossBody | None = (
        None
    )
    optimizer: (
        Annotated[str, Field(json_schema_extra={"enum": list(OPTIMIZER_NAMES)})]
        | OptimizerBody
        | None
    ) = None
    schedule: (
        Annotated[str, Field(json_schema_extra={"enum": list(SCHEDULE_NAMES)})]
        | ScheduleBody
        | None
    ) = None
    validation_fraction: Annotated[float, Field(ge=0.0, le=0.9)] | None = None
    early_stopping: EarlyStoppingBody | None = None
    l2: Annotated[float, Field(ge=0.0, le=1e6)] | None = None
    gradient_clip_norm: Annotated[float, Field(gt=0.0)] | None = None
    shuffle: bool | None = None
    standardize: bool | None = None
    seed: Seed | None = None
    limits: LimitsBody | None = None
    boundary: BoundaryBody | None = Field(
        None,
        description="Adds about 100 `boundary` events: a grid of bytes for each unit, at most "
        "256 KiB together.",
    )

    def asked(self) -> dict[str, Any]:
        """Return what was said, without what was not."""
        asked = self.model_dump(exclude_unset=True)
        if self.boundary is not None:
            asked["boundary"] = self.boundary.model_dump()
        return asked
