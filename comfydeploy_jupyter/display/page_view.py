"""Views: the parts of a panel, or of a sweep, that have their own script in the page."""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import anywidget
import traitlets as t

from ..client.server import READ_TIMEOUT
from ..errors import ComfyDeployError
from ..view_scripts import STATIC

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..client import Comfy
    from ..client.server import Server

FETCHERS = 3
"""How many files a view fetches for its page at the same time."""

VIEWERS = {path.stem: path for path in (STATIC / "viewers").glob("*.js")}
"""Scripts that views load only at times, by their names: they are large."""

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


@dataclass
class _ArrivingFile:
    """A file of which the page has sent a part: where it is, and how many bytes are missing."""

    folder: tempfile.TemporaryDirectory[str]
    path: Path
    missing: int


class View(anywidget.AnyWidget):
    """Base of the views.

    A page that comes from the Jupyter server which the client uses shows files of ComfyUI by their
    URL. Any other page (VS Code, Colab, another server) gets them from the kernel, which never
    sends it the token. The content of files is not part of the view's state, so that neither the
    notebook nor the kernel grows with the files that are shown.

    A message of the page with ``kind`` ``"x"`` is handled by the method ``_on_x``.

    Parameters
    ----------
    panel : Host
        Runs its threads and shows its errors.
    **traits
        The initial state.
    """

    # as `server_facts` returns it; empty until the client is connected
    server = t.Dict().tag(sync=True)

    def __init__(self, panel: Host, **traits: Any) -> None:
        self._panel = panel
        self._fetchers: ThreadPoolExecutor | None = None
        self._arriving: dict[str, _ArrivingFile] = {}
        self._arriving_lock = threading.Lock()
        super().__init__(**traits)
        self.on_msg(self._receive)

    def close(self) -> None:
        """Remove the view, and files that have not arrived completely."""
        if self._fetchers is not None:
            self._fetchers.shutdown(wait=False, cancel_futures=True)
        with self._arriving_lock:
            for file in self._arriving.values():
                file.folder.cleanup()
            self._arriving.clear()
        super().close()

    def received(self, path: Path, message: dict[str, Any]) -> None:
        """Handle a file that the browser sent; runs in a thread.

        Parameters
        ----------
        path : pathlib.Path
            The file, under its own name; it is deleted afterwards.
        message : dict
            The last message of the script about it.
        """

    def _receive(self, _: object, content: object, buffers: Sequence[memoryview]) -> None:
        if isinstance(content, dict):
            handler = getattr(self, f"_on_{content.get('kind')}", None)
            if handler is not None:
                self._panel.attempt(handler, content, buffers)

    def _on_file(self, message: dict[str, Any], _: object) -> None:
        if self._fetchers is None:
            self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="comfydeploy-files")
        self._fetchers.submit(self._fetch, message)

    def _on_script(self, message: dict[str, Any], _: object) -> None:
        """Send one of `VIEWERS` to the page, which imports it."""
        answer = {"kind": "file", "id": message["id"], "mime": "text/javascript"}
        self.send(answer, [VIEWERS[message["name"]].read_bytes()])

    def _fetch(self, message: dict[str, Any]) -> None:
        """Send a file to the page, or only its size if the message has ``only_size``."""
        answer = {"kind": "file", "id": message["id"]}
        query = dict(parse_qsl(str(message["query"])))
        fields: dict[str, Any] = {key: query[key] for key in _VIEW_FIELDS & query.keys()}
        fields["thumbnail"] = message.get("side") or None
        server = self._panel.comfy.server
        try:
            with server.request(
                "GET", server.address("view", fields), timeout=READ_TIMEOUT
            ) as response:
                if message.get("only_size"):
                    self.send({**answer, "size": int(response.headers.get("Content-Length", -1))})
                    return
                content, mime = response.content, response.headers["Content-Type"]
        except ComfyDeployError as error:
            self.send({**answer, "error": str(error)})
            return
        self.send({**answer, "mime": mime}, [content])

    def _on_piece(self, message: dict[str, Any], buffers: Sequence[memoryview]) -> None:
        """Write a piece of a file.

        JupyterLab sends the first messages of a view to the kernel's main thread and later ones to
        a subshell, so the pieces come in any order, and two at the same time.
        """
        key = str(message["id"])
        with self._arriving_lock:
            if key not in self._arriving:
                folder = tempfile.TemporaryDirectory(prefix="comfydeploy-")
                name = PurePosixPath(str(message["name"]).replace("\\", "/")).name or "file"
                path = Path(folder.name, name)
                path.touch()
                self._arriving[key] = _ArrivingFile(folder, path, int(message["size"]))
            file = self._arriving[key]
            with file.path.open("r+b") as opened:
                opened.seek(int(message["offset"]))
                opened.write(buffers[0])
            file.missing -= len(buffers[0])
            if file.missing <= 0:
                del self._arriving[key]
        self.send({"kind": "took", "id": key})
        if file.missing <= 0:
            self._panel.start(self._finish, file.folder, file.path, message)

    def _finish(
        self, folder: tempfile.TemporaryDirectory[str], path: Path, message: dict[str, Any]
    ) -> None:
        with folder:
            self.received(path, message)


def server_facts(server: Server, instance: str) -> dict[str, str]:
    """Return the path of the server's base URL and its id: by these a page finds it."""
    return {"base": urlsplit(server.url).path, "instance": instance}
