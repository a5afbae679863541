"""The tunnel that makes ComfyUI or Jupyter reachable from the internet."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Literal

from ..errors import printable

if TYPE_CHECKING:
    from .server import Server

Target = Literal["comfyui", "jupyter"]

START_TIMEOUT = 600.0  # s; cloudflared may have to be downloaded, and ComfyUI be started
STOP_TIMEOUT = 60.0  # s
STATUS_TIMEOUT = 30.0  # s
NAMES = {"comfyui": "ComfyUI", "jupyter": "Jupyter"}
PROTECTIONS = {
    "gate": "protected by the secret in its link",
    "jupyter": "protected by Jupyter's login",
    "none": "NOT protected: everybody who knows the address has access",
}


class TunnelStatus:
    """The state of a tunnel at the time of the request.

    Made by `Tunnel`.
    """

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = record
        """The record of the server, with ``restarts``, ``started_at`` and more."""

    @property
    def running(self) -> bool:
        """Whether it works."""
        return bool(self.record.get("running"))

    @property
    def state(self) -> str:
        """``stopped``, ``starting``, ``running`` or ``restarting``."""
        return str(self.record.get("state") or "stopped")

    @property
    def target(self) -> str:
        """Its target: ``comfyui`` or ``jupyter``."""
        return str(self.record.get("target") or "comfyui")

    @property
    def port(self) -> int | None:
        """The port of the target on the server's machine."""
        return self.record.get("port")

    @property
    def url(self) -> str | None:
        """Its public address; None if it has none."""
        return self.record.get("url")

    @property
    def access_url(self) -> str | None:
        """The link to open, with the secret if there is one: everybody with the link has access."""
        return self.record.get("access_url")

    @property
    def protected(self) -> bool:
        """Whether access needs a secret or a log-in."""
        return bool(self.record.get("protected"))

    @property
    def protection(self) -> str:
        """What access needs: ``gate`` (a secret), ``jupyter`` (its log-in) or ``none``."""
        return str(self.record.get("protection") or "none")

    @property
    def error(self) -> str | None:
        """Why it does not work though it was started, with a hint what to do; else None."""
        error, hint = self.record.get("error"), self.record.get("hint")
        return f"{error} ({hint})" if error and hint else error

    @property
    def log(self) -> list[str]:
        """The last lines of cloudflared's log, if it failed."""
        return list((self.record.get("details") or {}).get("log", ()))

    @property
    def can_download(self) -> bool:
        """Whether it failed only because cloudflared is missing; ``download`` would install it."""
        return bool((self.record.get("details") or {}).get("can_download"))

    def __bool__(self) -> bool:
        return self.running

    def __repr__(self) -> str:
        return printable(f"<tunnel to {self._describe()}>")

    def _repr_html_(self) -> str:
        if not self.running or self.url is None:
            return f"<div>Tunnel to {html.escape(self._describe())}</div>"
        # without the secret, since the notebook keeps what a cell displays
        link = html.escape(self.url)
        more = "; open its <code>access_url</code>" if self.protection == "gate" else ""
        return (
            f'<div>Tunnel to {NAMES[self.target]}: <a href="{link}" target="_blank" '
            f'rel="noopener noreferrer">{link}</a><br>{PROTECTIONS[self.protection]}{more}</div>'
        )

    def _describe(self) -> str:
        name = NAMES.get(self.target, self.target)
        if not self.running:
            return f"{name}: {self.state}" + (f" ({self.error})" if self.error else "")
        where = self.url or "at the address that is configured at Cloudflare"
        more = "; open its access_url" if self.protection == "gate" else ""
        return f"{name}: {where}, {PROTECTIONS[self.protection]}{more}"


class Tunnel:
    """Makes ComfyUI, or Jupyter, reachable from the internet by cloudflared.

    Made by `Comfy.tunnel`.

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
        download: bool | None = None,
        wait: bool = True,
    ) -> TunnelStatus:
        """Start a tunnel, unless it is running already, and wait until it works.

        ``access_url`` of the result is the link to open.

        Parameters
        ----------
        target : str
            ``comfyui`` or ``jupyter``.
        machine : str, optional
            The machine of the ComfyUI, by id or name. Default: the local one.
        port : int, optional
            The port on the server's machine; by default that of the target.
        protect : bool, optional
            False exposes ComfyUI without protection: everybody who finds its address can use it,
            and through it the machine. By default access needs the secret in the link.
        token, hostname : str, optional
            Token and hostname of a named tunnel of your Cloudflare account. Without a token it is a
            quick tunnel, whose address is a new one each time.
        download : bool, optional
            True agrees to the download of cloudflared from its release, if it is not installed;
            its SHA-256 is checked. By default the setting ``cloudflared_download`` decides.
        wait : bool
            Whether to wait until it works; if not, `status` has its state.

        Raises
        ------
        TunnelFailedError
            It does not work; the message says why, ``details["log"]`` has the last lines of
            cloudflared.
        ConflictError
            The target has another tunnel than the requested one.
        ComfyUIUnavailableError
            There is no ComfyUI to expose.
        """
        reply = self._server.post(
            "tunnel/start",
            timeout=START_TIMEOUT,
            target=target,
            machine=machine,
            port=port,
            protect=protect,
            token=token,
            hostname=hostname,
            download=download,
            wait=wait,
        )
        return TunnelStatus(reply)

    def stop(self, target: Target | None = None) -> TunnelStatus:
        """Stop the tunnel of a target, or all tunnels; no error if there is none."""
        return TunnelStatus(self._server.post("tunnel/stop", target=target, timeout=STOP_TIMEOUT))

    def status(self, target: Target | None = None) -> TunnelStatus:
        """Return the state of a target's tunnel; by default of the target that has one."""
        reply = self._server.get("tunnel/status", timeout=STATUS_TIMEOUT, target=target)
        return TunnelStatus(reply)
