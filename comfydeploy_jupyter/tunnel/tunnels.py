"""All tunnels of a Jupyter server, at most one for each target."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..util.fetch_policy import ALLOWED, FetchPolicy
from ..util.tasks import close_each
from .binary import LATEST_RELEASE, Binary
from .cloudflared import Cloudflared
from .gate_process import GateProcess
from .tunnel import Origin, Target, Tunnel, TunnelOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

TARGETS: tuple[Target, ...] = ("comfyui", "jupyter")


@dataclass(frozen=True)
class TunnelSettings:
    """The settings of all tunnels.

    Attributes
    ----------
    cloudflared_path : str
        Path of the program; if empty, the program is searched for.
    download : bool
        Whether the user has agreed to the download.
    release_url : str
        Address of the description of the release to download.
    timeout : float
        Seconds that a tunnel has to come up.
    protocol : str
        Protocol between cloudflared and Cloudflare: ``auto``, ``quic`` or ``http2``.
    gate_port : int
        Port of ComfyUI's gate on 127.0.0.1; 0 for a free one.
    """

    cloudflared_path: str = ""
    download: bool = False
    release_url: str = LATEST_RELEASE
    timeout: float = 60.0
    protocol: str = "auto"
    gate_port: int = 0


class Tunnels:
    """All tunnels of one Jupyter server, at most one for each target.

    Parameters
    ----------
    folder : pathlib.Path
        Folder for their logs, and for the downloaded program.
    settings : TunnelSettings
        The settings of all tunnels.
    fetching : FetchPolicy
        Whether any download is allowed.
    find : callable
        Coroutine function that returns the `Origin` for `TunnelOptions`; may raise
        ComfyDeployError. Its second argument is whether to wait for an unavailable service, and to
        start it if necessary.
    on_url : callable
        Called on the event loop with target, old and new public address after a change.
    """

    def __init__(
        self,
        folder: Path,
        settings: TunnelSettings,
        *,
        fetching: FetchPolicy = ALLOWED,
        find: Callable[[TunnelOptions, bool], Awaitable[Origin]],
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
        self._tunnels: dict[Target, Tunnel] = {}
        self._locks = {target: asyncio.Lock() for target in TARGETS}

    async def open(self) -> None:
        """Stop the processes that a killed Jupyter left."""
        for target in TARGETS:
            await asyncio.to_thread(self._cloudflared(target).clean_up)
            await asyncio.to_thread(self._gate(target).end_leftover)

    async def close(self) -> None:
        """Stop all tunnels."""
        await close_each(*(partial(self.stop, target) for target in TARGETS))

    async def start(self, options: TunnelOptions, *, wait: bool = True) -> dict[str, Any]:
        """Start a tunnel if it does not exist, and wait until it is up.

        If the caller is cancelled, the start continues, and `status` returns its result.

        Returns
        -------
        dict
            The same as `status`, with a ``message``.

        Raises
        ------
        ConflictError
            If the target has a tunnel that differs from the requested one.
        TunnelFailedError
            If the tunnel does not come up; then its processes are stopped.
        ComfyUIUnavailableError
            If there is no ComfyUI to expose.
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
        """Stop one tunnel, or all; return the targets of those that existed."""
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

        Parameters
        ----------
        target : str, optional
            The target of the tunnel.
        reveal : bool
            Whether to include the link with the secret, and the log lines of a failure.
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
        """Return for each target whether its tunnel is running, and the number of restarts."""
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
            "port": tunnel.origin.port if tunnel.origin is not None else tunnel.options.port,
            "machine": tunnel.origin.machine
            if tunnel.origin is not None
            else tunnel.options.machine,
            "target": target,
            "protected": tunnel.protection != "none",
            "protection": tunnel.protection,
            "state": tunnel.state,
            **failed,
            "named": tunnel.options.token is not None,
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
