"""Find, start, connect, restart and close the ComfyUI of one machine."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from .. import metrics
from ..comfyui.client import NONE, ComfyUIClient
from ..comfyui.find import USUAL_PLACES, USUAL_PORT, answers, discover, running_at
from ..comfyui.process import ComfyUIProcess, count_oom_kills
from ..comfyui.socket import Connection
from ..errors import ComfyUIUnavailableError, InvalidRequestError
from ..util.peers import Peers
from ..util.secrets import clean_url
from ..util.tasks import BackgroundTasks
from .activity import Activity
from .link import Link

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from ..comfyui.socket import Event, OversizedEvent, Preview
    from .settings import MachineSettings

T = TypeVar("T")

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0  # seconds within which a ComfyUI that answers HTTP must accept the WebSocket
FIRST_TIMEOUT = 30.0  # the same for a ComfyUI that has just been started
ACTIVITY_INTERVAL = 5.0  # seconds at most between two checks whether a ComfyUI works


class SupervisorListener(Protocol):
    """Receives the events of a ComfyUI. Called on the event loop; must not block."""

    def comfyui_event(self, event: Event | Preview | OversizedEvent) -> None:
        """Handle an event of ComfyUI."""

    def comfyui_connected(self) -> None:
        """Handle a new connection: events arrive from now on."""

    def comfyui_disconnected(self) -> None:
        """Handle a lost connection: no events arrive until the next connection."""

    def comfyui_ended(self, reason: str, *, wanted: bool = False) -> None:
        """Handle the exit of ComfyUI's process; ``wanted``: the exit was requested."""


class Supervisor:
    """Maintains the link to the ComfyUI of one machine."""

    def __init__(
        self,
        machine_id: str,
        settings: MachineSettings,
        *,
        session_id: str,
        folder: Path,
        listener: SupervisorListener,
    ) -> None:
        self.settings = settings
        self.link: Link | None = None
        self.failure: ComfyUIUnavailableError | None = None
        # at the last connection:
        self.last_url: str | None = None
        self.was_here = False  # its process was seen on this machine
        self.oom_kills = 0  # of the kernel
        self.disconnected_at = time.monotonic()
        self.log_fields: dict[str, Any] = {"machine": machine_id}
        self._id = machine_id
        self._session_id = session_id
        self._folder = folder
        self._listener = listener
        self._lock = asyncio.Lock()
        self._attempt: asyncio.Task[ComfyUIClient] | None = None
        self._tasks = BackgroundTasks(log)
        self._warned = ""
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether the events of ComfyUI arrive now."""
        return self.link is not None and self.link.connection.connected

    @property
    def process(self) -> ComfyUIProcess | None:
        """The process of ComfyUI, if this server starts it."""
        return self.link.process if self.link is not None else None

    @property
    def is_trying(self) -> bool:
        """Whether an attempt to reach ComfyUI has not ended."""
        return self._attempt is not None and not self._attempt.done()

    @property
    def process_runs(self) -> bool:
        """Whether ComfyUI's process is running under this server, or will be restarted."""
        process = self.process
        return process is not None and process.state in ("starting", "running", "backoff")

    # --- public methods

    def open(self) -> None:
        """Find ComfyUI, start it if it is this server's, and connect, in the background.

        Without effect after the first call: connection and process are restored automatically.
        """
        begun = self.link is not None and self.link.begun
        if not begun and not self.is_trying and not self._closed:
            self._start(self._warm_up())

    async def close(self) -> None:
        """Close the connection, and stop a ComfyUI that this server started."""
        self._closed = True
        await self._tasks.close()
        async with self._lock:
            await self._unlink()

    async def reconfigure(self, settings: MachineSettings) -> None:
        """Change the settings.

        For a ComfyUI that this server runs, they take effect at its next start, for others at once.
        """
        if self.process_runs:
            self.settings = settings
            return
        async with self._lock:
            link = self.link
            used = link is not None or self.failure is not None
            if link is not None and (link.process or not settings.reaches(link.settings)):
                await self._unlink()
            self.settings = settings
            self.failure = None
        if used or settings.comfyui_url:
            self.open()

    async def restart(self, settings: MachineSettings | None = None) -> None:
        """Stop ComfyUI and start it again, even while it is starting.

        If no ComfyUI answers with the new settings, the old ones are restored.
        """
        await asyncio.shield(self._start(self._restart(settings or self.settings)))

    async def ready(self) -> ComfyUIClient:
        """Return the client of a ComfyUI that answers and whose events arrive."""
        link = self.link
        if link is not None and link.connection.connected:
            return link.client
        if self._closed:
            raise self._closed_error()
        if self._attempt is None or self._attempt.done():
            # One attempt for all callers, which would else wait in turn for a ComfyUI that hangs.
            self._attempt = self._start(self._find_or_start())
        attempt = self._attempt
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            if attempt.cancelled() and self._closed:
                raise self._closed_error() from None
            raise

    async def find(self) -> None:
        """Search for ComfyUI, unless it was found before; nothing is started."""
        async with self._lock:
            if self.link is None:
                self.link = await self._establish()

    # --- tasks

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        return self._tasks.start(
            work,
            f"A task of machine {self._id!r}",
            log_fields=self.log_fields,
            expected=(ComfyUIUnavailableError,),
        )

    def _closed_error(self) -> ComfyUIUnavailableError:
        return ComfyUIUnavailableError(f"Machine {self._id!r} has been closed")

    async def _warm_up(self) -> None:
        try:
            await self.ready()
        except ComfyUIUnavailableError as error:
            if error.message != self._warned:
                self._warned = error.message
                log.warning(
                    "No ComfyUI for machine %r: %s %s",
                    self._id,
                    error.message,
                    error.extra.get("hint", ""),
                    extra=self.log_fields,
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
        await self._acquire_lock()
        try:
            ran = self.process_runs
            await self._unlink()
            if ran:
                self._listener.comfyui_ended("ComfyUI was restarted on request", wanted=True)
            self.settings, self.failure = settings, None
            await self._reach()
        except ComfyUIUnavailableError as error:
            await self._unlink()
            self.settings, self.failure = before, error
            if settings is not before:
                self.open()  # once the lock is released
            raise
        finally:
            self._lock.release()

    async def _acquire_lock(self) -> None:
        """Acquire the lock; cancel a start that holds it, which may take minutes."""
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

    # --- the link; callers hold the lock

    async def _reach(self) -> ComfyUIClient:
        link = self.link
        by_chance = link is not None and link.process is None and not self.settings.comfyui_url
        if link is not None and by_chance and not await answers(link.client.url, peers=self._peers):
            await self._unlink()  # there may be another ComfyUI now
            link = None
        if link is None:
            link = self.link = await self._establish()
        link.begun = True
        timeout = CONNECT_TIMEOUT
        if link.process is not None:
            timeout = CONNECT_TIMEOUT if link.process.state == "running" else FIRST_TIMEOUT
            await link.process.start()
            link.client.url = link.process.url or link.client.url
        link.connection.start()
        if link.process is None:
            # If no process listens, this fails at once.
            await link.client.queue_remaining(within=CONNECT_TIMEOUT)
        link.connection.connect_now()
        if not await link.connection.wait_connected(timeout):
            connection = link.connection
            reason = connection.failure or "its WebSocket does not open"
            if connection.refused:
                raise link.client.unavailable(reason, hint=connection.hint, fault="cannot be used")
            raise link.client.unavailable(reason)
        return link.client

    async def _establish(self) -> Link:
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
            log.warning("%s", found.passed_over, extra=self.log_fields)
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
            self._session_id,
            on_event=self._listener.comfyui_event,
            on_connect=self._connected,
            on_disconnect=self._disconnected,
        )
        return Link(found, settings, client, connection, process)

    @property
    def _peers(self) -> Peers:
        return Peers(self.settings.trusted_users)

    async def _unlink(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            await link.close()

    # --- events of ComfyUI

    def _connected(self) -> None:
        link = self.link
        if link is not None:
            self.last_url = link.client.url
            self.was_here = link.process is not None
            if link.process is None:
                link.forget_folders()
            log.info(
                "Machine %r is connected to the ComfyUI at %s",
                self._id,
                clean_url(link.client.url),
                extra=self.log_fields,
            )
            self._start(self._read_system(link))
        self._listener.comfyui_connected()

    async def _read_system(self, link: Link) -> None:
        if link.process is None:
            running = await asyncio.to_thread(running_at, link.client.url)
            self.was_here = running is not None and running.arguments is not None
        self.oom_kills = await asyncio.to_thread(count_oom_kills)
        await link.read_system()

    def _disconnected(self) -> None:
        self.disconnected_at = time.monotonic()
        if self.link is not None and not self._closed:
            metrics.comfyui_lost(self._id)
            log.warning(
                "Machine %r has lost its ComfyUI: %s",
                self._id,
                self.link.connection.failure,
                extra=self.log_fields,
            )
        self._listener.comfyui_disconnected()

    def _process_changed(self, state: str) -> None:
        link = self.link
        if link is None or link.process is None:
            return
        log.info("The ComfyUI of machine %r: %s", self._id, state, extra=self.log_fields)
        if state in ("backoff", "failed"):
            self._listener.comfyui_ended(link.process.end_reason or "ComfyUI ended")
        elif state == "running":
            link.client.url = link.process.url or link.client.url
            link.connection.connect_now()
            if link.settings.stuck_after:
                self._tasks.keep(
                    partial(self._restart_if_stuck, link, link.process, link.process.pid),
                    f"Watching the work of machine {self._id!r}",
                    log_fields=self.log_fields,
                )

    async def _restart_if_stuck(self, link: Link, process: ComfyUIProcess, pid: int | None) -> None:
        """End a ComfyUI with prompts that does nothing for too long; it is started again then."""
        after = link.settings.stuck_after
        if pid is None:
            return
        activity = Activity(pid, link.settings.environment())
        await asyncio.to_thread(activity.seen)
        last_active = time.monotonic()
        while True:
            await asyncio.sleep(min(ACTIVITY_INTERVAL, after / 4))
            if process.pid != pid:
                return
            busy = await asyncio.to_thread(activity.seen)
            if busy or not link.connection.queue_remaining:
                last_active = time.monotonic()
            idle = time.monotonic() - max(last_active, link.connection.last_executed)
            if idle > after:
                reason = f"ComfyUI had prompts, but did nothing for {idle:.0f} s"
                log.warning("%s; it is restarted", reason, extra=self.log_fields)
                await process.replace(reason)
                return
