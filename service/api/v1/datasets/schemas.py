"""Request and response bodies of datasets."""

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


def _validate_rows(
    value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo
) -> list[Any]:
    """Return valid rows or targets, or raise InvalidRequestError with the first errors.

    pydantic alone would create an error for every invalid number, of which there may be millions.
    """
    try:
        validated: list[Any] = validate(value)
    except ValidationError:
        name = info.field_name or ""
        rows = enumerate(value) if isinstance(value, list) else ()
        field_errors = (
            field_error
            for index, row in rows
            for field_error in _row_errors(row, (name, index), allow_labels=name == "targets")
        )
        first = list(islice(field_errors, MAX_FIELD_ERRORS))
        if not first:
            raise
        raise InvalidRequestError(first[0].detail, first) from None
    return validated


def _row_errors(row: Any, path: tuple[str, int], *, allow_labels: bool) -> Iterator[FieldError]:
    """Yield the errors of one row or one target."""
    name, index = path
    if allow_labels and not isinstance(row, list):
        valid = _is_number(row) or (isinstance(row, str) and len(row) <= MAX_LABEL_LENGTH)
        if not valid:
            problem = (
                f"{name}[{index}] must be a text of at most {MAX_LABEL_LENGTH} characters, "
                "a number or a list of numbers"
            )
            yield FieldError(pointer(*path), "wrong_type", problem, (("row", index),))
    elif not isinstance(row, list) or len(row) > MAX_WIDTH:
        problem = f"{name}[{index}] must be a list of at most {MAX_WIDTH} numbers"
        yield FieldError(pointer(*path), "wrong_type", problem, (("row", index),))
    else:
        for column, cell in enumerate(row):
            if not _is_number(cell):
                problem = f"{name}[{index}][{column}] must be a finite number"
                where = (("row", index), ("column", column))
                yield FieldError(pointer(*path, column), "not_a_number", problem, where)


def _is_number(value: Any) -> bool:
    try:
        return type(value) in _NUMBERS and math.isfinite(value)
    except OverflowError:
        return False


Row = Annotated[list[float], Field(max_length=MAX_WIDTH, fail_fast=True)]
Target = Annotated[str, Field(max_length=MAX_LABEL_LENGTH)] | float | Row
Rows = Annotated[list[Row], Field(fail_fast=True), WrapValidator(_validate_rows)]
Targets = Annotated[list[Target], Field(fail_fast=True), WrapValidator(_validate_rows)]


class RowsBody(Body):
    """A dataset of rows with targets: labels, numbers, or lists of numbers."""

    name: Name | None = None
    inputs: Rows = Field(max_length=5_000_000, description="Rows of numbers.")
    targets: Targets = Field(max_length=5_000_000, description="One target for each row.")
    task: Task | None = Field(
        None,
        description="Type of the targets. By default, texts and at most 20 different whole numbers "
        "are classes, and other numbers are values.",
    )


class BuiltinBody(Body):
    """A built-in dataset, generated from a seed."""

    name: Name | None = None
    builtin: str = Field(json_schema_extra={"enum": list(BUILTIN_NAMES)})
    samples: int | None = Field(
        None, ge=2, le=500_000, description="Number of rows. The default depends on the dataset."
    )
    noise: float | None = Field(
        None,
        ge=0.0,
        le=10.0,
        description="Standard deviation of the noise. The default depends on the dataset.",
    )
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
    """A page of the rows of a dataset."""

    data: list[dict[str, Any]]
    columns: list[str]
    total: int
    offset: int
    has_more: bool


def dataset_body(dataset: Dataset) -> DatasetBody:
    """Return the response body for a dataset."""
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
