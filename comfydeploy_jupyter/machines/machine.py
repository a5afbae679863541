"""One ComfyUI that runs can be sent to: it is found or started, connected, and followed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .. import metrics
from ..comfyui.client import NONE, ComfyUIClient
from ..comfyui.definitions import Definitions, DefinitionSet
from ..comfyui.find import (
    USUAL_PLACES,
    USUAL_PORT,
    answers,
    discover,
    installed_version,
    nothing_listens_at,
    running_at,
)
from ..comfyui.folders import Folders, is_folder_name
from ..comfyui.kept import kept, settle_if_needed
from ..comfyui.memory import count_oom_kills, why_killed
from ..comfyui.process import ComfyUIProcess
from ..comfyui.socket import Connection
from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    ConflictError,
    InvalidRequestError,
)
from ..graphs.versions import outside_tested_range
from ..util.secrets import clean_url
from ..util.sockets import Peers
from ..util.tasks import BackgroundTasks, close_each, open_in_thread, wait_for
from ..util.times import timestamp_of
from . import hardware

if TYPE_CHECKING:
    import io
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence

    from ..comfyui.find import Found
    from ..comfyui.socket import Event, OversizedEvent, Preview
    from .settings import MachineSettings

T = TypeVar("T")

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0  # seconds within which a ComfyUI that answers HTTP must accept the WebSocket
FIRST_TIMEOUT = 30.0  # the same for a ComfyUI that has just been started
ACTIVITY_INTERVAL = 5.0  # seconds at most between two checks whether a ComfyUI works
CATEGORIES_MAX_AGE = 5.0  # seconds after which the model folders are requested again
MAX_CATEGORIES = 1000
CATEGORIES_TIMEOUT = 2.0  # seconds that ComfyUI has to answer this request


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
    """A ComfyUI that runs can be sent to: finds or starts it, connects, and follows it."""

    def __init__(
        self,
        machine_id: str,
        settings: MachineSettings,
        *,
        client_id: str,  # of this server at ComfyUI
        folder: Path,
        listener: MachineListener,
        name: str | None = None,
    ) -> None:
        self.id = machine_id
        self.name = name or machine_id
        self.settings = settings
        self.session: Session | None = None  # once a ComfyUI was found
        self.failure: ComfyUIUnavailableError | None = None  # of the last attempt to reach one
        self.disconnected_at = time.monotonic()
        self._log_fields: dict[str, Any] = {"machine": machine_id}
        self._log = logging.LoggerAdapter(log, self._log_fields)
        self._client_id = client_id
        self._folder = folder
        self._listener = listener
        self._definitions = Definitions(folder / "definitions" / f"{machine_id}.json.gz")
        # at the last connection:
        self._last_url: str | None = None
        self._was_here = False  # its process was seen on this machine
        self._oom_kills = 0  # of the kernel
        self._lock = asyncio.Lock()
        self._attempt: asyncio.Task[ComfyUIClient] | None = None
        self._tasks = BackgroundTasks(log)
        self._warned = ""
        self.handover = asyncio.Lock()  # runs of a queue reach ComfyUI one after the other
        self.closed = False  # for good, by this server or the provider of a pool

    @property
    def connected(self) -> bool:
        """Whether the events of ComfyUI arrive now."""
        return self.session is not None and self.session.connection.connected

    @property
    def process(self) -> ComfyUIProcess | None:
        return self.session.process if self.session is not None else None

    @property
    def _is_trying(self) -> bool:
        return self._attempt is not None and not self._attempt.done()

    @property
    def _process_runs(self) -> bool:
        """Whether ComfyUI's process is running under this server, or will be restarted."""
        process = self.process
        return process is not None and process.state in ("starting", "running", "backoff")

    @property
    def answers(self) -> bool:
        """Whether it is connected, and has answered pings in the last seconds."""
        return self.connected and self.connection is not None and self.connection.answers

    @property
    def connection(self) -> Connection | None:
        return self.session.connection if self.session is not None else None

    @property
    def url(self) -> str | None:
        return (self.session.client.url if self.session is not None else None) or None

    @property
    def path(self) -> Path | None:
        """Folder of its ComfyUI, if it is on this machine and known."""
        if self.session is not None:
            return self.session.found.path
        given = self.settings.comfyui_path
        return Path(given).expanduser() if given else None

    @property
    def memory_verdict(self) -> str | None:
        """Cause and advice if a lack of memory may have ended its ComfyUI; else None."""
        return self.process.memory_verdict if self.process is not None else None

    async def look_for_memory_verdict(self) -> str | None:
        """Return `memory_verdict`; for a ComfyUI of others, read the kernel's count."""
        if self.process is not None:
            return self.process.memory_verdict
        kills = await asyncio.to_thread(count_oom_kills) - self._oom_kills
        return why_killed(None, kills)

    @property
    def python(self) -> Path | None:
        """The interpreter that runs its ComfyUI, if known."""
        if self.session is not None:
            return self.session.found.python
        given = self.settings.comfyui_python
        return Path(given).expanduser() if given else None

    @property
    def system(self) -> dict[str, Any]:
        """``system`` of ``/system_stats`` at the last connection; contains ``argv``."""
        return dict(self.session.system) if self.session is not None else {}

    @property
    def gpu_name(self) -> str | None:
        """The name of the GPU that its ComfyUI uses, as ComfyUI reported it last."""
        devices = self.session.devices if self.session is not None else []
        gpu = hardware.of_comfyui(devices[0]) if devices else None
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
        if self.session is not None:
            return self.session.process is not None
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
        if self._is_trying:
            return "starting" if self.managed else "unreachable"
        if self.managed:
            return "failed" if self.failure is not None else "stopped"
        return "unreachable"

    @property
    def restart_required(self) -> bool:
        """Whether its ComfyUI is running with other settings than the present ones."""
        session = self.session
        if session is None or not self._process_runs:
            return False
        return session.settings.launch != self.settings.launch

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
        url = self._last_url
        seen = url is not None and self._was_here and not self.connected
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
        return self.session is not None and self.session.connection.hangs

    def answering_client(self) -> ComfyUIClient | None:
        """Return the client if its ComfyUI answers requests, even if its WebSocket is refused."""
        session = self.session
        refused = session is not None and session.connection.refused
        return session.client if session is not None and refused else self.reachable_client()

    def reachable_client(self) -> ComfyUIClient | None:
        """Return the client if its ComfyUI is connected, without waiting."""
        session = self.session
        return session.client if session is not None and session.connection.connected else None

    def status(self) -> dict[str, Any]:
        """Return what is known about its ComfyUI, without a request."""
        session = self.session
        process = session.process if session is not None else None
        known: dict[str, Any] = {
            "reachable": self.connected,
            "url": clean_url(self.url or self.settings.comfyui_url) or None,
            "version": self._version(),
            "version_note": outside_tested_range(self._version()),
            "managed": process is not None,
        }
        if self.path is not None:
            known["path"] = str(self.path)
        if session is not None and session.found.passed_over is not None:
            known["passed_over"] = session.found.passed_over
        if process is not None:
            known.update(
                state=process.state,
                pid=process.pid,
                restarts=process.restarts,
                last_exit=process.last_exit,
                end_reason=process.end_reason,
                log=str(process.log_path),
                database_note=process.database_note,
            )
        if not self.connected:
            if self.failure is not None:
                known["error"] = self.failure.message
                known["hint"] = self.failure.extra.get("hint")
            elif process is not None and process.end_reason is not None:
                known["error"] = process.end_reason
            elif session is not None and session.connection.failure is not None:
                known["error"] = session.connection.failure
                known["hint"] = session.connection.hint
        return known

    async def kept(self) -> dict[str, Any] | None:
        """Return the version that is kept beside its ComfyUI; None if there is none."""
        if self.path is None or self.settings.comfyui_url:
            return None
        found = await asyncio.to_thread(kept, self.path)
        if found is None:
            return None
        since = None if found.since is None else timestamp_of(found.since)
        return {
            "version": found.version,
            "commit": found.commit,
            "size": found.size,
            "since": since,
        }

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
        running = self.session.system.get("comfyui_version") if self.session is not None else None
        if running is not None and self.connected:
            same = installed is None or installed == running
            return {"version": running, "commit": commit if same else None, "source": "running"}
        if installed is not None:
            return {"version": installed, "commit": commit, "source": "installed"}
        client = await self.ready()
        system = (await client.system_stats())["system"]
        return {"version": system.get("comfyui_version"), "commit": None, "source": "running"}

    async def known_version(self) -> str | None:
        """Return the version of a connected ComfyUI; None if it is not known now."""
        session = self.session
        if session is not None and self.connected and not session.system:
            await session.read_system()
        return self._version()

    async def definitions(self, *, max_age: float | None = None) -> DefinitionSet:
        """Return the node definitions of the running ComfyUI, else the last ones known."""
        client = self.answering_client()
        if client is not None:
            with contextlib.suppress(ComfyUIUnavailableError):
                if self.session is not None and self.session.version is None and not self.connected:
                    await self.session.read_system()
                return await self._definitions.get(client, self._version(), max_age=max_age)
        return await self._definitions.offline()

    @property
    def known_definitions(self) -> DefinitionSet | None:
        """The node definitions in memory, without a request and without reading the file."""
        return self._definitions.known

    async def object_info(self) -> bytes:
        client = self.answering_client() or await self.ready()
        return await self._definitions.text(client, self._version())

    def _version(self) -> str | None:
        return self.session.version if self.session is not None else None

    async def folders(self, *, search: bool = True) -> Folders:
        """Return ComfyUI's folders, which also check paths; see `folders_of`.

        ``search`` means that a ComfyUI that is not known yet is searched for and connected to.
        """
        if search and (self.session is None or self.session.folders is None):
            with contextlib.suppress(ComfyUIUnavailableError):
                if self.session is None:  # else this would wait until a ComfyUI has started
                    await self._find()
                if self.process is None:
                    await self.ready()
        if self.session is not None:
            return await self.session.read_folders(self.path, self.settings)
        return await asyncio.to_thread(folders_of, self.path, None, self.settings)

    async def learn_categories(self) -> None:
        """Request the names of model folders from a connected ComfyUI, for `Folders.reported`."""
        if self.session is not None:
            await self.session.read_categories()

    async def open_file(self, kind: str, subfolder: str, filename: str) -> io.FileIO | None:
        """Open a file of ComfyUI's ``output``, ``input`` or ``temp`` folder.

        None: the folders are not known, so the file has to be requested from ComfyUI.
        """
        if self.path is None:
            return None
        folders = await self.folders()
        return await open_in_thread(folders.open_file, kind, subfolder, filename)

    async def file_size(self, kind: str, subfolder: str, filename: str) -> int | None:
        """Return the size of a file in bytes; None if ComfyUI has to be asked.

        The parameters and errors are those of `open_file`. Without the path to ComfyUI, the file is
        searched for in the folders of the process that answers as ComfyUI.
        """
        if self.path is not None:
            folders = await self.folders()
            return await asyncio.to_thread(folders.file_size, kind, subfolder, filename)
        found = None if self.session is None else await self.session.read_process_folders()
        if found is None:
            return None
        with contextlib.suppress(ComfyDeployError):
            return await asyncio.to_thread(found.file_size, kind, subfolder, filename)
        return None

    # --- the life of its ComfyUI

    def open(self) -> None:
        """Find ComfyUI, start it if it is this server's, and connect, in the background.

        Without effect after the first call: connection and process are restored automatically.
        """
        begun = self.session is not None and self.session.begun
        if not begun and not self._is_trying and not self.closed:
            self._start(self._warm_up())

    async def close(self) -> None:
        self.closed = True
        await self._tasks.close()
        async with self._lock:
            await self._end_session()

    async def reconfigure(self, settings: MachineSettings) -> None:
        """Change the settings.

        For a ComfyUI that this server runs, they take effect at its next start, for others at once.
        """
        if self._process_runs:
            self.settings = settings
            return
        async with self._lock:
            session = self.session
            used = session is not None or self.failure is not None
            if session is not None and (session.process or not settings.reaches(session.settings)):
                await self._end_session()
            self.settings = settings
            self.failure = None
        if used or settings.comfyui_url:
            self.open()

    async def restart(self, settings: MachineSettings | None = None) -> None:
        """Stop ComfyUI and start it again, even while it is starting.

        If no ComfyUI answers with the new settings, the old ones are restored.
        """
        await asyncio.shield(self._start(self._restart(settings or self.settings)))

    def start(self) -> None:
        """Start ComfyUI at once if it does not run, also before its next automatic restart."""
        if self.process is not None and self.state in ("backoff", "failed", "stopped"):
            self._start(self._restart(self.settings))
        elif not self._is_trying and not self.closed and not self.connected:
            self._start(self._warm_up())

    async def stop(self) -> None:
        """Stop ComfyUI if this server has started it; the next run, or `start`, starts it again."""
        await asyncio.shield(self._start(self._stop()))

    async def while_stopped(self, work: Callable[[], Awaitable[None]]) -> None:
        """Stop ComfyUI if this server has started it, do some work, and start it again."""
        await asyncio.shield(self._start(self._while_stopped(work)))

    async def ready(self) -> ComfyUIClient:
        """Return the client of a ComfyUI that answers and whose events arrive."""
        session = self.session
        if session is not None and session.connection.connected:
            return session.client
        if self.closed:
            raise self._closed_error()
        if self._attempt is None or self._attempt.done():
            # One attempt for all callers, which would else wait in turn for a ComfyUI that hangs.
            self._attempt = self._start(self._find_or_start())
        attempt = self._attempt
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            if attempt.cancelled() and self.closed:
                raise self._closed_error() from None
            raise

    async def _find(self) -> None:
        """Search for ComfyUI, unless it was found before; nothing is started."""
        async with self._lock:
            if self.session is None:
                self.session = await self._establish()

    # --- tasks

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return self._tasks.start(
            work,
            f"A task of machine {self.id!r}",
            log_fields=self._log_fields,
            expected=(ComfyUIUnavailableError, ConflictError),
        )

    def _closed_error(self) -> ComfyUIUnavailableError:
        return ComfyUIUnavailableError(f"Machine {self.id!r} has been closed")

    async def _warm_up(self) -> None:
        try:
            await self.ready()
        except ComfyUIUnavailableError as error:
            if error.message != self._warned:
                self._warned = error.message
                self._log.warning(
                    "No ComfyUI for machine %r: %s %s",
                    self.id,
                    error.message,
                    error.extra.get("hint", ""),
                )

    async def _find_or_start(self) -> ComfyUIClient:
        try:
            async with self._lock:
                client = await self._reach()
        except ComfyUIUnavailableError as error:
            self.failure = error
            raise
        self.failure = None
        return client

    async def _restart(self, settings: MachineSettings) -> None:
        before = self.settings
        async with self._locked():
            try:
                ran = self._process_runs
                await self._end_session()
                if ran:
                    what = "ComfyUI was restarted on request"
                    self._listener.machine_ended(self, what, wanted=True)
                self.settings, self.failure = settings, None
                await self._reach()
            except ComfyUIUnavailableError as error:
                await self._end_session()
                self.settings, self.failure = before, error
                if settings is not before:
                    self.open()  # once the lock is released
                raise

    async def _stop(self) -> None:
        async with self._locked():
            await self._end_process()

    async def _while_stopped(self, work: Callable[[], Awaitable[None]]) -> None:
        async with self._locked():
            was_used = self.process is not None
            try:
                await self._end_process()
                await work()
            finally:
                if was_used:
                    self.open()  # once the lock is released

    async def _end_process(self) -> None:
        runs = self._process_runs
        if self.process is not None:
            await self._end_session()
            self.failure = None
        if runs:
            self._listener.machine_ended(self, "ComfyUI was stopped on request", wanted=True)

    @contextlib.asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        """Hold the lock; a start that holds it, which may take minutes, is cancelled."""
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
        try:
            yield
        finally:
            self._lock.release()

    # --- the session; callers hold the lock

    async def _reach(self) -> ComfyUIClient:
        session = self.session
        by_chance = session is not None and not session.process and not self.settings.comfyui_url
        if session and by_chance and not await answers(session.client.url, peers=self._peers):
            await self._end_session()  # there may be another ComfyUI now
            session = None
        if session is None:
            session = self.session = await self._establish()
        session.begun = True
        timeout = CONNECT_TIMEOUT
        if session.process is not None:
            timeout = CONNECT_TIMEOUT if session.process.state == "running" else FIRST_TIMEOUT
            await session.process.start()
            session.client.url = session.process.url or session.client.url
        session.connection.start()
        if session.process is None:
            # If no process listens, this fails at once.
            await session.client.queue_remaining(within=CONNECT_TIMEOUT)
        session.connection.connect_now()
        if not await session.connection.wait_connected(timeout):
            connection = session.connection
            reason = connection.failure or "its WebSocket does not open"
            if connection.refused:
                raise session.client.unavailable(
                    reason, hint=connection.hint, what="cannot be used"
                )
            raise session.client.unavailable(reason)
        return session.client

    async def _establish(self) -> Session:
        settings = self.settings
        configured = [settings.comfyui_path] if settings.comfyui_path else []
        await asyncio.to_thread(_settle, configured or (USUAL_PLACES if settings.by_chance else ()))
        found = await discover(
            comfyui_url=settings.comfyui_url,
            comfyui_path=settings.comfyui_path,
            comfyui_python=settings.comfyui_python,
            places=USUAL_PLACES if settings.by_chance else (),
            port=USUAL_PORT if settings.by_chance else None,
            peers=self._peers,
        )
        if found.passed_over is not None:
            self._log.warning("%s", found.passed_over)
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
                on_state=self._process_changed,
            )
        access = settings.access
        if settings.comfyui_url and settings.credentials != NONE:
            try:
                access = await asyncio.to_thread(settings.credentials.read)
            except InvalidRequestError as error:
                raise ComfyUIUnavailableError(error.message, details=error.details) from None
        client = ComfyUIClient(
            found.url or "",
            timeout=settings.request_timeout,
            peers=self._peers if process is None else process.peers,
            access=access,
        )
        connection = Connection(
            client,
            self._client_id,
            on_event=partial(self._listener.machine_event, self),
            on_connect=self._connected,
            on_disconnect=self._disconnected,
        )
        return Session(found, settings, client, connection, process)

    @property
    def _peers(self) -> Peers:
        return Peers(self.settings.trusted_users)

    async def _end_session(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            await session.close()

    # --- events of ComfyUI

    def _connected(self) -> None:
        session = self.session
        if session is not None:
            self._last_url = session.client.url
            self._was_here = session.process is not None
            if session.process is None:
                session.forget_folders()
            self._log.info(
                "Machine %r is connected to the ComfyUI at %s",
                self.id,
                clean_url(session.client.url),
            )
            self._start(self._read_system(session))
        self._definitions.attach()
        self._listener.machine_connected(self)

    async def _read_system(self, session: Session) -> None:
        if session.process is None:
            running = await asyncio.to_thread(running_at, session.client.url)
            self._was_here = running is not None and running.arguments is not None
        self._oom_kills = await asyncio.to_thread(count_oom_kills)
        await session.read_system()

    def _disconnected(self) -> None:
        self.disconnected_at = time.monotonic()
        if self.session is not None and not self.closed:
            metrics.comfyui_lost(self.id)
            self._log.warning(
                "Machine %r has lost its ComfyUI: %s", self.id, self.session.connection.failure
            )
        self._listener.machine_disconnected(self)

    def _process_changed(self, state: str) -> None:
        session = self.session
        if session is None or session.process is None:
            return
        self._log.info("The ComfyUI of machine %r: %s", self.id, state)
        if state in ("backoff", "failed"):
            self._listener.machine_ended(self, session.process.end_reason or "ComfyUI ended")
        elif state == "running":
            session.client.url = session.process.url or session.client.url
            session.connection.connect_now()
            if session.settings.stuck_after:
                self._tasks.keep(
                    partial(self._restart_if_stuck, session, session.process, session.process.pid),
                    f"Watching the work of machine {self.id!r}",
                    log_fields=self._log_fields,
                )

    async def _restart_if_stuck(
        self, session: Session, process: ComfyUIProcess, pid: int | None
    ) -> None:
        """End a ComfyUI with prompts that does nothing for too long; it is started again then."""
        after = session.settings.stuck_after
        if pid is None:
            return
        activity = hardware.Activity(pid, session.settings.environment())
        await asyncio.to_thread(activity.seen)
        last_active = time.monotonic()
        while True:
            await asyncio.sleep(min(ACTIVITY_INTERVAL, after / 4))
            if process.pid != pid:
                return
            busy = await asyncio.to_thread(activity.seen)
            if busy or not session.connection.queue_remaining:
                last_active = time.monotonic()
            idle = time.monotonic() - max(last_active, session.connection.last_executed)
            if idle > after:
                reason = f"ComfyUI had prompts, but did nothing for {idle:.0f} s"
                self._log.warning("%s; it is restarted", reason)
                await process.replace(reason)
                return


@dataclass
class Session:
    """One ComfyUI that a machine uses. Another ComfyUI gets a new session."""

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
        version = self.system.get("comfyui_version")
        return version if isinstance(version, str) else None

    def forget_folders(self) -> None:
        """Determine the folders anew at their next use: a new process may have other arguments."""
        self.folders = self._process_folders = None
        self._searched = False

    async def close(self) -> None:
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
        self.system, self.devices = stats["system"], stats["devices"]
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
                names = await wait_for(self.client.get_list("/models", str), CATEGORIES_TIMEOUT)
                self._categories = tuple(filter(is_folder_name, names[:MAX_CATEGORIES]))
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


def folders_of(path: Path | None, session: Session | None, settings: MachineSettings) -> Folders:
    """Return the folders of a ComfyUI. This function blocks: call it in a thread.

    ComfyUI's launch arguments determine the folders. If this server did not start the ComfyUI, they
    are read from the command line of its process, if the process belongs to this user or root; else
    the configured arguments are used. Its HTTP responses are not used, since any process that
    answers there could name any folder.
    """
    argv: Sequence[str] = settings.launch_args if session is None else session.settings.launch_args
    cwd = None
    if session is not None and session.process is None and path is not None:
        running = running_at(session.client.url)
        if running is not None and running.arguments is not None:
            argv, cwd = running.arguments, running.folder
    return Folders(
        path,
        argv=argv,
        cwd=cwd,
        jupyter_root=settings.jupyter_root,
        extra_roots=settings.extra_roots,
    )


def _settle(places: Iterable[str]) -> None:
    """Complete updates of the ComfyUIs in some folders that were interrupted."""
    for place in places:
        settle_if_needed(Path(place).expanduser())


def _folders_at(url: str) -> Folders | None:
    running = running_at(url)
    if running is None or running.path is None:
        return None
    try:
        return Folders(running.path, argv=running.arguments or (), cwd=running.folder)
    except InvalidRequestError:  # the arguments of another version
        return None
