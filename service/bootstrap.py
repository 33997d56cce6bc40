"""Builds every part from the settings and joins them; the only module that knows all rings."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI

from service.api.app import create_api
from service.api.dependencies import Services
from service.api.native.jobs.event_encoding import EncodedEvents
from service.application.chronicle import Chronicle
from service.application.datasets import Datasets
from service.application.dispatcher import Dispatcher
from service.application.feed import Feed
from service.application.idempotency import Once
from service.application.inference import Inference
from service.application.jobs import Jobs
from service.application.live import LiveBoard
from service.application.networks import Networks
from service.domain.limits import Limits
from service.infrastructure.blobs.folder import FolderBlobs
from service.infrastructure.data_folder import DataFolder, FolderUnusable
from service.infrastructure.database.engine import (
    DatabaseUnusable,
    SqlStore,
    migrate,
    sqlite_url,
)
from service.infrastructure.execution.local_executor import LocalExecutor
from service.infrastructure.model_cache import LeastRecentlyUsed
from service.infrastructure.observability.metrics import Prometheus
from service.settings import Settings

PULSE_SECONDS: Final = 15.0


def limits_of(settings: Settings) -> Limits:
    """Return the bounds that the settings name."""
    return Limits(
        json_bytes=settings.max_json_bytes,
        dataset_bytes=settings.max_dataset_bytes,
        layers=settings.max_layers,
        width=settings.max_width,
        parameters=settings.max_parameters,
        epochs=settings.max_epochs,
        rows_per_call=settings.max_rows_per_call,
        queued_jobs=settings.max_queued_jobs,
        queued_jobs_per_owner=settings.max_queued_jobs_per_owner,
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
    folder.take()
    if folder.lost_its_database():
        problem = f"{folder.database} is missing or empty, and {folder.blobs} is not"
        raise DatabaseUnusable(f"{problem}; put the database's backup in its place")
    migrate(folder.database)
    try:
        FolderBlobs(folder.blobs).prepare()
    except OSError as error:
        raise FolderUnusable(f"{folder.blobs} cannot be written: {error.strerror}") from error
    return folder


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

    return create_api(lifespan)


async def _pulse(feed: Feed, closing: asyncio.Event) -> None:
    """Let streams show that they live, and let all who wait go when the server stops."""
    while not closing.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closing.wait(), PULSE_SECONDS)
        feed.pulse()


@asynccontextmanager
async def running(
    settings: Settings, limits: Limits, folder: DataFolder
) -> AsyncIterator[Services]:
    """Run everything behind the API."""
    blobs = FolderBlobs(folder.blobs)
    store = SqlStore(sqlite_url(folder.database))
    cache = LeastRecentlyUsed(settings.model_cache_bytes)
    board, feed, closing = LiveBoard(), Feed(), asyncio.Event()
    chronicle = Chronicle(feed)
    executor = LocalExecutor(settings.workers, settings.worker_memory_bytes)
    dispatcher = Dispatcher(
        store,
        blobs,
        executor,
        chronicle,
        board,
        limits,
        server_id=secrets.token_hex(8),
        changed=cache.drop,
    )
    executor.on_free = dispatcher.wake
    networks = Networks(store, blobs, limits, board, cache.drop)
    datasets = Datasets(store, blobs, limits)
    services = Services(
        networks=networks,
        datasets=datasets,
        jobs=Jobs(store, blobs, chronicle, feed, dispatcher, limits, cache.drop, closing),
        inference=Inference(networks, datasets, cache, board, limits),
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
    pulse = asyncio.create_task(_pulse(feed, closing))
    try:
        await dispatcher.start()
        yield services
    finally:
        closing.set()
        await pulse
        await asyncio.shield(dispatcher.stop())
        await store.close()
