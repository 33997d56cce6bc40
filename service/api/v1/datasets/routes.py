"""Routes of datasets: upload, generate, list, read and delete."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Query, Request, Response
from pydantic import TypeAdapter, ValidationError

from service.api.body import (
    Decompressor,
    check_content_length,
    check_json_type,
    compression_of,
    payload_too_large,
)
from service.api.dependencies import (
    Count,
    DatasetRef,
    ReadTenant,
    Services,
    ServicesDep,
    TrainTenant,
    UploadTenant,
    is_upload,
    media_type,
    paged,
)
from service.api.errors import in_body
from service.api.idempotency import Idempotent, stored
from service.api.routing import IdempotentRoute
from service.api.schemas import Name, page_links
from service.api.v1.datasets.schemas import (
    BuiltinBody,
    DatasetBody,
    DatasetList,
    RowsBody,
    RowsPage,
    dataset_body,
)
from service.application.datasets.datasets import Builtin
from service.application.ports.database import UnitOfWork
from service.application.ports.repositories import Page, StoredResponse
from service.domain.datasets import Dataset, Task
from service.domain.errors import InvalidRequestError, MalformedBodyError, UnavailableError

router = APIRouter(prefix="/v1/datasets", tags=["datasets"], route_class=IdempotentRoute)

_rows, _builtin = TypeAdapter(RowsBody), TypeAdapter(BuiltinBody)
BUILTIN_EXAMPLE = {
    "name": "digits-1000",
    "builtin": "digits",
    "samples": 1000,
    "noise": 0.1,
    "seed": 1,
}
ROWS_EXAMPLE = {
    "name": "and",
    "inputs": [[0, 0], [0, 1], [1, 0], [1, 1]],
    "targets": ["no", "no", "no", "yes"],
}
_binary: dict[str, Any] = {"type": "string", "format": "binary"}
REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "anyOf": [
                    {"$ref": "#/components/schemas/BuiltinBody"},
                    {"$ref": "#/components/schemas/RowsBody"},
                ]
            },
            "examples": {
                "builtin": {"summary": "A built-in dataset", "value": BUILTIN_EXAMPLE},
                "rows": {"summary": "Rows with targets", "value": ROWS_EXAMPLE},
            },
        },
        "text/csv": {"schema": {"type": "string"}, "example": "x,y,colour\n1,2,red\n3,4,blue\n"},
        "application/x-npz": {"schema": _binary},
    },
}
TargetColumn = Annotated[
    str | None,
    Query(max_length=4096, description="Target column of a CSV. The default is the last column."),
]
TaskQuery = Annotated[
    Task | None, Query(description="Type of the targets. The default is inferred from the data.")
]


@router.post(
    "",
    status_code=201,
    summary="Create a dataset",
    response_model=DatasetBody,
    openapi_extra={"requestBody": REQUEST_BODY},
)
async def create_dataset(
    request: Request,
    services: ServicesDep,
    tenant: UploadTenant,
    creation: Idempotent,
    name: Annotated[Name | None, Query()] = None,
    target: TargetColumn = None,
    task: TaskQuery = None,
) -> Response:
    """Create a dataset from rows in JSON, CSV or npz, or generate a built-in dataset.

    If a row is invalid, no dataset is created.
    """
    if is_upload(request):
        async with _uploaded(request, services) as (path, kind, digest):
            creation = creation.with_digest(digest)
            dataset = await services.datasets.from_file(tenant, name, path, kind, target, task)
    else:
        dataset = await _from_json(request, services, tenant, (name, target, task))

    async def create(work: UnitOfWork) -> StoredResponse:
        added = await services.datasets.add(work, dataset)
        return stored(201, dataset_body(added), {"Location": f"/v1/datasets/{added.id}"})

    return await creation.run(create)


async def _from_json(
    request: Request,
    services: Services,
    tenant: str,
    query: tuple[str | None, str | None, Task | None],
) -> Dataset:
    """Return the dataset of a JSON body; values in the body override those in the query."""
    check_json_type(request.headers.get("content-type"), ("text/csv", "application/x-npz"))
    content = await request.json()
    if not isinstance(content, dict):
        raise InvalidRequestError.at("", "wrong_type", "expected a JSON object")
    name, target, task = query
    if target is not None:
        raise InvalidRequestError.at("", "unexpected", "target is supported for CSV only")
    try:
        if "builtin" in content:
            builtin = _builtin.validate_python(content)
            config = Builtin(builtin.builtin, builtin.samples, builtin.noise, builtin.seed)
            return await services.datasets.from_builtin(tenant, builtin.name or name, config)
        body = await asyncio.to_thread(_rows.validate_python, content)
    except ValidationError as error:
        raise in_body(error, content) from None
    return await services.datasets.from_rows(
        tenant, body.name or name, body.inputs, body.targets, body.task or task
    )


@asynccontextmanager
async def _uploaded(request: Request, services: Services) -> AsyncIterator[tuple[Path, str, str]]:
    """Stream the body to a temporary file; yield its path, its kind and its digest."""
    kind = "csv" if media_type(request) == "text/csv" else "npz"
    path = services.uploads / secrets.token_hex(8)
    try:
        file = await asyncio.to_thread(path.open, "wb")
        try:
            digest = await _receive(request, file, services.limits.dataset_bytes)
        finally:
            await asyncio.to_thread(file.close)
        yield path, kind, digest
    except OSError as error:
        raise UnavailableError.because_of(error) from error
    finally:
        path.unlink(missing_ok=True)


async def _receive(request: Request, file: BinaryIO, limit: int) -> str:
    """Write the decompressed body of a request to a file, and return its digest."""
    wbits = compression_of(request)
    check_content_length(request, limit)
    decompressor = None if wbits is None else Decompressor(wbits, limit)
    digest, size = hashlib.sha256(), 0

    def write(part: bytes) -> None:
        content = part if decompressor is None else decompressor.feed(part)
        digest.update(content)
        file.write(content)

    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise payload_too_large(limit)
        await asyncio.to_thread(write, chunk)
    if not size:
        raise MalformedBodyError("the body is empty")
    if decompressor is not None:
        decompressor.finish()
    return digest.hexdigest()


@router.get("", summary="List datasets")
async def list_datasets(
    request: Request,
    response: Response,
    services: ServicesDep,
    tenant: ReadTenant,
    pagination: Annotated[Page, paged("ds")],
) -> DatasetList:
    """Return a page of datasets, newest first."""
    datasets = await services.datasets.page(tenant, pagination)
    ids = [dataset.id for dataset in datasets]
    datasets, has_more = page_links(request, response, datasets, pagination.limit, ids)
    return DatasetList(data=[dataset_body(dataset) for dataset in datasets], has_more=has_more)


@router.get("/{dataset}", summary="Get a dataset")
async def get_dataset(
    dataset: DatasetRef, services: ServicesDep, tenant: ReadTenant
) -> DatasetBody:
    """Return a dataset by id or name."""
    return dataset_body(await services.datasets.get(tenant, dataset))


@router.get("/{dataset}/rows", summary="List the rows of a dataset")
async def list_dataset_rows(
    dataset: DatasetRef,
    services: ServicesDep,
    tenant: ReadTenant,
    limit: Annotated[
        Count, Query(ge=1, le=1000, description="Maximum number of rows per page.")
    ] = 20,
    offset: Annotated[Count, Query(ge=0, le=2**31 - 1, description="Index of the first row.")] = 0,
) -> RowsPage:
    """Return a page of rows with their targets."""
    record, rows = await services.datasets.rows(tenant, dataset, offset, limit)
    return RowsPage(
        data=rows,
        columns=record.columns,
        total=record.rows,
        offset=offset,
        has_more=offset + len(rows) < record.rows,
    )


@router.delete("/{dataset}", status_code=204, summary="Delete a dataset")
async def delete_dataset(
    dataset: DatasetRef, services: ServicesDep, tenant: TrainTenant
) -> Response:
    """Delete a dataset; return 409 while a job uses it."""
    await services.datasets.remove(tenant, dataset)
    return Response(status_code=204)
