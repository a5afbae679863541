"""One tunnel a target: started once, kept up, protected, ended."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ComfyDeployError, ConflictError, TunnelFailedError
from ..net.backoff import Backoff
from ..net.fetch_policy import ALLOWED, FetchPolicy
from ..net.tasks import end, wait_until_set
from ..timestamps import utc_now
from .binary import LATEST_RELEASE, Binary
from .cloudflared import Cloudflared, leads_to
from .failures import failure
from .gate import PARAMETER
from .gate_process import GateProcess

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

logger = logging.getLogger(__name__)

Target = Literal["comfyui", "jupyter"]
Protection = Literal["gate", "jupyter", "none"]
State = Literal["stopped", "starting", "running", "restarting"]

TARGETS: tuple[Target, ...] = ("comfyui", "jupyter")
BACKOFF = Backoff(first=1.0, longest=60.0)  # before a tunnel that ended is started again
RATE_LIMITED_PAUSE = 300.0  # s; asking sooner only prolongs it
STABLE_AFTER = 60.0  # s after which earlier failures are forgotten
CHECK_EVERY = 5.0  # s between two looks at whether a tunnel still leads where it should


@dataclass(frozen=True)
class TunnelSettings:
    """How tunnels are made.

    Attributes
    ----------
    cloudflared_path : str
        The program; found when empty.
    download : bool
        Whether the user agreed to have it downloaded.
    release_url : str
        Description of the release that is downloaded.
    timeout : float
        Seconds that a tunnel has until it is there.
    protocol : str
        How cloudflared talks to Cloudflare: ``auto``, ``quic`` or ``http2``.
    gate_port : int
        Port of ComfyUI's gate on 127.0.0.1; 0 for a free one.
    """

    cloudflared_path: str = ""
    download: bool = False
    release_url: str = LATEST_RELEASE
    timeout: float = 60.0
    protocol: str = "auto"
    gate_port: int = 0


@dataclass(frozen=True)
class Order:
    """What was asked for; None is whatever fits.

    Attributes
    ----------
    target : str
        ``comfyui`` or ``jupyter``.
    machine : str or None
        Whose ComfyUI is exposed, by id.
    port : int or None
        Port on this machine of what is exposed.
    token, hostname : str or None
        Those of a named tunnel.
    protect : bool or None
        Whether nobody gets in without a secret; False exposes a bare ComfyUI.
    """

    target: Target = "comfyui"
    machine: str | None = None
    port: int | None = None
    token: str | None = field(default=None, repr=False)
    hostname: str | None = None
    protect: bool | None = None


@dataclass(frozen=True)
class Origin:
    """What a tunnel exposes.

    Attributes
    ----------
    url : str
        Its address on this machine, without a path.
    port : int
        Its port.
    path : str
        What a user opens there.
    own_protection : bool
        Whether it asks for credentials itself.
    machine : str or None
        Whose ComfyUI it is, by id.
    trusted_users : tuple of str
        Whose process may answer there, beside this user's and root's, as `Peers` takes them.
    """

    url: str
    port: int
    path: str = "/"
    own_protection: bool = False
    machine: str | None = None
    trusted_users: tuple[str, ...] = ()


class _Tunnel:
    """One tunnel, from its start to its end."""

    def __init__(
        self,
        order: Order,
        cloudflared: Cloudflared,
        gate: GateProcess,
        find: Callable[[bool], Awaitable[Origin]],
        on_url: Callable[[str | None, str | None], object],
    ) -> None:
        self.order = order
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
        self._hurry = asyncio.Event()
        self._attempt: asyncio.Future[ComfyDeployError | None] = (
            asyncio.get_running_loop().create_future()
        )
        self._keeper = asyncio.create_task(self._supervise())

    @property
    def protection(self) -> Protection:
        """What keeps strangers out."""
        if self._gated:
            return "gate"
        return "jupyter" if self.origin is not None and self.origin.own_protection else "none"

    @property
    def access_url(self) -> str | None:
        """What to open in a browser; where there is a gate, with its secret."""
        if self.url is None or self.origin is None:
            return None
        address = self.url + self.origin.path
        return f"{address}?{PARAMETER}={self._gate.secret}" if self._gated else address

    @property
    def _log_fields(self) -> dict[str, Any]:
        return {"target": self.order.target}

    def refuse_other(self, order: Order) -> None:
        """Refuse an order that this tunnel does not fulfil.

        Raises
        ------
        ConflictError
            Naming the field.
        """
        mine = self.order
        port = self.origin.port if self.origin is not None else mine.port
        machine = self.origin.machine if self.origin is not None else mine.machine
        differs = {
            "machine": order.machine is not None
            and (machine is not None or mine.port is not None)
            and order.machine != machine,
            "port": order.port is not None and port is not None and order.port != port,
            "token": order.token is not None and order.token != mine.token,
            "hostname": order.hostname is not None
            and f"https://{order.hostname}" != (self.url or f"https://{mine.hostname}"),
            # a user who asks for protection must not be told that the bare tunnel is fine
            "protect": order.protect is True and mine.protect is False,
        }
        for name, other in differs.items():
            if other:
                how = "without protection" if name == "protect" else f"with another {name}"
                raise ConflictError(
                    f"{name}: there is a tunnel to {mine.target} {how}; stop it first",
                    details={"field": name},
                )

    async def ready(self) -> None:
        """Wait until it is up; a pause before a restart is cut short.

        Raises
        ------
        ComfyDeployError
            It is not, and why.
        """
        self._hurry.set()
        error = await asyncio.shield(self._attempt)
        if error is not None:
            raise error

    async def close(self) -> None:
        """End it."""
        await end([self._keeper])
        await self._take_down()
        self._settle(failure("stopped", "The tunnel was stopped before it was there"))

    async def _supervise(self) -> None:
        try:
            await self._keep_up()
        except Exception as fault:
            logger.exception(
                "The supervision of the tunnel to %s failed",
                self.order.target,
                extra=self._log_fields,
            )
            await self._take_down()
            self.error = failure("exited", f"The tunnel failed: {type(fault).__name__}: {fault}")
            self._settle(self.error)

    async def _keep_up(self) -> None:
        failures = 0
        was_up = False
        loop = asyncio.get_running_loop()
        while True:
            self.state = "starting" if not was_up else "restarting"
            since = loop.time()
            error = await self._bring_up()
            if error is None:
                was_up = True
                self.state, self.error = "running", None
                self.started_at = utc_now()
                logger.info("The tunnel to %s is up", self.order.target, extra=self._log_fields)
                self._settle(None)
                since = loop.time()
                error = await self._until_it_dies()
                self._set_url(None)
            if not was_up:
                await self._take_down()
                self.error = error
                self._settle(error)
                return
            self.state, self.error = "restarting", error
            self._settle(error)
            self._attempt = loop.create_future()
            self._hurry.clear()
            failures = 1 if loop.time() - since >= STABLE_AFTER else failures + 1
            pause = _pause(failures, error)
            logger.warning(
                "%s. The tunnel to %s is started again in %.1f s.",
                error.message,
                self.order.target,
                pause,
                extra=self._log_fields,
            )
            await wait_until_set(self._hurry, pause)
            self.restarts += 1

    async def _bring_up(self) -> ComfyDeployError | None:
        order = self.order
        try:
            self.origin = await self._find(True)
            wanted = order.protect is not False and not self.origin.own_protection
            if wanted and not self._gated:
                await self._gate.open(self.origin.url, self.origin.trusted_users)
                self._gated = True
            elif wanted:
                await self._gate.point_to(self.origin.url)
            url = await self._cloudflared.start(
                self._service, token=order.token, hostname=order.hostname
            )
            await self._check_protection()
        except ComfyDeployError as error:
            await self._cloudflared.end()
            return error
        self._set_url(url)
        return None

    @property
    def _service(self) -> str:
        """The address on this machine at which the tunnel ends."""
        assert self.origin is not None
        return self._gate.url if self._gated else self.origin.url

    async def _until_it_dies(self) -> ComfyDeployError:
        """Watch a tunnel that is up; return why it is not any more."""
        ended = asyncio.ensure_future(self._cloudflared.wait())
        try:
            while True:
                await asyncio.wait([ended], timeout=CHECK_EVERY)
                if ended.done():
                    return await self._cloudflared.why_it_ended()
                try:
                    await self._check_protection()
                    await self._follow_origin()
                except ComfyDeployError as error:
                    await self._cloudflared.end()
                    return error
        finally:
            ended.cancel()

    async def _check_protection(self) -> None:
        """Make sure that a named tunnel ends where it should.

        Where such a tunnel leads may be configured at Cloudflare, past our command line.

        Raises
        ------
        TunnelFailedError
            It does not.
        """
        if self.order.token is None or self.protection == "none":
            return
        services = await self._cloudflared.services()
        if services is None:
            return
        name = self.order.hostname or next((name for name in services if name), "")
        leads = services.get(name, services.get("", "nowhere"))
        if leads_to(leads, self._service):
            return
        where = "the gate" if self._gated else "Jupyter"
        port = "" if not self._gated else f", and set tunnel_gate_port = {self._gate.port}"
        raise failure(
            "not_protected",
            f"Cloudflare's configuration of this tunnel leads to {leads}, not to {where}",
            await self._cloudflared.log(),
            hint=f"Set the service of {name or 'the tunnel'} there to {self._service}{port}; "
            "or start the tunnel with protect: false if everybody may use ComfyUI.",
        )

    async def _follow_origin(self) -> None:
        """Lead to where ComfyUI is now."""
        try:
            origin = await self._find(False)
        except ComfyDeployError:
            return  # it is away; it may come back where it was
        if origin == self.origin:
            return
        if self._gated:
            self.origin = origin
            await self._gate.point_to(origin.url)
        else:
            raise failure("exited", f"{self.order.target} has moved to port {origin.port}")

    async def _take_down(self) -> None:
        self._set_url(None)
        await self._cloudflared.end()
        await self._gate.close()
        self._gated = False
        self.state = "stopped"  # only now another one may take its place
        logger.info("The tunnel to %s has ended", self.order.target, extra=self._log_fields)

    def _set_url(self, url: str | None) -> None:
        old, self.url = self.url, url
        if old != url:
            self._on_url(old, url)

    def _settle(self, outcome: ComfyDeployError | None) -> None:
        if not self._attempt.done():
            self._attempt.set_result(outcome)


class Tunnels:
    """All tunnels of one Jupyter server, one a target at most.

    Parameters
    ----------
    folder : pathlib.Path
        Where their logs are, and the program where we fetched it.
    settings : TunnelSettings
        How they are made.
    fetching : FetchPolicy
        Whether cloudflared may be fetched at all.
    find : callable
        Coroutine function that returns the `Origin` of an `Order`; may raise ComfyDeployError. Its
        second argument says whether to wait for what is away, and to start it if need be.
    on_url : callable
        Called with target, old and new public address whenever that changes, on the event loop.
    """

    def __init__(
        self,
        folder: Path,
        settings: TunnelSettings,
        *,
        fetching: FetchPolicy = ALLOWED,
        find: Callable[[Order, bool], Awaitable[Origin]],
        on_url: Callable[[Target, str | None, str | None], object],
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._find = find
        self._on_url = on_url
        self._binary = Binary(
            folder,
            configured=settings.cloudflared_path,
            download=settings.download,
            release_url=settings.release_url,
            fetching=fetching,
        )
        self._tunnels: dict[Target, _Tunnel] = {}
        self._locks = {target: asyncio.Lock() for target in TARGETS}

    async def open(self) -> None:
        """End what a killed Jupyter left behind."""
        for target in TARGETS:
            await asyncio.to_thread(self._cloudflared(target).clean_up)
            await asyncio.to_thread(self._gate(target).end_leftover)

    async def close(self) -> None:
        """End all tunnels."""
        await self.stop()

    async def start(self, order: Order, *, wait: bool = True) -> dict[str, Any]:
        """Start a tunnel, or join the one that is there, and wait until it is up.

        Who waits may leave: the start goes on, and `status` tells what became of it.

        Returns
        -------
        dict
            As `status`, with a ``message``.

        Raises
        ------
        ConflictError
            The target has a tunnel that is not what was asked for.
        TunnelFailedError
            The tunnel does not come up; then nothing of it is left.
        ComfyUIUnavailableError
            There is no ComfyUI to expose.
        """
        target = order.target
        async with self._locks[target]:
            tunnel = self._tunnels.get(target)
            was_up = tunnel is not None and tunnel.state == "running"
            if tunnel is None or tunnel.state == "stopped":
                tunnel = self._tunnels[target] = _Tunnel(
                    order,
                    self._cloudflared(target),
                    self._gate(target),
                    lambda start: self._find(order, start),
                    lambda old, new: self._on_url(target, old, new),
                )
            else:
                tunnel.refuse_other(order)
        if wait:
            await tunnel.ready()
        return {**self.status(target), "message": _message(tunnel, was_up=was_up)}

    async def stop(self, target: Target | None = None) -> list[Target]:
        """End one tunnel, or all; return which there were."""
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
        """Return how a tunnel is; without a target the one that there is, and all of them.

        Parameters
        ----------
        target : str, optional
            Which one.
        reveal : bool
            Tell the link with the secret, and the log lines of a failure.
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
        """Return the part of `status` that opens nothing."""
        shown = ("running", "url", "target", "port", "protected", "state", "error")
        status = self.status(reveal=False)
        return {name: status[name] for name in shown}

    def states(self) -> dict[Target, tuple[bool, int]]:
        """Return of each target whether there is a tunnel, and how often it was started again."""
        found: dict[Target, tuple[bool, int]] = dict.fromkeys(TARGETS, (False, 0))
        for target, tunnel in list(self._tunnels.items()):
            found[target] = (tunnel.state == "running", tunnel.restarts)
        return found

    def _describe(self, target: Target, reveal: bool) -> dict[str, Any]:
        tunnel = self._tunnels.get(target)
        error = tunnel.error if tunnel is not None else None
        failed = {
            "error": error.message if error is not None else None,
            "hint": error.extra.get("hint") if error is not None else None,
            "details": error.details if error is not None and reveal else {},
        }
        if tunnel is None or tunnel.state == "stopped":
            return {
                "running": False,
                "url": None,
                "access_url": None,
                "port": None,
                "machine": None,
                "target": target,
                "protected": False,
                "protection": "none",
                "state": "stopped",
                **failed,
            }
        return {
            "running": tunnel.state == "running",
            "url": tunnel.url,
            "access_url": tunnel.access_url if reveal else None,
            "port": tunnel.origin.port if tunnel.origin is not None else tunnel.order.port,
            "machine": tunnel.origin.machine if tunnel.origin is not None else tunnel.order.machine,
            "target": target,
            "protected": tunnel.protection != "none",
            "protection": tunnel.protection,
            "state": tunnel.state,
            **failed,
            "named": tunnel.order.token is not None,
            "started_at": tunnel.started_at,
            "restarts": tunnel.restarts,
            "log": str(self._cloudflared_log(target)),
        }

    def _cloudflared(self, target: Target) -> Cloudflared:
        return Cloudflared(
            self._binary,
            self._folder,
            target,
            timeout=self._settings.timeout,
            protocol=self._settings.protocol,
        )

    def _cloudflared_log(self, target: Target) -> Path:
        return self._folder / f"{target}.log"

    def _gate(self, target: Target) -> GateProcess:
        port = self._settings.gate_port if target == "comfyui" else 0
        return GateProcess(self._folder / f"{target}-gate.log", port=port)


def _pause(failures: int, error: ComfyDeployError) -> float:
    """Return the seconds to wait after so many failures in a row."""
    rate_limited = (
        isinstance(error, TunnelFailedError) and error.details.get("reason") == "rate_limited"
    )
    return BACKOFF.pause(failures, at_least=RATE_LIMITED_PAUSE if rate_limited else None)


def _message(tunnel: _Tunnel, *, was_up: bool) -> str:
    if tunnel.state != "running":
        return "The tunnel is starting"
    what = {
        "gate": "protected by a secret: share access_url only with those who may use ComfyUI",
        "jupyter": "protected by Jupyter's own log-in",
        "none": "NOT protected: everybody who has the address can use what is behind it",
    }[tunnel.protection]
    if tunnel.url is None:
        up = "The tunnel is up; its address is the one that you gave it at Cloudflare"
    elif was_up:
        up = f"The tunnel was up already, at {tunnel.url}"
    else:
        up = f"The tunnel is up at {tunnel.url}"
    return f"{up}. It is {what}."
