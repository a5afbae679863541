"""Starting and stopping a tunnel from the internet; its address and who can use it."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, cast

import traitlets as t

from ..client.tunnel import NAMES, TunnelStatus
from .panel import Panel

if TYPE_CHECKING:
    from ..client import Comfy
    from ..client.tunnel import Target


class TunnelPanel(Panel):
    """A panel that starts and stops a tunnel, shows its link, and says who can use it.

    The tunnel belongs to the Jupyter server: it stays open when the panel or the kernel is closed.

    Parameters
    ----------
    target : str
        The target that is chosen first: ``comfyui`` or ``jupyter``. A tunnel that is open already
        is shown first, whatever its target.
    comfy : Comfy or Panel, optional
        The client, or a panel whose client is used; by default the panel connects by itself.
    **kwargs
        Traits of `ipywidgets.DOMWidget`, such as ``layout``.

    Raises
    ------
    ValueError
        `target` is neither.
    TypeError
        An argument is unknown; the message names the closest one.

    Examples
    --------
    >>> TunnelPanel()                                                    # doctest: +SKIP
    """

    OWN_ARGUMENTS = ("target", "comfy")

    target = t.Unicode("comfyui").tag(sync=True)
    # what the saved notebook shows: the address without the secret
    summary = t.Unicode().tag(sync=True)

    def __init__(
        self, target: Target = "comfyui", comfy: Comfy | Panel | None = None, **kwargs: Any
    ) -> None:
        if target not in NAMES:
            raise ValueError(f"target must be {' or '.join(NAMES)}, not {target!r}")
        super().__init__(comfy, target=target, **kwargs)
        self.observe(lambda change: self._keep(change["new"]), "summary")

    @property
    def status(self) -> TunnelStatus:
        """The state of the tunnel to the target that is chosen."""
        return self.comfy.tunnel.status(cast("Target", self.target))

    def open_tunnel(
        self,
        *,
        download: bool = False,
        protect: bool | None = None,
        token: str | None = None,
        hostname: str | None = None,
    ) -> None:
        """Start the tunnel, like the button *Start*; do not wait for it.

        Parameters
        ----------
        download : bool
            Whether cloudflared may be downloaded if it is not installed on the server.
        protect : bool, optional
            Whether visitors need the secret link; see `Tunnel.start`.
        token, hostname : str, optional
            Those of a tunnel in a Cloudflare account.
        """
        target = cast("Target", self.target)
        self.clear_error()
        self.start(
            lambda: self.comfy.tunnel.start(
                target,
                protect=protect,
                token=token,
                hostname=hostname,
                download=download or None,
                wait=False,
            )
        )

    def download(self) -> None:
        """Download cloudflared on the server, like the button, and then start the tunnel."""
        self.open_tunnel(download=True)

    def close_tunnel(self) -> None:
        """Stop the tunnel, like the button *Stop*."""
        target = cast("Target", self.target)
        self.clear_error()
        self.start(lambda: self.comfy.tunnel.stop(target))

    def _keep(self, summary: str) -> None:
        self.keep(f"<div>{html.escape(summary)}</div>", f"<TunnelPanel: {summary}>")
