"""The lease: a Dask task that keeps one ComfyUI running on a worker.

A worker calls `hold`. It starts ComfyUI on the loopback interface of its node and the TLS proxy at
the address of the node. It sends events with the proxy's address to the scheduler. It never
returns, it raises an exception: if it returned a result, Dask would compute this task again when
the worker ends, and that would start a ComfyUI that is not needed.

Both processes run under the reaper. They end with the worker, also if it is killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yarl import URL

from .._version import __version__
from ..comfyui.client import ComfyUIClient
from ..comfyui.find import find_python, is_comfyui_tree, own_folder_arguments
from ..comfyui.process import ComfyUIProcess
from ..comfyui.socket import Connection, Event
from ..errors import ComfyUIUnavailableError
from ..util.child import Child, child_environment
from .dask_tls import Certificates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..comfyui.socket import OversizedEvent, Preview

log = logging.getLogger(__name__)

CHECK_INTERVAL = 0.25  # seconds between two checks of the worker and of ComfyUI
# Seconds for ComfyUI to handle the bytes that were sent before the proxy was suspended.
SETTLE = 0.2
LOG_LINES = 5  # of ComfyUI's log, in the error if it does not start
ACTIVE = ("running", "paused", "init")  # states of a worker that can hold a lease

_holders: dict[str, _Holder] = {}  # those of this worker, by the ids of their grants


class LeaseEndedError(Exception):
    """A lease has ended; the text says why."""


class LeaseRefusedError(Exception):
    """A worker cannot hold a lease; the text says why."""


@dataclass(frozen=True)
class LeaseRequest:
    """The data that a worker needs for a lease. It is sent as a dict of plain values."""

    lease: str  # also the topic of its events at the scheduler
    version: str
    comfyui_path: str  # the folder of ComfyUI on the worker's node
    comfyui_python: str = ""  # empty: the one that is found in that folder
    launch_args: Sequence[str] = ()
    start_timeout: float = 300.0  # seconds within which it must answer
    idle_timeout: float = 600.0  # seconds without a prompt or a call of `renew`
    shared_dir: str = ""  # A folder that the workers and the Jupyter server share; empty: none
    allow_plain_tcp: bool = False  # whether the proxy may listen without TLS


def hold(request: dict[str, Any]) -> None:
    """Hold a lease on the worker that calls this; always ends with an exception."""
    from distributed import get_worker

    worker = get_worker()
    theirs = request.get("version")
    if theirs != __version__:
        raise LeaseRefusedError(
            f"Worker {worker.address} has comfydeploy-jupyter {__version__}, and Jupyter has"
            f" {theirs}: install the same version (Python {sys.version.split()[0]} at"
            f" {sys.executable})"
        )
    asyncio.run(_Holder(LeaseRequest(**request), worker).run())


def renew(grants: Sequence[str]) -> None:
    """Start the idle time of those of these grants anew that are on this worker."""
    for grant in grants:
        holder = _holders.get(grant)
        if holder is not None:
            holder.used_at = time.monotonic()


class _Holder:
    """One grant of a lease: its ComfyUI, its TLS proxy, and the reasons to end."""

    def __init__(self, request: LeaseRequest, worker: Any) -> None:
        self.request = request
        self.worker = worker
        self.key = worker.get_current_task()
        self.grant = uuid.uuid4().hex[:12]
        self.used_at = time.monotonic()
        if request.shared_dir:
            self.folder = Path(request.shared_dir) / self.grant
        else:
            self.folder = Path(worker.local_directory) / f"comfyui-{self.grant}"

    async def run(self) -> None:
        """Hold the lease until there is a reason to end it; then remove its folder.

        Jupyter copies outputs before it reports the end of their run; those that it could not copy
        are lost with the folder. A shared folder has no copies, so it stays.
        """
        _holders[self.grant] = self
        try:
            await self._hold()
        finally:
            del _holders[self.grant]
            if not self.request.shared_dir:
                await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    async def _hold(self) -> None:
        certificates = None
        if self.worker.address.startswith("tls:"):
            certificates = await asyncio.to_thread(
                Certificates.of_security, self.worker.security, "worker"
            )
        self._check_worker(certificates)
        await asyncio.to_thread(self._check_place)
        self._send_event("starting")
        path = Path(self.request.comfyui_path)
        process = ComfyUIProcess(
            path,
            python=self.request.comfyui_python or await asyncio.to_thread(find_python, path),
            launch_args=await asyncio.to_thread(self._arguments),
            log_path=self.folder / "comfyui.log",
            start_timeout=self.request.start_timeout,
        )
        proxy = Child("TLS proxy of a lease", self.folder / "proxy.log", grace=1.0)
        reason = "the lease failed"
        try:
            reason = await self._serve(process, proxy, certificates)
        except ComfyUIUnavailableError as error:
            reason = " ".join([error.message, *error.details.get("log", [])[-LOG_LINES:]])
            raise LeaseRefusedError(f"Worker {self.worker.address}: {reason}") from None
        except OSError as error:
            reason = f"the TLS proxy cannot be started: {error}"
            raise LeaseRefusedError(f"Worker {self.worker.address}: {reason}") from None
        finally:
            # ComfyUI ends first: without its proxy, it would execute prompts whose events nobody
            # receives, and which another member executes again.
            await process.stop()
            await proxy.end()
            self._send_event("ended", reason=reason)
        raise LeaseEndedError(reason)

    async def _serve(
        self, process: ComfyUIProcess, proxy: Child, certificates: Certificates | None
    ) -> str:
        """Start both processes, send the address of the proxy, and return why the lease has ended.

        The proxy's socket takes connections before the proxy itself has started.
        """
        starting = asyncio.ensure_future(process.start())
        while not starting.done():
            await asyncio.wait([starting], timeout=CHECK_INTERVAL)
            reason = self._reason_to_end()
            if reason is not None:
                starting.cancel()
                return reason
        await starting
        assert process.url is not None
        address = await self._start_proxy(proxy, URL(process.url).port or 0, certificates)
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
            url = f"{'https' if certificates else 'http'}://{address}"
            why = process.no_gpu_reason
            self._send_event("serving", url=url, folder=str(self.folder), no_gpu_reason=why)
            self.used_at = time.monotonic()
            return await self._watch(process, proxy, client, connection)
        finally:
            await connection.close()
            await client.close()

    async def _watch(
        self, process: ComfyUIProcess, proxy: Child, client: ComfyUIClient, connection: Connection
    ) -> str:
        closed = asyncio.ensure_future(proxy.wait())
        try:
            while True:
                await asyncio.wait([closed], timeout=CHECK_INTERVAL)
                if process.state != "running" or process.pid is None:
                    return "ComfyUI has ended" + (
                        f" ({process.memory_verdict})" if process.memory_verdict else ""
                    )
                if closed.done():
                    return f"the TLS proxy has ended ({proxy.exit_text()})"
                reason = self._reason_to_end()
                if reason is not None:
                    return reason
                if connection.queue_remaining:
                    self.used_at = time.monotonic()
                idle = time.monotonic() - self.used_at
                if idle > self.request.idle_timeout and await self._is_idle(proxy, client):
                    return f"no prompt for {self.request.idle_timeout:g} s"
        finally:
            closed.cancel()

    async def _is_idle(self, proxy: Child, client: ComfyUIClient) -> bool:
        """Return whether ComfyUI has no prompt, and got none. If so, the proxy stays suspended.

        While the proxy is suspended, no prompt arrives. So none is lost between this check and the
        end of ComfyUI. A prompt that has arrived just before it may have ended already; its events
        are held back with the proxy.
        """
        pid, used_at = proxy.pid, self.used_at
        if pid is None:
            return True
        os.kill(pid, signal.SIGSTOP)
        idle = False
        try:
            await asyncio.sleep(SETTLE)
            remaining = await client.queue_remaining(within=5.0)
            idle = remaining == 0 and self.used_at == used_at
        except ComfyUIUnavailableError:
            pass
        finally:
            if not idle:
                self.used_at = time.monotonic()
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        return idle

    def _handle_event(self, event: Event | Preview | OversizedEvent) -> None:
        # ComfyUI sends it to every client whenever its queue changes
        if isinstance(event, Event) and event.type == "status":
            self.used_at = time.monotonic()

    def _reason_to_end(self) -> str | None:
        status = self.worker.status.name
        if status not in ACTIVE:
            return f"its worker is {status}"
        task = self.worker.state.tasks.get(self.key)
        if task is None or task.state in ("cancelled", "resumed", "released", "forgotten"):
            return "it was cancelled"
        return None

    def _check_worker(self, certificates: Certificates | None) -> None:
        threads = self.worker.state.nthreads
        if threads != 1:
            raise LeaseRefusedError(
                f"Worker {self.worker.address} has {threads} threads, and a lease needs a worker"
                " with one: start it with --nthreads 1 (threads_per_worker=1, cores=1)"
            )
        if certificates is None and not self.request.allow_plain_tcp:
            raise LeaseRefusedError(
                f"Worker {self.worker.address} has no TLS: prompts and pictures would be sent"
                " unencrypted. Give the cluster certificates (Security), or set"
                " cluster_allow_plain_tcp"
            )

    def _check_place(self) -> None:
        path = Path(self.request.comfyui_path)
        if not is_comfyui_tree(path):
            raise LeaseRefusedError(f"Worker {self.worker.address}: there is no ComfyUI in {path}")
        try:
            self.folder.mkdir(parents=True, mode=0o700)
        except OSError as error:
            raise LeaseRefusedError(
                f"Worker {self.worker.address}: shared_dir: {self.folder} cannot be"
                f" created: {error}"
            ) from None

    def _arguments(self) -> list[str]:
        """Return the launch arguments, with a separate folder for the files of each ComfyUI."""
        output = self.folder / "output"
        output.mkdir()
        path, given = Path(self.request.comfyui_path), self.request.launch_args
        return [*given, *own_folder_arguments(path, given, output=output, folder=self.folder)]

    async def _start_proxy(self, proxy: Child, port: int, certificates: Certificates | None) -> str:
        host = str(self.worker.ip)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with (
            socket.create_server((host, 0), family=family, backlog=256) as listener,
            tempfile.TemporaryFile() as secrets,
        ):
            secrets.write((certificates.to_json() if certificates else "null").encode())
            secrets.seek(0)
            numbers = [listener.fileno(), secrets.fileno()]
            await proxy.start(
                [
                    *(sys.executable, "-m", f"{__package__}.dask_tls", "--port", str(port)),
                    *("--listener", str(numbers[0]), "--certificates", str(numbers[1])),
                ],
                cwd=self.folder,
                env=child_environment(secrets=False),
                pass_fds=numbers,
            )
            bound = listener.getsockname()[1]
        return f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"

    def _send_event(self, state: str, **more: Any) -> None:
        """Send an event; the worker's address is in ``at``, since Dask overwrites ``worker``."""
        lease, at = self.request.lease, self.worker.address
        event = {"lease": lease, "grant": self.grant, "state": state, "at": at, **more}
        self.worker.log_event(lease, event)
