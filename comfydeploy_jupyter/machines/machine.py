"""One ComfyUI that runs can go to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .. import metrics
from ..comfyui.client import ComfyUIClient
from ..comfyui.connection import Connection
from ..comfyui.definitions import Definitions, Knowledge
from ..comfyui.discovery import (
    USUAL_PLACES,
    USUAL_PORT,
    answers,
    discover,
    installed_version,
)
from ..comfyui.folders import Folders, is_folder_name
from ..comfyui.out_of_memory import count_oom_kills, why_killed
from ..comfyui.process import ComfyUIProcess
from ..comfyui.running import nothing_listens_at, running_at
from ..errors import ComfyUIUnavailableError, ForbiddenPathError, InvalidRequestError
from ..graphs.versions import outside_tested_range
from ..net.peers import Peers
from ..net.tasks import BackgroundTasks, open_in_thread, wait_for
from ..secrets import clean_url

if TYPE_CHECKING:
    import io
    from collections.abc import Coroutine, Mapping, Sequence

    from ..comfyui.discovery import Found
    from ..comfyui.events import Event, Preview, Unread

T = TypeVar("T")

log = logging.getLogger(__name__)

CATEGORIES_MAX_AGE = 5.0  # seconds after which ComfyUI is asked anew for its model folders
MOST_CATEGORIES = 1000
CATEGORIES_WITHIN = 2.0  # seconds that it has to tell them
CONNECT_TIMEOUT = 5.0  # seconds for a ComfyUI that answers HTTP to take our WebSocket too
FIRST_TIMEOUT = 30.0  # the same for one that has just been started, and may be busy with itself


@dataclass(frozen=True)
class MachineSettings:
    """Where a machine's ComfyUI is, and how to start it.

    Attributes
    ----------
    comfyui_url : str
        A ComfyUI that somebody else runs; empty if none is configured.
    comfyui_path : str
        A ComfyUI folder; without a URL it is started from there.
    comfyui_python : str
        The interpreter that runs it; found when empty.
    launch_args : tuple of str
        Further arguments for its ``main.py``.
    env : mapping
        Environment variables for it, beside those of this server.
    gpu : str
        The GPUs that it may see, e.g. ``"0"``, ``"0,1"`` or a UUID; empty: all.
    by_chance : bool
        Whether a ComfyUI that is found at the usual port or in a usual place will do.
    request_timeout : float
        Seconds that ComfyUI has to answer one request.
    start_timeout : float
        Seconds that a ComfyUI which we start has until it answers.
    jupyter_root : pathlib.Path or None
        The folder that Jupyter shows.
    extra_roots : tuple of pathlib.Path
        Further folders that may be read.
    trusted_users : tuple of str
        Users of this machine, beside this one and root, whose ComfyUI may be used.
    """

    comfyui_url: str = ""
    comfyui_path: str = ""
    comfyui_python: str = ""
    launch_args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    gpu: str = ""
    by_chance: bool = True
    request_timeout: float = 30.0
    start_timeout: float = 300.0
    jupyter_root: Path | None = None
    extra_roots: tuple[Path, ...] = ()
    trusted_users: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[str, str]:
        """Where the ComfyUI is; two settings with the same place mean the same one."""
        return self.comfyui_url, self.comfyui_path

    @property
    def launch(self) -> tuple[Any, ...]:
        """All that a ComfyUI must be started anew for."""
        return (*self.place, self.comfyui_python, self.launch_args, self.environment())

    def environment(self) -> dict[str, str]:
        """Return the environment variables for the ComfyUI, those that choose its GPUs first."""
        if not self.gpu:
            return dict(self.env)
        # By default CUDA counts the fastest GPU first, and nvidia-smi by the place on the bus.
        order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        visible = {"CUDA_VISIBLE_DEVICES": self.gpu, "HIP_VISIBLE_DEVICES": self.gpu}
        return {**order, **visible, **self.env}


class MachineListener(Protocol):
    """What wants to hear of a machine. Called on the event loop, must not wait."""

    def machine_event(self, machine: Machine, event: Event | Preview | Unread) -> None:
        """Take an event of the machine's ComfyUI."""

    def machine_connected(self, machine: Machine) -> None:
        """Note that events arrive again."""

    def machine_disconnected(self, machine: Machine) -> None:
        """Note that no events arrive until further notice."""

    def machine_ended(self, machine: Machine, reason: str, *, wanted: bool = False) -> None:
        """Note that the machine's ComfyUI is dead, and with it all that it was doing.

        ``wanted`` means that somebody asked for it: no run is to blame.
        """


@dataclass
class _Link:
    """The present way to the ComfyUI; replaced as a whole where another one is found."""

    found: Found
    settings: MachineSettings
    client: ComfyUIClient
    connection: Connection
    process: ComfyUIProcess | None = None
    system: dict[str, Any] = field(default_factory=dict)
    folders: Folders | None = None
    categories: tuple[str, ...] = ()  # names of its model folders
    categories_at = -CATEGORIES_MAX_AGE  # of the monotonic clock, when it was asked for them
    begun: bool = False  # it was connected to, or its process was started


class Machine:
    """A ComfyUI with its client, its connection and, where we started it, its process.

    Parameters
    ----------
    machine_id : str
        Its name in requests, e.g. ``local``.
    name : str, optional
        What it is called; default its id.
    settings : MachineSettings
        Where it is.
    session_id : str
        The ComfyUI client id of this server.
    folder : pathlib.Path
        Where its log is kept.
    listener : MachineListener
        Who hears of it.
    """

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
        self.settings = settings
        self._definitions = Definitions(folder / "definitions" / f"{machine_id}.json.gz")
        self._session_id = session_id
        self._folder = folder
        self._listener = listener
        self._link: _Link | None = None
        self._lock = asyncio.Lock()
        self._attempt: asyncio.Task[ComfyUIClient] | None = None
        self._tasks = BackgroundTasks(log)
        self._failure: ComfyUIUnavailableError | None = None
        self._warned = ""
        self._oom_kills = 0  # when its ComfyUI was connected to
        self._closed = False
        self._last_url: str | None = None  # where its ComfyUI was when it last connected
        self.disconnected_at = time.monotonic()

    @property
    def connected(self) -> bool:
        """Whether events of its ComfyUI reach us now."""
        return self._link is not None and self._link.connection.connected

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
        """Folder of its ComfyUI, where it is on this box and known."""
        if self._link is not None:
            return self._link.found.path
        given = self.settings.comfyui_path
        return Path(given).expanduser() if given else None

    @property
    def process(self) -> ComfyUIProcess | None:
        """The process, where we started it."""
        return self._link.process if self._link is not None else None

    @property
    def memory_verdict(self) -> str | None:
        """That memory may have ended its ComfyUI the last time, and what helps; None if not."""
        return self.process.memory_verdict if self.process is not None else None

    async def look_for_memory_verdict(self) -> str | None:
        """Return `memory_verdict`; of a ComfyUI that others started here, what the kernel tells."""
        if self.process is not None:
            return self.process.memory_verdict
        kills = await asyncio.to_thread(count_oom_kills) - self._oom_kills
        return why_killed(None, kills)

    @property
    def python(self) -> Path | None:
        """The interpreter that runs its ComfyUI, where known."""
        if self._link is not None:
            return self._link.found.python
        given = self.settings.comfyui_python
        return Path(given).expanduser() if given else None

    @property
    def system(self) -> dict[str, Any]:
        """What its ComfyUI said of itself when it last connected, such as its ``argv``."""
        return dict(self._link.system) if self._link is not None else {}

    @property
    def launch_args(self) -> list[str]:
        """The arguments that its ComfyUI was started with; of one that does not run, will be."""
        told = self.system.get("argv")
        if self.connected and isinstance(told, list):
            return [str(argument) for argument in told[1:]]
        return list(self.settings.launch_args)

    @property
    def managed(self) -> bool:
        """Whether its ComfyUI is, or would be, started and ended by us."""
        if self._link is not None:
            return self._link.process is not None
        return not self.settings.comfyui_url

    @property
    def state(self) -> str:
        """How it is.

        ``ready``, ``starting``, ``backoff`` (before a new start), ``failed`` (it does not start),
        ``stopped``, or ``unreachable``.
        """
        if self.connected:
            return "ready"
        process = self.process
        if process is not None:
            return "starting" if process.state == "running" else process.state
        if self._attempt is not None and not self._attempt.done():
            return "starting" if self.managed else "unreachable"
        if self.managed:
            return "failed" if self._failure is not None else "stopped"
        return "unreachable"

    @property
    def restart_required(self) -> bool:
        """Whether its ComfyUI runs with other settings than it would be started with now."""
        link = self._link
        return link is not None and self._runs_here and link.settings.launch != self.settings.launch

    @property
    def _log_fields(self) -> dict[str, Any]:
        return {"machine": self.id}

    @property
    def _peers(self) -> Peers:
        return Peers(self.settings.trusted_users)

    @property
    def _runs_here(self) -> bool:
        process = self.process
        return process is not None and process.state in ("starting", "running", "backoff")

    def open(self) -> None:
        """Find its ComfyUI, start it if it is ours to start, connect; in the background.

        Without effect once that was begun: its connection and its process come back by themselves.
        """
        idle = self._attempt is None or self._attempt.done()
        begun = self._link is not None and self._link.begun
        if not begun and idle and not self._closed:
            self._background(self._warm_up())

    async def close(self) -> None:
        """Close the connection and end a ComfyUI that we started."""
        self._closed = True
        await self._tasks.close()
        async with self._lock:
            await self._unlink()

    async def reconfigure(self, settings: MachineSettings) -> None:
        """Change the settings.

        A ComfyUI that we run stays as it is until it is started anew; else they count at once.
        """
        if self._runs_here:
            self.settings = settings
            return
        async with self._lock:
            link = self._link
            used = link is not None or self._failure is not None
            if link is not None and (link.process or settings.place != link.settings.place):
                await self._unlink()
            self.settings = settings
            self._failure = None
        if used or settings.comfyui_url:
            self.open()

    async def restart(self, settings: MachineSettings | None = None) -> None:
        """End its ComfyUI and start it anew, also one that is just starting.

        Parameters
        ----------
        settings : MachineSettings, optional
            New settings. Where no ComfyUI comes up with them, the old ones are back.

        Raises
        ------
        ComfyUIUnavailableError
            It does not come up; with its last lines as ``details["log"]``.
        """
        await asyncio.shield(self._background(self._restart(settings or self.settings)))

    async def ready(self) -> ComfyUIClient:
        """Return the client of a ComfyUI that answers and sends us its events.

        Raises
        ------
        ComfyUIUnavailableError
            If there is none, with a ``hint`` on what to do.
        """
        link = self._link
        if link is not None and link.connection.connected:
            return link.client
        if self._closed:
            raise self._gone()
        if self._attempt is None or self._attempt.done():
            # One attempt for all who wait: behind a ComfyUI that hangs they would queue up.
            self._attempt = self._background(self._bring_up())
        attempt = self._attempt
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            if attempt.cancelled() and self._closed:
                raise self._gone() from None
            raise

    def _gone(self) -> ComfyUIUnavailableError:
        return ComfyUIUnavailableError(f"Machine {self.id!r} has been closed")

    @property
    def is_dead(self) -> bool:
        """Whether its ComfyUI certainly does not run: it would be our own process."""
        process = self.process
        return process is not None and process.pid is None

    async def has_ended(self) -> bool:
        """Return whether its ComfyUI was on this machine, and nothing listens there any more."""
        url = self.settings.comfyui_url or self._last_url
        return url is not None and not self.connected and await nothing_listens_at(url)

    @property
    def executes_here(self) -> bool:
        """Whether its ComfyUI has prompts, whoever queued them, and was started by this server."""
        connection = self.connection
        if self.process is None or connection is None or not self.connected:
            return False
        return bool(connection.queue_remaining)

    @property
    def hangs(self) -> bool:
        """Whether its ComfyUI may well be there, but does not answer."""
        return self._link is not None and self._link.connection.hangs

    def reachable_client(self) -> ComfyUIClient | None:
        """Return the client if its ComfyUI is connected, without waiting for anything."""
        return self._link.client if self._link is not None and self.connected else None

    def status(self) -> dict[str, Any]:
        """Return what is known of its ComfyUI, without asking it."""
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
                log=str(process.log_path),
            )
        if not self.connected:
            if self._failure is not None:
                known["error"] = self._failure.message
                known["hint"] = self._failure.extra.get("hint")
            elif link is not None and link.connection.failure is not None:
                known["error"] = link.connection.failure
                known["hint"] = link.connection.hint
        return known

    async def check(self, within: float) -> None:
        """Make sure that runs can go to its ComfyUI now: it is connected, and it answers.

        Nothing is started or looked for.

        Parameters
        ----------
        within : float
            Seconds that ComfyUI has to answer.

        Raises
        ------
        ComfyUIUnavailableError
            If they cannot, with a ``hint`` where one is known.
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
        """Return ``version``, ``commit`` and whether they are of the running or installed one.

        Raises
        ------
        ComfyUIUnavailableError
            If none runs and none is installed at a known place.
        """
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

    async def running_version(self) -> str | None:
        """Return the version of the ComfyUI that runs; None where it does not say.

        Raises
        ------
        ComfyUIUnavailableError
            If there is none.
        """
        await self.ready()
        link = self._link
        if link is not None and not link.system:
            await self._learn(link)
        found = link.system.get("comfyui_version") if link is not None else None
        return found if isinstance(found, str) else None

    async def knowledge(self, *, max_age: float | None = None) -> Knowledge:
        """Return the node definitions of the running ComfyUI, else the last ones known.

        Parameters
        ----------
        max_age : float, optional
            Seconds after which those of a running ComfyUI are asked for anew.
        """
        client = self.reachable_client()
        if client is not None:
            with contextlib.suppress(ComfyUIUnavailableError):
                return await self._definitions.get(client, self._version(), max_age=max_age)
        return await self._definitions.offline()

    @property
    def known_definitions(self) -> Knowledge | None:
        """The node definitions that are in memory, without asking or reading for them."""
        return self._definitions.known

    async def object_info(self) -> bytes:
        """Return the node definitions of the running ComfyUI as JSON text.

        Raises
        ------
        ComfyUIUnavailableError
            If none answers.
        """
        return await self._definitions.text(await self.ready(), self._version())

    def _version(self) -> str | None:
        version = self._link.system.get("comfyui_version") if self._link is not None else None
        return version if isinstance(version, str) else None

    async def folders(self) -> Folders:
        """Return ComfyUI's folders and the confinement of paths to them.

        Its launch arguments decide where they are. Those of a ComfyUI that was not started here are
        read from the command line of its process, where that is this user's or root's; else those
        that are configured count. What a ComfyUI says of itself does not: who answers HTTP could
        name any folder.
        """
        if self._link is not None and self._link.folders is not None:
            return self._link.folders
        with contextlib.suppress(ComfyUIUnavailableError):
            await self._find()
            if self.process is None:
                await self.ready()
        link = self._link
        if link is not None and link.folders is not None:
            return link.folders
        connected = self.connected
        found = await asyncio.to_thread(_folders, self.path, link, self.settings)
        if link is not None:
            found.told = link.categories
        if link is not None and (connected or link.process is not None):
            link.folders = found
        return found

    async def learn_categories(self) -> None:
        """Ask a running ComfyUI for the names of its model folders, custom nodes' among them.

        They are set as `Folders.told`. One that does not answer soon keeps those it told before.
        """
        link, client = self._link, self.reachable_client()
        if link is None or client is None:
            return
        if time.monotonic() - link.categories_at > CATEGORIES_MAX_AGE:
            link.categories_at = time.monotonic()
            with contextlib.suppress(ComfyUIUnavailableError, asyncio.TimeoutError):
                asking = client.get_list("/models", str)
                told = await wait_for(asking, CATEGORIES_WITHIN)
                link.categories = tuple(filter(is_folder_name, told[:MOST_CATEGORIES]))
        if link.folders is not None:
            link.folders.told = link.categories

    async def open_file(self, kind: str, subfolder: str, filename: str) -> io.FileIO | None:
        """Open a file of ComfyUI's ``output``, ``input`` or ``temp`` folder.

        Returns
        -------
        io.FileIO or None
            None where the folders are not known; ComfyUI itself has to be asked then.

        Raises
        ------
        NotFoundError, ForbiddenPathError, InvalidRequestError
            If there is no such file, or it is not one of these folders' files.
        """
        if self.path is None:
            return None
        folders = await self.folders()
        return await open_in_thread(_open_within, folders, kind, subfolder, filename)

    async def _warm_up(self) -> None:
        try:
            await self.ready()
        except ComfyUIUnavailableError as fault:
            if fault.message != self._warned:
                self._warned = fault.message
                log.warning(
                    "No ComfyUI for machine %r: %s %s",
                    self.id,
                    fault.message,
                    fault.extra.get("hint", ""),
                    extra=self._log_fields,
                )

    async def _find(self) -> None:
        """Look for a ComfyUI, if none has been found yet; start nothing."""
        async with self._lock:
            if self._link is None:
                self._link = await self._establish()

    async def _bring_up(self) -> ComfyUIClient:
        try:
            async with self._lock:
                client = await self._reach()
        except ComfyUIUnavailableError as fault:
            self._failure = fault
            raise
        self._failure = None
        return client

    async def _restart(self, settings: MachineSettings) -> None:
        before = self.settings
        await self._take_lock()
        try:
            ran = self._runs_here
            await self._unlink()
            if ran:
                self._listener.machine_ended(self, "ComfyUI was restarted on request", wanted=True)
            self.settings, self._failure = settings, None
            await self._reach()
        except ComfyUIUnavailableError as fault:
            await self._unlink()
            self.settings, self._failure = before, fault
            if settings is not before:
                self.open()  # once the lock is free
            raise
        finally:
            self._lock.release()

    async def _take_lock(self) -> None:
        """Wait for the lock; a start that holds it, which may take minutes, is ended."""
        taking = asyncio.ensure_future(self._lock.acquire())
        try:
            while not taking.done():
                if self.process is not None and self.process.state == "starting":
                    await self.process.stop()
                await asyncio.wait([taking], timeout=0.1)
        except BaseException:
            if not taking.cancel() and not taking.cancelled():
                self._lock.release()
            raise

    async def _reach(self) -> ComfyUIClient:
        link = self._link
        chance = link is not None and link.process is None and not self.settings.comfyui_url
        if link is not None and chance and not await answers(link.client.url, peers=self._peers):
            # It was only found by chance: look again, perhaps there is another one.
            await self._unlink()
            link = None
        if link is None:
            link = self._link = await self._establish()
        link.begun = True
        timeout = CONNECT_TIMEOUT
        if link.process is not None:
            timeout = CONNECT_TIMEOUT if link.process.state == "running" else FIRST_TIMEOUT
            await link.process.start()
            link.client.url = link.process.url or link.client.url
        link.connection.start()
        if link.process is None:
            # Where nothing listens, the answer is there at once.
            await link.client.queue_remaining(within=CONNECT_TIMEOUT)
        link.connection.hurry()
        if not await link.connection.wait_connected(timeout):
            raise link.client.unavailable(link.connection.failure or "its WebSocket does not open")
        return link.client

    async def _establish(self) -> _Link:
        settings = self.settings
        found = await discover(
            comfyui_url=settings.comfyui_url,
            comfyui_path=settings.comfyui_path,
            comfyui_python=settings.comfyui_python,
            places=USUAL_PLACES if settings.by_chance else (),
            port=USUAL_PORT if settings.by_chance else None,
            peers=self._peers,
        )
        if found.passed_over is not None:
            log.warning("%s", found.passed_over, extra=self._log_fields)
        process = None
        if found.kind == "path":
            assert found.path is not None
            process = ComfyUIProcess(
                found.path,
                python=found.python,
                launch_args=list(settings.launch_args),
                env=settings.environment(),
                log_path=self._folder / "comfyui.log",
                start_timeout=settings.start_timeout,
                trusted_users=settings.trusted_users,
            )
            process.on_state(self._process_changed)
        client = ComfyUIClient(
            found.url or "",
            timeout=settings.request_timeout,
            peers=self._peers if process is None else process.peers,
        )
        connection = Connection(
            client,
            self._session_id,
            on_event=lambda event: self._listener.machine_event(self, event),
            on_connect=self._connected,
            on_disconnect=self._disconnected,
        )
        return _Link(found, settings, client, connection, process)

    async def _unlink(self) -> None:
        link, self._link = self._link, None
        if link is None:
            return
        await link.connection.close()
        await link.client.close()
        if link.process is not None:
            await link.process.stop()

    def _connected(self) -> None:
        link = self._link
        if link is not None:
            self._last_url = link.client.url
            if link.process is None:
                link.folders = None  # it may have been started anew, with other arguments
            log.info(
                "Machine %r is connected to the ComfyUI at %s",
                self.id,
                clean_url(link.client.url),
                extra=self._log_fields,
            )
            self._background(self._learn(link))
            self._definitions.attach()
        self._listener.machine_connected(self)

    def _disconnected(self) -> None:
        self.disconnected_at = time.monotonic()
        if self._link is not None and not self._closed:
            metrics.comfyui_lost(self.id)
            log.warning(
                "Machine %r has lost its ComfyUI: %s",
                self.id,
                self._link.connection.failure,
                extra=self._log_fields,
            )
        self._listener.machine_disconnected(self)

    def _process_changed(self, state: str) -> None:
        link = self._link
        if link is None or link.process is None:
            return
        log.info("The ComfyUI of machine %r: %s", self.id, state, extra=self._log_fields)
        if state in ("backoff", "failed"):
            code = link.process.last_exit
            self._listener.machine_ended(self, f"ComfyUI ended with exit code {code}")
        elif state == "running":
            link.client.url = link.process.url or link.client.url
            link.connection.hurry()

    async def _learn(self, link: _Link) -> None:
        """Ask a ComfyUI that has just connected who it is."""
        self._oom_kills = await asyncio.to_thread(count_oom_kills)
        try:
            stats = await link.client.system_stats()
        except ComfyUIUnavailableError as fault:
            log.warning("%s", fault.message, extra=self._log_fields)
            return
        system = stats.get("system")
        link.system = system if isinstance(system, dict) else {}
        await self.learn_categories()

    def _background(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return self._tasks.start(
            work,
            f"A task of machine {self.id!r}",
            log_fields=self._log_fields,
            expected=(ComfyUIUnavailableError,),
        )


def _folders(path: Path | None, link: _Link | None, settings: MachineSettings) -> Folders:
    """Return the folders of a ComfyUI; in a thread."""
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


def _open_within(folders: Folders, kind: str, subfolder: str, filename: str) -> io.FileIO:
    if kind not in ("output", "input", "temp"):  # a node may have said so
        raise InvalidRequestError.of_field("type", "must be output, input or temp")
    folder = folders.directory(kind)
    path = folders.resolve(str(folder / subfolder / filename))
    if not path.is_relative_to(folder.resolve()):
        raise ForbiddenPathError(
            f"filename: the file is outside the {kind} folder", details={"field": "filename"}
        )
    return folders.open_for_read(path)
