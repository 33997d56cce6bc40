"""Bodies of datasets."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from service.api.schemas import Body, Links, Name, Seed, Time, links
from service.application.vocabulary import BUILTIN_NAMES
from service.domain.datasets import Dataset, Task

Row = Annotated[list[float], Field(max_length=4096)]
Target = (
    Annotated[str, Field(max_length=200)] | float | Annotated[list[float], Field(max_length=4096)]
)


class RowsBody(Body):
    """Rows with their targets: class labels, numbers, or vectors."""

    name: Name | None = None
    inputs: list[Row] = Field(max_length=5_000_000)
    targets: list[Target] = Field(max_length=5_000_000)
    task: Task | None = Field(
        None,
        description="Else guessed: words, or at most 20 different whole numbers, are classes.",
    )


class BuiltinBody(Body):
    """A built-in set, drawn from a seed."""

    name: Name | None = None
    builtin: str = Field(json_schema_extra={"enum": list(BUILTIN_NAMES)})
    samples: int | None = Field(None, ge=2, le=5_000_000)
    noise: float | None = Field(None, ge=0.0, le=10.0)
    seed: Seed = 0


class DatasetBody(BaseModel):
    """A dataset."""

    id: str
    name: str
    rows: int
    input_shape: list[int]
    task: Literal["classification", "regression"]
    labels: list[str] | None
    columns: list[str]
    class_counts: dict[str, int] | None
    sha256: str
    created_at: Time
    links: Links


class DatasetList(BaseModel):
    """A page of datasets, newest first."""

    data: list[DatasetBody]
    has_more: bool


class RowsPage(BaseModel):
    """Some rows of a dataset."""

    data: list[dict[str, Any]]
    columns: list[str]
    total: int
    offset: int
    has_more: bool


def dataset_body(dataset: Dataset) -> DatasetBody:
    """Return a dataset as it is told."""
    return DatasetBody(
        id=dataset.id,
        name=dataset.name,
        rows=dataset.rows,
        input_shape=dataset.input_shape,
        task=dataset.task,
        labels=dataset.labels,
        columns=dataset.columns,
        class_counts=dataset.class_counts,
        sha256=dataset.sha256,
        created_at=dataset.created_at,
        links=links(f"/v1/datasets/{dataset.id}", rows="rows"),
    )
