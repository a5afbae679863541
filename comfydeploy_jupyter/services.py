"""Every room, built from the configuration, opened and closed in order."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .cloud.native import CloudAccess
from .machines.machine import Machine, MachineSettings
from .machines.registry import LOCAL, MachineRegistry
from .runs.delivery import Delivery
from .runs.manager import RunManager
from .store.callbacks import CallbackRepository
from .store.database import Database
from .store.runs import RunRepository
from .store.session import Session
from .store.transfers import TransferRepository
from .transfers.room import Transfers
from .transfers.sites import ModelSites

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What the rooms need to know.

    Attributes
    ----------
    data_dir : pathlib.Path
        Where the store and the logs are.
    base_url : str
        Jupyter's base URL, with a slash at both ends.
    root_dir : pathlib.Path or None
        The folder that Jupyter shows.
    local : MachineSettings
        The default machine.
    autostart : bool
        Whether the local ComfyUI is found, or started, when Jupyter starts.
    allowed_api_urls : tuple of str
        The addresses that may receive a ComfyDeploy API key.
    api_key : str or None
        The configured ComfyDeploy API key.
    max_concurrent_uploads : int
        Transfers at a time, in each direction.
    sites : ModelSites
        Where models are downloaded from.
    """

    data_dir: Path
    base_url: str = "/"
    root_dir: Path | None = None
    local: MachineSettings = field(default_factory=MachineSettings)
    autostart: bool = True
    allowed_api_urls: tuple[str, ...] = ()
    api_key: str | None = field(default=None, repr=False)
    max_concurrent_uploads: int = 3
    sites: ModelSites = field(default_factory=ModelSites)


class Services:
    """All rooms of one Jupyter server.

    Parameters
    ----------
    settings : Settings
        The configuration.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cloud = CloudAccess(settings.allowed_api_urls, settings.api_key)
        self.database = Database(settings.data_dir / "comfydeploy.db")
        self.machines = MachineRegistry()
        self._session: Session | None = None
        self._runs: RunManager | None = None
        self._transfers: Transfers | None = None
        self._opened = False
        self._lock = asyncio.Lock()

    @property
    def runs(self) -> RunManager:
        """The runs; there once `open` is done."""
        if self._runs is None:
            raise RuntimeError("the services are not open")
        return self._runs

    @property
    def transfers(self) -> Transfers:
        """Uploads, downloads and callbacks; there once `open` is done."""
        if self._transfers is None:
            raise RuntimeError("the services are not open")
        return self._transfers

    async def open(self) -> None:
        """Open every room; the second call only waits for the first."""
        async with self._lock:
            if not self._opened:
                await self._open()
                self._opened = True

    async def close(self) -> None:
        """Close every room in the reverse order."""
        async with self._lock:
            if self._runs is not None:
                await self._runs.close()
            if self._transfers is not None:
                await self._transfers.close()
            await self.machines.close()
            await self.database.close()
            if self._session is not None:
                self._session.close()
            await self.cloud.close()
            self._opened = False

    async def _open(self) -> None:
        await self.database.open()
        settings = self.settings
        self._session = await asyncio.to_thread(Session, settings.data_dir / "sessions")
        repository = RunRepository(self.database)
        self._transfers = Transfers(
            TransferRepository(self.database),
            CallbackRepository(self.database),
            self._session,
            self.machines,
            self.cloud.key_for,
            sites=settings.sites,
            max_concurrent=settings.max_concurrent_uploads,
        )
        delivery = Delivery(self._transfers, self.machines, repository)
        self._runs = RunManager(
            repository,
            self.machines,
            self._session,
            delivery,
            view_url=f"{settings.base_url}comfyui-deploy/view",
        )
        local = Machine(
            LOCAL,
            settings.local,
            session_id=self._session.id,
            folder=settings.data_dir,
            listener=self._runs,
        )
        self.machines.add(local)
        await self._transfers.open()
        await delivery.open()
        await self._runs.open()
        if settings.autostart:
            local.open()
