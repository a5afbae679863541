"""The model files and node packs that a workflow lacks, with a button that downloads models."""

from __future__ import annotations

import html
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import ipywidgets as w

from ..client.files import human_size
from ..client.text import counted
from ..errors import ComfyDeployError
from .base import GAP, Problem
from .parts import button, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client import FetchedModels, Workflow, WorkflowModel
    from .base import Panel

LOOK_INTERVAL = 1.0  # seconds between two requests for the downloads
SHOWN = ("missing", "fetching", "done", "failed", "cancelled", "no_link", "refused")
STATES = {
    "missing": "missing",
    "fetching": "waiting",
    "done": "is available now",
    "no_link": "missing; the workflow has no link to it",
}


class ModelsBox(w.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """The models and node packs that a workflow lacks; hidden where it lacks none.

    Nothing is downloaded before *Download all* is clicked.
    """

    def __init__(self, panel: Panel, on_fetched: Callable[[], object]) -> None:
        self._panel = panel
        self._on_fetched = on_fetched
        self._workflow: Workflow | None = None
        self._machine: str | None = None
        self._found: FetchedModels | None = None
        self._lock = threading.Lock()
        self._heading = w.HTML(layout=w.Layout(margin="0", width="auto", flex="1 1 200px"))
        self._sizes = button(
            "Sizes",
            lambda: panel.start(self._ask_sizes),
            hint="Request the sizes of the missing models from their sites",
        )
        self._fetch = button(
            "Download all",
            self.fetch,
            icon="download",
            hint="Download the missing models into their folders",
            style="primary",
        )
        self._table = w.HTML(layout=w.Layout(margin="0", width="auto"))
        self._problem = Problem()
        super().__init__(
            [row(self._heading, self._sizes, self._fetch), self._table, self._problem],
            layout=w.Layout(width="auto", grid_gap=GAP, display="none"),
        )
        self.add_class("comfydeploy-missing")

    @property
    def found(self) -> FetchedModels | None:
        """The models that the workflow names; None until they are known."""
        return self._found

    @property
    def report(self) -> str:
        """Its content as HTML; empty while it is hidden."""
        if self.layout.display == "none":
            return ""
        return f"{self._heading.value}{self._table.value}{self._problem.value}"

    @property
    def can_fetch(self) -> bool:
        """Whether *Download all* would download a model."""
        return self.layout.display != "none" and not self._fetch.disabled

    def show_missing(self, workflow: Workflow | None, machine: str | None = None) -> None:
        """Show what a workflow lacks on a machine; call it in a thread."""
        self._workflow, self._machine, self._found = workflow, machine, None
        self._problem.clear()
        self.layout.display = "none"
        if workflow is None:
            return
        try:
            found = self._ask(workflow, machine, dry_run=True)
        except ComfyDeployError:
            return  # running or validating it says what is wrong
        self._take(workflow, machine, found)

    def fetch(self) -> None:
        """Download all missing models, like *Download all*; it continues without the panel."""
        self._fetch.disabled = self._sizes.disabled = True
        self._panel.start(self._download, lasting=True)

    def _ask(self, workflow: Workflow, machine: str | None, **options: Any) -> FetchedModels:
        return self._panel.comfy.fetch_models(workflow, machine=machine, **options)

    def _take(self, workflow: Workflow, machine: str | None, found: FetchedModels) -> bool:
        """Show the models, unless another workflow was chosen since."""
        with self._lock:
            if self._panel.closing or (workflow, machine) != (self._workflow, self._machine):
                return False
            self._found = found
            self._show(found)
            return True

    def _ask_sizes(self) -> None:
        workflow, machine = self._workflow, self._machine
        if workflow is None:
            return
        self._sizes.disabled = True
        self._problem.clear()
        try:
            self._take(workflow, machine, self._ask(workflow, machine, dry_run=True, sizes=True))
        except ComfyDeployError as error:
            self._problem.show(error)
        finally:
            self._sizes.disabled = False

    def _download(self) -> None:
        workflow, machine = self._workflow, self._machine
        if workflow is None:
            return
        self._problem.clear()
        try:
            found = self._ask(workflow, machine)
            while self._take(workflow, machine, found) and not found.done:
                if not self._panel.pause(LOOK_INTERVAL):
                    return
                found.refresh()
        except ComfyDeployError as error:
            self._problem.show(error)
            self._sizes.disabled = self._fetch.disabled = False
            return
        if any(model.state == "done" for model in found):
            self._on_fetched()

    def _show(self, found: FetchedModels) -> None:
        models = [model for model in found if model.state in SHOWN]
        open_ = [model for model in models if model.state in ("missing", "fetching")]
        lacking = [model for model in models if model.state != "done"]
        self.layout.display = "" if models or found.missing_nodes else "none"
        parts = []
        if lacking:
            size = f", {human_size(found.total_size)}" if found.total_size else ""
            verb = "is" if len(lacking) == 1 else "are"
            parts.append(f"{counted(len(lacking), 'model')} {verb} missing{size}")
        elif models:
            parts.append("All models are available")
        if found.missing_nodes:
            number = len(found.missing_nodes)
            parts.append(f"{number} node {'class' if number == 1 else 'classes'} missing")
        text = " · ".join(parts)
        self._heading.value = (
            f'<div role="status" aria-live="polite"><b>{html.escape(text)}</b></div>'
        )
        nodes = "".join(map(_node_row, found.missing_nodes))
        warnings = "".join(
            f'<div class="comfydeploy-note">{html.escape(line)}</div>' for line in found.warnings
        )
        rows = "".join(map(_model_row, models))
        head = "<tr><th>Model</th><th>Folder</th><th>Size</th><th>State</th></tr>" if rows else ""
        self._table.value = (
            f'<div class="cd-missing"><table>{head}{rows}{nodes}</table></div>{warnings}'
        )
        can_fetch = any(model.state in ("missing", "failed", "cancelled") for model in models)
        for control in (self._sizes, self._fetch):
            control.disabled = not can_fetch or any(m.state == "fetching" for m in open_)
            control.layout.display = "" if models else "none"
        if found.offline and can_fetch:
            self._fetch.disabled = self._sizes.disabled = True
            self._fetch.hint = "The setting `offline` forbids downloads"


def _model_row(model: WorkflowModel) -> str:
    name = html.escape(model.name)
    if model.url and urlsplit(model.url).scheme in ("http", "https") and model.state != "refused":
        address = html.escape(model.url, quote=True)
        name = f'<a href="{address}" target="_blank" rel="noopener noreferrer">{name}</a>'
    elif model.url:
        name = f'<span title="{html.escape(model.url, quote=True)}">{name}</span>'
    size = human_size(model.size) if model.size is not None else ""
    state = STATES.get(model.state, model.state)
    meter = ""
    if model.state == "fetching" and model.size:
        share = min(model.received / model.size, 1.0)
        state = f"{human_size(model.received)}, {share:.0%}"
        bar = f'<div style="width:{share:.0%}"></div>'
        meter = f'<div class="cd-meter" aria-hidden="true">{bar}</div>'
    if model.problem:
        state = f"{state}: {model.problem}"
    if model.pickle and model.state == "missing":
        state += "; a pickle, which can run code when it is loaded"
    wrong = ' class="cd-wrong"' if model.state in ("refused", "failed") else ""
    folder = html.escape(model.folder or "?")
    return (
        f"<tr{wrong}><td>{name}</td><td>{folder}</td><td>{size}</td>"
        f"<td>{html.escape(state)}{meter}</td></tr>"
    )


def _node_row(entry: dict[str, Any]) -> str:
    """Return a row for a missing node class, with the node pack that has it."""
    said = "ComfyUI lacks this node class"
    if entry.get("needs"):
        said = f"needs {entry['needs']}"
    elif entry.get("pack"):
        said = f"is in the node pack {entry['pack']}"
    name = html.escape(str(entry.get("class_type")))
    return f'<tr><td>{name}</td><td colspan="2">node</td><td>{html.escape(said)}</td></tr>'
