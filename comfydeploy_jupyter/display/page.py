"""What a page gets: scripts of views, the output of the saved notebook, the end of the kernel."""

from __future__ import annotations

import html
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import anywidget
import traitlets as t

from ..client.server import READ_TIMEOUT
from ..errors import ComfyDeployError, printable

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping, Sequence

    from ..client import Comfy


STATIC = Path(__file__).parent.parent / "widgets" / "static"
"""The folder of the widgets' style sheets, and of their scripts, which `js/build.mjs` makes."""


def script(name: str) -> str:
    """Return the script of a view: a single module that imports no others."""
    return (STATIC / f"{name}.js").read_text(encoding="utf-8")


class KernelStatus(anywidget.AnyWidget):
    """Shows that the kernel has ended, and then disables the controls around it."""

    _esm = script("kernel_status")

    around = t.Unicode().tag(sync=True)  # the CSS class of the widget that contains this one
    text = t.Unicode().tag(sync=True)

    def __init__(self, around: str, text: str) -> None:
        super().__init__(around=around, text=text)


class Record:
    """The plain output of a panel's cell, which the panel's style hides while the panel works."""

    def __init__(self, name: str, forgotten: Callable[[], object] | None = None) -> None:
        self.css_class = f"comfydeploy-record-{uuid.uuid4().hex}"
        self._shell: Any = None
        self._forgotten = forgotten  # called when no cell shows it any more
        self.was_shown = False
        self.cells: set[str | None] = set()  # the ids of those that show it; None: one without id
        self._hint = f"<i>{html.escape(name)}: run this cell to use it.</i>"
        self._html = ""
        self.plain_text = f"<{name}>"

    @property
    def hiding(self) -> str:
        """The rule of the style sheet that hides it, and the empty line that is left of it."""
        return (
            f".{self.css_class}, .jp-OutputArea-child:has(.{self.css_class}), "
            f".output_area:has(.{self.css_class}) {{ display: none }}"
        )

    def show(self) -> None:
        """Display it in the cell that is executed now."""
        from IPython import get_ipython
        from IPython.display import display

        if self._shell is None:
            self._shell = get_ipython()
            self._shell.events.register("pre_run_cell", self._run_again)
        self.cells.add(_current_cell(self._shell))
        # IPython has no types
        display(self._bundle(), raw=True, display_id=self.css_class)
        self.was_shown = True

    def close(self) -> None:
        """Stop observing which cells are run."""
        if self._shell is not None:
            self._shell.events.unregister("pre_run_cell", self._run_again)
            self._shell = None

    def _run_again(self, info: Any) -> None:
        """Record that a cell is run: it does not show the panel any more."""
        cell = getattr(info, "cell_id", None)  # IPython before 8.3 has none
        if cell in self.cells and cell is not None:
            self.cells.discard(cell)
            if not self.cells and self._forgotten is not None:
                self._forgotten()

    def set(self, html_text: str, plain_text: str) -> None:
        """Change the output in every cell that shows it."""
        self._html, self.plain_text = html_text, printable(plain_text)
        if self.was_shown:
            from IPython.display import update_display

            update_display(self._bundle(), raw=True, display_id=self.css_class)

    def _bundle(self) -> dict[str, str]:
        content = f'<div class="{self.css_class}">{self._html}<p>{self._hint}</p></div>'
        return {"text/html": content, "text/plain": self.plain_text}


def _current_cell(shell: Any) -> str | None:
    """Return the id of the cell that is executed now, or None where the page sends none."""
    get_parent = getattr(shell.kernel, "get_parent", None)  # not every kernel is ipykernel's
    request = (get_parent("shell") if callable(get_parent) else None) or {}
    found = (request.get("metadata") or {}).get("cellId")
    return found if isinstance(found, str) else None


FETCHERS = 3
"""How many files a view fetches for its page at the same time."""

_VIEW_FIELDS = frozenset({"filename", "subfolder", "type", "machine"})


class Host(Protocol):
    """An object that shows views: a panel, or the view of a sweep."""

    @property
    def comfy(self) -> Comfy:
        """The client."""

    @property
    def closing(self) -> bool:
        """Whether it is being closed or is closed."""

    def start(self, task: Callable[..., object], *args: object) -> threading.Thread:
        """Run a task in a thread, and show its error if it raises one."""

    def attempt(self, task: Callable[..., object], *args: object) -> None:
        """Call a task in this thread, and show its error if it raises one."""


class View(anywidget.AnyWidget):
    """Base of the views.

    A page that comes from the Jupyter server which the client uses shows files of ComfyUI by their
    URL. Any other page (VS Code, Colab, another server) gets them from the kernel, which never
    sends it the token. The content of files is not part of the view's state, so that neither the
    notebook nor the kernel grows with the files that are shown.

    A message of the page with ``kind`` ``"x"`` is handled by the method ``_on_x``.
    """

    # as `server_facts` returns it; empty until the client is connected
    server = t.Dict().tag(sync=True)

    def __init__(self, panel: Host, **traits: Any) -> None:
        self._panel = panel
        self._fetchers: ThreadPoolExecutor | None = None
        super().__init__(**traits)
        self.on_msg(self._receive)

    def close(self) -> None:
        """Remove the view, and fetch no more files for it."""
        if self._fetchers is not None:
            self._fetchers.shutdown(wait=False, cancel_futures=True)
        super().close()

    def _receive(self, _: object, content: object, buffers: Sequence[memoryview]) -> None:
        if isinstance(content, dict):
            handler = getattr(self, f"_on_{content.get('kind')}", None)
            if handler is not None:
                self._panel.attempt(handler, content, buffers)

    def _on_file(self, message: dict[str, Any], _: object) -> None:
        if self._fetchers is None:
            self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="comfydeploy-files")
        self._fetchers.submit(self._fetch, message)

    def _fetch(self, message: dict[str, Any]) -> None:
        """Send a file to the page."""
        answer = {"kind": "file", "id": message["id"]}
        query = dict(parse_qsl(str(message["query"])))
        fields: dict[str, Any] = {key: query[key] for key in _VIEW_FIELDS & query.keys()}
        fields["thumbnail"] = message.get("side") or None
        server = self._panel.comfy.server
        try:
            with server.request(
                "GET", server.address("view", fields), timeout=READ_TIMEOUT
            ) as response:
                content, mime = response.content, response.headers["Content-Type"]
        except ComfyDeployError as error:
            self.send({**answer, "error": str(error)})
            return
        self.send({**answer, "mime": mime}, [content])


def server_facts(comfy: Comfy, status: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return the address of the server, its path and its id: by these two a page finds it."""
    status = comfy.status() if status is None else status
    url = comfy.server.url
    return {"url": url, "base": urlsplit(url).path, "instance": str(status.get("instance", ""))}
