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
from service.api.app import create_api
from service.api.dependencies import Services
from service.api.protocols.azure_ml import routes as azure_ml
from service.api.protocols.base import InferenceProtocol
from service.api.protocols.invocations import invocations_protocol
from service.api.protocols.kserve_v1 import routes as kserve_v1
from service.api.protocols.mlflow import routes as mlflow
from service.api.protocols.open_inference import routes as open_inference
from service.api.protocols.sagemaker import routes as sagemaker
from service.api.protocols.vertex import routes as vertex
from service.api.sse import EncodedEvents
from service.application.access.api_keys import Authenticator
from service.application.access.idempotency import IdempotentRequests
from service.application.access.rate_limits import RateLimiter
from service.application.datasets.datasets import DatasetService
from service.application.inference.explanations import ExplanationService
from service.application.inference.inference import Inference
from service.application.jobs.checkpoints import CheckpointService
from service.application.jobs.dispatcher import Dispatcher, Server
from service.application.jobs.event_bus import EventBus
from service.application.jobs.event_log import JobEventLog
from service.application.jobs.event_streams import EventStreams
from service.application.jobs.jobs import JobService
from service.application.jobs.worker_reports import WorkerReportHandler
from service.application.networks.model_directory import ModelDirectory
from service.application.networks.networks import NetworkService
from service.application.networks.weights import WeightService
from service.application.training.live_snapshots import LiveSnapshots
from service.domain.keys import new_secret
from service.domain.limits import Limits
from service.infrastructure.blobs.filesystem import FilesystemBlobs
from service.infrastructure.data_directory import DataDirectory, DataDirectoryError
from service.infrastructure.database import postgres
from service.infrastructure.database.engine import (
    SqlDatabase,
    migrate,
    sqlite_url,
)
from service.infrastructure.database.errors import REMEDY, DatabaseUnusableError
from service.infrastructure.model_cache import LeastRecentlyUsed
from service.infrastructure.observability.metrics import Prometheus
from service.infrastructure.onnx.format import Onnx
from service.infrastructure.workers.pool import LocalExecutor
from service.server import periodic_tasks as background
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


def prepare(settings: Settings) -> DataDirectory:
    """Take the data folder and bring its database up to date.

    Raises
    ------
    FolderUnusable, DatabaseUnusable
        With one line for whoever starts the server.
    """
    folder = DataDirectory(settings.data_dir)
    shared = settings.database_url is not None
    folder.acquire(shared=shared)
    if settings.database_url is not None:
        postgres.migrate(settings.database_url.get_secret_value())
    elif folder.has_orphaned_blobs():
        problem = f"{folder.database} is missing or empty, and {folder.blobs} is not"
        raise DatabaseUnusableError(f"{problem}; {REMEDY}")
    else:
        migrate(folder.database)
    try:
        FilesystemBlobs(folder.blobs).prepare(shared=shared)
    except OSError as error:
        raise DataDirectoryError(f"{folder.blobs} cannot be written: {error.strerror}") from error
    return folder


def database_of(settings: Settings, folder: DataDirectory) -> str:
    """Return the address of the database."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    return sqlite_url(folder.database)


def build(settings: Settings, prepared: DataDirectory | None = None) -> FastAPI:
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

    return create_api(lifespan, inference_protocols(settings), traced=settings.telemetry)


def inference_protocols(settings: Settings) -> list[InferenceProtocol]:
    """Return the enabled inference protocols besides the native API."""
    known = {
        Protocol.OPEN_INFERENCE: open_inference.PROTOCOL,
        Protocol.KSERVE_V1: kserve_v1.PROTOCOL,
        Protocol.SAGEMAKER: sagemaker.PROTOCOL,
        Protocol.MLFLOW: mlflow.PROTOCOL,
        Protocol.AZURE_ML: azure_ml.PROTOCOL,
    }
    enabled = [protocol for name, protocol in known.items() if name in settings.protocols]
    codecs = [protocol.invocations for protocol in enabled if protocol.invocations is not None]
    if codecs:
        enabled.append(invocations_protocol(codecs))
    if Protocol.VERTEX in settings.protocols:
        # First: its paths are set for this server, and may equal those of another protocol.
        enabled.insert(0, vertex.protocol(settings.aip_health_route, settings.aip_predict_route))
    return enabled


def exchange_formats() -> tuple[list[Writes], list[Reads]]:
    """Return what weights are written as and read from; ONNX where its package is installed."""
    written, read = [*WRITTEN_FORMATS], [*FILE_FORMATS]
    if importlib.util.find_spec("onnx") is not None:
        written.append(Onnx())
        read.append(Onnx())
    return written, read


@asynccontextmanager
async def open_authenticator(
    settings: Settings, folder: DataDirectory
) -> AsyncIterator[Authenticator]:
    """Open the keys alone, for a command."""
    database = SqlDatabase(database_of(settings, folder))
    authenticator = Authenticator(database, anywhere=settings.allow_anonymous)
    try:
        await authenticator.refresh()
        yield authenticator
    finally:
        await database.close()


async def create_bootstrap_key(settings: Settings, authenticator: Authenticator) -> None:
    """Make the key that the settings give, where there is none yet."""
    if not authenticator.anonymous:
        return
    secret = None
    if settings.bootstrap_key is not None:
        secret = settings.bootstrap_key.get_secret_value().strip()
    elif settings.bootstrap_key_file is not None:
        secret = await asyncio.to_thread(_secret_in, settings.bootstrap_key_file)
    if secret is not None:
        await authenticator.create_bootstrap_key(secret)
        await authenticator.refresh()


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


class RunningServer(NamedTuple):
    """What the API runs on, and what is started and stopped around it."""

    services: Services
    database: SqlDatabase
    identity: Server
    dispatcher: Dispatcher
    cache: LeastRecentlyUsed
    event_bus: EventBus


@asynccontextmanager
async def running(
    settings: Settings, limits: Limits, folder: DataDirectory
) -> AsyncIterator[Services]:
    """Run everything behind the API."""
    server = _built(settings, limits, folder)
    services, closing = server.services, server.services.closing
    beside = [
        background.wake_streams(server.event_bus, closing),
        background.refresh(services.authenticator),
        background.watch(services.metrics),
    ]
    if not server.identity.alone:
        acts = background.other_servers(server.cache, server.dispatcher, server.event_bus)
        beside.append(postgres.listen(database_of(settings, folder), server.identity.id, *acts))
    tasks = [asyncio.create_task(one) for one in beside]
    try:
        await services.authenticator.refresh()
        await create_bootstrap_key(settings, services.authenticator)
        await server.dispatcher.start()
        await services.model_directory.fill()
        yield services
    finally:
        closing.set()
        server.event_bus.wake_all()
        for task in tasks:
            task.cancel()
        for failure in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(failure, Exception):
                log.error("what goes on beside requests had ended", exc_info=failure)
        await asyncio.shield(server.dispatcher.stop())
        await server.database.close()


def _built(settings: Settings, limits: Limits, folder: DataDirectory) -> RunningServer:
    """Return every part, joined and not yet started."""
    blobs = FilesystemBlobs(folder.blobs)
    server = Server(secrets.token_hex(8), alone=settings.database_url is None)
    database = SqlDatabase(database_of(settings, folder), server.id)
    cache = LeastRecentlyUsed(settings.model_cache_bytes)
    live_snapshots = LiveSnapshots(database, blobs, alone=server.alone)
    event_bus, closing = EventBus(), asyncio.Event()
    event_log = JobEventLog(event_bus)
    executor = LocalExecutor(settings.workers, settings.worker_memory_bytes)
    dispatcher = Dispatcher(
        database,
        blobs,
        executor,
        event_log,
        live_snapshots,
        limits,
        server,
        WorkerReportHandler(database, blobs, event_log, limits, cache.drop),
    )
    executor.on_free = dispatcher.wake
    authenticator = Authenticator(database, anywhere=settings.allow_anonymous)
    networks = NetworkService(database, blobs, limits, live_snapshots, cache.drop)
    written, read = exchange_formats()
    weights = WeightService(blobs, limits, live_snapshots, written, read)
    model_directory = ModelDirectory(networks, weights, database, limits, settings.model_dir)
    datasets = DatasetService(database, blobs, limits)
    inference = Inference(
        networks, weights, datasets, cache, live_snapshots, limits, settings.default_network
    )
    services = Services(
        networks=networks,
        weights=weights,
        model_directory=model_directory,
        datasets=datasets,
        jobs=JobService(
            database,
            event_log,
            dispatcher,
            limits,
            cache.drop,
            closing,
            open_to_all=lambda: authenticator.anonymous,
        ),
        event_streams=EventStreams(database, event_bus, closing),
        checkpoints=CheckpointService(database, blobs, event_bus, dispatcher, cache.drop, closing),
        inference=inference,
        explanations=ExplanationService(inference, datasets),
        authenticator=authenticator,
        rate_limiter=RateLimiter(
            {
                "read": settings.rate_limit_read,
                "write": settings.rate_limit_write,
                "upload": settings.rate_limit_upload,
                "auth": settings.rate_limit_auth_failures,
                "predict": settings.rate_limit_predict,
            },
            settings.max_streams,
            settings.max_streams_per_tenant,
        ),
        idempotent_requests=IdempotentRequests(database),
        database=database,
        blobs=blobs,
        executor=executor,
        limits=limits,
        metrics=Prometheus(),
        events=EncodedEvents(),
        uploads=folder.uploads,
        closing=closing,
    )
    return RunningServer(services, database, server, dispatcher, cache, event_bus)
