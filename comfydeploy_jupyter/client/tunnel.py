"""The way in from the internet."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from .server import Server

Target = Literal["comfyui", "jupyter"]

START_TIMEOUT = 600.0  # s; cloudflared may have to be downloaded, and ComfyUI be started
STOP_TIMEOUT = 60.0  # s
STATUS_TIMEOUT = 30.0  # s
NAMES = {"comfyui": "ComfyUI", "jupyter": "Jupyter"}
PROTECTIONS = {
    "gate": "protected by the secret in its link",
    "jupyter": "protected by Jupyter's log-in",
    "none": "NOT protected: everybody who has the address gets in",
}


class TunnelStatus:
    """How a tunnel is; a moment's picture.

    Made by `Tunnel`.

    Parameters
    ----------
    record : dict
        What the server says of it.

    Attributes
    ----------
    record : dict
        The same; it holds ``restarts``, ``started_at`` and more.
    """

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = record

    @property
    def running(self) -> bool:
        """Whether it is up."""
        return bool(self.record.get("running"))

    @property
    def state(self) -> str:
        """``stopped``, ``starting``, ``running`` or ``restarting``."""
        return str(self.record.get("state") or "stopped")

    @property
    def target(self) -> str:
        """What it leads to: ``comfyui`` or ``jupyter``."""
        return str(self.record.get("target") or "comfyui")

    @property
    def port(self) -> int | None:
        """The port of that on the server's machine."""
        return self.record.get("port")

    @property
    def url(self) -> str | None:
        """Its public address, None while there is none."""
        return self.record.get("url")

    @property
    def access_url(self) -> str | None:
        """The link to open, with the secret where there is a gate: whoever has it gets in."""
        return self.record.get("access_url")

    @property
    def protected(self) -> bool:
        """Whether strangers are kept out."""
        return bool(self.record.get("protected"))

    @property
    def protection(self) -> str:
        """What keeps them out: ``gate`` (a secret), ``jupyter`` (its log-in) or ``none``."""
        return str(self.record.get("protection") or "none")

    @property
    def error(self) -> str | None:
        """Why it is not up, if it should be; with what to do about it, if that is known."""
        error, hint = self.record.get("error"), self.record.get("hint")
        return f"{error} ({hint})" if error and hint else error

    @property
    def log(self) -> list[str]:
        """The last lines of cloudflared, where it failed."""
        details = self.record.get("details")
        lines = details.get("log") if isinstance(details, dict) else None
        return [str(line) for line in lines] if isinstance(lines, list) else []

    def __bool__(self) -> bool:
        return self.running

    def __repr__(self) -> str:
        return f"<tunnel to {self._describe()}>"

    def _repr_html_(self) -> str:
        if not self.running or self.url is None:
            return f"<div>Tunnel to {html.escape(self._describe())}</div>"
        link = html.escape(self.access_url or self.url)
        return (
            f'<div>Tunnel to {NAMES[self.target]}: <a href="{link}" target="_blank" '
            f'rel="noopener noreferrer">{html.escape(self.url)}</a><br>'
            f"{PROTECTIONS[self.protection]}</div>"
        )

    def _describe(self) -> str:
        name = NAMES.get(self.target, self.target)
        if not self.running:
            return f"{name}: {self.state}" + (f" ({self.error})" if self.error else "")
        where = self.url or "at the address that it has at Cloudflare"
        more = "; open its access_url" if self.protection == "gate" else ""
        return f"{name}: {where}, {PROTECTIONS[self.protection]}{more}"


class Tunnel:
    """Makes ComfyUI, or Jupyter, reachable from the internet by cloudflared.

    Made by `Comfy.tunnel`.

    Parameters
    ----------
    server : Server
        The Jupyter server that runs it.

    Examples
    --------
    >>> comfy.tunnel.start()                                             # doctest: +SKIP
    <tunnel to ComfyUI: https://calm-river.trycloudflare.com, protected by the secret in its link;
    open its access_url>
    >>> comfy.tunnel.stop()                                              # doctest: +SKIP
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    def __repr__(self) -> str:
        return f"<Tunnel of {self._server.url}: start(), stop(), status()>"

    def start(
        self,
        target: Target = "comfyui",
        *,
        machine: str | None = None,
        port: int | None = None,
        protect: bool | None = None,
        token: str | None = None,
        hostname: str | None = None,
        wait: bool = True,
    ) -> TunnelStatus:
        """Start a tunnel, or join the one that is there, and wait until it is up.

        Parameters
        ----------
        target : str
            ``comfyui`` or ``jupyter``.
        machine : str, optional
            Whose ComfyUI, by id or name; default the local one's.
        port : int, optional
            The port on the server's machine, if not that of the target.
        protect : bool, optional
            False exposes a bare ComfyUI: whoever finds its address can use it, and through it the
            machine. By default a gate asks for the secret in the link.
        token, hostname : str, optional
            Those of a named tunnel of your Cloudflare account; without a token it is a quick one,
            with another address each time.
        wait : bool
            Whether to wait until it is up; else `status` tells how it goes.

        Returns
        -------
        TunnelStatus
            Its ``access_url`` is the link to open.

        Raises
        ------
        TunnelFailedError
            It does not come up; the message says why, ``details["log"]`` has the last lines of
            cloudflared.
        ConflictError
            The target has a tunnel that is not the one asked for.
        ComfyUIUnavailableError
            There is no ComfyUI to expose.
        """
        fields = {
            "target": target,
            "machine": machine,
            "port": port,
            "protect": protect,
            "token": token,
            "hostname": hostname,
            "wait": wait,
        }
        body = {name: value for name, value in fields.items() if value is not None}
        return TunnelStatus(self._server.post("tunnel/start", body, timeout=START_TIMEOUT))

    def stop(self, target: Target | None = None) -> TunnelStatus:
        """End a tunnel, or all; fine where there is none."""
        body = {} if target is None else {"target": target}
        return TunnelStatus(self._server.post("tunnel/stop", body, timeout=STOP_TIMEOUT))

    def status(self, target: Target | None = None) -> TunnelStatus:
        """Return how the tunnel of a target is; without one, of the target that has one."""
        reply = self._server.get("tunnel/status", timeout=STATUS_TIMEOUT, target=target)
        return TunnelStatus(reply)
