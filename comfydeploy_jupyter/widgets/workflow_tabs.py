"""The tabs of WorkflowPanel: nodes, changes, save, export. They make no requests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from ..util.timestamps import parse_timestamp
from .download_button import DownloadButton
from .parts import button, note, row
from .workflow_html import diff_list, nodes_table, verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..client.workflow import Validation, Workflow
    from ..client.workflows import StoredWorkflow, WorkflowVersion
    from ..graphs.diff import GraphDiff
    from .models_box import ModelsBox

LABEL = {"description_width": "90px"}
FULL = {"width": "auto", "flex": "1 1 100%", "margin": "0"}
HALF = {"width": "auto", "flex": "1 1 280px", "margin": "0"}

FORMATS = {
    "API format (JSON)": "api",
    "Editor format (JSON)": "ui",
    "Notebook": "notebook",
    "Python script": "python",
}
SUFFIXES = {"api": ".api.json", "ui": ".json", "notebook": ".ipynb", "python": ".py"}
MIMES = {
    "api": "application/json",
    "ui": "application/json",
    "notebook": "application/x-ipynb+json",
    "python": "text/x-python",
}


def tab_box(*children: w.Widget) -> w.VBox:
    """Return the content of a tab."""
    return w.VBox(list(children), layout=w.Layout(width="100%", grid_gap="8px"))


class NodesTab:
    """The nodes, and the findings of a validation.

    Parameters
    ----------
    on_validate : callable
        Called on a click of Validate.
    models : ModelsBox
        Shows which models ComfyUI lacks.
    picture : ipywidgets.DOMWidget
        The picture of the workflow.
    """

    def __init__(
        self, on_validate: Callable[[], object], models: ModelsBox, picture: w.DOMWidget
    ) -> None:
        self.validate = button(
            "Validate",
            on_validate,
            icon="check",
            hint="Find the errors that ComfyUI would report, without running the workflow",
            disabled=True,
        )
        self._verdict = w.HTML(layout=w.Layout(**FULL))
        self._table = w.HTML(layout=w.Layout(width="100%", margin="0"))
        self._models = models
        self.box = tab_box(row(self.validate), self._verdict, models, picture, self._table)

    def show(self, graph: dict[str, Any], found: Validation | None = None) -> None:
        """Show a graph and the findings of its validation."""
        self._table.value = nodes_table(graph, found)
        self._verdict.value = "" if found is None else verdict(found)
        self._verdict.layout.display = "none" if found is None else ""
        self._models.show_missing(None)


class ChangesTab:
    """The differences between two versions.

    Parameters
    ----------
    on_choice : callable
        Called when other versions were chosen.
    """

    def __init__(self, on_choice: Callable[[], object]) -> None:
        self.old = w.Dropdown(description="From", style=LABEL, layout=w.Layout(**HALF))
        self.new = w.Dropdown(description="To", style=LABEL, layout=w.Layout(**HALF))
        self._list = w.HTML(layout=w.Layout(width="100%", margin="0"))
        self.box = tab_box(row(self.old, self.new), self._list)
        self._on_choice = on_choice
        self._filling = False
        for control in (self.old, self.new):
            control.observe(lambda _: self._chosen(), "value")

    def fill(self, versions: Sequence[WorkflowVersion], opened: int | None) -> None:
        """Offer versions, and choose the open one and the one before it."""
        numbers = [version.number for version in versions]
        options = [(version_label(version), version.number) for version in versions]
        later = opened if opened in numbers else next(iter(numbers), None)
        before = [number for number in numbers if later is not None and number < later]
        self._filling = True
        for control in (self.old, self.new):
            control.options = options
            control.disabled = len(numbers) < 2
        self.new.value = later
        self.old.value = before[0] if before else later
        self._filling = False
        self._chosen()

    def show(self, diff: GraphDiff) -> None:
        """Show differences."""
        self._list.value = diff_list(diff)

    def show_text(self, text: str) -> None:
        """Show a line instead of differences."""
        self._list.value = note(text, live=True)

    def _chosen(self) -> None:
        if not self._filling:
            self._on_choice()


class SaveTab:
    """Saving the workflow as a new one, or as a version of a stored one.

    Parameters
    ----------
    on_save : callable
        Called on a click of Save.
    """

    def __init__(self, on_save: Callable[[], object]) -> None:
        self.target = w.Dropdown(
            description="Save as",
            options=[("A new workflow", "")],
            style=LABEL,
            layout=w.Layout(**FULL),
        )
        self.name = w.Text(description="Name", style=LABEL, layout=w.Layout(**FULL))
        self.comment = w.Text(
            description="Comment",
            placeholder="What is new in this version",
            style=LABEL,
            layout=w.Layout(**FULL),
        )
        self.force = w.Checkbox(
            description="Save even if nothing has changed",
            indent=False,
            layout=w.Layout(width="auto", margin="0"),
        )
        self.save = button(
            "Save", on_save, icon="save", style="primary", hint="Save a version", disabled=True
        )
        self._state = w.HTML(layout=w.Layout(flex="1 1 auto", width="auto", margin="0"))
        hint = note("Values that were changed under Run are saved with it.")
        self.box = tab_box(
            self.target,
            self.name,
            self.comment,
            self.force,
            row(self.save, self._state),
            w.HTML(hint, layout=w.Layout(margin="0")),
        )

    def offer(self, stored: Sequence[StoredWorkflow], chosen: str) -> None:
        """Offer stored workflows to add a version to, and choose one by its id."""
        options = [(f"A new version of {one.name}", one.id) for one in stored]
        self.target.options = [("A new workflow", ""), *options]
        self.target.value = chosen if chosen in {one.id for one in stored} else ""

    def show_text(self, text: str) -> None:
        """Show the result of the last click."""
        self._state.value = note(text, live=True) if text else ""


class ExportTab:
    """Exporting the workflow to a file, written by the kernel or downloaded by the browser.

    Parameters
    ----------
    on_write, on_download : callable
        Called on a click of Write and of Download.
    """

    def __init__(self, on_write: Callable[[], object], on_download: Callable[[], object]) -> None:
        self.format = w.Dropdown(
            description="Format", options=FORMATS, style=LABEL, layout=w.Layout(**FULL)
        )
        self.path = w.Text(
            description="File",
            tooltip="Where to write it; relative to the folder of the notebook",
            style=LABEL,
            layout=w.Layout(**FULL),
        )
        self.replace = w.Checkbox(
            description="Replace a file of that name",
            indent=False,
            layout=w.Layout(width="auto", margin="0"),
        )
        self.write = button(
            "Write",
            on_write,
            icon="file",
            style="primary",
            hint="Write the file beside the notebook",
            disabled=True,
        )
        self.download = DownloadButton("Download", on_download)
        self._state = w.HTML(layout=w.Layout(flex="1 1 auto", width="auto", margin="0"))
        self.box = tab_box(
            self.format, self.path, self.replace, row(self.write, self.download, self._state)
        )
        self._stem = "workflow"
        self.format.observe(lambda _: self._name(), "value")
        self._name()

    def suggest(self, title: str) -> None:
        """Suggest a file name."""
        kept = "".join(c if c.isalnum() or c in "-_. " else "-" for c in title)
        self._stem = kept.strip(" .-") or "workflow"
        self._name()

    def show_text(self, text: str) -> None:
        """Show the result of the last click."""
        self._state.value = note(text, live=True) if text else ""

    def _name(self) -> None:
        self.path.value = f"{self._stem}{SUFFIXES[self.format.value]}"


def exported(workflow: Workflow, kind: str) -> str:
    """Return a workflow as the text of a file.

    Parameters
    ----------
    workflow : Workflow
        What to export.
    kind : str
        ``api``, ``ui``, ``notebook`` or ``python``.
    """
    if kind == "python":
        return workflow.to_python()
    if kind == "notebook":
        return json.dumps(workflow.to_notebook(), indent=1, ensure_ascii=False) + "\n"
    graph = workflow.to_api() if kind == "api" else workflow.to_ui()
    return json.dumps(graph, indent=2, ensure_ascii=False) + "\n"


def version_label(version: WorkflowVersion) -> str:
    """Return a line with the number, the time and the comment of a version."""
    parts = [f"v{version.number}", when(version.created_at), version.comment]
    return " · ".join(part for part in parts if part)


def when(timestamp: str) -> str:
    """Return a timestamp in ISO 8601 for people, in the time zone of this machine."""
    try:
        parsed = parse_timestamp(timestamp)
    except ValueError:
        return timestamp
    return parsed.astimezone().strftime("%Y-%m-%d %H:%M")
