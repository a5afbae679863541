"""Sending files to ComfyUI, the list of transfers, the models, and adding one from a link."""

from __future__ import annotations

import html
import threading
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from ..client.files import UploadedFile, human_size
from ..client.server import READ_TIMEOUT
from ..client.text import html_table, text_table
from ..errors import ComfyDeployError
from .add_model_tab import LABEL_WIDTH, USUAL_FOLDERS, AddModelTab
from .base import Panel
from .chunks import ChunkedFile
from .models_view import READING, ModelsView
from .parts import row
from .throttle import Throttle
from .transfers_view import OPEN, TransfersView

if TYPE_CHECKING:
    from ..client import Comfy

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
        self._offering = False
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
        label = {"description_width": LABEL_WIDTH}
        wide = {"width": "auto", "flex": "1 1 290px", "margin": "0"}
        self._place = w.Dropdown(
            description="Destination",
            options=_places(USUAL_FOLDERS, destination),
            value=destination,
            style=label,
            layout=w.Layout(**wide),
        )
        self._subfolder = w.Text(
            description="Subfolder",
            value=subfolder,
            placeholder="none",
            style=label,
            layout=w.Layout(**wide),
        )
        self._overwrite = w.Checkbox(
            description="Replace files of the same name",
            indent=False,
            layout=w.Layout(width="auto", margin="0"),
        )
        self._view = TransfersView(
            lambda order, buffers: self.attempt(self._do, order, buffers),
            {"place": self._place, "subfolder": self._subfolder, "overwrite": self._overwrite},
        )
        self._models = ModelsView(
            self.refresh,
            lambda key: self.start(self._hash, key),
            lambda order: self.start(self._order_model, order),
        )
        self._add = AddModelTab(lambda: self.attempt(self.add_model))
        space = w.Layout(width="100%", grid_gap="8px", padding="4px 0 0")
        files = w.VBox(
            [row(self._place, self._subfolder), row(self._overwrite), self._view], layout=space
        )
        self._tabs = w.Tab(
            [files, w.VBox([self._models], layout=space), self._add.box],
            titles=("Files", "Models", "Add a model from a link"),
            layout=w.Layout(width="100%"),
        )
        if choose_machine:
            self._selector = w.Dropdown(
                description="Machine",
                tooltip="The machine that gets files and models",
                style=label,
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
            file = ChunkedFile(order, self._view.broadcast)
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
        if not self._offering and machine is not None:
            self.clear_error()
            self.machine = machine

    def _offer_machines(self, selector: w.Dropdown) -> None:
        """Offer the machines to choose from, except those of ComfyDeploy: they take no uploads."""
        machines = [one for one in self.comfy.machines.list() if one.kind != "cloud"]
        wanted = self._machine or machines[0].id
        self._offering = True
        selector.options = [(one.name, one.id) for one in machines]
        selector.value = next((one.id for one in machines if wanted in (one.id, one.name)), None)
        self._offering = False
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

    def _hash(self, key: str) -> None:
        self._models.set_hash(key, READING)
        found = None
        try:
            found = self.comfy.hash(key, machine=self._machine)
        finally:
            self._models.set_hash(key, found)

    def _order_model(self, order: dict[str, Any]) -> None:
        """Find what uses a model, or delete or move it; send the outcome to the pages."""
        model = {"folder": str(order["folder"]), "name": str(order["name"])}
        try:
            if order["type"] == "uses":
                found = self.comfy.server.get(
                    "models/uses",
                    folder=model["folder"],
                    filename=model["name"],
                    machine=self._machine,
                )
                self._models.send({"type": "uses", **model, "uses": found, "problem": ""})
                return
            done = self._change_model(order, f"{model['folder']}/{model['name']}")
        except ComfyDeployError as error:
            kind = "uses" if order["type"] == "uses" else "refused"
            self._models.send({"type": kind, **model, "uses": None, "problem": str(error)})
        else:
            self._models.send({"type": "done", **model, "text": done})
            self._read_models()

    def _change_model(self, order: dict[str, Any], key: str) -> str:
        """Delete or move a model; return what was done."""
        models, in_use = self.comfy.models, bool(order.get("in_use"))
        if order["type"] == "delete":
            models.delete(key, in_use=in_use, machine=self._machine)
            return f"{key} is deleted."
        folder, name = str(order["to_folder"]), str(order["to_name"])
        models.move(key, folder, name, in_use=in_use, machine=self._machine)
        return f"{key} is {folder}/{name} now."

    def _add_model(self, url: str) -> None:
        try:
            self._add.show_text("Requesting the download …")
            made = self.comfy.add_model(
                url,
                str(self._add.folder.value),
                filename=self._add.filename.value.strip() or None,
                sha256=self._add.sha256.value.strip() or None,
                machine=self._machine,
            )
        except Exception:
            self._add.show_text("")
            raise
        finally:
            self._add.add.disabled = False
        self._followed.add(str(made["id"]))
        self._hidden.discard(str(made["id"]))
        self._add.show_text(f"The download of {made['filename']} has begun")
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
