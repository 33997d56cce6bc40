"""Builds every part from the settings and joins them; the only module that knows all rings."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI

from core.formats import FILE_FORMATS, WRITTEN_FORMATS, Reads, Writes
from service import background
from service.api.app import create_api
from service.api.dependencies import Services
from service.api.dialect import Dialect
from service.api.invocations import door
from service.api.native.jobs.event_encoding import EncodedEvents
from service.api.protocols.azure_ml import routes as azure_ml
from service.api.protocols.kserve_v1 import routes as kserve_v1
from service.api.protocols.mlflow import routes as mlflow
from service.api.protocols.open_inference import routes as open_inference
from service.api.protocols.sagemaker import routes as sagemaker
from service.api.protocols.vertex import routes as vertex
from service.application.access import Access
from service.application.checkpoints import Checkpoints
from service.application.chronicle import Chronicle
from service.application.datasets import Datasets
from service.application.dispatcher import Dispatcher, Server
from service.application.explanations import Explanations
from service.application.feed import Feed
from service.application.following import Following
from service.application.idempotency import Once
from service.application.inference import Inference
from service.application.jobs import Jobs
from service.application.live import LiveBoard
from service.application.networks import Networks
from service.application.rates import Rates
from service.application.reports import Reports
from service.application.shelf import Shelf
from service.application.weights import Weights
from service.domain.keys import new_secret
from service.domain.limits import Limits
from service.infrastructure.blobs.folder import FolderBlobs
from service.infrastructure.data_folder import DataFolder, FolderUnusable
from service.infrastructure.database import postgres
from service.infrastructure.database.damage import REMEDY, DatabaseUnusable
from service.infrastructure.database.engine import (
    SqlStore,
    migrate,
    sqlite_url,
)
from service.infrastructure.execution.local_executor import LocalExecutor
from service.infrastructure.model_cache import LeastRecentlyUsed
from service.infrastructure.observability.metrics import Prometheus
from service.infrastructure.onnx.format import Onnx
from service.settings import Protocol, Settings

log = logging.getLogger(__name__)


def limits_of(settings: Settings) -> Limits:
    """Return the bounds that the settings name."""
    return Limits(
        json_bytes=settings.max_json_bytes,
        inference_bytes=settings.max_inference_bytes,
        weights_bytes=settings.max_weights_bytes,
        dataset_bytes=settings.max_dataset_bytes,
        layers=settings.max_layers,
        width=settings.max_width,
        dataset_columns=settings.max_width,
        dataset_labels=settings.max_width,
        parameters=settings.max_parameters,
        epochs=settings.max_epochs,
        rows_per_call=settings.max_rows_per_call,
        queued_jobs=settings.max_queued_jobs,
        queued_jobs_per_tenant=settings.max_queued_jobs_per_tenant,
        running_jobs_per_tenant=settings.max_running_jobs_per_tenant,
        attempts=settings.max_attempts,
    )


def prepare(settings: Settings) -> DataFolder:
    """Take the data folder and bring its database up to date.

    Raises
    ------
    FolderUnusable, DatabaseUnusable
        With one line for whoever starts the server.
    """
    folder = DataFolder(settings.data_dir)
    shared = settings.database_url is not None
    folder.take(shared=shared)
    if settings.database_url is not None:
        postgres.migrate(settings.database_url.get_secret_value())
    elif folder.lost_its_database():
        problem = f"{folder.database} is missing or empty, and {folder.blobs} is not"
        raise DatabaseUnusable(f"{problem}; {REMEDY}")
    else:
        migrate(folder.database)
    try:
        FolderBlobs(folder.blobs).prepare(shared=shared)
    except OSError as error:
        raise FolderUnusable(f"{folder.blobs} cannot be written: {error.strerror}") from error
    return folder


def database_of(settings: Settings, folder: DataFolder) -> str:
    """Return the address of the database."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    return sqlite_url(folder.database)


def build(settings: Settings, prepared: DataFolder | None = None) -> FastAPI:
    """Return the application; its lifespan starts the workers."""
    limits = limits_of(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        folder = prepared
        if folder is None:
            folder = await asyncio.to_thread(prepare, settings)
        try:
            async with running(settings, limits, folder) as services:
                app.state.services = services
                yield
        finally:
            folder.release()

    return create_api(lifespan, dialects(settings), traced=settings.telemetry)


def dialects(settings: Settings) -> list[Dialect]:
    """Return the protocols that are spoken beside the native one."""
    spoken = settings.protocols
    ready = {
        Protocol.OPEN_INFERENCE: open_inference.DIALECT,
        Protocol.KSERVE_V1: kserve_v1.DIALECT,
        Protocol.SAGEMAKER: sagemaker.DIALECT,
        Protocol.MLFLOW: mlflow.DIALECT,
        Protocol.AZURE_ML: azure_ml.DIALECT,
    }
    found = [dialect for name, dialect in ready.items() if name in spoken]
    codecs = [dialect.invocations for dialect in found if dialect.invocations is not None]
    if codecs:
        found.append(door(codecs))
    if Protocol.VERTEX in spoken:
        # First: its paths are set for this server, and may be those of another protocol.
        found.insert(0, vertex.dialect(settings.aip_health_route, settings.aip_predict_route))
    return found


def exchange_formats() -> tuple[list[Writes], list[Reads]]:
    """Return what weights are written as and read from; ONNX where its package is installed."""
    written, read = [*WRITTEN_FORMATS], [*FILE_FORMATS]
    if importlib.util.find_spec("onnx") is not None:
        written.append(Onnx())
        read.append(Onnx())
    return written, read


@asynccontextmanager
async def access_of(settings: Settings, folder: DataFolder) -> AsyncIterator[Access]:
    """Open the keys alone, for a command."""
    store = SqlStore(database_of(settings, folder))
    access = Access(store, anywhere=settings.allow_anonymous)
    try:
        await access.refresh()
        yield access
    finally:
        await store.close()


async def make_first_key(settings: Settings, access: Access) -> None:
    """Make the key that the settings give, where there is none yet."""
    if not access.anonymous:
        return
    secret = None
    if settings.first_key is not None:
        secret = settings.first_key.get_secret_value().strip()
    elif settings.first_key_file is not None:
        secret = await asyncio.to_thread(_secret_in, settings.first_key_file)
    if secret is not None:
        await access.begin(secret)
        await access.refresh()


def _secret_in(file: Path) -> str:
    """Return the key in a file, drawn and written whole where there is no file."""
    if not file.exists():
        drawn = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
        drawn.touch(mode=0o600)
        drawn.write_text(new_secret() + "\n")
        with contextlib.suppress(FileExistsError):  # another server was faster
            os.link(drawn, file)
            log.warning("a first key was drawn; it is in %s", file)
        drawn.unlink()
    return file.read_text().strip()


class Running(NamedTuple):
    """What the API runs on, and what is started and stopped around it."""

    services: Services
    store: SqlStore
    server: Server
    dispatcher: Dispatcher
    cache: LeastRecentlyUsed
    feed: Feed


@asynccontextmanager
async def running(
    settings: Settings, limits: Limits, folder: DataFolder
) -> AsyncIterator[Services]:
    """Run everything behind the API."""
    parts = _built(settings, limits, folder)
    services, closing = parts.services, parts.services.closing
    beside = [
        background.pulse(parts.feed, closing),
        background.refresh(services.access),
        background.watch(services.metrics),
    ]
    if not parts.server.alone:
        acts = background.other_servers(parts.cache, parts.dispatcher, parts.feed)
        beside.append(postgres.listen(database_of(settings, folder), parts.server.id, *acts))
    tasks = [asyncio.create_task(one) for one in beside]
    try:
        await services.access.refresh()
        await make_first_key(settings, services.access)
        await parts.dispatcher.start()
        await services.shelf.fill()
        yield services
    finally:
        closing.set()
        parts.feed.pulse()
        for task in tasks:
            task.cancel()
        for failure in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(failure, Exception):
                log.error("what goes on beside requests had ended", exc_info=failure)
        await asyncio.shield(parts.dispatcher.stop())
        await parts.store.close()


def _built(settings: Settings, limits: Limits, folder: DataFolder) -> Running:
    """Return every part, joined and not yet started."""
    blobs = FolderBlobs(folder.blobs)
    server = Server(secrets.token_hex(8), alone=settings.database_url is None)
    store = SqlStore(database_of(settings, folder), server.id)
    cache = LeastRecentlyUsed(settings.model_cache_bytes)
    board = LiveBoard(store, blobs, alone=server.alone)
    feed, closing = Feed(), asyncio.Event()
    chronicle = Chronicle(feed)
    executor = LocalExecutor(settings.workers, settings.worker_memory_bytes)
    dispatcher = Dispatcher(
        store,
        blobs,
        executor,
        chronicle,
        board,
        limits,
        server,
        Reports(store, blobs, chronicle, limits, cache.drop),
    )
    executor.on_free = dispatcher.wake
    access = Access(store, anywhere=settings.allow_anonymous)
    networks = Networks(store, blobs, limits, board, cache.drop)
    written, read = exchange_formats()
    weights = Weights(blobs, limits, board, written, read)
    shelf = Shelf(networks, weights, store, limits, settings.model_dir)
    datasets = Datasets(store, blobs, limits)
    inference = Inference(
        networks, weights, datasets, cache, board, limits, settings.default_network
    )
    services = Services(
        networks=networks,
        weights=weights,
        shelf=shelf,
        datasets=datasets,
        jobs=Jobs(
            store,
            chronicle,
            dispatcher,
            limits,
            cache.drop,
            closing,
            open_to_all=lambda: access.anonymous,
        ),
        following=Following(store, feed, closing),
        checkpoints=Checkpoints(store, blobs, feed, dispatcher, cache.drop, closing),
        inference=inference,
        explanations=Explanations(inference, datasets),
        access=access,
        rates=Rates(
            {
                "read": settings.rate_read,
                "write": settings.rate_write,
                "upload": settings.rate_upload,
                "auth": settings.rate_auth_failures,
                "predict": settings.rate_predict,
            },
            settings.max_streams,
            settings.max_streams_per_tenant,
        ),
        once=Once(store),
        store=store,
        blobs=blobs,
        executor=executor,
        limits=limits,
        metrics=Prometheus(),
        events=EncodedEvents(),
        uploads=folder.uploads,
        closing=closing,
    )
    return Running(services, store, server, dispatcher, cache, feed)
