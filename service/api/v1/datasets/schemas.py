"""Bodies of datasets."""

import math
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from service.api.schemas import Body, Links, Name, Seed, Time, links
from service.application.component_names import BUILTIN_NAMES
from service.domain.datasets import Dataset, Task
from service.domain.errors import MAX_FIELD_ERRORS, FieldError, InvalidRequestError, pointer
from service.domain.limits import MAX_WIDTH

MAX_LABEL_LENGTH: Final = 200
_NUMBERS: Final = {int, float}


def _first_faults(
    value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo
) -> list[Any]:
    """Validate rows, or name the first faults: pydantic would name each of a million."""
    try:
        found: list[Any] = validate(value)
    except ValidationError:
        name = info.field_name or ""
        words = name == "targets"
        rows = enumerate(value) if isinstance(value, list) else ()
        field_errors = (
            field_error
            for index, row in rows
            for field_error in _faults(row, (name, index), words=words)
        )
        first = list(islice(field_errors, MAX_FIELD_ERRORS))
        if not first:
            raise
        raise InvalidRequestError(first[0].detail, first) from None
    return found


def _faults(row: Any, place: tuple[str, int], *, words: bool) -> Iterator[FieldError]:
    """Yield what is wrong with one row, or one target."""
    name, index = place
    if words and not isinstance(row, list):
        fits = _is_number(row) or (isinstance(row, str) and len(row) <= MAX_LABEL_LENGTH)
        if not fits:
            due = f"a text of at most {MAX_LABEL_LENGTH} characters, a number or a list of numbers"
            problem = f"{name}[{index}] must be {due}"
            yield FieldError(pointer(*place), "wrong_type", problem, (("row", index),))
    elif not isinstance(row, list) or len(row) > MAX_WIDTH:
        problem = f"{name}[{index}] must be a list of at most {MAX_WIDTH} numbers"
        yield FieldError(pointer(*place), "wrong_type", problem, (("row", index),))
    else:
        for column, cell in enumerate(row):
            if not _is_number(cell):
                problem = f"{name}[{index}][{column}] must be a finite number"
                where = (("row", index), ("column", column))
                yield FieldError(pointer(*place, column), "not_a_number", problem, where)


def _is_number(value: Any) -> bool:
    try:
        return type(value) in _NUMBERS and math.isfinite(value)
    except OverflowError:
        return False


Row = Annotated[list[float], Field(max_length=MAX_WIDTH, fail_fast=True)]
Target = Annotated[str, Field(max_length=MAX_LABEL_LENGTH)] | float | Row
Rows = Annotated[list[Row], Field(fail_fast=True), WrapValidator(_first_faults)]
Targets = Annotated[list[Target], Field(fail_fast=True), WrapValidator(_first_faults)]


class RowsBody(Body):
    """Rows with their targets: class labels, numbers, or vectors."""

    name: Name | None = None
    inputs: Rows = Field(max_length=5_000_000)
    targets: Targets = Field(max_length=5_000_000)
    task: Task | None = Field(
        None,
        description="Else guessed: words, or at most 20 different whole numbers, are classes.",
    )


class BuiltinBody(Body):
    """A built-in set, drawn from a seed."""

    name: Name | None = None
    builtin: str = Field(json_schema_extra={"enum": list(BUILTIN_NAMES)})
    samples: int | None = Field(None, ge=2, le=500_000)
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
