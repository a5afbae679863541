"""The lease: a Dask task that keeps one ComfyUI running on a worker.

A worker calls `hold`. It starts ComfyUI on the loopback interface of its node, and the `door` at
the node's own address, and sends events to the scheduler that tell where the door is. It never
returns, it raises an exception: a result would be lost if its worker ends, and Dask would then
compute it again, and so start a ComfyUI that is not needed.

Both processes run under the reaper. They end with the worker, however that ends.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._version import __version__
from ..child import Child, child_environment
from ..comfyui.client import ComfyUIClient
from ..comfyui.connection import Connection
from ..comfyui.discovery import is_comfyui_tree, launch_options
from ..comfyui.events import Event
from ..comfyui.process import ComfyUIProcess
from ..errors import ComfyUIUnavailableError
from .tls import Certificates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..comfyui.events import Preview, Unread

log = logging.getLogger(__name__)

LOOK_EVERY = 0.25  # seconds between two looks at the worker and at ComfyUI
SETTLE = 0.2  # seconds in which ComfyUI handles what has passed the door before it was stopped
LOG_LINES = 5  # of ComfyUI's log, in the reason why it does not start
AT_WORK = ("running", "paused", "init")  # states of a worker that goes on


class LeaseEndedError(Exception):
    """A lease has ended; the text says why."""


class LeaseRefusedError(Exception):
    """A worker cannot hold a lease; the text says why."""


@dataclass(frozen=True)
class LeaseOrder:
    """What a worker has to know for a lease. It is sent as a dict of plain values.

    Attributes
    ----------
    lease : str
        The id of the lease.
    version : str
        The version of this package that has sent the order.
    topic : str
        The topic of its events at the scheduler.
    comfyui_path : str
        The folder of ComfyUI on the worker's node.
    comfyui_python : str
        The interpreter that runs it; empty: it is searched for.
    launch_args : sequence of str
        Further arguments for its ``main.py``.
    start_timeout : float
        Seconds within which it must answer.
    idle_timeout : float
        Seconds without a prompt after which the lease ends.
    shared_dir : str
        A folder that this node and the Jupyter server share; empty: none.
    allow_plain_tcp : bool
        Whether the door may be without TLS at an address that is not on the loopback interface.
    """

    lease: str
    version: str
    topic: str
    comfyui_path: str
    comfyui_python: str = ""
    launch_args: Sequence[str] = ()
    start_timeout: float = 300.0
    idle_timeout: float = 600.0
    shared_dir: str = ""
    allow_plain_tcp: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the order as a dict of plain values."""
        return {**asdict(self), "launch_args": list(self.launch_args)}


def hold(order: dict[str, Any]) -> None:
    """Hold a lease on the worker that calls this.

    Parameters
    ----------
    order : dict
        The fields of a `LeaseOrder`.

    Raises
    ------
    LeaseEndedError
        Always, if the lease could begin.
    LeaseRefusedError
        If it could not.
    """
    from distributed import get_worker

    worker = get_worker()
    theirs = order.get("version")
    if theirs != __version__:
        raise LeaseRefusedError(
            f"Worker {worker.address} has comfydeploy-jupyter {__version__}, and Jupyter has"
            f" {theirs}: install the same version (Python {sys.version.split()[0]} at"
            f" {sys.executable})"
        )
    asyncio.run(_Holder(LeaseOrder(**order), worker).run())


class _Holder:
    """One grant of a lease: its ComfyUI, its door, and the reasons to end."""

    def __init__(self, order: LeaseOrder, worker: Any) -> None:
        self.order = order
        self.worker = worker
        self.key = worker.get_current_task()
        self.grant = uuid.uuid4().hex[:12]
        self.last_prompt = time.monotonic()
        if order.shared_dir:
            self.folder = Path(order.shared_dir) / self.grant
        else:
            self.folder = Path(worker.local_directory) / f"comfyui-{self.grant}"

    async def run(self) -> None:
        """Hold the lease until there is a reason to end it."""
        self._check_worker()
        certificates = None
        if self.worker.address.startswith("tls:"):
            certificates = await asyncio.to_thread(
                Certificates.of_security, self.worker.security, "worker"
            )
        host = self._host(certificates)
        await asyncio.to_thread(self._check_place)
        self._tell("starting")
        process = ComfyUIProcess(
            self.order.comfyui_path,
            python=self.order.comfyui_python or None,
            launch_args=await asyncio.to_thread(self._arguments),
            log_path=self.folder / "comfyui.log",
            start_timeout=self.order.start_timeout,
        )
        door = Child("door of a lease", self.folder / "door.log", grace=1.0)
        reason = "the lease failed"
        try:
            reason = await self._serve(process, door, host, certificates)
        except ComfyUIUnavailableError as error:
            reason = " ".join([error.message, *error.details.get("log", [])[-LOG_LINES:]])
            raise LeaseRefusedError(f"Worker {self.worker.address}: {reason}") from None
        except OSError as error:
            reason = f"the door cannot be opened: {error}"
            raise LeaseRefusedError(f"Worker {self.worker.address}: {reason}") from None
        finally:
            # ComfyUI first: without its door, it would execute prompts whose events nobody gets,
            # and which are executed again elsewhere.
            await process.stop()
            await door.end()
            self._tell("ended", reason=reason)
        raise LeaseEndedError(reason)

    async def _serve(
        self, process: ComfyUIProcess, door: Child, host: str, certificates: Certificates | None
    ) -> str:
        """Start both processes, announce the door, and return why the lease is over.

        The door starts while ComfyUI does, so that it serves when it is announced.
        """
        starting = asyncio.ensure_future(process.start())
        address = None
        while not starting.done() or address is None:
            await asyncio.wait([starting], timeout=LOOK_EVERY)
            reason = self._reason_to_end()
            if reason is not None:
                starting.cancel()
                return reason
            if starting.done():
                await starting
            if address is None and process.url is not None:
                port = int(process.url.rpartition(":")[2])
                address = await self._open_door(door, host, port, certificates)
        await starting
        assert process.url is not None
        client = ComfyUIClient(process.url, peers=process.peers)
        connection = Connection(
            client,
            f"comfydeploy-lease-{self.grant}",
            on_event=self._handle_event,
            on_connect=lambda: None,
            on_disconnect=lambda: None,
        )
        connection.start()
        try:
            scheme = "http" if certificates is None else "https"
            self._tell("serving", url=f"{scheme}://{address}", folder=str(self.folder))
            self.last_prompt = time.monotonic()
            return await self._watch(process, door, client, connection)
        finally:
            await connection.close()
            await client.close()

    async def _watch(
        self, process: ComfyUIProcess, door: Child, client: ComfyUIClient, connection: Connection
    ) -> str:
        closed = asyncio.ensure_future(door.wait())
        try:
            while True:
                await asyncio.wait([closed], timeout=LOOK_EVERY)
                if process.state != "running" or process.pid is None:
                    return "ComfyUI has ended" + (
                        f" ({process.memory_verdict})" if process.memory_verdict else ""
                    )
                if closed.done():
                    return f"the door has ended ({door.exit_text()})"
                reason = self._reason_to_end()
                if reason is not None:
                    return reason
                if connection.queue_remaining:
                    self.last_prompt = time.monotonic()
                idle = time.monotonic() - self.last_prompt
                if idle > self.order.idle_timeout and await self._is_idle(door, client):
                    return f"no prompt for {self.order.idle_timeout:g} s"
        finally:
            closed.cancel()

    async def _is_idle(self, door: Child, client: ComfyUIClient) -> bool:
        """Return whether ComfyUI has no prompt, and leave the door stopped in that case.

        While the door is stopped, no prompt arrives, so none is lost between this check and the end
        of ComfyUI.
        """
        pid = door.pid
        if pid is None:
            return True
        os.kill(pid, signal.SIGSTOP)
        idle = False
        try:
            await asyncio.sleep(SETTLE)
            idle = await client.queue_remaining(within=5.0) == 0
        except ComfyUIUnavailableError:
            pass
        finally:
            if not idle:
                self.last_prompt = time.monotonic()
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        return idle

    def _handle_event(self, event: Event | Preview | Unread) -> None:
        # each change of the queue is sent to every client
        if isinstance(event, Event) and event.type == "status":
            self.last_prompt = time.monotonic()

    def _reason_to_end(self) -> str | None:
        status = self.worker.status.name
        if status not in AT_WORK:
            return f"its worker is {status}"
        task = self.worker.state.tasks.get(self.key)
        if task is None or task.state in ("cancelled", "resumed", "released", "forgotten"):
            return "it was cancelled"
        return None

    def _check_worker(self) -> None:
        threads = self.worker.state.nthreads
        if threads != 1:
            raise LeaseRefusedError(
                f"Worker {self.worker.address} has {threads} threads, and a lease needs a worker"
                " with one: start it with --nthreads 1 (threads_per_worker=1, cores=1)"
            )

    def _host(self, certificates: Certificates | None) -> str:
        """Return the address at which the door listens: the one of the worker."""
        host = str(self.worker.ip)
        if certificates is None and not (
            ip_address(host).is_loopback or self.order.allow_plain_tcp
        ):
            raise LeaseRefusedError(
                f"Worker {self.worker.address} has no TLS: prompts and pictures would be sent"
                " openly. Give the cluster certificates (Security), or set"
                " cluster_allow_plain_tcp"
            )
        return host

    def _check_place(self) -> None:
        path = Path(self.order.comfyui_path)
        if not is_comfyui_tree(path):
            raise LeaseRefusedError(f"Worker {self.worker.address}: there is no ComfyUI in {path}")
        try:
            self.folder.mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise LeaseRefusedError(
                f"Worker {self.worker.address}: shared_dir: {self.folder} cannot be made: {error}"
            ) from None

    def _arguments(self) -> list[str]:
        """Return the launch arguments; the files of each ComfyUI have a folder of their own."""
        known = launch_options(Path(self.order.comfyui_path))
        output = self.folder / "output"
        output.mkdir()
        own = {
            "--output-directory": str(output),
            "--temp-directory": str(self.folder),
            "--database-url": f"sqlite:///{self.folder / 'comfyui.db'}",
        }
        given = {argument.partition("=")[0] for argument in self.order.launch_args}
        pairs = [pair for pair in own.items() if pair[0] in known and pair[0] not in given]
        return [*self.order.launch_args, *(part for pair in pairs for part in pair)]

    async def _open_door(
        self, door: Child, host: str, port: int, certificates: Certificates | None
    ) -> str:
        """Start the door, and return its address."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with (
            socket.create_server((host, 0), family=family, backlog=256) as listener,
            tempfile.TemporaryFile() as secrets,
        ):
            secrets.write((certificates.to_json() if certificates else "null").encode())
            secrets.seek(0)
            numbers = [listener.fileno(), secrets.fileno()]
            await door.start(
                [
                    *(sys.executable, "-m", f"{__package__}.door", "--port", str(port)),
                    *("--listener", str(numbers[0]), "--certificates", str(numbers[1])),
                ],
                cwd=self.folder,
                env=child_environment(secrets=False),
                pass_fds=numbers,
            )
            bound = listener.getsockname()[1]
        return f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"

    def _tell(self, state: str, **more: Any) -> None:
        """Send an event; the scheduler overwrites a key named ``worker``."""
        self.worker.log_event(
            self.order.topic,
            {
                "lease": self.order.lease,
                "grant": self.grant,
                "state": state,
                "at": self.worker.address,
                **more,
            },
        )
