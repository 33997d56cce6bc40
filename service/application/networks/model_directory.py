"""Networks that come as files: from a folder at start, or loaded by a hosting platform."""

import asyncio
import logging
from pathlib import Path
from typing import final

from service.application.networks.networks import NetworkService
from service.application.networks.weights import WeightService
from service.application.ports import Database
from service.domain.errors import ConflictError, InvalidRequestError, NotFoundError, ServiceError
from service.domain.keys import DEFAULT_TENANT
from service.domain.limits import Limits
from service.domain.networks import Metadata, NetworkRecord

log = logging.getLogger(__name__)
SOURCE = "model_url"
"""Metadata of a network that came so: where its file lay."""


@final
class ModelDirectory:
    """Imports files of weights as networks.

    Parameters
    ----------
    folder
        None where nothing is imported; no file outside it is ever read.
    """

    def __init__(
        self,
        networks: NetworkService,
        weights: WeightService,
        database: Database,
        limits: Limits,
        folder: Path | None,
    ) -> None:
        self._networks, self._weights, self._database = networks, weights, database
        self._limits = limits
        self._folder = None if folder is None else folder.resolve()

    async def fill(self) -> None:
        """Import every file of the folder whose name no network has yet."""
        if self._folder is None:
            return
        for file in await asyncio.to_thread(self._files, self._folder):
            try:
                await self._networks.get(DEFAULT_TENANT, file.stem)
            except NotFoundError:
                try:
                    await self._add(DEFAULT_TENANT, file.stem, file)
                except ServiceError as error:
                    log.warning("%s was not imported: %s", file, error.detail)

    async def load(self, tenant: str, name: str, url: str) -> NetworkRecord:
        """Import the only file of weights that lies at a path below the folder.

        Raises
        ------
        Conflict
            When a network has that name.
        NotFound
            When there is no such path below the folder, or no file of weights in it.
        """
        try:
            place = await asyncio.to_thread(Path(url.removeprefix("file://")).resolve)
            if self._folder is None or not place.is_relative_to(self._folder):
                raise NotFoundError("folder below NEUROND_MODEL_DIR", url)
            files = await asyncio.to_thread(self._files, place)
        except (OSError, ValueError) as error:  # too long a name, or a NUL in it
            raise NotFoundError("path", url) from error
        if len(files) != 1:
            raise NotFoundError(f"single file of weights ({len(files)} found) in", url)
        return await self._add(tenant, name, files[0], url)

    async def unload(self, tenant: str, reference: str) -> None:
        """Remove a network that was loaded by its platform."""
        network = await self._networks.get(tenant, reference)
        if SOURCE not in network.metadata:
            raise ConflictError(f"the network {network.name!r} was not loaded here")
        await self._networks.remove(tenant, network.id, lambda _: None)

    def _files(self, place: Path) -> list[Path]:
        """Return the files of weights at a path, in order."""
        files = [place] if place.is_file() else sorted(place.rglob("*")) if place.is_dir() else []
        root = self._folder or place
        return [
            file
            for file in files
            if file.suffix in self._weights.suffixes
            and file.is_file()
            and file.resolve().is_relative_to(root)  # a link may lead elsewhere
        ]

    async def _add(
        self, tenant: str, name: str, file: Path, url: str | None = None
    ) -> NetworkRecord:
        try:
            if (await asyncio.to_thread(file.stat)).st_size > self._limits.weights_bytes:
                raise InvalidRequestError(
                    f"{file.name} is longer than {self._limits.weights_bytes} bytes"
                )
            data = await asyncio.to_thread(file.read_bytes)
        except OSError as error:
            raise InvalidRequestError(f"{file.name} cannot be read: {error.strerror}") from error
        _, model = await self._weights.parsed_named(data, file.suffix)
        metadata: Metadata = {SOURCE: url or str(file)}
        unsaved = await self._networks.import_model(tenant, model, name, metadata)
        async with self._database.write() as work:
            return await self._networks.add(work, unsaved)
