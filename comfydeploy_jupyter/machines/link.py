"""A ComfyUI that was found: its client, its connection, and its properties."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..comfyui.find import running_at
from ..comfyui.folders import Folders, is_folder_name
from ..errors import ComfyUIUnavailableError, InvalidRequestError
from ..util.tasks import close_each, wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..comfyui.client import ComfyUIClient
    from ..comfyui.find import Found
    from ..comfyui.process import ComfyUIProcess
    from ..comfyui.socket import Connection
    from .settings import MachineSettings

log = logging.getLogger(__name__)

CATEGORIES_MAX_AGE = 5.0  # seconds after which the model folders are requested again
MOST_CATEGORIES = 1000
CATEGORIES_WITHIN = 2.0  # seconds that ComfyUI has to answer this request


@dataclass
class Link:
    """One ComfyUI that a machine uses. If a machine finds another ComfyUI, it gets a new link."""

    found: Found
    settings: MachineSettings
    client: ComfyUIClient
    connection: Connection
    process: ComfyUIProcess | None = None
    begun: bool = False  # whether connecting to the ComfyUI, or starting it, has begun
    system: dict[str, Any] = field(default_factory=dict)  # of `/system_stats`, at each connection
    devices: list[dict[str, Any]] = field(default_factory=list)
    folders: Folders | None = None
    _process_folders: Folders | None = None
    _searched: bool = False  # whether the process at its address was searched for
    _categories: tuple[str, ...] = ()
    _categories_at: float = -CATEGORIES_MAX_AGE  # monotonic time

    @property
    def version(self) -> str | None:
        """The version that the ComfyUI reports."""
        version = self.system.get("comfyui_version")
        return version if isinstance(version, str) else None

    def forget_folders(self) -> None:
        """Determine the folders anew at their next use: a new process may have other arguments."""
        self.folders = self._process_folders = None
        self._searched = False

    async def close(self) -> None:
        """Close the connection, and stop the process if this server started it."""
        await close_each(self.connection.close, self.client.close)
        if self.process is not None:
            await self.process.stop()

    async def read_system(self) -> None:
        """Request version, arguments and model folders from a ComfyUI that has just connected."""
        try:
            stats = await self.client.system_stats()
        except ComfyUIUnavailableError as error:
            log.warning("%s", error.message)
            return
        system = stats.get("system")
        self.system = system if isinstance(system, dict) else {}
        self.devices = [device for device in stats.get("devices") or () if isinstance(device, dict)]
        await self.read_categories()

    async def read_categories(self) -> None:
        """Request the names of the model folders, including those of custom nodes.

        They become `Folders.reported`. Without an answer in time, the last names are kept.
        """
        if not self.connection.connected:
            return
        if time.monotonic() - self._categories_at > CATEGORIES_MAX_AGE:
            self._categories_at = time.monotonic()
            with contextlib.suppress(ComfyUIUnavailableError, asyncio.TimeoutError):
                names = await wait_for(self.client.get_list("/models", str), CATEGORIES_WITHIN)
                self._categories = tuple(filter(is_folder_name, names[:MOST_CATEGORIES]))
        if self.folders is not None:
            self.folders.reported = self._categories

    async def read_folders(self, path: Path | None, settings: MachineSettings) -> Folders:
        """Return the folders of the ComfyUI; the first call determines them with `folders_of`.

        For a ComfyUI that this server does not start, they are cached only while it is connected:
        later it may have other arguments.
        """
        if self.folders is not None:
            return self.folders
        connected = self.connection.connected
        found = await asyncio.to_thread(folders_of, path, self, settings)
        found.reported = self._categories
        if connected or self.process is not None:
            self.folders = found
        return found

    async def read_process_folders(self) -> Folders | None:
        """Return the folders of the process at its address; None if unknown; see `running_at`."""
        if not self._searched:
            self._searched = self.connection.connected
            self._process_folders = await asyncio.to_thread(_folders_at, self.client.url)
        return self._process_folders


def folders_of(path: Path | None, link: Link | None, settings: MachineSettings) -> Folders:
    """Return the folders of a ComfyUI. This function blocks: call it in a thread.

    ComfyUI's launch arguments determine the folders. If this server did not start the ComfyUI, they
    are read from the command line of its process, if the process belongs to this user or root; else
    the configured arguments are used. Its HTTP responses are not used, since any process that
    answers there could name any folder.
    """
    argv: Sequence[str] = settings.launch_args if link is None else link.settings.launch_args
    cwd = None
    if link is not None and link.process is None and path is not None:
        running = running_at(link.client.url)
        if running is not None and running.arguments is not None:
            argv, cwd = running.arguments, running.folder
    return Folders(
        path,
        argv=argv,
        cwd=cwd,
        jupyter_root=settings.jupyter_root,
        extra_roots=settings.extra_roots,
    )


def _folders_at(url: str) -> Folders | None:
    running = running_at(url)
    if running is None or running.path is None:
        return None
    try:
        return Folders(running.path, argv=running.arguments or (), cwd=running.folder)
    except InvalidRequestError:  # the arguments of another version
        return None
