"""One tunnel: start, monitor, restart and stop it."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ComfyDeployError, ConflictError, TunnelFailedError
from ..util.backoff import Backoff
from ..util.tasks import BackgroundTasks, close_each, report, wait_until_set
from ..util.timestamps import utc_now
from .cloudflared import leads_to
from .failures import failure
from .gate import PARAMETER
from .gate_settings import Upstream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .cloudflared import Cloudflared
    from .gate_process import GateProcess

logger = logging.getLogger(__name__)

Target = Literal["comfyui", "jupyter"]
Protection = Literal["gate", "jupyter", "none"]
State = Literal["stopped", "starting", "running", "restarting"]

BACKOFF = Backoff(first=1.25, longest=60.0, jitter=0.2)  # pause before a restart
RATE_LIMITED_PAUSE = 300.0  # s; earlier requests only prolong the limit
STABLE_AFTER = 60.0  # s after which earlier failures are ignored
CHECK_EVERY = 5.0  # s between two checks of the target of a named tunnel


@dataclass(frozen=True)
class TunnelOptions:
    """The requested properties of a tunnel; None: this package chooses the value.

    Attributes
    ----------
    target : str
        ``comfyui`` or ``jupyter``.
    machine : str or None
        Id of the machine whose ComfyUI is exposed.
    port : int or None
        Local port of the exposed service.
    token, hostname : str or None
        Token and public name of a named tunnel.
    protect : bool or None
        Whether a secret is required for access; False exposes ComfyUI without protection.
    download : bool
        Whether cloudflared may be downloaded if there is none.
    """

    target: Target = "comfyui"
    machine: str | None = None
    port: int | None = None
    token: str | None = field(default=None, repr=False)
    hostname: str | None = None
    protect: bool | None = None
    download: bool = False


@dataclass(frozen=True)
class Origin:
    """The service that a tunnel exposes.

    Attributes
    ----------
    url : str
        Its local address, without a path.
    port : int
        Its local port.
    path : str
        The path that a user opens.
    own_protection : bool
        Whether it requires credentials itself.
    machine : str or None
        Id of the machine whose ComfyUI it is.
    trusted_users : tuple of str
        Users, in addition to this one and root, whose process may answer there; see `Peers`.
    upstream : Upstream
        What it asks for; only the gate sends it.
    """

    url: str
    port: int
    path: str = "/"
    own_protection: bool = False
    machine: str | None = None
    trusted_users: tuple[str, ...] = ()
    upstream: Upstream = field(default_factory=Upstream)


class Tunnel:
    """One tunnel. It starts when it is created, and is restarted when it fails.

    Parameters
    ----------
    options : TunnelOptions
        The requested tunnel.
    cloudflared : Cloudflared
        The process of the tunnel.
    gate : GateProcess
        The gate in front of the service; used if the service requires no credentials itself.
    find : callable
        Coroutine function that returns the `Origin`. Its argument is whether to wait for a service
        that is unavailable, and to start it if necessary; it may raise ComfyDeployError.
    on_url : callable
        Called with the old and the new public address after a change.

    Attributes
    ----------
    state : str
        ``starting``, ``running``, ``restarting`` or ``stopped``.
    url : str or None
        Its public address.
    origin : Origin or None
        The exposed service.
    error : ComfyDeployError or None
        The reason why the tunnel does not work.
    started_at : str or None
        Time when the tunnel came up last.
    restarts : int
        Number of restarts.
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
        self._tasks = BackgroundTasks(logger)
        what = f"The supervision of the tunnel to {options.target}"
        self._tasks.start(self._supervise(), what, log_fields=self._log_fields)

    @property
    def protection(self) -> Protection:
        """The kind of protection against access."""
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
        """Raise if the options request a tunnel that differs from this one.

        Raises
        ------
        ConflictError
            If it differs; the error names the field.
        """
        mine = self.options
        port = self.origin.port if self.origin is not None else mine.port
        machine = self.origin.machine if self.origin is not None else mine.machine
        differs = {
            "machine": options.machine is not None
            and (machine is not None or mine.port is not None)
            and options.machine != machine,
            "port": options.port is not None and port is not None and options.port != port,
            "token": options.token is not None and options.token != mine.token,
            "hostname": options.hostname is not None
            and f"https://{options.hostname}" != (self.url or f"https://{mine.hostname}"),
            # A user who requests protection must not get the unprotected tunnel without an error.
            "protect": options.protect is True and mine.protect is False,
        }
        for name, other in differs.items():
            if other:
                how = "without protection" if name == "protect" else f"with another {name}"
                raise ConflictError(
                    f"{name}: there is a tunnel to {mine.target} {how}; stop it first",
                    details={"field": name},
                )

    async def ready(self) -> None:
        """Wait until the tunnel is up; a pause before a restart ends at once.

        Raises
        ------
        ComfyDeployError
            If the tunnel does not come up; the error contains the reason.
        """
        self._retry_now.set()
        error = await asyncio.shield(self._attempt)
        if error is not None:
            raise error

    async def close(self) -> None:
        """Stop the tunnel."""
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
                logger.info(
                    "The tunnel to %s is ready", self.options.target, extra=self._log_fields
                )
                self._resolve_waiters(None)
                since = time.monotonic()
                error = await self._watch()
                self._set_url(None)
            if not was_up or error.details.get("reason") == "bad_certificate":
                await self._stop_processes()
                self.error = error
                logger.warning("%s. The tunnel is not started again.", error.message)
                self._resolve_waiters(error)
                return
            self.state, self.error = "restarting", error
            self._resolve_waiters(error)
            self._attempt = asyncio.get_running_loop().create_future()
            self._retry_now.clear()
            failures = 1 if time.monotonic() - since >= STABLE_AFTER else failures + 1
            pause = _pause(failures, error)
            logger.warning(
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
                await asyncio.wait([ended], timeout=CHECK_EVERY)
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
        """Return an exception as the reason why the tunnel does not work."""
        if isinstance(error, ComfyDeployError):
            return error
        text = "The tunnel to %s failed"
        report(logger, text, self.options.target, error=error, extra=self._log_fields)
        return failure("exited", f"The tunnel failed: {type(error).__name__}: {error}")

    async def _check_protection(self) -> None:
        """Check that a named tunnel forwards to the right address.

        The configuration at Cloudflare may contain another address than the command line.

        Raises
        ------
        TunnelFailedError
            If it forwards to another address.
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
        logger.info("The tunnel to %s has ended", self.options.target, extra=self._log_fields)

    def _set_url(self, url: str | None) -> None:
        old, self.url = self.url, url
        if old != url:
            self._on_url(old, url)

    def _resolve_waiters(self, outcome: ComfyDeployError | None) -> None:
        if not self._attempt.done():
            self._attempt.set_result(outcome)


def _pause(failures: int, error: ComfyDeployError) -> float:
    """Return the pause in seconds after a number of consecutive failures."""
    rate_limited = (
        isinstance(error, TunnelFailedError) and error.details.get("reason") == "rate_limited"
    )
    return BACKOFF.pause(failures, at_least=RATE_LIMITED_PAUSE if rate_limited else None)
