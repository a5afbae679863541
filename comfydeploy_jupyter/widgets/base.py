"""What all panels share: threads, errors, looks."""

from __future__ import annotations

import difflib
import html
import threading
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from ..errors import ComfyDeployError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client import Comfy

GAP = "8px"
LABEL_WIDTH = "180px"
PANEL_CLASS = "comfydeploy-panel"

# JupyterLab's own variables only, so that a panel follows every theme.
STYLE = f"""<style>
.{PANEL_CLASS} {{
  padding: 12px; max-width: 840px; box-sizing: border-box;
  border: 1px solid var(--jp-border-color2); border-radius: var(--jp-border-radius, 4px);
  background: var(--jp-layout-color1); color: var(--jp-ui-font-color1);
}}
.{PANEL_CLASS} .widget-html-content {{ line-height: 1.4; }}
.{PANEL_CLASS} .widget-label {{ color: var(--jp-ui-font-color1); }}
.{PANEL_CLASS} .comfydeploy-error {{
  padding: 6px 12px; white-space: pre-wrap; overflow-wrap: anywhere;
  border-left: 3px solid var(--jp-error-color1); background: var(--jp-layout-color2);
}}
.{PANEL_CLASS} .comfydeploy-note {{ color: var(--jp-ui-font-color2); }}
.{PANEL_CLASS} .comfydeploy-gallery img {{
  border-radius: var(--jp-border-radius, 2px); border: 1px solid var(--jp-border-color2);
}}
</style>"""


# ipywidgets has no types
class Panel(w.VBox):  # type: ignore[misc]
    """Base of the panels.

    What takes time runs in threads, so that the kernel stays free; what goes wrong there, or in a
    callback, is shown in the panel. `close` ends the threads.

    Parameters
    ----------
    comfy : Comfy, optional
        The client; by default the panel connects when it first needs one.
    **kwargs
        Traits of `ipywidgets.VBox`, such as ``layout``.

    Raises
    ------
    TypeError
        An argument that is neither; the message names the closest.
    """

    OWN_ARGUMENTS: tuple[str, ...] = ("comfy",)

    def __init__(self, comfy: Comfy | None = None, **kwargs: Any) -> None:
        self._comfy = comfy
        self._connecting = threading.Lock()
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        try:
            _refuse_unknown(type(self).__name__, self.OWN_ARGUMENTS, self.trait_names(), kwargs)
        except TypeError:
            self._closing.set()  # ipywidgets closes every widget in the end, this one too
            raise
        self._errors = w.HTML()
        self._errors.layout.display = "none"
        super().__init__(**{"layout": w.Layout(grid_gap=GAP, width="100%"), **kwargs})
        self.add_class(PANEL_CLASS)

    @property
    def comfy(self) -> Comfy:
        """The client; connects first if need be, which may take seconds."""
        with self._connecting:
            if self._comfy is None:
                from ..client import connect

                self._comfy = connect()
            return self._comfy

    @property
    def closing(self) -> bool:
        """Whether the panel is being closed; its threads look at it."""
        return self._closing.is_set()

    @property
    def error(self) -> str:
        """The error that the panel shows, as HTML; empty if none."""
        return str(self._errors.value)

    def fill(self, *children: w.Widget) -> None:
        """Set what the panel shows between its style and its errors."""
        self.children = [w.HTML(STYLE, layout=w.Layout(display="none")), *children, self._errors]

    def start(self, task: Callable[..., object], *args: object) -> threading.Thread:
        """Run a task in a thread; its errors are shown."""
        thread = threading.Thread(
            target=self.attempt, args=(task, *args), name="comfydeploy-panel", daemon=True
        )
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()
        return thread

    def attempt(self, task: Callable[..., object], *args: object) -> None:
        """Call a task here and show its error, if any."""
        try:
            task(*args)
        except Exception as error:
            if not self.closing:
                self.show_error(error)

    def show_error(self, error: Exception | str) -> None:
        """Show an error until the next `clear_error`."""
        if isinstance(error, (ComfyDeployError, str)):
            text = str(error)
        else:
            text = f"{type(error).__name__}: {error}"
        self._errors.value = (
            f'<div class="comfydeploy-error" role="alert">{html.escape(text)}</div>'
        )
        self._errors.layout.display = ""

    def clear_error(self) -> None:
        """Show no error any more."""
        self._errors.value = ""
        self._errors.layout.display = "none"

    def stop(self) -> None:
        """End what the threads wait for; called once by `close`."""

    def close(self) -> None:
        """End the threads, then remove the panel."""
        if not self._closing.is_set():
            self._closing.set()
            self.stop()
            for thread in self._threads:
                if thread is not threading.current_thread():
                    thread.join(5)
            for child in self.children:
                close_tree(child)
        super().close()


def close_tree(widget: w.Widget) -> None:
    """Remove a widget and all that is in it from the page and from the kernel."""
    for child in getattr(widget, "children", ()):
        close_tree(child)
    widget.close()


def _refuse_unknown(
    panel: str, own: tuple[str, ...], traits: list[str], given: dict[str, Any]
) -> None:
    known = {*own, *(name for name in traits if not name.startswith("_"))}
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"it takes {', '.join(own)}"
            raise TypeError(f"{panel} has no argument {name!r}; {hint}")
