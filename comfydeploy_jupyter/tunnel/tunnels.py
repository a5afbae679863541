"""All tunnels and their gates: start, monitor, restart and stop them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import sys
import time
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import aiohttp

from ..errors import ComfyDeployError, ConflictError, InvalidRequestError, TunnelFailedError
from ..util.child import Child, child_environment
from ..util.http import new_session
from ..util.tasks import BackgroundTasks, close_each, report, wait_until_set
from ..util.times import Backoff, utc_now
from .cloudflared import Binary, Cloudflared, failure, leads_to
from .gate import PARAMETER, GateSettings, Upstream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ..extension import ComfyDeploy

log = logging.getLogger(__name__)

Target = Literal["comfyui", "jupyter"]
Protection = Literal["gate", "jupyter", "none"]
State = Literal["stopped", "starting", "running", "restarting"]

TARGETS: tuple[Target, ...] = ("comfyui", "jupyter")
BACKOFF = Backoff(first=1.25, longest=60.0, jitter=0.2)  # pause before a restart
RATE_LIMITED_PAUSE = 300.0  # seconds; earlier requests only prolong the limit
STABLE_AFTER = 60.0  # seconds after which earlier failures are ignored
CHECK_INTERVAL = 5.0  # seconds between two checks of the target of a named tunnel


@dataclass(frozen=True)
class TunnelOptions:
    """The requested properties of a tunnel; None: this package chooses the value."""

    target: Target = "comfyui"  # ``comfyui`` or ``jupyter``
    machine: str | None = None
    port: int | None = None
    token: str | None = field(default=None, repr=False)  # this and the hostname: a named tunnel
    hostname: str | None = None
    # Whether a secret is required for access; False exposes ComfyUI without protection
    protect: bool | None = None
    download: bool = False


@dataclass(frozen=True)
class Origin:
    """The service that a tunnel exposes."""

    url: str  # its local address, without a path
    port: int
    path: str = "/"  # that a user opens
    own_protection: bool = False  # whether it requires credentials itself
    machine: str | None = None
    # Users, in addition to this one and root, whose process may answer there; see `Peers`
    trusted_users: tuple[str, ...] = ()
    upstream: Upstream = field(default_factory=Upstream)  # what it asks for; only the gate sends it


GATE_START_TIMEOUT = 30.0  # seconds that a gate has to answer
GATE_BACKOFF = Backoff(first=0.1, longest=30.0)  # pause before a gate is restarted


class GateProcess:
    """A gate that keeps its address until it is closed, even if its process exits."""

    def __init__(self, log_path: Path, *, port: int = 0) -> None:
        self.log_path = log_path
        self.secret = secrets.token_urlsafe(32)
        self.error: TunnelFailedError | None = None  # why its process is not started any more
        self._wanted_port = port
        self._child = Child("gate of the tunnel", log_path, grace=2.0)
        self._listener: socket.socket | None = None
        self._settings = GateSettings("", self.secret)
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
        self._settings = GateSettings(target, self.secret, trusted_users, upstream or Upstream())
        await _check_certificates(self._settings)
        try:
            self._listener = socket.create_server(
                ("127.0.0.1", self._wanted_port), backlog=256, reuse_port=False
            )
        except OSError as error:
            raise failure(
                "gate_failed", f"The gate cannot listen at port {self._wanted_port}: {error}"
            ) from error
        self._listener.setblocking(False)
        self._tasks.keep(self._supervise, "The supervision of the tunnel's gate")
        if not await self._answers():
            log = await self._child.log_tail(20, this_run=True)
            await self.close()
            raise failure("gate_failed", "The gate of the tunnel does not start", log)

    async def set_target(self, target: str, upstream: Upstream | None = None) -> None:
        """Change the address behind the gate, and what it asks for; visitors wait meanwhile."""
        wanted = replace(self._settings, target=target, upstream=upstream or Upstream())
        if wanted != self._settings:
            await _check_certificates(wanted)
            self._settings = wanted
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
            settings = self._settings
            try:
                await _check_certificates(settings)
                await self._start(settings)
                if settings != self._settings:
                    await self._child.end()  # the target was changed during the start
                await self._child.wait()
            except TunnelFailedError as error:
                if settings == self._settings:
                    self.error = error  # another attempt would fail as well
                    return
            except OSError as error:
                log.warning("The gate of the tunnel cannot be started: %s", error)
            if settings == self._settings:
                why = self._child.exit_text()
                log.warning("The gate of the tunnel ended (%s); it is started again", why)
                failures += 1
                await asyncio.sleep(GATE_BACKOFF.pause(failures))

    async def _start(self, settings: GateSettings) -> None:
        assert self._listener is not None
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
                new_session(total=GATE_START_TIMEOUT) as session,
                session.get(self.url, allow_redirects=False) as response,
            ):
                return "X-ComfyDeploy-Gate" in response.headers
        return False


async def _check_certificates(settings: GateSettings) -> None:
    """Raise `TunnelFailedError` if a certificate for an address is unusable."""
    try:
        await asyncio.to_thread(settings.upstream.tls)
    except InvalidRequestError as error:
        raise failure(
            "bad_certificate",
            f"The certificates for {settings.target} cannot be used: {error.message}",
            field=error.details["field"],
        ) from None


def _send(writer: int, text: bytes) -> None:
    """Write the settings of a gate into a pipe, and close it."""
    with os.fdopen(writer, "wb") as pipe, contextlib.suppress(BrokenPipeError):
        pipe.write(text)
        pipe.flush()


class Tunnel:
    """One tunnel. It starts when it is created, and is restarted when it fails.

    ``find`` returns the service to expose; its argument is whether to wait for one that is not
    available. ``on_url`` gets the old and the new public address.
    """

    def __init__(
        self,
        options: TunnelOptions,
        cloudflared: Cloudflared,
        gate: GateProcess,
        find: Callable[[bool], Awaitable[Origin]],
        on_url: Callable[[str | None, str | None], object],
    ) -> None:
        self.options = options
        self.state: State = "starting"
        self.url: str | None = None
        self.origin: Origin | None = None
        self.error: ComfyDeployError | None = None
        self.started_at: str | None = None
        self.restarts = 0
        self._cloudflared = cloudflared
        self._gate = gate
        self._gated = False
        self._find = find
        self._on_url = on_url
        self._retry_now = asyncio.Event()
        self._attempt: asyncio.Future[ComfyDeployError | None] = (
            asyncio.get_running_loop().create_future()
        )
        self._tasks = BackgroundTasks(log)
        what = f"The supervision of the tunnel to {options.target}"
        self._tasks.start(self._supervise(), what, log_fields=self._log_fields)

    @property
    def protection(self) -> Protection:
        if self._gated:
            return "gate"
        return "jupyter" if self.origin is not None and self.origin.own_protection else "none"

    @property
    def access_url(self) -> str | None:
        """The address to open in a browser; with a gate, it contains the secret."""
        if self.url is None or self.origin is None:
            return None
        address = self.url + self.origin.path
        return f"{address}?{PARAMETER}={self._gate.secret}" if self._gated else address

    @property
    def _log_fields(self) -> dict[str, Any]:
        return {"target": self.options.target}

    def refuse_other(self, options: TunnelOptions) -> None:
        mine, place = self.options, self.origin or self.options
        differs = {
            "machine": options.machine is not None
            and (place.machine is not None or mine.port is not None)
            and options.machine != place.machine,
            "port": options.port is not None and place.port not in (None, options.port),
            "token": options.token is not None and options.token != mine.token,
            "hostname": options.hostname is not None
            and f"https://{options.hostname}" != (self.url or f"https://{mine.hostname}"),
            # A user who requests protection must not get the unprotected tunnel without an error.
            "protect": options.protect is True and mine.protect is False,
        }
        for name, other in differs.items():
            if other:
                how = "without protection" if name == "protect" else f"with another {name}"
                raise ConflictError.of_field(
                    name, f"there is a tunnel to {mine.target} {how}; stop it first"
                )

    async def ready(self) -> None:
        """Wait until the tunnel is up, or raise why not; a pause before a restart ends at once."""
        self._retry_now.set()
        error = await asyncio.shield(self._attempt)
        if error is not None:
            raise error

    async def close(self) -> None:
        await close_each(self._tasks.close, self._stop_processes)
        self._resolve_waiters(failure("stopped", "The tunnel was stopped before it was ready"))

    async def _supervise(self) -> None:
        try:
            await self._keep_running()
        except Exception as error:
            self.error = failure("exited", f"The tunnel failed: {type(error).__name__}: {error}")
            self._resolve_waiters(self.error)
            await self._stop_processes()
            raise

    async def _keep_running(self) -> None:
        failures = 0
        was_up = False
        while True:
            self.state = "starting" if not was_up else "restarting"
            since = time.monotonic()
            error = await self._start_processes()
            if error is None:
                was_up = True
                self.state, self.error = "running", None
                self.started_at = utc_now()
                log.info("The tunnel to %s is ready", self.options.target, extra=self._log_fields)
                self._resolve_waiters(None)
                since = time.monotonic()
                error = await self._watch()
                self._set_url(None)
            if not was_up or error.details.get("reason") == "bad_certificate":
                await self._stop_processes()
                self.error = error
                log.warning("%s. The tunnel is not started again.", error.message)
                self._resolve_waiters(error)
                return
            self.state, self.error = "restarting", error
            self._resolve_waiters(error)
            self._attempt = asyncio.get_running_loop().create_future()
            self._retry_now.clear()
            failures = 1 if time.monotonic() - since >= STABLE_AFTER else failures + 1
            limited = error.details.get("reason") == "rate_limited"
            pause = BACKOFF.pause(failures, at_least=RATE_LIMITED_PAUSE if limited else None)
            log.warning(
                "%s. The tunnel to %s is started again in %.1f s.",
                error.message,
                self.options.target,
                pause,
                extra=self._log_fields,
            )
            await wait_until_set(self._retry_now, pause)
            self.restarts += 1

    async def _start_processes(self) -> ComfyDeployError | None:
        options = self.options
        try:
            self.origin = await self._find(True)
            wanted = options.protect is not False and not self.origin.own_protection
            if wanted and not self._gated:
                await self._gate.open(
                    self.origin.url, self.origin.trusted_users, self.origin.upstream
                )
                self._gated = True
            elif wanted:
                await self._gate.set_target(self.origin.url, self.origin.upstream)
            url = await self._cloudflared.start(
                self._service,
                token=options.token,
                hostname=options.hostname,
                download=options.download,
            )
            await self._check_protection()
        except Exception as error:
            await self._cloudflared.end()
            return self._explained(error)
        self._set_url(url)
        return None

    @property
    def _service(self) -> str:
        """The local address that the tunnel forwards to."""
        assert self.origin is not None
        return self._gate.url if self._gated else self.origin.url

    async def _watch(self) -> ComfyDeployError:
        """Monitor a tunnel that is up; return the reason why it has ended."""
        ended = asyncio.ensure_future(self._cloudflared.wait())
        try:
            while True:
                await asyncio.wait([ended], timeout=CHECK_INTERVAL)
                if ended.done():
                    return await self._cloudflared.why_it_ended()
                try:
                    await self._check_protection()
                    await self._follow_origin()
                    if self._gate.error is not None:
                        raise self._gate.error
                except Exception as error:
                    await self._cloudflared.end()
                    return self._explained(error)
        finally:
            ended.cancel()

    def _explained(self, error: Exception) -> ComfyDeployError:
        if isinstance(error, ComfyDeployError):
            return error
        text = "The tunnel to %s failed"
        report(log, text, self.options.target, error=error, extra=self._log_fields)
        return failure("exited", f"The tunnel failed: {type(error).__name__}: {error}")

    async def _check_protection(self) -> None:
        """Check that a named tunnel forwards to the right address.

        The configuration at Cloudflare may contain another address than the command line.
        """
        if self.options.token is None or self.protection == "none":
            return
        services = await self._cloudflared.services()
        if services is None:
            return
        name = self.options.hostname or next((name for name in services if name), "")
        leads = services.get(name, services.get("", "nowhere"))
        if leads_to(leads, self._service):
            return
        where = "the gate" if self._gated else "Jupyter"
        port = "" if not self._gated else f", and set tunnel_gate_port = {self._gate.port}"
        raise failure(
            "not_protected",
            f"Cloudflare's configuration of this tunnel leads to {leads}, not to {where}",
            await self._cloudflared.log(),
            hint=f"At Cloudflare, set the service of {name or 'the tunnel'} to"
            f" {self._service}{port}; "
            "or start the tunnel with protect: false if everybody may use ComfyUI.",
        )

    async def _follow_origin(self) -> None:
        """Expose ComfyUI at its present address."""
        try:
            origin = await self._find(False)
        except ComfyDeployError:
            return  # it may become available again at the same address
        if origin == self.origin:
            return
        if self._gated:
            self.origin = origin
            await self._gate.set_target(origin.url, origin.upstream)
        else:
            raise failure("exited", f"{self.options.target} has moved to port {origin.port}")

    async def _stop_processes(self) -> None:
        self._set_url(None)
        await close_each(self._cloudflared.end, self._gate.close)
        self._gated = False
        self.state = "stopped"  # from now on another tunnel may replace it
        log.info("The tunnel to %s has ended", self.options.target, extra=self._log_fields)

    def _set_url(self, url: str | None) -> None:
        old, self.url = self.url, url
        if old != url:
            self._on_url(old, url)

    def _resolve_waiters(self, outcome: ComfyDeployError | None) -> None:
        if not self._attempt.done():
            self._attempt.set_result(outcome)


class Tunnels:
    def __init__(
        self,
        folder: Path,
        settings: ComfyDeploy,
        *,
        find: Callable[[TunnelOptions, bool], Awaitable[Origin]],
        on_url: Callable[[Target, str | None, str | None], object],
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._find = find
        self._on_url = on_url
        self._binary = Binary(folder, settings)
        self._tunnels: dict[Target, Tunnel] = {}
        self._locks = {target: asyncio.Lock() for target in TARGETS}

    async def open(self) -> None:
        for target in TARGETS:
            await asyncio.to_thread(self._cloudflared(target).clean_up)
            await asyncio.to_thread(self._gate(target).end_leftover)

    async def close(self) -> None:
        await close_each(*(partial(self.stop, target) for target in TARGETS))

    async def start(self, options: TunnelOptions, *, wait: bool = True) -> dict[str, Any]:
        """Start a tunnel if it does not exist, and wait until it is up; return its status.

        ConflictError if its target has a tunnel that differs from the requested one. If the caller
        is cancelled, the start continues, and `status` returns its result.
        """
        target = options.target
        async with self._locks[target]:
            tunnel = self._tunnels.get(target)
            was_up = tunnel is not None and tunnel.state == "running"
            if tunnel is None or tunnel.state == "stopped":
                tunnel = self._tunnels[target] = Tunnel(
                    options,
                    self._cloudflared(target),
                    self._gate(target),
                    lambda start: self._find(options, start),
                    lambda old, new: self._on_url(target, old, new),
                )
            else:
                tunnel.refuse_other(options)
        if wait:
            await tunnel.ready()
        return {**self.status(target), "message": _message(tunnel, was_up=was_up)}

    async def stop(self, target: Target | None = None) -> list[Target]:
        ended: list[Target] = []
        for each in TARGETS if target is None else (target,):
            async with self._locks[each]:
                tunnel = self._tunnels.get(each)
                if tunnel is not None:
                    if tunnel.state != "stopped":
                        ended.append(each)
                    await tunnel.close()
                    del self._tunnels[each]
        return ended

    def status(self, target: Target | None = None, *, reveal: bool = True) -> dict[str, Any]:
        """Return the state of a tunnel; without a target, of the existing one and of all.

        Only with ``reveal`` it has the link with the secret, and the log lines of a failure.
        """
        if target is not None:
            return self._describe(target, reveal)
        known = [each for each in TARGETS if each in self._tunnels]
        up = [each for each in known if self._tunnels[each].state != "stopped"]
        main = [*up, *known, *TARGETS][0]
        return {
            **self._describe(main, reveal),
            "tunnels": {each: self._describe(each, reveal) for each in TARGETS},
        }

    def summary(self) -> dict[str, Any]:
        """Return the part of `status` that contains no secrets."""
        shown = ("running", "url", "target", "port", "protected", "state", "error")
        status = self.status(reveal=False)
        return {name: status[name] for name in shown}

    def states(self) -> dict[Target, tuple[bool, int]]:
        found: dict[Target, tuple[bool, int]] = dict.fromkeys(TARGETS, (False, 0))
        for target, tunnel in list(self._tunnels.items()):
            found[target] = (tunnel.state == "running", tunnel.restarts)
        return found

    def _describe(self, target: Target, reveal: bool) -> dict[str, Any]:
        tunnel = self._tunnels.get(target)
        error = tunnel.error if tunnel is not None else None
        found = {
            **dict.fromkeys(("url", "access_url", "port", "machine")),
            "running": False,
            "target": target,
            "protected": False,
            "protection": "none",
            "state": "stopped",
            "error": error.message if error is not None else None,
            "hint": error.extra.get("hint") if error is not None else None,
            "details": error.details if error is not None and reveal else {},
        }
        if tunnel is None or tunnel.state == "stopped":
            return found
        place = tunnel.origin or tunnel.options
        return {
            **found,
            "running": tunnel.state == "running",
            "url": tunnel.url,
            "access_url": tunnel.access_url if reveal else None,
            "port": place.port,
            "machine": place.machine,
            "protected": tunnel.protection != "none",
            "protection": tunnel.protection,
            "state": tunnel.state,
            "named": tunnel.options.token is not None,
            "started_at": tunnel.started_at,
            "restarts": tunnel.restarts,
            "log": str(self._folder / f"{target}.log"),
        }

    def _cloudflared(self, target: Target) -> Cloudflared:
        return Cloudflared(self._binary, self._folder, target, self._settings)

    def _gate(self, target: Target) -> GateProcess:
        port = self._settings.tunnel_gate_port if target == "comfyui" else 0
        return GateProcess(self._folder / f"{target}-gate.log", port=port)


def _message(tunnel: Tunnel, *, was_up: bool) -> str:
    if tunnel.state != "running":
        return "The tunnel is starting"
    what = {
        "gate": "protected by a secret: share access_url only with those who may use ComfyUI",
        "jupyter": "protected by Jupyter's own login",
        "none": "NOT protected: everybody who knows the address can use the server behind it",
    }[tunnel.protection]
    if tunnel.url is None:
        up = "The tunnel is ready at the address that you configured at Cloudflare"
    elif was_up:
        up = f"The tunnel is already running at {tunnel.url}"
    else:
        up = f"The tunnel is ready at {tunnel.url}"
    return f"{up}. It is {what}."
