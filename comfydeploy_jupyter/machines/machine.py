"""One ComfyUI that runs can be sent to."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..comfyui.definitions import Definitions, DefinitionSet
from ..comfyui.find import installed_version, nothing_listens_at
from ..comfyui.process import count_oom_kills, why_killed
from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    ForbiddenPathError,
    InvalidRequestError,
    NotFoundError,
)
from ..graphs.versions import outside_tested_range
from ..util.secrets import clean_url
from ..util.tasks import open_in_thread
from .hardware import of_comfyui
from .link import folders_of
from .supervisor import Supervisor

if TYPE_CHECKING:
    import io

    from ..comfyui.client import ComfyUIClient
    from ..comfyui.folders import Folders
    from ..comfyui.process import ComfyUIProcess
    from ..comfyui.socket import Connection, Event, OversizedEvent, Preview
    from .link import Link
    from .settings import MachineSettings


class MachineListener(Protocol):
    """Receives the events of machines. Called on the event loop; must not block."""

    def machine_event(self, machine: Machine, event: Event | Preview | OversizedEvent) -> None:
        """Handle an event of the machine's ComfyUI."""

    def machine_connected(self, machine: Machine) -> None:
        """Handle a new connection: events arrive from now on."""

    def machine_disconnected(self, machine: Machine) -> None:
        """Handle a lost connection: no events arrive until the next connection."""

    def machine_ended(
        self, machine: Machine, reason: str, *, wanted: bool = False, gone: bool = False
    ) -> None:
        """Handle the exit of ComfyUI's process, which ends all that it was executing.

        ``wanted`` means that the exit was requested, ``gone`` that the provider of a pool has ended
        the machine: then no run is its cause.
        """

    def machines_of(self, pool_id: str) -> set[str]:
        """Return the ids of the machines that have unfinished runs of a pool.

        It contains the id of the pool if runs wait for a member.
        """


class Machine:
    """A ComfyUI and its properties."""

    def __init__(
        self,
        machine_id: str,
        settings: MachineSettings,
        *,
        session_id: str,
        folder: Path,
        listener: MachineListener,
        name: str | None = None,
    ) -> None:
        self.id = machine_id
        self.name = name or machine_id
        self._definitions = Definitions(folder / "definitions" / f"{machine_id}.json.gz")
        self._supervisor = Supervisor(
            machine_id,
            settings,
            session_id=session_id,
            folder=folder,
            listener=_Forwarding(self, self._definitions, listener),
        )

    @property
    def settings(self) -> MachineSettings:
        """The present settings."""
        return self._supervisor.settings

    @property
    def _link(self) -> Link | None:
        return self._supervisor.link

    @property
    def connected(self) -> bool:
        """Whether the events of its ComfyUI arrive now."""
        return self._supervisor.connected

    @property
    def answers(self) -> bool:
        """Whether it is connected, and has answered pings in the last seconds."""
        return self.connected and self.connection is not None and self.connection.answers

    @property
    def disconnected_at(self) -> float:
        """Monotonic time at which the connection to its ComfyUI was lost last."""
        return self._supervisor.disconnected_at

    @property
    def connection(self) -> Connection | None:
        """The WebSocket, once a ComfyUI has been found."""
        return self._link.connection if self._link is not None else None

    @property
    def url(self) -> str | None:
        """Address of its ComfyUI, once found."""
        return (self._link.client.url if self._link is not None else None) or None

    @property
    def path(self) -> Path | None:
        """Folder of its ComfyUI, if it is on this machine and known."""
        if self._link is not None:
            return self._link.found.path
        given = self.settings.comfyui_path
        return Path(given).expanduser() if given else None

    @property
    def process(self) -> ComfyUIProcess | None:
        """The process of its ComfyUI, if this server starts it."""
        return self._supervisor.process

    @property
    def memory_verdict(self) -> str | None:
        """Cause and advice if a lack of memory may have ended its ComfyUI; else None."""
        return self.process.memory_verdict if self.process is not None else None

    async def look_for_memory_verdict(self) -> str | None:
        """Return `memory_verdict`; for a ComfyUI of others, read the kernel's count."""
        if self.process is not None:
            return self.process.memory_verdict
        kills = await asyncio.to_thread(count_oom_kills) - self._supervisor.oom_kills
        return why_killed(None, kills)

    @property
    def python(self) -> Path | None:
        """The interpreter that runs its ComfyUI, if known."""
        if self._link is not None:
            return self._link.found.python
        given = self.settings.comfyui_python
        return Path(given).expanduser() if given else None

    @property
    def system(self) -> dict[str, Any]:
        """``system`` of ``/system_stats`` at the last connection; contains ``argv``."""
        return dict(self._link.system) if self._link is not None else {}

    @property
    def gpu_name(self) -> str | None:
        """The name of the GPU that its ComfyUI uses, as ComfyUI reported it last."""
        devices = self._link.devices if self._link is not None else []
        gpu = of_comfyui(devices[0]) if devices else None
        return None if gpu is None else str(gpu["name"])

    @property
    def launch_args(self) -> list[str]:
        """The launch arguments of its running ComfyUI, else those for the next start."""
        argv = self.system.get("argv")
        if self.connected and isinstance(argv, list):
            return [str(argument) for argument in argv[1:]]
        return list(self.settings.launch_args)

    @property
    def managed(self) -> bool:
        """Whether its ComfyUI is, or would be, started and stopped by this server."""
        if self._link is not None:
            return self._link.process is not None
        return not self.settings.comfyui_url

    @property
    def state(self) -> str:
        """The state of the machine.

        ``ready``, ``starting``, ``backoff`` (before a restart), ``failed`` (it does not start),
        ``stopped``, or ``unreachable``.
        """
        if self.connected:
            return "ready"
        process = self.process
        if process is not None:
            return "starting" if process.state == "running" else process.state
        if self._supervisor.is_trying:
            return "starting" if self.managed else "unreachable"
        if self.managed:
            return "failed" if self._supervisor.failure is not None else "stopped"
        return "unreachable"

    @property
    def restart_required(self) -> bool:
        """Whether its ComfyUI is running with other settings than the present ones."""
        link = self._link
        if link is None or not self._supervisor.process_runs:
            return False
        return link.settings.launch != self.settings.launch

    def open(self) -> None:
        """See `Supervisor.open`."""
        self._supervisor.open()

    async def close(self) -> None:
        """See `Supervisor.close`."""
        await self._supervisor.close()

    async def reconfigure(self, settings: MachineSettings) -> None:
        """See `Supervisor.reconfigure`."""
        await self._supervisor.reconfigure(settings)

    async def restart(self, settings: MachineSettings | None = None) -> None:
        """See `Supervisor.restart`."""
        await self._supervisor.restart(settings)

    async def ready(self) -> ComfyUIClient:
        """See `Supervisor.ready`."""
        return await self._supervisor.ready()

    @property
    def is_dead(self) -> bool:
        """Whether its ComfyUI is certainly not running, because it is a process of this server."""
        process = self.process
        return process is not None and process.pid is None

    async def has_ended(self) -> bool:
        """Return whether its ComfyUI was on this machine, and no process listens there any more.

        A port of this machine may also lead to another one, such as that of ``ssh -L`` or of the
        proxy of a worker. If it refuses connections, the ComfyUI behind it may still be executing.
        So the process that listened there must have been seen, and must have been a ComfyUI.
        """
        url = self._supervisor.last_url
        seen = url is not None and self._supervisor.was_here and not self.connected
        return seen and url is not None and await nothing_listens_at(url)

    @property
    def executes_here(self) -> bool:
        """Whether its ComfyUI was started by this server and has prompts, from any client."""
        connection = self.connection
        if self.process is None or connection is None or not self.connected:
            return False
        return bool(connection.queue_remaining)

    @property
    def hangs(self) -> bool:
        """Whether its ComfyUI may be running, but does not answer."""
        return self._link is not None and self._link.connection.hangs

    def answering_client(self) -> ComfyUIClient | None:
        """Return the client if its ComfyUI answers requests, even if its WebSocket is refused."""
        link = self._link
        refused = link is not None and link.connection.refused
        return link.client if link is not None and refused else self.reachable_client()

    def reachable_client(self) -> ComfyUIClient | None:
        """Return the client if its ComfyUI is connected, without waiting."""
        return self._link.client if self._link is not None and self.connected else None

    def status(self) -> dict[str, Any]:
        """Return what is known about its ComfyUI, without a request."""
        link = self._link
        process = link.process if link is not None else None
        known: dict[str, Any] = {
            "reachable": self.connected,
            "url": clean_url(self.url or self.settings.comfyui_url) or None,
            "version": self._version(),
            "version_note": outside_tested_range(self._version()),
            "managed": process is not None,
        }
        if self.path is not None:
            known["path"] = str(self.path)
        if link is not None and link.found.passed_over is not None:
            known["passed_over"] = link.found.passed_over
        if process is not None:
            known.update(
                state=process.state,
                pid=process.pid,
                restarts=process.restarts,
                last_exit=process.last_exit,
                end_reason=process.end_reason,
                log=str(process.log_path),
            )
        if not self.connected:
            if self._supervisor.failure is not None:
                known["error"] = self._supervisor.failure.message
                known["hint"] = self._supervisor.failure.extra.get("hint")
            elif process is not None and process.end_reason is not None:
                known["error"] = process.end_reason
            elif link is not None and link.connection.failure is not None:
                known["error"] = link.connection.failure
                known["hint"] = link.connection.hint
        return known

    async def check(self, within: float) -> None:
        """Raise unless its ComfyUI is connected and answers, so that runs can be sent to it.

        Nothing is started or searched for.
        """
        client = self.reachable_client()
        if client is not None:
            await client.queue_remaining(within=within)
            return
        status = self.status()
        why = status.get("error")
        raise ComfyUIUnavailableError(
            f"The ComfyUI of machine {self.id!r} is {self.state}" + (f": {why}" if why else ""),
            extra={"hint": status["hint"]} if status.get("hint") else {},
        )

    async def version(self) -> dict[str, Any]:
        """Return ``version``, ``commit``, and ``source``: ``running`` or ``installed``."""
        commit = None
        installed = None
        if self.path is not None:
            installed, commit = await asyncio.to_thread(installed_version, self.path)
        running = self._link.system.get("comfyui_version") if self._link is not None else None
        if running is not None and self.connected:
            same = installed is None or installed == running
            return {
                "version": running,
                "commit": commit if same else None,
                "source": "running",
            }
        if installed is not None:
            return {"version": installed, "commit": commit, "source": "installed"}
        client = await self.ready()
        system = (await client.system_stats()).get("system", {})
        return {"version": system.get("comfyui_version"), "commit": None, "source": "running"}

    async def known_version(self) -> str | None:
        """Return the version of a connected ComfyUI; None if it is not known now."""
        link = self._link
        if link is not None and self.connected and not link.system:
            await link.read_system()
        return self._version()

    async def definitions(self, *, max_age: float | None = None) -> DefinitionSet:
        """Return the node definitions of the running ComfyUI, else the last ones known."""
        client = self.answering_client()
        if client is not None:
            with contextlib.suppress(ComfyUIUnavailableError):
                if self._link is not None and self._link.version is None and not self.connected:
                    await self._link.read_system()
                return await self._definitions.get(client, self._version(), max_age=max_age)
        return await self._definitions.offline()

    @property
    def known_definitions(self) -> DefinitionSet | None:
        """The node definitions in memory, without a request and without reading the file."""
        return self._definitions.known

    async def object_info(self) -> bytes:
        """Return the node definitions of the running ComfyUI as JSON text."""
        client = self.answering_client() or await self.ready()
        return await self._definitions.text(client, self._version())

    def _version(self) -> str | None:
        return self._link.version if self._link is not None else None

    async def folders(self, *, search: bool = True) -> Folders:
        """Return ComfyUI's folders, which also check paths; see `folders_of`.

        ``search`` means that a ComfyUI that is not known yet is searched for and connected to.
        """
        if search and (self._link is None or self._link.folders is None):
            with contextlib.suppress(ComfyUIUnavailableError):
                if self._link is None:  # else this would wait until a ComfyUI has started
                    await self._supervisor.find()
                if self.process is None:
                    await self.ready()
        if self._link is not None:
            return await self._link.read_folders(self.path, self.settings)
        return await asyncio.to_thread(folders_of, self.path, None, self.settings)

    async def learn_categories(self) -> None:
        """Request the names of model folders from a connected ComfyUI, for `Folders.reported`."""
        if self._link is not None:
            await self._link.read_categories()

    async def open_file(self, kind: str, subfolder: str, filename: str) -> io.FileIO | None:
        """Open a file of ComfyUI's ``output``, ``input`` or ``temp`` folder.

        None: the folders are not known, so the file has to be requested from ComfyUI.
        """
        if self.path is None:
            return None
        folders = await self.folders()
        return await open_in_thread(_open_within, folders, kind, subfolder, filename)

    async def file_size(self, kind: str, subfolder: str, filename: str) -> int | None:
        """Return the size of a file in bytes; None if ComfyUI has to be asked.

        The parameters and errors are those of `open_file`. Without the path to ComfyUI, the file is
        searched for in the folders of the process that answers as ComfyUI.
        """
        if self.path is not None:
            folders = await self.folders()
            return await asyncio.to_thread(_size_within, folders, kind, subfolder, filename)
        found = None if self._link is None else await self._link.read_process_folders()
        if found is None:
            return None
        with contextlib.suppress(ComfyDeployError):
            return await asyncio.to_thread(_size_within, found, kind, subfolder, filename)
        return None


class _Forwarding:
    """Passes the events of a ComfyUI on to the listener of its machine."""

    def __init__(
        self, machine: Machine, definitions: Definitions, listener: MachineListener
    ) -> None:
        self._machine = machine
        self._definitions = definitions
        self._listener = listener

    def comfyui_event(self, event: Event | Preview | OversizedEvent) -> None:
        self._listener.machine_event(self._machine, event)

    def comfyui_connected(self) -> None:
        self._definitions.attach()
        self._listener.machine_connected(self._machine)

    def comfyui_disconnected(self) -> None:
        self._listener.machine_disconnected(self._machine)

    def comfyui_ended(self, reason: str, *, wanted: bool = False) -> None:
        self._listener.machine_ended(self._machine, reason, wanted=wanted)


def _open_within(folders: Folders, kind: str, subfolder: str, filename: str) -> io.FileIO:
    return folders.open_for_read(_path_within(folders, kind, subfolder, filename))


def _path_within(folders: Folders, kind: str, subfolder: str, filename: str) -> Path:
    """Return the path of a file in one of ComfyUI's folders, without links."""
    if kind not in ("output", "input", "temp"):  # the value may be from a node
        raise InvalidRequestError.of_field("type", "must be output, input or temp")
    folder = folders.directory(kind)
    try:
        path = folders.resolve(str(folder / subfolder / filename))
    except NotFoundError as error:
        name = f"{subfolder}/{filename}" if subfolder else filename
        raise _not_there(name, kind) from error
    if not path.is_relative_to(folder.resolve()):
        raise ForbiddenPathError(
            f"filename: the file is outside the {kind} folder", details={"field": "filename"}
        )
    return path


def _size_within(folders: Folders, kind: str, subfolder: str, filename: str) -> int:
    path = _path_within(folders, kind, subfolder, filename)
    try:
        return path.lstat().st_size
    except OSError as error:  # it has just been deleted
        raise _not_there(filename, kind) from error


def _not_there(name: str, kind: str) -> NotFoundError:
    text = f"{name} is not in the {kind} folder of this ComfyUI"
    return NotFoundError(text, details={"field": "filename"})
