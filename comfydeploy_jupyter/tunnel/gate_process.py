"""The process of a gate, which keeps its address when the process is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import sys
from typing import TYPE_CHECKING

import aiohttp

from ..errors import InvalidRequestError, TunnelFailedError
from ..util.child import Child, child_environment
from ..util.http import new_session
from ..util.tasks import BackgroundTasks, close_each
from ..util.times import Backoff
from .cloudflared import failure
from .gate import GateSettings, Upstream

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)

START_TIMEOUT = 30.0  # seconds that a gate has to answer
BACKOFF = Backoff(first=0.1, longest=30.0)  # pause before a gate is restarted


class GateProcess:
    """A gate that keeps its address until it is closed, even if its process exits."""

    def __init__(self, log_path: Path, *, port: int = 0) -> None:
        self.log_path = log_path
        self.secret = secrets.token_urlsafe(32)
        self.error: TunnelFailedError | None = None  # why its process is not started any more
        self._wanted_port = port
        self._child = Child("gate of the tunnel", log_path, grace=2.0)
        self._listener: socket.socket | None = None
        self._target = ""
        self._trusted: tuple[str, ...] = ()
        self._upstream = Upstream()
        self._tasks = BackgroundTasks(log)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1]) if self._listener is not None else 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def open(
        self, target: str, trusted_users: tuple[str, ...] = (), upstream: Upstream | None = None
    ) -> None:
        """Open the gate in front of an address and wait until it answers.

        TunnelFailedError if its port is in use, its process does not start, or a certificate cannot
        be used. ``trusted_users`` is as in `Peers`.
        """
        await _check_certificates(target, upstream or Upstream())
        try:
            self._listener = socket.create_server(
                ("127.0.0.1", self._wanted_port), backlog=256, reuse_port=False
            )
        except OSError as error:
            raise failure(
                "gate_failed", f"The gate cannot listen at port {self._wanted_port}: {error}"
            ) from error
        self._listener.setblocking(False)
        self._target, self._trusted = target, trusted_users
        self._upstream = upstream or Upstream()
        self._tasks.keep(self._supervise, "The supervision of the tunnel's gate")
        if not await self._answers():
            log = await self._child.log_tail(20, this_run=True)
            await self.close()
            raise failure("gate_failed", "The gate of the tunnel does not start", log)

    async def set_target(self, target: str, upstream: Upstream | None = None) -> None:
        """Change the address behind the gate, and what it asks for; visitors wait meanwhile."""
        wanted = target, upstream or Upstream()
        if wanted != (self._target, self._upstream):
            await _check_certificates(*wanted)
            self._target, self._upstream = wanted
            await self._child.end()  # the background task starts the next process

    async def close(self) -> None:
        await close_each(self._tasks.close, self._child.end)
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def end_leftover(self) -> None:
        """Stop the process that a killed Jupyter left. This blocks: call it in a thread."""
        self._child.end_leftover()

    async def _supervise(self) -> None:
        failures = 0
        while True:
            target = self._target, self._upstream
            try:
                await _check_certificates(*target)
                await self._start(*target)
                if target != (self._target, self._upstream):
                    await self._child.end()  # the target was changed during the start
                await self._child.wait()
            except TunnelFailedError as error:
                if target == (self._target, self._upstream):
                    self.error = error  # another attempt would fail as well
                    return
            except OSError as error:
                log.warning("The gate of the tunnel cannot be started: %s", error)
            if target == (self._target, self._upstream):
                why = self._child.exit_text()
                log.warning("The gate of the tunnel ended (%s); it is started again", why)
                failures += 1
                await asyncio.sleep(BACKOFF.pause(failures))

    async def _start(self, target: str, upstream: Upstream) -> None:
        assert self._listener is not None
        settings = GateSettings(target, self.secret, self._trusted, upstream)
        reader, writer = os.pipe()
        # Headers may be larger than the buffer of the pipe.
        sending = asyncio.ensure_future(asyncio.to_thread(_send, writer, settings.to_json()))
        try:
            numbers = [self._listener.fileno(), reader]
            await self._child.start(
                [
                    *(sys.executable, "-m", f"{__package__}.gate"),
                    *("--listener", str(numbers[0]), "--settings", str(numbers[1])),
                ],
                cwd=self.log_path.parent,
                env=child_environment(secrets=False),
                pass_fds=numbers,
            )
        finally:
            os.close(reader)  # ends the thread, unless the gate reads
            await asyncio.shield(sending)

    async def _answers(self) -> bool:
        with contextlib.suppress(aiohttp.ClientError, asyncio.TimeoutError):
            async with (
                new_session(total=START_TIMEOUT) as session,
                session.get(self.url, allow_redirects=False) as response,
            ):
                return "X-ComfyDeploy-Gate" in response.headers
        return False


async def _check_certificates(target: str, upstream: Upstream) -> None:
    """Raise `TunnelFailedError` if a certificate for an address is unusable."""
    try:
        await asyncio.to_thread(upstream.tls)
    except InvalidRequestError as error:
        raise failure(
            "bad_certificate",
            f"The certificates for {target} cannot be used: {error.message}",
            field=error.details["field"],
        ) from None


def _send(writer: int, text: bytes) -> None:
    """Write the settings of a gate into a pipe, and close it."""
    with os.fdopen(writer, "wb") as pipe, contextlib.suppress(BrokenPipeError):
        pipe.write(text)
        pipe.flush()
