"""The base of all panels: threads, errors, style, and the output for the saved notebook."""

from __future__ import annotations

import difflib
import html
import re
import threading
import time
from typing import TYPE_CHECKING, Any

import ipywidgets as w
import traitlets as t

from ..display import INTERVAL, close_tree, in_notebook
from ..display.page import STATIC, KernelStatus, Record
from ..errors import ComfyDeployError, RunTimeoutError, brief

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..client import Comfy


class Throttle:
    """Calls an action at limited intervals; the last call has the newest arguments."""

    def __init__(self, action: Callable[..., object], interval: float = INTERVAL) -> None:
        self._action = action
        self._interval = interval
        self._lock = threading.Lock()
        self._calling = threading.Lock()
        self._next = 0.0
        self._args: tuple[Any, ...] | None = None
        self._timer: threading.Timer | None = None
        self._closed = False

    def __call__(self, *args: Any) -> None:
        """Call the action now, or when the interval is over."""
        with self._lock:
            if self._closed:
                return
            self._args = args
            wait = self._next - time.monotonic()
            if self._timer is not None:
                return
            if wait > 0:
                self._timer = threading.Timer(wait, self._fire)
                self._timer.name = "comfydeploy-throttle"
                self._timer.daemon = True
                self._timer.start()
                return
        self._fire()

    def close(self) -> None:
        """Make a call that is still waiting now, and none after it."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
        self._fire()

    def _fire(self) -> None:
        with self._calling:
            with self._lock:
                args, self._args, self._timer = self._args, None, None
                self._next = time.monotonic() + self._interval
            if args is not None:
                self._action(*args)


class Problem(w.HTML):  # type: ignore[misc]  # ipywidgets has no types
    """An error message beside the control that caused it; hidden while there is no error."""

    def __init__(self) -> None:
        super().__init__(layout=w.Layout(display="none", margin="0", width="auto"))

    def show(self, error: Exception | str) -> None:
        """Show an error until the next `clear`."""
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        if isinstance(error, ComfyDeployError):
            text = error.message
        self.value = alert(unbroken(text)) if text else ""
        self.layout.display = "" if text else "none"

    def clear(self) -> None:
        """Remove the error."""
        self.show("")


def alert(content: str) -> str:
    """Return HTML as that of an error."""
    return f'<div class="comfydeploy-error" role="alert">{content}</div>'


def unbroken(text: str) -> str:
    """Return a text as HTML; options in it, such as ``--lowvram``, are not broken into lines."""
    return re.sub(r"--\w[\w-]*", r'<span class="cd-unbroken">\g<0></span>', html.escape(text))


GAP = "8px"
PANEL_CLASS = "comfydeploy-panel"
GONE = (
    "The kernel of this panel was restarted or has ended. Run this cell again to use the panel;"
    " queued runs continue."
)

LASTING = "comfydeploy-panel-lasting"
"""The name of threads that end only with their panel."""

JOIN_TIMEOUT = 5.0
"""How long a panel that is closed waits for its threads, s."""

REST = 1.0
"""How often a panel that no cell shows any more checks whether one does, s."""


class Panel(w.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """Base of the panels.

    Work that takes time runs in threads, so that the kernel stays free. An error in a thread or in
    a callback is shown in the panel. `close` ends the threads.

    The cell of a panel has a second, plain output, which is hidden while the panel works. The
    saved notebook shows it, and so do pages in which widgets cannot run. `keep` sets it.

    Parameters
    ----------
    comfy : Comfy or Panel, optional
        The client, or a panel whose client is used; by default the panel connects when it first
        needs one.
    **kwargs
        Traits of `ipywidgets.VBox`, such as ``layout``.

    Attributes
    ----------
    kept : tuple of str
        The last arguments of `keep`; can be observed.

    Raises
    ------
    TypeError
        An argument is neither the panel's own nor a trait; the message names the closest one.
    """

    OWN_ARGUMENTS: tuple[str, ...] = ("comfy",)

    kept = t.Tuple(t.Unicode(), t.Unicode(), default_value=("", ""))

    def __init__(self, comfy: Any = None, **kwargs: Any) -> None:
        self._comfy = comfy
        self._connecting = threading.Lock()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        try:
            refuse_unknown(type(self).__name__, self.OWN_ARGUMENTS, self.trait_names(), kwargs)
        except TypeError:
            self._closing.set()  # ipywidgets closes every widget in the end, this one too
            raise
        self._record = Record(type(self).__name__)
        style = (STATIC / "panel.css").read_text(encoding="utf-8")
        self._style = w.HTML(
            f"<style>{style}{self._record.hiding}</style>", layout=w.Layout(display="none")
        )
        self._kernel_status = KernelStatus(PANEL_CLASS, GONE)
        self._errors = Problem()
        self._own_look = "layout" not in kwargs
        super().__init__(**{"layout": w.Layout(grid_gap=GAP, width="auto"), **kwargs})
        self.add_class(PANEL_CLASS)

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
    def error(self) -> str:
        """The error that the panel shows, as HTML; empty if none."""
        return str(self._errors.value)

    def fill(self, *children: w.Widget) -> None:
        """Set what the panel shows; its errors come last, unless they are within the children."""
        errors = [] if _holds(children, self._errors) else [self._errors]
        self.children = [self._style, self._kernel_status, *children, *errors]

    def start(
        self, task: Callable[..., object], *args: object, lasting: bool = False
    ) -> threading.Thread:
        """Run a task in a thread, and show its error if it raises one.

        Parameters
        ----------
        task : callable
            What the thread calls.
        *args : object
            Its arguments.
        lasting : bool
            Whether the task runs until the panel is closed; `wait` does not wait for such a task.
        """
        name = LASTING if lasting else "comfydeploy-panel"
        thread = threading.Thread(target=self.attempt, args=(task, *args), name=name, daemon=True)
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()
        return thread

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the panel has done its work, and shows the result.

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
        while busy := [t for t in self._threads if t.is_alive() and t.name != LASTING]:
            busy[0].join(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if deadline is not None and time.monotonic() >= deadline and busy[0].is_alive():
                raise not_done(timeout)

    def attempt(self, task: Callable[..., object], *args: object) -> None:
        """Call a task in this thread, and show its error if it raises one."""
        try:
            task(*args)
        except Exception as error:
            if not self.closing:
                self.show_error(error)

    def pause(self, seconds: float) -> bool:
        """Wait for so many seconds and return True; return False as soon as the panel is closed."""
        return not self._closing.wait(seconds)

    @property
    def resting(self) -> bool:
        """Whether no cell shows the panel any more, because its cells were run again."""
        if self._record.was_shown:
            return not self._record.cells
        return bool(getattr(self._comfy, "resting", False))

    def idle(self, wake: threading.Event, seconds: float) -> None:
        """Wait between two requests to the server, and for as long as no cell shows the panel.

        Parameters
        ----------
        wake : threading.Event
            Ends the waiting when it is set.
        seconds : float
            The shortest time to wait, s.
        """
        woken = self.closing or wake.wait(seconds)
        while not (woken or self.closing) and self.resting:
            woken = wake.wait(REST)

    def show_error(self, error: Exception | str) -> None:
        """Show an error until the next `clear_error`."""
        self._errors.show(error)

    def clear_error(self) -> None:
        """Remove the error that is shown."""
        self._errors.clear()

    def keep(self, html_text: str, plain_text: str) -> None:
        """Set the output that the saved notebook shows in place of the panel.

        Parameters
        ----------
        html_text : str
            For a page; texts of users in it must be escaped.
        plain_text : str
            For a terminal.
        """
        self._record.set(html_text, plain_text)
        self.kept = (html_text, plain_text)

    def stop(self) -> None:
        """Wake the threads that wait; called once by `close`."""

    def close(self) -> None:
        """End the threads, then remove the panel."""
        if not self._closing.is_set():
            self._closing.set()
            self.stop()
            deadline = time.monotonic() + JOIN_TIMEOUT
            for thread in self._threads:
                if thread is not threading.current_thread():
                    thread.join(max(0.0, deadline - time.monotonic()))
            self._record.close()
            for child in self.children:
                close_tree(child)
            if self._own_look:
                self.layout.close()
        super().close()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        if in_notebook():
            self._record.show()
        bundle: dict[str, Any] = super()._repr_mimebundle_(**kwargs)
        bundle["text/plain"] = self._record.plain_text
        return bundle


def _holds(widgets: Iterable[w.Widget], wanted: w.Widget) -> bool:
    """Return whether a widget is among others, or in a box among them."""
    return any(
        widget is wanted or _holds(getattr(widget, "children", ()), wanted) for widget in widgets
    )


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
