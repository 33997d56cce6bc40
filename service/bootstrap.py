"""Builds and wires all components from the settings; the only module that imports all layers."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI

from core.formats import FILE_FORMATS, WRITTEN_FORMATS, ModelReader, ModelWriter
from service.api.app import create_api
from service.api.body import LargeBodies
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
from service.application.jobs.fit import FitService
from service.application.jobs.jobs import JobService
from service.application.jobs.worker_reports import WorkerReportHandler
from service.application.networks.model_directory import ModelDirectory
from service.application.networks.networks import NetworkService
from service.application.networks.weight_upload import WeightUpload
from service.application.networks.weights import WeightService
from service.application.retention.quotas import QuotaCheck
from service.application.retention.retention import RetentionService
from service.application.training.live_snapshots import LiveSnapshots
from service.domain.keys import Scope, new_secret
from service.domain.limits import Limits
from service.domain.retention import Quotas, Retention
from service.infrastructure.blobs.filesystem import FilesystemBlobs
from service.infrastructure.data_directory import DataDirectory, DataDirectoryError
from service.infrastructure.database import postgres
from service.infrastructure.database.engine import (
    SqlDatabase,
    migrate,
    sqlite_url,
)
from service.infrastructure.database.errors import REMEDY, DatabaseUnusableError
from service.infrastructure.disk_reserve import DiskReserve
from service.infrastructure.limited.processes import LimitedModelFiles, LimitedProcesses
from service.infrastructure.model_cache import LeastRecentlyUsed
from service.infrastructure.observability.metrics import Prometheus
from service.infrastructure.onnx.format import Onnx
from service.infrastructure.workers.pool import LocalExecutor
from service.server import periodic_tasks
from service.settings import Protocol, Settings, cores

log = logging.getLogger(__name__)


def limits_of(settings: Settings) -> Limits:
    """Return the limits that the settings define."""
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
        attempts=settings.max_attempts,
    )


def quotas_of(settings: Settings) -> Quotas:
    """Return the quotas of tenants whose keys set none."""
    return Quotas(
        settings.quota_bytes,
        settings.quota_networks,
        settings.quota_datasets,
        settings.max_running_jobs_per_tenant,
    )


def retention_of(settings: Settings) -> Retention:
    """Return the retention periods that the settings define."""

    def days(number: float | None) -> timedelta | None:
        return None if number is None else timedelta(days=number)

    return Retention(
        checkpoints=days(settings.retain_checkpoints_days),
        events=days(settings.retain_events_days),
        boundary_frames=days(settings.retain_boundary_frames_days),
        jobs=days(settings.retain_jobs_days),
        inline_datasets=days(settings.retain_inline_datasets_days),
        demos=days(settings.retain_demos_days),
    )


def prepare(settings: Settings) -> DataDirectory:
    """Lock the data directory and migrate its database.

    Raises
    ------
    DataDirectoryError, DatabaseUnusableError
        If the server cannot start on them. The message is one line for the operator.
    """
    directory = DataDirectory(settings.data_dir)
    shared = settings.database_url is not None
    directory.acquire(shared=shared)
    if settings.database_url is not None:
        postgres.migrate(settings.database_url.get_secret_value())
    elif directory.has_orphaned_blobs():
        problem = f"{directory.database} is missing or empty, but {directory.blobs} contains blobs"
        raise DatabaseUnusableError(f"{problem}; {REMEDY}")
    else:
        migrate(directory.database)
    try:
        FilesystemBlobs(directory.blobs).prepare(shared=shared)
    except OSError as error:
        raise DataDirectoryError(
            f"{directory.blobs} cannot be written to: {error.strerror}"
        ) from error
    return directory


def database_url_of(settings: Settings, directory: DataDirectory) -> str:
    """Return the URL of the database."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    return sqlite_url(directory.database)


def build(settings: Settings, prepared: DataDirectory | None = None) -> FastAPI:
    """Return the application; its lifespan starts and stops the server's components."""
    limits = limits_of(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        directory = prepared
        if directory is None:
            directory = await asyncio.to_thread(prepare, settings)
        try:
            async with running(settings, limits, directory) as services:
                app.state.services = app.state.pipeline.services = services
                yield
        finally:
            directory.release()

    return create_api(
        lifespan,
        inference_protocols(settings),
        traced=settings.telemetry,
        cors_origins=settings.cors_origins,
    )


def inference_protocols(settings: Settings) -> list[InferenceProtocol]:
    """Return the inference protocols to serve in addition to the native API."""
    enabled = settings.protocols
    available = {
        Protocol.OPEN_INFERENCE: open_inference.PROTOCOL,
        Protocol.KSERVE_V1: kserve_v1.PROTOCOL,
        Protocol.SAGEMAKER: sagemaker.PROTOCOL,
        Protocol.MLFLOW: mlflow.PROTOCOL,
        Protocol.AZURE_ML: azure_ml.PROTOCOL,
    }
    protocols = [protocol for name, protocol in available.items() if name in enabled]
    codecs = [protocol.invocations for protocol in protocols if protocol.invocations is not None]
    if codecs:
        protocols.append(invocations_protocol(codecs))
    if Protocol.VERTEX in enabled:
        # First, because its paths are configurable and may coincide with another protocol's.
        protocols.insert(0, vertex.protocol(settings.aip_health_route, settings.aip_predict_route))
    return protocols


def exchange_formats() -> tuple[list[ModelWriter], list[ModelReader]]:
    """Return the export and import formats; ONNX is included if its package is installed."""
    written, read = [*WRITTEN_FORMATS], [*FILE_FORMATS]
    if importlib.util.find_spec("onnx") is not None:
        written.append(Onnx())
        read.append(Onnx())
    return written, read


@asynccontextmanager
async def open_authenticator(
    settings: Settings, directory: DataDirectory
) -> AsyncIterator[Authenticator]:
    """Open the API keys without the rest of the server, for a command."""
    database = SqlDatabase(database_url_of(settings, directory))
    authenticator = Authenticator(database, anywhere=settings.allow_anonymous)
    try:
        await authenticator.refresh()
        yield authenticator
    finally:
        await database.close()


async def create_bootstrap_key(settings: Settings, authenticator: Authenticator) -> None:
    """Create the admin key that the settings define, if no API key exists."""
    if not authenticator.anonymous:
        return
    secret = None
    if settings.bootstrap_key is not None:
        secret = settings.bootstrap_key.get_secret_value().strip()
    elif settings.bootstrap_key_file is not None:
        secret = await asyncio.to_thread(_read_or_generate_secret, settings.bootstrap_key_file)
    if secret is not None:
        await authenticator.create_bootstrap_key(secret)
        await authenticator.refresh()


async def create_metrics_key(settings: Settings, authenticator: Authenticator) -> None:
    """Create the key with the scope `metrics` that the settings define, if it does not exist."""
    file = settings.metrics_key_file
    if file is None or authenticator.anonymous:
        return
    secret = await asyncio.to_thread(_read_or_generate_secret, file)
    if not authenticator.knows(secret):
        await authenticator.create("metrics", scopes=[Scope.METRICS], secret=secret)


def _read_or_generate_secret(file: Path) -> str:
    """Return the key in a file; if the file does not exist, create it atomically with a new key."""
    if not file.exists():
        temporary = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
        temporary.touch(mode=0o600)
        temporary.write_text(new_secret() + "\n")
        with contextlib.suppress(FileExistsError):  # another server was faster
            os.link(temporary, file)
            log.warning("generated a key: %s", file)
        temporary.unlink()
    return file.read_text().strip()


async def collect_garbage(
    settings: Settings, directory: DataDirectory, *, dry_run: bool
) -> dict[str, int]:
    """Delete what has expired without the rest of the server, for a command."""
    database = SqlDatabase(database_url_of(settings, directory))
    try:
        counts = await RetentionService(database, retention_of(settings)).collect(dry_run=dry_run)
        if not dry_run:
            blobs = FilesystemBlobs(directory.blobs)
            await blobs.sweep(await database.referenced_blobs(), grace=0.0)
        return counts
    finally:
        await database.close()


class RunningServer(NamedTuple):
    """The services of the API, and the components that are started and stopped with them."""

    services: Services
    database: SqlDatabase
    identity: Server
    dispatcher: Dispatcher
    cache: LeastRecentlyUsed
    event_bus: EventBus
    processes: LimitedProcesses
    reserve: DiskReserve


@asynccontextmanager
async def running(
    settings: Settings, limits: Limits, directory: DataDirectory
) -> AsyncIterator[Services]:
    """Start all components, yield the services of the API, and stop the components."""
    server = _build_server(settings, limits, directory)
    services, closing = server.services, server.services.closing
    coroutines = [
        periodic_tasks.wake_streams(server.event_bus, closing),
        periodic_tasks.refresh_keys(services.authenticator),
        periodic_tasks.measure_lag(services.metrics),
        periodic_tasks.refill(server.reserve),
        periodic_tasks.collect_nightly(services.retention),
        periodic_tasks.measure_storage(server.database, services.stored_bytes),
    ]
    if not server.identity.alone:
        url = database_url_of(settings, directory)
        handlers = periodic_tasks.notification_handlers(
            server.cache, server.dispatcher, server.event_bus
        )
        coroutines.append(postgres.listen(url, server.identity.id, *handlers))
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await services.authenticator.refresh()
        await create_bootstrap_key(settings, services.authenticator)
        await create_metrics_key(settings, services.authenticator)
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
                log.error("a background task failed", exc_info=failure)
        await asyncio.shield(server.dispatcher.stop())
        await asyncio.shield(server.processes.stop())
        await server.database.close()


def _build_server(settings: Settings, limits: Limits, directory: DataDirectory) -> RunningServer:
    """Return all components, wired but not yet started."""
    blobs = FilesystemBlobs(directory.blobs)
    server = Server(secrets.token_hex(8), alone=settings.database_url is None)
    database = SqlDatabase(database_url_of(settings, directory), server.id)
    cache = LeastRecentlyUsed(settings.model_cache_bytes)
    live_snapshots = LiveSnapshots(database, blobs, alone=server.alone)
    event_bus, closing = EventBus(), asyncio.Event()
    retention = retention_of(settings)
    event_log = JobEventLog(event_bus, drops_checkpoints=retention.checkpoints == timedelta(0))
    executor = LocalExecutor(settings.workers, settings.worker_memory_bytes)
    authenticator = Authenticator(
        database, anywhere=settings.allow_anonymous, quotas=quotas_of(settings)
    )
    quotas = QuotaCheck(authenticator.quotas_of)
    dispatcher = Dispatcher(
        database,
        blobs,
        executor,
        event_log,
        live_snapshots,
        authenticator.quotas_of,
        server,
        WorkerReportHandler(database, blobs, event_log, limits, cache.drop),
    )
    executor.on_free = dispatcher.wake
    networks = NetworkService(database, blobs, limits, live_snapshots, cache.drop, quotas)
    written, read = exchange_formats()
    processes = LimitedProcesses(max(2, cores()))
    model_files = LimitedModelFiles(processes, limits.parameters)
    weights = WeightService(blobs, limits, live_snapshots, model_files, written, read)
    model_directory = ModelDirectory(networks, weights, database, limits, settings.model_dir)
    datasets = DatasetService(database, blobs, limits, quotas)
    inference = Inference(
        networks, weights, datasets, cache, live_snapshots, limits, settings.default_network
    )
    jobs = JobService(
        database,
        event_log,
        dispatcher,
        limits,
        cache.drop,
        closing,
        open_to_all=lambda: authenticator.anonymous,
        quotas=quotas,
    )
    reserve = DiskReserve(directory.reserve)

    async def release_reserve() -> bool:
        dispatcher.sweep_often()
        return await asyncio.to_thread(reserve.release)

    services = Services(
        networks=networks,
        weights=weights,
        weight_upload=WeightUpload(networks, weights),
        model_directory=model_directory,
        datasets=datasets,
        jobs=jobs,
        fit=FitService(networks, datasets, jobs),
        event_streams=EventStreams(database, event_bus, closing),
        checkpoints=CheckpointService(
            database, blobs, event_bus, dispatcher, cache.drop, closing, quotas
        ),
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
        retention=RetentionService(database, retention),
        database=database,
        blobs=blobs,
        executor=executor,
        limits=limits,
        metrics=Prometheus(),
        stored_bytes={},
        events=EncodedEvents(),
        release_reserve=release_reserve,
        large_bodies=LargeBodies(limits.inline_bytes, settings.max_decoding_bytes),
        uploads=directory.uploads,
        closing=closing,
        cors_origins=settings.cors_origins,
    )
    return RunningServer(
        services, database, server, dispatcher, cache, event_bus, processes, reserve
    )
