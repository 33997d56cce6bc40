"""Imports weights files as networks, at start or when a hosting platform loads a model."""

import asyncio
import logging
from pathlib import Path
from typing import final

from service.application.networks.networks import NetworkService
from service.application.networks.weights import WeightService
from service.application.ports.database import Database
from service.domain.errors import ConflictError, InvalidRequestError, NotFoundError, ServiceError
from service.domain.keys import DEFAULT_TENANT
from service.domain.limits import Limits
from service.domain.networks import Metadata, NetworkRecord

log = logging.getLogger(__name__)
SOURCE = "model_url"
"""Metadata key of an imported network: the path or URL of its file."""


@final
class ModelDirectory:
    """Imports weights files from a folder as networks.

    Parameters
    ----------
    folder
        None disables imports. Files outside the folder are never read.
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
        """Import each file in the folder unless a network with its name exists."""
        if self._folder is None:
            return
        for file in await asyncio.to_thread(self._files, self._folder):
            try:
                await self._networks.get(DEFAULT_TENANT, file.stem)
            except NotFoundError:
                try:
                    await self._add(DEFAULT_TENANT, file.stem, file)
                except ServiceError as error:
                    log.warning("cannot import %s: %s", file, error.detail)

    async def load(self, tenant: str, name: str, url: str) -> NetworkRecord:
        """Import the single weights file at a path in the folder.

        Raises
        ------
        ConflictError
            If a network with that name exists.
        NotFoundError
            If the path is not in the folder, or does not contain exactly one weights file.
        """
        try:
            path = await asyncio.to_thread(Path(url.removeprefix("file://")).resolve)
            if self._folder is None or not path.is_relative_to(self._folder):
                raise NotFoundError("path in NEUROND_MODEL_DIR", url)
            files = await asyncio.to_thread(self._files, path)
        except (OSError, ValueError) as error:  # the name is too long, or contains NUL
            raise NotFoundError("path", url) from error
        if len(files) != 1:
            raise NotFoundError(f"single weights file ({len(files)} candidates) in", url)
        return await self._add(tenant, name, files[0], url)

    async def unload(self, tenant: str, reference: str) -> None:
        """Delete a network that `load` or `fill` imported."""
        network = await self._networks.get(tenant, reference)
        if SOURCE not in network.metadata:
            raise ConflictError(f"the network {network.name!r} was not imported from a model file")
        await self._networks.remove(tenant, network.id, lambda _: None)

    def _files(self, path: Path) -> list[Path]:
        """Return the weights files at or below a path, sorted."""
        files = [path] if path.is_file() else sorted(path.rglob("*")) if path.is_dir() else []
        root = self._folder or path
        return [
            file
            for file in files
            if file.suffix in self._weights.suffixes
            and file.is_file()
            and file.resolve().is_relative_to(root)  # a symbolic link may point elsewhere
        ]

    async def _add(
        self, tenant: str, name: str, file: Path, url: str | None = None
    ) -> NetworkRecord:
        try:
            if (await asyncio.to_thread(file.stat)).st_size > self._limits.weights_bytes:
                raise InvalidRequestError(
                    f"{file.name} is larger than {self._limits.weights_bytes} bytes"
                )
            data = await asyncio.to_thread(file.read_bytes)
        except OSError as error:
            raise InvalidRequestError(f"{file.name} cannot be read: {error.strerror}") from error
        _, model = await self._weights.parsed_named(data, file.suffix)
        metadata: Metadata = {SOURCE: url or str(file)}
        unsaved = await self._networks.import_model(tenant, model, name, metadata)
        async with self._database.write() as work:
            return await self._networks.add(work, unsaved)
