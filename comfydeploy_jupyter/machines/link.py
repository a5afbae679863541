"""A ComfyUI that was found: its client, its connection, and what is known of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..comfyui.folders import Folders
from ..comfyui.model_folders import is_folder_name
from ..comfyui.running import running_at
from ..errors import ComfyUIUnavailableError
from ..net.tasks import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..comfyui.client import ComfyUIClient
    from ..comfyui.connection import Connection
    from ..comfyui.discovery import Found
    from ..comfyui.process import ComfyUIProcess
    from .settings import MachineSettings

log = logging.getLogger(__name__)

CATEGORIES_MAX_AGE = 5.0  # seconds after which ComfyUI is asked again for its model folders
MOST_CATEGORIES = 1000
CATEGORIES_WITHIN = 2.0  # seconds that it has to answer that


@dataclass
class Link:
    """One ComfyUI that a machine uses. A machine that finds another ComfyUI gets a new link.

    Attributes
    ----------
    found : Found
        How it was found.
    settings : MachineSettings
        The settings with which it was found or started.
    client : ComfyUIClient
        HTTP to it.
    connection : Connection
        The WebSocket to it.
    process : ComfyUIProcess or None
        Its process, if this server starts it.
    begun : bool
        Whether connecting to it, or starting it, has begun.
    system : dict
        ``system`` of its ``/system_stats``, asked for at each connection.
    folders : Folders or None
        Its folders, once they were determined.
    """

    found: Found
    settings: MachineSettings
    client: ComfyUIClient
    connection: Connection
    process: ComfyUIProcess | None = None
    begun: bool = False
    system: dict[str, Any] = field(default_factory=dict)
    folders: Folders | None = None
    _categories: tuple[str, ...] = ()
    _categories_at: float = -CATEGORIES_MAX_AGE  # of the monotonic clock

    @property
    def version(self) -> str | None:
        """The version of ComfyUI that it reports."""
        version = self.system.get("comfyui_version")
        return version if isinstance(version, str) else None

    async def close(self) -> None:
        """Close the connection, and end the process if this server started it."""
        await self.connection.close()
        await self.client.close()
        if self.process is not None:
            await self.process.stop()

    async def read_system(self) -> None:
        """Ask a ComfyUI that has just connected for its version, arguments and model folders."""
        try:
            stats = await self.client.system_stats()
        except ComfyUIUnavailableError as error:
            log.warning("%s", error.message)
            return
        system = stats.get("system")
        self.system = system if isinstance(system, dict) else {}
        await self.read_categories()

    async def read_categories(self) -> None:
        """Ask ComfyUI for the names of its model folders, those of custom nodes among them.

        They are set as `Folders.told`. Without an answer in time, the last ones stay.
        """
        if not self.connection.connected:
            return
        if time.monotonic() - self._categories_at > CATEGORIES_MAX_AGE:
            self._categories_at = time.monotonic()
            with contextlib.suppress(ComfyUIUnavailableError, asyncio.TimeoutError):
                names = await wait_for(self.client.get_list("/models", str), CATEGORIES_WITHIN)
                self._categories = tuple(filter(is_folder_name, names[:MOST_CATEGORIES]))
        if self.folders is not None:
            self.folders.told = self._categories

    async def read_folders(self, path: Path | None, settings: MachineSettings) -> Folders:
        """Return its folders, as `folders_of` finds them the first time.

        Those of a ComfyUI that this server does not start are kept only if it is connected: it may
        come back with other arguments.
        """
        if self.folders is not None:
            return self.folders
        connected = self.connection.connected
        found = await asyncio.to_thread(folders_of, path, self, settings)
        found.told = self._categories
        if connected or self.process is not None:
            self.folders = found
        return found


def folders_of(path: Path | None, link: Link | None, settings: MachineSettings) -> Folders:
    """Return the folders of a ComfyUI. It blocks: call it in a thread.

    ComfyUI's launch arguments decide where they are. Those of a ComfyUI that this server did not
    start are read from the command line of its process, if that is this user's or root's; else the
    configured ones count. What it says of itself over HTTP does not count: whoever answers there
    could name any folder.

    Parameters
    ----------
    path : pathlib.Path or None
        The folder with ComfyUI's program.
    link : Link or None
        The ComfyUI, if it was found.
    settings : MachineSettings
        The settings of the machine.
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
