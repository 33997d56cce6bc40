"""The use cases of datasets: create, list, read rows and delete."""

import asyncio
import hashlib
import mmap
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

import numpy as np

from core import datasets as builtins
from core import safetensors as tensors
from core.arrays import Array
from core.errors import EngineError
from service.application.datasets.csv_reader import read_csv
from service.application.datasets.npz_reader import read_npz
from service.application.datasets.tables import Table, build_table, json_rows, json_targets
from service.application.engine_errors import translate_engine_error
from service.application.ports.blobs import BlobCorruptError, BlobStore
from service.application.ports.database import Database, UnitOfWork
from service.application.ports.repositories import Page
from service.application.retention.quotas import QuotaCheck
from service.domain.datasets import Dataset, Task
from service.domain.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    UnavailableError,
)
from service.domain.identifiers import check_name, new_id
from service.domain.limits import Limits


class DatasetCorruptError(ConflictError):
    """The stored rows of a dataset are missing or corrupt."""

    code = "dataset_corrupt"


@dataclass(frozen=True, slots=True)
class Builtin:
    """A request for a built-in dataset; None selects the default."""

    name: str
    samples: int | None
    noise: float | None
    seed: int


@final
class DatasetService:
    """Creates, lists and deletes datasets."""

    def __init__(
        self, database: Database, blobs: BlobStore, limits: Limits, quotas: QuotaCheck
    ) -> None:
        self._database, self._blobs, self._limits = database, blobs, limits
        self._quotas = quotas

    async def from_rows(
        self,
        tenant: str,
        name: str | None,
        inputs: list[Any],
        targets: list[Any],
        task: Task | None,
    ) -> Dataset:
        """Validate and store rows from JSON; `add` saves the returned dataset."""
        table = await asyncio.to_thread(self.table_of, inputs, targets, task)
        return await self.store(tenant, name, table)

    def table_of(self, inputs: list[Any], targets: list[Any], task: Task | None) -> Table:
        """Return the table of rows from JSON."""
        if len(inputs) != len(targets):
            problem = f"expected one target per row, got {len(targets)} for {len(inputs)} rows"
            raise InvalidRequestError.at("/targets", "length_mismatch", problem)
        if not inputs:
            raise InvalidRequestError.at("/inputs", "empty", "a dataset needs at least one row")
        rows = json_rows(inputs)
        return build_table(rows, json_targets(targets), None, task, "/targets", self._limits)

    async def from_inline(
        self, tenant: str, inputs: list[Any], targets: list[Any], *, persist: bool = True
    ) -> Dataset:
        """Store the rows of a request as a dataset that no list shows; see `store`."""
        table = await asyncio.to_thread(self.table_of, inputs, targets, None)
        return await self.store(tenant, None, table, hidden=True, persist=persist)

    async def from_builtin(self, tenant: str, name: str | None, request: Builtin) -> Dataset:
        """Generate and store a built-in dataset; `add` saves the returned dataset."""
        if request.samples is not None and request.samples > self._limits.builtin_rows:
            problem = f"at most {self._limits.builtin_rows} samples can be generated"
            raise InvalidRequestError.at("/samples", "out_of_range", problem)
        try:
            generated = await asyncio.to_thread(
                builtins.builtin, request.name, request.samples, request.noise, request.seed
            )
        except EngineError as error:
            raise translate_engine_error(error) from None
        labels = None if generated.labels is None else list(generated.labels)
        targets = generated.targets if labels is None else generated.targets.astype(np.int64)
        if labels is not None and len(np.unique(targets)) < 2:
            problem = "the samples have a single class; generate more samples"
            raise InvalidRequestError.at("/samples", "one_class", problem)
        return await self.store(
            tenant, name, Table(generated.inputs, targets, list(generated.columns), labels)
        )

    async def from_file(
        self,
        tenant: str,
        name: str | None,
        path: Path,
        kind: str,
        target: str | None,
        task: Task | None,
    ) -> Dataset:
        """Validate and store a CSV or npz file; `add` saves the returned dataset."""
        if kind == "csv":
            table = await asyncio.to_thread(read_csv, path, target, task, self._limits)
        else:
            table = await asyncio.to_thread(read_npz, path, task, self._limits)
        return await self.store(tenant, name, table)

    async def store(
        self,
        tenant: str,
        name: str | None,
        table: Table,
        *,
        hidden: bool = False,
        persist: bool = True,
    ) -> Dataset:
        """Store the rows of a table; `add` saves the returned dataset.

        With ``persist=False`` the rows are validated but not stored.
        """
        limits = self._limits
        if (
            table.inputs.shape[1] > limits.dataset_columns
            or len(table.inputs) > limits.dataset_rows
        ):
            problem = (
                f"a dataset may have at most {limits.dataset_rows} rows and "
                f"{limits.dataset_columns} columns, got {table.inputs.shape}"
            )
            raise InvalidRequestError.at("/inputs", "too_large", problem)
        if table.inputs.nbytes + table.targets.nbytes > limits.table_bytes:
            problem = f"the dataset is larger than {limits.table_bytes} bytes in memory"
            raise InvalidRequestError.at("/inputs", "too_large", problem)
        labels = table.labels
        dataset_id = new_id("ds")
        checked = dataset_id if name is None else check_name(name)
        counts = None
        if labels is not None:
            class_sizes = np.bincount(table.targets, minlength=len(labels))
            counts = dict(zip(labels, class_sizes.tolist(), strict=True))
        data = await asyncio.to_thread(
            tensors.encode, {"inputs": table.inputs, "targets": table.targets}, {}
        )
        return Dataset(
            id=dataset_id,
            tenant=tenant,
            name=checked,
            rows=len(table.inputs),
            input_shape=[table.inputs.shape[1]],
            task=table.task,
            columns=table.columns or [f"x{index}" for index in range(table.inputs.shape[1])],
            named=table.columns is not None,
            outputs=1 if labels is not None else table.targets.shape[1],
            sha256=await self._blobs.put(data) if persist else hashlib.sha256(data).hexdigest(),
            created_at=datetime.now(UTC),
            labels=labels,
            class_counts=counts,
            hidden=hidden,
        )

    async def add(self, work: UnitOfWork, dataset: Dataset) -> Dataset:
        """Save a dataset whose rows are stored."""
        added = 0 if dataset.hidden else 1
        size = dataset.stored_bytes
        await self._quotas.check(work, dataset.tenant, datasets=added, size=size)
        await work.datasets.add(dataset)
        return dataset

    async def get(self, tenant: str, reference: str) -> Dataset:
        """Return a dataset by id or name."""
        async with self._database.read() as work:
            return await find_dataset(work, tenant, reference)

    async def page(self, tenant: str, pagination: Page) -> list[Dataset]:
        """Return datasets, newest first; one more than the limit if there are more."""
        async with self._database.read() as work:
            return await work.datasets.page(tenant, pagination)

    async def remove(self, tenant: str, reference: str) -> None:
        """Delete a dataset; raise ConflictError if an active job uses it."""
        async with self._database.write() as work:
            dataset = await find_dataset(work, tenant, reference)
            job = await work.jobs.active_on(dataset_id=dataset.id)
            if job is not None:
                problem = f"job {job.id} with status {job.status} uses the dataset; cancel it first"
                raise ConflictError(problem, code="dataset_in_use", job=job.id)
            await work.datasets.remove(dataset.id)

    async def arrays(
        self, dataset: Dataset, columns: list[int] | None = None
    ) -> tuple[Array, Array]:
        """Return the stored inputs and targets.

        Parameters
        ----------
        columns
            The columns to return as inputs, in this order; None returns all.

        Notes
        -----
        Inputs are (rows, columns) float64. Targets are (rows,) int64 class indices, or
        (rows, outputs) float64.
        """
        try:
            data = await self._blobs.get(dataset.sha256)
        except BlobCorruptError as error:
            raise DatasetCorruptError(
                f"the rows of dataset {dataset.name!r} are corrupt: {error}"
            ) from error
        arrays, _ = tensors.decode(data)
        inputs = arrays["inputs"] if columns is None else arrays["inputs"][:, columns]
        return inputs, arrays["targets"]

    async def rows(
        self, tenant: str, reference: str, offset: int, limit: int
    ) -> tuple[Dataset, list[dict[str, Any]]]:
        """Return at most ``limit`` rows from ``offset``, with labels as the targets of classes."""
        dataset = await self.get(tenant, reference)
        path, part = self._blobs.path(dataset.sha256), slice(offset, offset + limit)
        inputs, values = await asyncio.to_thread(_read_rows, path, part, dataset)
        if dataset.labels is not None:
            values = [dataset.labels[index] for index in values]
        elif dataset.outputs == 1:
            values = [vector[0] for vector in values]
        rows = zip(inputs, values, strict=True)
        return dataset, [
            {"row": offset + index, "inputs": row, "target": target}
            for index, (row, target) in enumerate(rows)
        ]


def _read_rows(path: Path, part: slice, dataset: Dataset) -> tuple[list[Any], list[Any]]:
    """Return inputs and targets of some rows; nothing else of the file is read.

    Raises
    ------
    DatasetCorruptError
        If the file is missing, or shorter than its header says.
    UnavailableError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        arrays, _ = tensors.decode(data)
        return arrays["inputs"][part].tolist(), arrays["targets"][part].tolist()
    except (FileNotFoundError, ValueError, KeyError, EngineError) as error:
        problem = f"the rows of dataset {dataset.name!r} cannot be read: {error}"
        raise DatasetCorruptError(problem) from error
    except OSError as error:
        raise UnavailableError.because_of(error) from error


async def find_dataset(work: UnitOfWork, tenant: str, reference: str) -> Dataset:
    """Return a dataset by id or name; raise NotFoundError if it does not exist."""
    dataset = await work.datasets.find(tenant, reference)
    if dataset is None:
        raise NotFoundError("dataset", reference)
    return dataset
