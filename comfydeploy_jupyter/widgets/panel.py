"""The base of the panels: what Python has of a component in the page."""

from __future__ import annotations

import difflib
import threading
import time
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets as t

from ..client.text import in_notebook
from ..errors import ComfyDeployError, RunTimeoutError, brief
from .bridge import Bridge
from .page import STATIC, Record, script, server_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..client import Comfy

CONNECT_INTERVAL = 5.0
"""How often a panel tries to reach a server that does not answer, s."""

JOIN_TIMEOUT = 5.0
"""How long a panel that is closed waits for its threads, s."""


class Panel(anywidget.AnyWidget):
    """Base of the panels.

    A panel is a component in the page (``js/src/panels``), which speaks with the routes of the
    server: straight if the page comes from that server, else through this object. So it works
    while the kernel is busy, and goes on after the kernel has ended. Its traits are what page and
    Python share; either may set them. Without a page, the methods work, too.

    The cell of a panel has a second, plain output, which is hidden while the panel works. The
    saved notebook shows it, and so do pages in which widgets cannot run. `keep` sets it.

    Parameters
    ----------
    comfy : Comfy or Panel, optional
        The client, or a panel whose client is used; by default the panel connects by itself.
    **kwargs
        Traits of the panel and of `ipywidgets.DOMWidget`, such as ``layout``.

    Raises
    ------
    TypeError
        An argument is neither the panel's own nor a trait; the message names the closest one.
    """

    OWN_ARGUMENTS: tuple[str, ...] = ("comfy",)

    _esm = script("anywidget")

    component = t.Unicode().tag(sync=True)
    # as `server_facts` returns it; empty until the client is connected
    server = t.Dict().tag(sync=True)
    # what went wrong in Python; empty if nothing
    error = t.Unicode().tag(sync=True)
    # the class of the plain output
    record = t.Unicode().tag(sync=True)
    # the last arguments of `keep`
    kept = t.Tuple(t.Unicode(), t.Unicode(), default_value=("", ""))

    def __init__(self, comfy: Any = None, **kwargs: Any) -> None:
        name = type(self).__name__
        refuse_unknown(name, self.OWN_ARGUMENTS, self.trait_names(), kwargs)
        self._comfy = comfy
        self._connecting = threading.Lock()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._output = Record(name, lambda: self.forgotten())
        self.forgotten: Callable[[], object] = lambda: None
        self._own_look = "layout" not in kwargs
        self._bridge = Bridge(lambda: self.comfy, self.send)
        super().__init__(component=name, record=self._output.css_class, **kwargs)
        self.on_msg(self._receive)
        self._connector = threading.Thread(
            target=self._connect, name="comfydeploy-panel", daemon=True
        )
        self._connector.start()

    @property
    def comfy(self) -> Comfy:
        """The client; connects first where needed, which may take seconds."""
        if self._comfy is not None and hasattr(self._comfy, "comfy"):
            shared: Comfy = self._comfy.comfy
            return shared
        with self._connecting:
            if self._comfy is None:
                from ..client import connect

                self._comfy = connect()
            client: Comfy = self._comfy
            return client

    @property
    def closing(self) -> bool:
        """Whether the panel is being closed or is closed; its threads check this."""
        return self._closing.is_set()

    @property
    def ready(self) -> bool:
        """Whether the panel has found its server, or failed to."""
        return bool(self.server or self.error)

    def start(self, task: Callable[..., object], *args: object) -> threading.Thread:
        """Run a task in a thread, and show its error if it raises one.

        Parameters
        ----------
        task : callable
            What the thread calls.
        *args : object
            Its arguments.
        """
        thread = threading.Thread(
            target=self.attempt, args=(task, *args), name="comfydeploy-panel", daemon=True
        )
        self._threads = [each for each in self._threads if each.is_alive()] + [thread]
        thread.start()
        return thread

    def attempt(self, task: Callable[..., object], *args: object) -> None:
        """Call a task in this thread, and show its error if it raises one."""
        try:
            task(*args)
        except Exception as error:
            if not self.closing:
                self.show_error(error)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the panel is connected, and has done what Python asked of it.

        Parameters
        ----------
        timeout : float, optional
            Wait at most this long, s.

        Raises
        ------
        RunTimeoutError
            The panel is still busy; its work continues.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.closing:
            busy = [thread for thread in self._threads if thread.is_alive()]
            if not busy and self.ready:
                return
            left = 0.05 if deadline is None else min(0.05, deadline - time.monotonic())
            if left <= 0:
                raise not_done(timeout)
            if busy:
                busy[0].join(left)
            else:
                time.sleep(left)

    def show_error(self, error: Exception | str) -> None:
        """Show an error until the next `clear_error`."""
        if isinstance(error, ComfyDeployError):
            self.error = error.message
        else:
            self.error = error if isinstance(error, str) else f"{type(error).__name__}: {error}"

    def clear_error(self) -> None:
        """Remove the error that is shown."""
        self.error = ""

    def keep(self, html_text: str, plain_text: str) -> None:
        """Set the output that the saved notebook shows in place of the panel.

        Parameters
        ----------
        html_text : str
            For a page; texts of users in it must be escaped.
        plain_text : str
            For a terminal.
        """
        self._output.set(html_text, plain_text)
        self.kept = (html_text, plain_text)

    def close(self) -> None:
        """End the threads, then remove the panel; runs, transfers and tunnels continue."""
        # ipywidgets closes every widget in the end, also one whose arguments were refused
        if "_closing" in vars(self) and not self.closing:
            self._closing.set()
            self._bridge.close()
            deadline = time.monotonic() + JOIN_TIMEOUT
            for thread in self._threads:
                if thread is not threading.current_thread():
                    thread.join(max(0.0, deadline - time.monotonic()))
            self._output.close()
            if self._own_look:
                self.layout.close()
        super().close()

    def _connect(self) -> None:
        """Find the server, for the page; try again until one answers."""
        failed = ""
        while not self.closing:
            try:
                self.server = server_facts(self.comfy)
            except ComfyDeployError as error:
                failed = error.message
                self.show_error(error)
            else:
                if failed and self.error == failed:
                    self.clear_error()
                return
            self._closing.wait(CONNECT_INTERVAL)

    def _receive(self, _: object, content: object, buffers: Sequence[memoryview]) -> None:
        if not isinstance(content, dict):
            return
        if content.get("kind") == "panels":
            self.send({"kind": "panels"}, [(STATIC / "panels.js").read_bytes()])
        else:
            self._bridge.receive(content, buffers)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if in_notebook():
            self._output.show()
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        if data is None:
            return None
        return {**data, "text/plain": self._output.plain_text}, metadata


def in_turn(timeout: float | None, *waits: Callable[[float | None], object]) -> None:
    """Call functions that wait, one after another, with a common timeout in seconds."""
    deadline = None if timeout is None else time.monotonic() + timeout
    for wait in waits:
        try:
            wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        except RunTimeoutError:
            raise not_done(timeout) from None


def not_done(timeout: float | None) -> RunTimeoutError:
    """Return the error of waiting for a panel for too long; the timeout is in s."""
    return RunTimeoutError(f"the panel has not finished after {timeout or 0:g} s; it continues")


def refuse_unknown(
    panel: str, own: tuple[str, ...], traits: list[str], given: dict[str, Any]
) -> None:
    """Raise a TypeError that names the closest argument, if an argument is unknown."""
    known = {*own, *(name for name in traits if not name.startswith("_"))}
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(own)}"
            raise brief(TypeError(f"{panel} has no argument {name!r}; {hint}"))
