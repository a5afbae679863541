"""Starting and stopping a tunnel from the internet; its address and who can use it."""

from __future__ import annotations

import html
import threading
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets as w
import traitlets as t

from ..client.tunnel import NAMES, PROTECTIONS, TunnelStatus
from ..display.page import script
from ..errors import ComfyDeployError
from .base import Panel, alert, in_turn, not_done
from .parts import button, checkbox, column, field, note, row, state_html, text_box

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client import Comfy
    from ..client.tunnel import Target

LABEL_WIDTH = "110px"

BUSY, IDLE, LOST = 0.5, 3.0, 5.0
"""Seconds between two requests: while the state changes, otherwise, while nothing answers."""

STATES = {
    "stopped": ("Stopped", "var(--cd-faint)"),
    "starting": ("Starting …", "var(--cd-warn)"),
    "running": ("Running", "var(--cd-success)"),
    "restarting": ("The connection broke; starting it again …", "var(--cd-warn)"),
}
CONNECTING = ("Connecting …", "var(--cd-faint)")
BARE = (
    "Everybody who finds the address can then use ComfyUI, and through it this machine: its files, "
    "its network and its graphics card."
)
CONSENT = (
    '<div class="comfydeploy-note">'
    "cloudflared is Cloudflare's program for tunnels. The button downloads it from its "
    '<a href="https://github.com/cloudflare/cloudflared/releases" target="_blank" '
    'rel="noopener noreferrer">release</a> (about 40 MB) into the data folder of the Jupyter '
    "server, checks its SHA-256 and starts the tunnel. By using it you agree to "
    '<a href="https://www.cloudflare.com/website-terms/" target="_blank" '
    'rel="noopener noreferrer">Cloudflare\'s terms</a>.</div>'
)
JUPYTER = "Visitors need Jupyter's token or password, as always."
GATED = "Visitors need the link. It contains a secret, which their browser then remembers."


class Link(anywidget.AnyWidget):
    """The link of a tunnel, a button that copies it, and its QR code."""

    _esm = script("link")

    # the address without the secret; nothing is shown while it is empty
    url = t.Unicode().tag(sync=True)

    def __init__(self) -> None:
        # the link. It is no trait, since the state of a widget may be saved with the
        # notebook: the page gets it in a message, which is not saved
        self.address = ""
        super().__init__()
        self.on_msg(lambda *_: self._send_address())  # of a new page

    def show(self, status: TunnelStatus) -> None:
        """Show the link of a tunnel, or nothing if it has no address."""
        address = status.access_url or ""
        self.url = status.url or ""
        if self.address != address:
            self.address = address
            self._send_address()

    def _send_address(self) -> None:
        self.send({"address": self.address})


class TunnelPanel(Panel):
    """A panel that starts and stops a tunnel, shows its link, and says who can use it.

    The tunnel belongs to the Jupyter server: it stays open when the panel or the kernel is closed.

    Parameters
    ----------
    target : str
        The target that is chosen first: ``comfyui`` or ``jupyter``.
    comfy : Comfy or Panel, optional
        The client, or a panel whose client is used; by default the panel connects by itself.
    **kwargs
        Traits of `ipywidgets.VBox`, such as ``layout``.

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

    def __init__(
        self, target: Target = "comfyui", comfy: Comfy | Panel | None = None, **kwargs: Any
    ) -> None:
        super().__init__(comfy, **kwargs)
        self._status = TunnelStatus({"target": target})
        self._asked = threading.Event()
        self._wake = threading.Event()
        self._pending = False
        self._lost = False
        self._showing = threading.Lock()
        if target not in NAMES:
            self.close()
            raise ValueError(f"target must be {' or '.join(NAMES)}, not {target!r}")
        self._build(target)
        self.start(self._watch, lasting=True)

    @property
    def status(self) -> TunnelStatus:
        """The last known state of the tunnel."""
        return self._status

    @property
    def ready(self) -> bool:
        """Whether the state was requested at least once, with or without success."""
        return self._asked.is_set()

    @property
    def report(self) -> str:
        """The state of the tunnel as HTML."""
        link = html.escape(self._link.url)
        return f"{self._state.value}{link}{self._access.value}{self._failure.value}"

    @property
    def copied(self) -> str:
        """The text that the copy button copies; empty without a tunnel."""
        return self._link.address

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the state of the tunnel is known and the panel has done what it was asked."""
        in_turn(timeout, self._wait_for_state, super().wait)

    def open_tunnel(self, *, download: bool = False) -> None:
        """Start the tunnel, like the button *Start*; do not wait for it.

        Parameters
        ----------
        download : bool
            Whether cloudflared may be downloaded if it is not installed on the server.
        """
        target, token = self._target.value, self._token.value.strip()
        hostname = self._hostname.value.strip()
        protect = False if target == "comfyui" and not self._protect.value else None
        self._token.value = ""  # the state of a widget may be saved with the notebook
        self._order(
            lambda: self.comfy.tunnel.start(
                target,
                protect=protect,
                token=token or None,
                hostname=hostname or None,
                download=download or None,
                wait=False,
            )
        )

    def download(self) -> None:
        """Download cloudflared on the server, like the button, and then start the tunnel."""
        self.open_tunnel(download=True)

    def close_tunnel(self) -> None:
        """Stop the tunnel, like the button *Stop*."""
        target = self._target.value
        self._order(lambda: self.comfy.tunnel.stop(target))

    def stop(self) -> None:
        """Wake the thread that requests the state, which then ends; the tunnel stays as it is."""
        self._wake.set()

    def _build(self, target: str) -> None:
        self._target = field(
            w.Dropdown,
            "Make reachable",
            label_width=LABEL_WIDTH,
            options=[(name, value) for value, name in NAMES.items()],
            value=target,
        )
        self._protect = checkbox("Only with the secret link", value=True, width="100%")
        self._advice = text_box(width="100%")
        self._token = field(
            w.Password,
            "Token",
            label_width=LABEL_WIDTH,
            placeholder="of a tunnel in your Cloudflare account",
        )
        self._hostname = field(
            w.Text,
            "Hostname",
            label_width=LABEL_WIDTH,
            placeholder="its public name; may be left out",
        )
        named = column(self._token, self._hostname, grid_gap="4px")
        self._named = w.Accordion([named], titles=("With an address of your own",))
        self._start_button = button(
            "Start",
            lambda: self.attempt(self.open_tunnel),
            icon="globe",
            hint="Start the tunnel",
            style="primary",
            disabled=True,
        )
        self._stop_button = button(
            "Stop",
            lambda: self.attempt(self.close_tunnel),
            icon="stop",
            hint="End the tunnel",
            disabled=True,
        )
        self._state = text_box(state_html(*CONNECTING), flex="1 1 auto")
        self._link = Link()
        self._access = text_box(width="100%", display="none")
        self._failure = text_box(width="100%", display="none")
        self._download_button = button(
            "Download cloudflared",
            lambda: self.attempt(self.download),
            icon="download",
            hint="Download cloudflared on the server, then start the tunnel",
            style="primary",
        )
        consent = text_box(CONSENT, width="100%")
        self._download_box = column(consent, self._download_button, display="none")
        self._settings = column(self._protect, self._advice, self._named)
        self.fill(
            self._target,
            self._settings,
            row(self._start_button, self._stop_button, self._state),
            self._link,
            self._access,
            self._failure,
            self._download_box,
        )
        self._target.observe(lambda _: self.attempt(self._choose), "value")
        self._protect.observe(lambda _: self.attempt(self._advise), "value")
        self._advise()

    def _advise(self) -> None:
        is_comfyui = self._target.value == "comfyui"
        self._protect.layout.display = "" if is_comfyui else "none"
        if is_comfyui and not self._protect.value:
            self._advice.value = alert(BARE)
        else:
            self._advice.value = note(GATED if is_comfyui else JUPYTER)

    def _choose(self) -> None:
        self.clear_error()
        self._advise()
        self._wake.set()

    def _enable(self, *, busy: bool, up: bool) -> None:
        """Enable or disable the controls to match the state."""
        self._start_button.disabled = busy or up
        self._stop_button.disabled = busy or not up
        for control in (self._protect, self._token, self._hostname):
            control.disabled = busy
        self._settings.layout.display = "none" if up else ""

    def _order(self, request: Callable[[], TunnelStatus]) -> None:
        """Send the request of a button in a thread; until its reply, `_watch` shows nothing."""
        self.clear_error()
        self._pending = True
        self._enable(busy=True, up=False)
        self.start(self._do, request)

    # --- in threads

    def _do(self, request: Callable[[], TunnelStatus]) -> None:
        found = self._status
        try:
            found = request()
        finally:
            self._pending = False
            self._show(found)
            self._wake.set()

    def _wait_for_state(self, timeout: float | None) -> None:
        if not self._asked.wait(timeout):
            raise not_done(timeout)

    def _watch(self) -> None:
        """Request and show the state until the panel is closed."""
        first = True
        while not self.closing:
            self._wake.clear()
            try:
                found = self._find(first=first)
            except ComfyDeployError as error:
                self._show_unreachable(error)
                wait = LOST
            else:
                first = False
                if self._lost:
                    self.clear_error()
                self._lost = False
                if not self._pending:
                    self._show(found)
                wait = IDLE if found.state in ("stopped", "running") else BUSY
            self._asked.set()
            self.idle(self._wake, wait)

    def _find(self, *, first: bool) -> TunnelStatus:
        target = self._target.value
        if first:
            # a tunnel that is open already is shown, with any target
            found = self.comfy.tunnel.status()
            if found.state != "stopped":
                self._target.value = found.target
                return found
        return self.comfy.tunnel.status(target)

    def _show_unreachable(self, error: ComfyDeployError) -> None:
        self._lost = True
        if not self.closing:
            self._state.value = state_html("The Jupyter server does not answer", "var(--cd-error)")
            self._start_button.disabled = self._stop_button.disabled = True
            self.show_error(error)
            self._status = TunnelStatus({"target": self._target.value})

    def _show(self, status: TunnelStatus) -> None:
        with self._showing:
            if self.closing or status.target != self._target.value:
                return
            self._status = status
            self._enable(busy=False, up=status.state != "stopped")
            text, colour = STATES.get(status.state, (status.state, "var(--cd-faint)"))
            if status.error is not None and status.state == "stopped":
                text, colour = "Failed", "var(--cd-error)"
            self._state.value = state_html(text, colour)
            self._link.show(status)
            self._access.value = _access(status)
            self._access.layout.display = "" if status.running else "none"
            self._failure.value = _failure(status)
            self._failure.layout.display = "" if self._failure.value else "none"
            can_download = status.state == "stopped" and status.can_download
            self._download_box.layout.display = "" if can_download else "none"
            # without the secret, because other people may get the notebook
            self.keep(_kept(status), f"<TunnelPanel: {status!r}>")


def _access(status: TunnelStatus) -> str:
    text = PROTECTIONS[status.protection]
    if status.protection == "none":
        return alert(f"{text}.")
    more = ". Copy the link to hand it on; a new start makes another secret."
    where = f"Leads to {NAMES[status.target]} (port {status.port}), {text}"
    return note(where + (more if status.protection == "gate" else "."))


def _failure(status: TunnelStatus) -> str:
    if status.error is None:
        return ""
    # the button below is better advice than the hint of the server
    error = status.record["error"] if status.can_download else status.error
    lines = html.escape("\n".join(status.log))
    log = (
        "<details><summary>The log of cloudflared</summary>"
        f'<pre style="margin:4px 0 0;white-space:pre-wrap;overflow-wrap:anywhere">{lines}</pre>'
        "</details>"
    )
    return alert(f"{html.escape(error)}{log if lines else ''}")


def _kept(status: TunnelStatus) -> str:
    state = html.escape(STATES.get(status.state, (status.state, ""))[0])
    where = f" at {html.escape(status.url)}" if status.url else ""
    return f"<div>Tunnel to {NAMES[status.target]}: {state}{where}</div>"
