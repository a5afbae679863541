"""Sending files to ComfyUI, the list of transfers, the models, and adding one from a link."""

from __future__ import annotations

import html
import queue
import threading
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets as w
import traitlets as t

from ..client.files import UploadedFile, human_size, send_chunks
from ..client.server import READ_TIMEOUT
from ..client.text import html_table, text_table
from ..display.page import STATIC, script
from ..errors import ComfyDeployError
from .base import Panel, Throttle
from .parts import LABEL_WIDTH, Note, OwnChoices, button, checkbox, column, field, row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ..client import Comfy
    from ..client.files import Model


SILENCE = 120.0
"""Seconds without a chunk after which the page is considered closed."""


class ChunkedFile:
    """A file that is sent to the route ``upload-file`` while its chunks arrive from the page.

    It is not stored in the kernel. A chunk is confirmed once the route has taken it, and the page
    sends only a few chunks before they are confirmed. JupyterLab sends the first messages of a view
    to the kernel's main thread and later ones to a subshell, so the chunks come in any order.
    """

    def __init__(self, message: dict[str, Any], send: Callable[[dict[str, Any]], object]) -> None:
        self.id = str(message["id"])
        self._message = message
        self._send = send
        self._chunks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._early: dict[int, bytes] = {}  # chunks that came before an earlier one, by offset
        self._next = 0  # the offset of the next chunk
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def put(self, offset: int, chunk: bytes) -> None:
        """Add the chunk that begins at an offset, bytes."""
        with self._lock:
            self._early[offset] = chunk
            while (found := self._early.pop(self._next, None)) is not None:
                self._next += len(found)
                self._chunks.put(found)

    def stop(self) -> None:
        """Cancel the upload."""
        self._stopped.set()
        self._chunks.put(None)

    def run(self, comfy: Comfy) -> None:
        """Send the whole file; call it in a thread."""
        message, place = self._message, self._message["destination"]
        fields = {
            "type": str(place["type"]),
            "subfolder": str(place["subfolder"]),
            "overwrite": str(bool(place["overwrite"])).lower(),
        }
        try:
            result = send_chunks(
                comfy.server,
                self._arriving(int(message["size"])),
                int(message["size"]),
                str(message["name"]),
                fields,
                machine=place.get("machine") or None,
            )
        except Exception as error:
            words = error.message if isinstance(error, ComfyDeployError) else str(error)
            if not self._stopped.is_set():
                self._send({"type": "end", "id": self.id, "error": words or type(error).__name__})
        else:
            self._send({"type": "end", "id": self.id, "result": result})

    def _arriving(self, size: int) -> Iterator[bytes]:
        stored = 0
        self._send({"type": "opened", "id": self.id})
        while stored < size:
            try:
                chunk = self._chunks.get(timeout=SILENCE)
            except queue.Empty:
                raise ComfyDeployError("the page has stopped sending the file") from None
            if chunk is None:
                raise ComfyDeployError("cancelled")
            yield chunk
            stored += len(chunk)
            self._send({"type": "stored", "id": self.id, "bytes": stored})


OPEN = frozenset({"queued", "active", "finishing", "retrying"})
"""The states of transfers that have not ended."""


# ipywidgets, which it is made of, has no types
class TransfersView(anywidget.AnyWidget):
    """An area where files are chosen or dropped, and a row for each transfer.

    The page sends the files by itself and reports them in messages, which the kernel passes on to
    all pages that show the widget. The uploads of a page end when it is closed: when another page
    is opened, each unfinished upload that no open page reports again becomes ``lost``.
    """

    _esm = script("transfers")
    _css = STATIC / "transfers.css"

    # the fields with the destination: ``place`` (a dropdown), ``subfolder``, ``overwrite``.
    # The page reads them when files are chosen
    fields = t.Dict().tag(sync=True, **w.widget_serialization)
    # the ``type`` of an upload by the label of each choice of ``place``
    places = t.Dict().tag(sync=True)
    # the machine that receives the files; empty for the default one
    machine = t.Unicode().tag(sync=True)
    # the id of the server that the kernel uses; empty until it is known
    instance = t.Unicode().tag(sync=True)
    # the transfers of the server that are shown, as in ``upload-queue-status``
    transfers: t.List[dict[str, Any]] = t.List().tag(sync=True)

    def __init__(
        self,
        on_order: Callable[[dict[str, Any], list[Any]], None],
        fields: dict[str, w.Widget],
    ) -> None:
        super().__init__(fields=fields)
        # the uploads of all pages by their ids: ``name``, ``where``, ``size``, ``sent``
        # (bytes), ``state``, ``error``, ``kept`` (whether its page still has the file),
        # and the ``result`` of those that are done
        self.uploads: dict[str, dict[str, Any]] = {}
        self._forgotten: set[str] = set()
        self._on_order = on_order
        self.on_msg(self._receive)

    def forget(self, ids: list[str]) -> None:
        """Remove uploads from the lists of all pages.

        Messages about these uploads that arrive later are ignored: JupyterLab sends the first
        messages of a page to the kernel's main thread, which may be busy, and others to a subshell.
        """
        self._forgotten.update(ids)
        for upload_id in ids:
            self.uploads.pop(upload_id, None)
        self.send({"type": "forget", "ids": ids})

    def _receive(self, _: object, message: dict[str, Any], buffers: list[Any]) -> None:
        if message["type"] == "hello":
            self._send_state()
        elif message["type"] == "uploads":
            self._take(message["uploads"])
        elif message["type"] in {"cancel", "retry"} and message["id"] in self.uploads:
            self.send(message)  # to the page that has the file
        else:
            self._on_order(message, buffers)

    def _take(self, uploads: list[dict[str, Any]]) -> None:
        uploads = [upload for upload in uploads if upload["id"] not in self._forgotten]
        changed = []
        for upload in uploads:
            before = self.uploads.get(upload["id"], {}).get("state")
            self.uploads[upload["id"]] = upload
            if before != upload["state"]:
                changed.append(upload)
        self.send({"type": "uploads", "uploads": uploads})
        if changed:
            self._on_order({"type": "changed", "uploads": changed}, [])

    def _send_state(self) -> None:
        """Send a new page the uploads, and ask all pages to report theirs again."""
        for upload in self.uploads.values():
            upload["kept"] = False
            if upload["state"] in OPEN:
                upload["state"] = "lost"
        self.send({"type": "uploads", "uploads": list(self.uploads.values())})
        self.send({"type": "report"})


READING = "!"
"""In place of the hash of a model whose file is being read."""


class ModelsView(anywidget.AnyWidget):
    """A table of models, searched and sorted in the page."""

    _esm = script("models")
    _css = STATIC / "models.css"

    # ``name``, ``folder``, ``size`` (bytes) and ``modified`` (seconds since 1970) of each
    models: t.List[dict[str, Any]] = t.List().tag(sync=True)
    loaded = t.Bool().tag(sync=True)  # whether ComfyUI has been asked for them
    # ``free`` and ``total`` of the disk that the models are on, bytes; empty if not known
    disk = t.Dict().tag(sync=True)
    # the known SHA-256 by ``"<folder>/<name>"``; ``"!"`` while a file is being read
    hashes = t.Dict().tag(sync=True)
    # the models folders that a model can be moved to; empty if the files are not on the
    # server's machine, so that they can be neither moved nor deleted
    folders: t.List[str] = t.List().tag(sync=True)

    def __init__(self, on_order: Callable[[dict[str, Any]], object]) -> None:
        super().__init__()
        self.on_msg(lambda _, message, __: on_order(message))

    def show(self, models: Iterable[Model], disk: dict[str, int]) -> None:
        """Show these models and their disk; forget the hashes of files that have changed."""
        before = {(m["folder"], m["name"]): (m["size"], m["modified"]) for m in self.models}
        shown = [
            {"name": m.name, "folder": m.folder, "size": m.size, "modified": m.modified}
            for m in models
        ]
        same = {
            f"{m['folder']}/{m['name']}"
            for m in shown
            if before.get((m["folder"], m["name"])) == (m["size"], m["modified"])
        }
        self.hashes = {key: value for key, value in self.hashes.items() if key in same}
        self.models, self.disk = shown, disk
        self.loaded = True

    def set_hash(self, key: str, value: str | None) -> None:
        """Show a hash; None if the file could not be read."""
        others = {name: known for name, known in self.hashes.items() if name != key}
        self.hashes = others if value is None else {**others, key: value}


HALF = "290px"
"""The width from which a field grows, so that two of them share a row where they have room."""

USUAL_FOLDERS = ("checkpoints", "loras", "vae", "controlnet", "embeddings", "upscale_models")
"""The folders that can be chosen until ComfyUI's own folders are known."""


class AddModelTab:
    """The fields for the link, the folder, the file name and the hash of a model."""

    def __init__(self, on_add: Callable[[], object]) -> None:
        self.link = field(
            w.Text,
            "Link",
            "100%",
            placeholder="https://huggingface.co/…, https://civitai.com/models/… or any other",
        )
        self.folder = field(w.Dropdown, "Models folder", HALF, options=USUAL_FOLDERS)
        self.filename = field(w.Text, "File name", HALF, placeholder="as in the link")
        self.sha256 = field(w.Text, "SHA-256", "100%", placeholder="checked, if given")
        self.add = button(
            "Add model",
            on_add,
            icon="download",
            style="primary",
            hint="Download the model into ComfyUI's folder",
        )
        self.state = Note(flex="1 1 auto")  # the result of the last click
        self.box = column(
            row(self.link),
            row(self.folder, self.filename),
            row(self.sha256),
            row(self.add, self.state),
            padding="4px 0 0",
        )

    def offer(self, folders: Sequence[str]) -> None:
        """Offer the folders of ComfyUI; keep the chosen one if it is among them."""
        chosen = self.folder.value
        self.folder.options = folders
        self.folder.value = chosen if chosen in folders else next(iter(folders), None)

    def clear(self) -> None:
        """Empty the fields that belong to one model."""
        for control in (self.link, self.filename, self.sha256):
            control.value = ""


PLACES = {
    "Input files of workflows": "input",
    "Output files": "output",
    "Temporary files": "temp",
}
MODELS = "models/"

NOT_OFFERED = frozenset({"custom_nodes"})
"""A models folder of ComfyUI that is no destination: files there are programs."""

RECORDED = 100
"""How many uploads and how many transfers the saved notebook lists."""

BUSY, IDLE, LOST = 0.5, 2.0, 5.0
"""Seconds between two requests for the queue: while busy, while idle, while nothing answers."""


class UploadPanel(Panel):
    """A panel that sends files to ComfyUI, and shows transfers and models.

    The browser sends files of any size directly to the Jupyter server, also while the kernel is
    busy. Where the browser cannot reach the server that the kernel uses (VS Code, Colab), files go
    through the kernel in chunks.

    Parameters
    ----------
    comfy : Comfy or Panel, optional
        The client, or a panel whose client is used; by default the panel connects by itself.
    destination : str
        The destination that is chosen first: ``input``, ``output``, ``temp`` or
        ``models/<folder>``.
    subfolder : str
        The subfolder of the destination.
    machine : str, optional
        The machine whose ComfyUI receives the files, by its id or name; default the default one.
    choose_machine : bool
        Whether the machine can be chosen, where there are several.
    **kwargs
        Traits of `ipywidgets.VBox`, such as ``layout``.

    Examples
    --------
    >>> panel = UploadPanel(destination="models/loras")            # doctest: +SKIP
    >>> panel.uploaded[-1]                                         # doctest: +SKIP
    """

    OWN_ARGUMENTS = ("comfy", "destination", "subfolder", "machine", "choose_machine")

    def __init__(
        self,
        comfy: Comfy | Panel | None = None,
        *,
        destination: str = "input",
        subfolder: str = "",
        machine: str | None = None,
        choose_machine: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(comfy, **kwargs)
        self._machine = machine
        self._selector: w.Dropdown | None = None
        self._own_choices = OwnChoices()
        self._chunked: dict[str, ChunkedFile] = {}
        self._wake = threading.Event()
        self._followed: set[str] = set()
        self._hidden: set[str] = set()
        self._folders: list[str] = []
        self._models_read = threading.Lock()
        self._remember = Throttle(self._set_record, interval=1.0)
        self._build(destination, subfolder, choose_machine=choose_machine)
        self._remember()
        self.start(self._follow, lasting=True)

    @property
    def machine(self) -> str | None:
        """The machine that receives the next files; None for the default one; can be set."""
        return self._machine

    @machine.setter
    def machine(self, machine: str | None) -> None:
        if machine != self._machine:
            self._machine = machine
            self._view.machine = machine or ""
            self.start(self._ask_machine)

    @property
    def uploaded(self) -> list[UploadedFile]:
        """The files that have arrived; ``str()`` of one is the name that a loader node takes."""
        results = [u["result"] for u in self._view.uploads.values() if u["state"] == "done"]
        return [
            UploadedFile(r["name"], r["subfolder"], r["type"], r["size"], r["file_hash"])
            for r in results
        ]

    @property
    def uploads(self) -> list[dict[str, Any]]:
        """The files that were chosen, as in the attribute ``uploads`` of `TransfersView`."""
        return [dict(upload) for upload in self._view.uploads.values()]

    @property
    def transfers(self) -> list[dict[str, Any]]:
        """The server's transfers that are shown, as in ``upload-queue-status``."""
        return list(self._view.transfers)

    @property
    def models(self) -> list[dict[str, Any]]:
        """The models that the panel shows: ``name``, ``folder``, ``size``, ``modified``."""
        return list(self._models.models)

    @property
    def destination(self) -> dict[str, Any]:
        """Where the next files go: ``type``, ``subfolder``, ``overwrite`` and ``machine``."""
        return {
            "type": self._place.value,
            "subfolder": self._subfolder.value.strip().strip("/"),
            "overwrite": self._overwrite.value,
            "machine": self._view.machine,
        }

    def add_model(self) -> None:
        """Download the model of the link, like the button *Add*; do not wait for it."""
        self.clear_error()
        url = self._add.link.value.strip()
        if not url:
            self.show_error("Link: enter the address of a model")
            return
        self._add.add.disabled = True
        self.start(self._add_model, url)

    def refresh(self) -> None:
        """Request the models again; do not wait for them."""
        self.start(self._read_models)

    def stop(self) -> None:
        """Cancel the uploads that go through the kernel; those of the page continue."""
        self._remember.close()
        self._wake.set()
        for file in list(self._chunked.values()):
            file.stop()

    def _build(self, destination: str, subfolder: str, *, choose_machine: bool) -> None:
        self._place = field(
            w.Dropdown,
            "Destination",
            HALF,
            options=_places(USUAL_FOLDERS, destination),
            value=destination,
        )
        self._subfolder = field(w.Text, "Subfolder", HALF, value=subfolder, placeholder="none")
        self._overwrite = checkbox("Replace files of the same name")
        self._view = TransfersView(
            lambda order, buffers: self.attempt(self._do, order, buffers),
            {"place": self._place, "subfolder": self._subfolder, "overwrite": self._overwrite},
        )
        self._models = ModelsView(lambda order: self.start(self._order_model, order))
        self._add = AddModelTab(lambda: self.attempt(self.add_model))
        files = column(
            row(self._place, self._subfolder),
            row(self._overwrite),
            self._view,
            padding="4px 0 0",
        )
        self._tabs = w.Tab(
            [files, column(self._models, padding="4px 0 0"), self._add.box],
            titles=("Files", "Models", "Add a model from a link"),
            layout=w.Layout(width="100%"),
        )
        if choose_machine:
            self._selector = w.Dropdown(
                description="Machine",
                tooltip="The machine that gets files and models",
                style={"description_width": LABEL_WIDTH},
                layout=w.Layout(width="auto", margin="0", display="none"),
            )
            self._selector.observe(lambda new: self.attempt(self._choose, new["new"]), "value")
            self.fill(self._selector, self._tabs)
        else:
            self.fill(self._tabs)
        self._view.places = dict(self._place.options)
        self._view.machine = self._machine or ""

    def _do(self, order: dict[str, Any], buffers: list[Any]) -> None:
        """Handle a message of the page."""
        kind = order["type"]
        if kind == "chunk":
            if order["id"] in self._chunked:
                self._chunked[order["id"]].put(int(order["offset"]), bytes(buffers[0]))
        elif kind == "open":
            file = ChunkedFile(order, self._view.send)
            self._chunked[file.id] = file
            self.start(self._pass_on, file)
        elif kind == "abort":
            if order["id"] in self._chunked:
                self._chunked[order["id"]].stop()
        elif kind == "forget":
            self._hidden |= set(order["ids"]) - self._view.uploads.keys()
            self._view.forget(order["ids"])
            self._wake.set()
            self._remember()
        elif kind == "changed":
            self._remember()
            done = [one for one in order["uploads"] if one["state"] == "done"]
            if any(str(one["where"]).startswith(MODELS) for one in done):
                self.refresh()
        elif kind in {"cancel", "retry"}:
            self.start(self._order_transfer, kind, str(order["id"]))

    def _pass_on(self, file: ChunkedFile) -> None:
        try:
            file.run(self.comfy)
        finally:
            del self._chunked[file.id]

    def _order_transfer(self, kind: str, transfer_id: str) -> None:
        act = self.comfy.cancel_uploads if kind == "cancel" else self.comfy.retry_uploads
        act(id=transfer_id)
        self._wake.set()

    def _follow(self) -> None:
        """Find the server, then request its queue until the panel is closed."""
        away = ""
        connected = False
        while not self.closing:
            self._wake.clear()
            try:
                if not connected:
                    self._view.instance = str(self.comfy.status()["instance"])
                busy = self._show_transfers(self.comfy.uploads()["uploads"])
                if not connected:
                    self._ask_machine()
                    connected = True
                wait = BUSY if busy else IDLE
                if away and away == self.error:
                    self.clear_error()
                away = ""
            except ComfyDeployError as error:
                wait, connected = LOST, False  # it may be another server when it is back
                if not away and not self.closing:
                    self.show_error(error)
                    away = self.error
            self.idle(self._wake, wait)

    def _choose(self, machine: str | None) -> None:
        if self._own_choices.by_user and machine is not None:
            self.clear_error()
            self.machine = machine

    def _offer_machines(self, selector: w.Dropdown) -> None:
        """Offer the machines to choose from, except those of ComfyDeploy: they take no uploads."""
        machines = [one for one in self.comfy.machines.list() if one.kind != "cloud"]
        wanted = self._machine or machines[0].id
        chosen = next((one.id for one in machines if wanted in (one.id, one.name)), None)
        with self._own_choices.made():
            selector.options = [(one.name, one.id) for one in machines]
            selector.value = chosen
        selector.layout.display = "" if len(machines) > 1 else "none"

    def _ask_machine(self) -> None:
        """Offer the models folders of the chosen machine, and show its models."""
        if self._selector is not None:
            self._offer_machines(self._selector)
        found = self.comfy.model_folders(machine=self._machine)
        folders = [folder for folder in found if folder not in NOT_OFFERED]
        self._add.offer(folders)
        self._folders = folders
        place = self._place.value
        places = _places(folders, place)
        self._view.places = dict(places)
        self._place.options = places
        self._place.value = place
        self._read_models()

    def _show_transfers(self, found: list[dict[str, Any]]) -> bool:
        """Show transfers that are or were open, or have failed; return whether any is open."""
        opened = {one["id"] for one in found if one["state"] in OPEN}
        self._followed |= opened
        self._hidden -= opened
        shown = [
            one
            for one in found
            if one["id"] not in self._hidden
            and (one["id"] in self._followed or one["state"] == "failed")
        ]
        if shown != self._view.transfers:
            done = {one["id"] for one in self._view.transfers if one["state"] == "done"}
            self._view.transfers = shown
            self._remember()
            arrived = [one for one in shown if one["state"] == "done" and one["id"] not in done]
            if any(one["direction"] == "down" for one in arrived):
                self._read_models()
        return bool(opened)

    def _read_models(self) -> None:
        with self._models_read:
            models = self.comfy.models(machine=self._machine)
            disk = self._disk()
            self._models.show(models, disk)
            self._models.folders = self._folders if disk else []

    def _disk(self) -> dict[str, int]:
        """Return the space on the disk of the models, bytes; empty if it is not known."""
        server = self.comfy.server
        address = server.address("fs/stat", {"path": "models", "machine": self._machine})
        try:
            with server.request("GET", address, timeout=READ_TIMEOUT) as response:
                found = response.json()["filesystem"]
        except ComfyDeployError:
            return {}  # a ComfyUI on another machine
        return {"free": int(found["free"]), "total": int(found["total"])}

    def _order_model(self, order: dict[str, Any]) -> None:
        """Carry out an order of the page about models, and send it the outcome."""
        kind = order["type"]
        if kind == "refresh":
            self._read_models()
        elif kind == "hash":
            self._hash(str(order["key"]))
        elif kind == "uses":
            self._send_uses(str(order["folder"]), str(order["name"]))
        else:
            self._change_model(order, str(order["folder"]), str(order["name"]))

    def _hash(self, key: str) -> None:
        self._models.set_hash(key, READING)
        found = None
        try:
            found = self.comfy.hash(key, machine=self._machine)
        finally:
            self._models.set_hash(key, found)

    def _send_uses(self, folder: str, name: str) -> None:
        """Send the page what uses a model."""
        uses, problem, machine = None, "", self._machine
        try:
            uses = self.comfy.server.get(
                "models/uses", folder=folder, filename=name, machine=machine
            )
        except ComfyDeployError as error:
            problem = str(error)
        answer = {"type": "uses", "folder": folder, "name": name, "uses": uses, "problem": problem}
        self._models.send(answer)

    def _change_model(self, order: dict[str, Any], folder: str, name: str) -> None:
        """Delete or move a model."""
        models, key = self.comfy.models, f"{folder}/{name}"
        in_use, machine = bool(order.get("in_use")), self._machine
        answer = {"folder": folder, "name": name}
        try:
            if order["type"] == "delete":
                models.delete(key, in_use=in_use, machine=machine)
                text = f"{key} is deleted."
            else:
                place, new = str(order["to_folder"]), str(order["to_name"])
                models.move(key, place, new, in_use=in_use, machine=machine)
                text = f"{key} is {place}/{new} now."
        except ComfyDeployError as error:
            refused = {"type": "refused", **answer, "uses": None, "problem": str(error)}
            self._models.send(refused)
        else:
            self._models.send({"type": "done", **answer, "text": text})
            self._read_models()

    def _add_model(self, url: str) -> None:
        try:
            self._add.state.show("Requesting the download …")
            made = self.comfy.add_model(
                url,
                str(self._add.folder.value),
                filename=self._add.filename.value.strip() or None,
                sha256=self._add.sha256.value.strip() or None,
                machine=self._machine,
            )
        except Exception:
            self._add.state.show("")
            raise
        finally:
            self._add.add.disabled = False
        self._followed.add(str(made["id"]))
        self._hidden.discard(str(made["id"]))
        self._add.state.show(f"The download of {made['filename']} has begun")
        self._add.clear()
        self._tabs.selected_index = 0  # where its progress is seen
        self._wake.set()

    def _set_record(self) -> None:
        """Set the output that the saved notebook shows."""
        heads = ("file", "destination", "size", "state", "SHA-256")
        rows = [
            (
                str(u["name"]),
                str(u["where"]),
                human_size(u["size"]),
                f"{u['state']}: {u['error']}" if u["error"] else str(u["state"]),
                str(u["result"]["file_hash"]) if u["result"] else "",
            )
            for u in list(self._view.uploads.values())[-RECORDED:]
        ]
        rows += [
            (
                str(one["filename"]),
                "from ComfyUI" if one["direction"] == "up" else "to ComfyUI",
                "" if one["size"] is None else human_size(one["size"]),
                f"{one['state']}: {one['error']}" if one["error"] else str(one["state"]),
                "",
            )
            for one in self._view.transfers[-RECORDED:]
        ]
        if not rows:
            advice = "No files were sent. Without widgets: connect().upload('picture.png')"
            self.keep(f"<p>{html.escape(advice)}</p>", advice)
            return
        self.keep(html_table(heads, rows), text_table([heads, *rows]))


def _places(folders: Any, chosen: str) -> list[tuple[str, str]]:
    places = {**PLACES, **{f"Models: {folder}": f"{MODELS}{folder}" for folder in folders}}
    if chosen not in places.values():
        places = {chosen: chosen, **places}
    return list(places.items())
