"""Stored workflows: search, open, compare, validate, save, export and run them."""

from __future__ import annotations

import html
import json
import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets as w
import traitlets as t

from ..client.files import write_text
from ..client.graph import Source, file_title, in_api_format
from ..client.text import counted, html_table, text_table
from ..client.workflow import Workflow
from ..client.workflows import EditorWorkflow, graphs_of
from ..display.page import STATIC, script
from ..errors import ConflictError, InvalidRequestError
from ..graphs.layout import picture_of
from ..graphs.outline import graph_rows
from ..util.times import parse_timestamp
from .base import Panel, Problem
from .models_box import ModelsBox
from .parts import (
    DownloadButton,
    FileButton,
    Note,
    OwnChoices,
    button,
    checkbox,
    column,
    field,
    note,
    row,
    text_box,
)
from .picker import ACCEPTED, Requests
from .run_panel import RunPanel
from .workflow_list import Opener, WorkflowSidebar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..client import Comfy, Result
    from ..client.workflow import Validation
    from ..client.workflows import StoredWorkflow, Workflows, WorkflowVersion
    from ..graphs.diff import GraphDiff


WORDS = {
    "removed": "Removed",
    "added": "Added",
    "replaced": "Replaced",
    "switched": "Switched",
    "renamed": "Renamed",
    "rewired": "Rewired",
    "changed": "Changed",
}


def nodes_table(graph: dict[str, Any], found: Validation | None = None) -> str:
    """Return a table of nodes: those with findings first, then in the order of execution."""
    rows = []
    findings_of = {} if found is None else found.by_node
    for title, kind, node_id, inputs in sorted(
        graph_rows(graph), key=lambda entry: entry[2] not in findings_of
    ):
        problems = findings_of.get(node_id, [])
        name = f"<b>{html.escape(title)}</b>"
        faint = f"id {node_id}" if title == kind else f"{kind}, id {node_id}"
        items = "".join(f"<li>{html.escape(problem)}</li>" for problem in problems)
        findings = f'<ul class="comfydeploy-findings">{items}</ul>' if items else ""
        rows.append(
            f'<tr class="{"mod-bad" if problems else ""}"><td>{name}'
            f'<div class="comfydeploy-note">{html.escape(faint)}</div></td>'
            f"<td>{html.escape(inputs)}{findings}</td></tr>"
        )
    head = '<thead><tr><th scope="col">Node</th><th scope="col">Inputs</th></tr></thead>'
    return (
        '<div class="comfydeploy-scroll" tabindex="0" role="region" aria-label="Nodes">'
        f'<table class="comfydeploy-nodes">{head}<tbody>{"".join(rows)}</tbody></table></div>'
    )


def verdict(found: Validation) -> str:
    """Return a line with the result of a validation, and the findings that concern no node."""
    bad = len(found.by_node)
    if found.valid and not bad:
        words, kind = "ComfyUI would run this workflow", "success"
    elif found.valid:
        words, kind = f"ComfyUI would run a part of it; look at {_nodes(bad)}", "warn"
    else:
        words, kind = f"ComfyUI would refuse this workflow; look at {_nodes(bad)}", "error"
        if not bad:
            words = "ComfyUI would refuse this workflow"
    doubt = f" ({found.doubt})" if found.doubt else ""
    items = "".join(f"<li>{html.escape(text)}</li>" for text in found.general)
    general = f"<ul>{items}</ul>" if items else ""
    return (
        f'<div class="comfydeploy-verdict mod-{kind}" role="status">'
        f"{html.escape(words + doubt)}{general}</div>"
    )


def diff_list(diff: GraphDiff) -> str:
    """Return a list of changes, each with its kind."""
    if not diff:
        return f'<div role="status">{html.escape(str(diff).capitalize())}.</div>'
    lines = "".join(
        f'<li><span class="comfydeploy-kind mod-{change.kind}">{WORDS[change.kind]}</span> '
        f"<span>{html.escape(change.text.removeprefix(change.kind).strip())}</span></li>"
        for change in diff
    )
    return (
        f'<div role="status">{counted(len(diff), "difference")}</div>'
        f'<ul class="comfydeploy-scroll comfydeploy-changes">{lines}</ul>'
    )


def _nodes(count: int) -> str:
    return "the node marked below" if count == 1 else f"the {count} nodes marked below"


FAILED, RUNNING = "failed", "running"
MAX_LENGTH = 500  # characters of the text about a node


class GraphView(anywidget.AnyWidget):
    """A picture of a workflow that users can move and zoom in the page."""

    _esm = script("graph")

    # what is shown, as `picture_of` returns it; empty if there is no workflow
    picture: t.Dict[str, Any] = t.Dict().tag(sync=True)
    # how nodes are marked, ``"running"`` or ``"failed"``, by their ids in the API format
    marks: t.Dict[str, str] = t.Dict().tag(sync=True)
    problems: t.Dict[str, str] = t.Dict().tag(sync=True)  # what is wrong with nodes, by their ids

    def show(self, workflow: Workflow) -> None:
        """Show a workflow without marks; its nodes have the same positions as in the editor."""
        picture = picture_of(workflow.source.ui or workflow.to_api())
        with self.hold_sync():
            self.picture, self.marks, self.problems = picture, {}, {}

    def mark_findings(self, found: Validation) -> None:
        """Mark the nodes in which a validation has found errors."""
        self._mark_failed({key: "; ".join(problems) for key, problems in found.by_node.items()})

    def mark_running(self, node_id: str | None) -> None:
        """Mark the node that runs now; None if none does."""
        with self.hold_sync():
            self.marks = {} if node_id is None else {node_id: RUNNING}
            self.problems = {}

    def mark_result(self, result: Result) -> None:
        """Mark the node in which a run has failed, if one has."""
        node_id = (result.error or {}).get("node_id")
        self._mark_failed({} if node_id is None else {str(node_id): result.failure or ""})

    def _mark_failed(self, texts: dict[str, str]) -> None:
        with self.hold_sync():
            self.marks = dict.fromkeys(texts, FAILED)
            self.problems = {key: text[:MAX_LENGTH] for key, text in texts.items()}


def labelled(kind: type[w.Widget], label: str, basis: str = "100%", **traits: Any) -> Any:
    """Return a control with the label width of this panel."""
    return field(kind, label, basis, label_width="90px", **traits)


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


class NodesTab:
    """The nodes, and the findings of a validation."""

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
        self._verdict = text_box(flex="1 1 100%")
        self._table = text_box(width="100%")
        self._models = models
        self.box = column(row(self.validate), self._verdict, models, picture, self._table)

    def show(self, graph: dict[str, Any], found: Validation | None = None) -> None:
        """Show a graph and the findings of its validation."""
        self._table.value = nodes_table(graph, found)
        self._verdict.value = "" if found is None else verdict(found)
        self._verdict.layout.display = "none" if found is None else ""
        self._models.show_missing(None)


class ChangesTab:
    """The differences between two versions."""

    def __init__(self, on_choice: Callable[[], object]) -> None:
        self.old = labelled(w.Dropdown, "From", "280px")
        self.new = labelled(w.Dropdown, "To", "280px")
        self._list = text_box(width="100%")
        self.box = column(row(self.old, self.new), self._list)
        self._on_choice = on_choice
        self._own_choices = OwnChoices()
        for control in (self.old, self.new):
            control.observe(lambda _: self._own_choices.by_user and on_choice(), "value")

    def fill(self, versions: Sequence[WorkflowVersion], opened: int | None) -> None:
        """Offer versions, and choose the open one and the one before it."""
        numbers = [version.number for version in versions]
        options = [(version_label(version), version.number) for version in versions]
        later = opened if opened in numbers else next(iter(numbers), None)
        before = [number for number in numbers if later is not None and number < later]
        with self._own_choices.made():
            for control in (self.old, self.new):
                control.options = options
                control.disabled = len(numbers) < 2
            self.new.value = later
            self.old.value = before[0] if before else later
        self._on_choice()

    def show(self, diff: GraphDiff) -> None:
        """Show differences."""
        self._list.value = diff_list(diff)

    def show_text(self, text: str) -> None:
        """Show a line instead of differences."""
        self._list.value = note(text, live=True)


class SaveTab:
    """Saving the workflow as a new one, or as a version of a stored one."""

    def __init__(self, on_save: Callable[[], object]) -> None:
        self.target = labelled(w.Dropdown, "Save as", options=[("A new workflow", "")])
        self.name = labelled(w.Text, "Name")
        self.comment = labelled(w.Text, "Comment", placeholder="What is new in this version")
        self.force = checkbox("Save even if nothing has changed")
        self.save = button(
            "Save", on_save, icon="save", style="primary", hint="Save a version", disabled=True
        )
        self.state = Note(flex="1 1 auto")  # the result of the last click
        hint = text_box(note("Values that were changed under Run are saved with it."))
        fields = (self.target, self.name, self.comment, self.force)
        self.box = column(*fields, row(self.save, self.state), hint)

    def offer(self, stored: Sequence[StoredWorkflow], chosen: str) -> None:
        """Offer stored workflows to add a version to, and choose one by its id."""
        options = [(f"A new version of {one.name}", one.id) for one in stored]
        self.target.options = [("A new workflow", ""), *options]
        self.target.value = chosen if chosen in {one.id for one in stored} else ""


class ExportTab:
    """Exporting the workflow to a file, written by the kernel or downloaded by the browser."""

    def __init__(self, on_write: Callable[[], object], on_download: Callable[[], object]) -> None:
        self.format = labelled(w.Dropdown, "Format", options=FORMATS)
        self.path = labelled(
            w.Text, "File", tooltip="Where to write it; relative to the folder of the notebook"
        )
        self.replace = checkbox("Replace a file of that name")
        self.write = button(
            "Write",
            on_write,
            icon="file",
            style="primary",
            hint="Write the file beside the notebook",
            disabled=True,
        )
        self.download = DownloadButton("Download", on_download)
        self.state = Note(flex="1 1 auto")  # the result of the last click
        buttons = row(self.write, self.download, self.state)
        self.box = column(self.format, self.path, self.replace, buttons)
        self._stem = "workflow"
        self.format.observe(lambda _: self._name(), "value")
        self._name()

    def suggest(self, title: str) -> None:
        """Suggest a file name."""
        kept = "".join(c if c.isalnum() or c in "-_. " else "-" for c in title)
        self._stem = kept.strip(" .-") or "workflow"
        self._name()

    def _name(self) -> None:
        self.path.value = f"{self._stem}{SUFFIXES[self.format.value]}"


def exported(workflow: Workflow, kind: str) -> str:
    """Return a workflow as the text of a file."""
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


RUN = 4
"""The index of the Run tab."""


class WorkflowPanel(Panel):
    """A panel for the workflows that are stored on the server, and their versions.

    Parameters
    ----------
    workflow : dict, str, bytes or path, optional
        A workflow that is not stored yet and is shown first.
    comfy : Comfy or Panel, optional
        The client, or a panel whose client is used; by default the panel connects by itself.
    workflow_id : str, optional
        The stored workflow that is shown first.
    cloud : bool
        Whether to show the workflows of ComfyDeploy instead of those of the server.
    run : callable, optional
        Called with a workflow that the user wants to run; returns the panel that shows it. By
        default this panel has a tab for that.
    directory : path
        The folder that exported files are written to; default the folder of the notebook.
    **kwargs
        Traits of `ipywidgets.VBox`, such as ``layout``.
    """

    OWN_ARGUMENTS = ("workflow", "comfy", "workflow_id", "cloud", "run", "directory")

    def __init__(
        self,
        workflow: dict[str, Any] | str | bytes | os.PathLike[str] | None = None,
        comfy: Comfy | Panel | None = None,
        *,
        workflow_id: str | None = None,
        cloud: bool = False,
        run: Callable[[Workflow], RunPanel] | None = None,
        directory: str | os.PathLike[str] = ".",
        **kwargs: Any,
    ) -> None:
        super().__init__(comfy, **kwargs)
        self._cloud = cloud
        self._run = run
        self._directory = Path(directory)
        self._workflow: Workflow | None = None
        self._stored: StoredWorkflow | None = None
        self._version: WorkflowVersion | None = None
        self._versions: list[WorkflowVersion] = []
        self._inexact = ""
        self._requests = Requests()
        self._own_choices = OwnChoices()
        self._run_panel: RunPanel | None = None
        self._run_tab_lock = threading.Lock()
        self._build()
        self._remember()
        self.start(self._begin, workflow, workflow_id)

    @property
    def workflow(self) -> Workflow | None:
        """The open workflow; it is validated, saved and exported with changes made to it."""
        return self._workflow

    @property
    def workflows(self) -> list[str]:
        """The names of the workflows that are listed."""
        return [one.name for one in self._list.workflows]

    @property
    def version(self) -> int | None:
        """The number of the open version; None if the workflow is not stored."""
        return None if self._version is None else self._version.number

    @property
    def versions(self) -> list[int]:
        """The version numbers of the open workflow, newest first."""
        return [version.number for version in self._versions]

    def open_workflow(self, workflow_id: str, version: int | None = None) -> None:
        """Open a stored workflow, by default its newest version; do not wait for it."""
        self.start(self._open, self._requests.next(), workflow_id, version)

    def open_file(self, source: dict[str, Any] | str | bytes | os.PathLike[str]) -> None:
        """Open a workflow that is not stored yet; do not wait for it.

        Parameters
        ----------
        source : dict, str, bytes or path
            As `Comfy.load` takes it.
        """
        self.start(self._open_source, self._requests.next(), source, "")

    def search(self, text: str) -> None:
        """List only workflows whose names or comments contain a text."""
        self._list.search.value = text

    def run(self) -> None:
        """Show the open workflow in the panel that runs it."""
        if self._workflow is None:
            return
        if self._run is None:
            self._tabs.selected_index = RUN
        else:
            self._follow(self._run(self._workflow))

    def validate(self) -> None:
        """Validate the open workflow, like the button *Validate*."""
        self.clear_error()
        self._nodes.validate.disabled = True
        self.start(self._validate)

    def save(self, comment: str = "", name: str | None = None) -> None:
        """Save with a comment and a name, like the button *Save*."""
        self._save.comment.value = comment
        if name is not None:
            self._save.name.value = name
        self._press_save()

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write to a path in the chosen format, like the button *Write*."""
        self._export.path.value = os.fspath(path)
        self._press_write()

    def stop(self) -> None:
        """Stop searching, and close the panel in the Run tab."""
        self._list.close()
        if self._run_panel is not None and self._run is None:
            self._run_panel.close()

    def _build(self) -> None:
        self.add_class("comfydeploy-workflows")
        self.add_class("cd-wide")
        style = (STATIC / "workflow.css").read_text(encoding="utf-8")
        full = {"width": "100%", "margin": "0"}
        self._file_problem = Problem()
        self._file = FileButton(
            self,
            "Open a file",
            self._take,
            self._file_problem,
            hint="Open a workflow, or the one in a picture, video or sound, from your computer",
            accept=ACCEPTED,
        )
        self._list = WorkflowSidebar(
            self,
            lambda: self._home,
            self._directory,
            Opener(
                self.open_workflow,
                self._open_listed,
                self._changed,
                self._listed,
                self._updating,
                lambda: self._own_choices.by_user,
            ),
            self._file,
            self._file_problem,
            cloud=self._cloud,
        )
        self._head = w.HTML(
            note("Choose a workflow, or open a file."),
            layout=w.Layout(margin="0", flex="1 1 200px", width="auto"),
        )
        self._run_button = button(
            "Run …",
            lambda: self.attempt(self.run),
            icon="play",
            hint="Run this workflow, with other values if you like",
            style="primary",
        )
        self._run_button.layout.display = "none"
        self._version_box = w.Select(
            description="Versions",
            rows=4,
            layout=w.Layout(**full, height="auto", display="none"),
        )
        self._version_box.add_class("comfydeploy-stacked")
        self._models = ModelsBox(self, self._validate)
        self._picture = GraphView()
        self._nodes = NodesTab(lambda: self.attempt(self.validate), self._models, self._picture)
        self._changes = ChangesTab(lambda: self.start(self._compare_versions))
        self._save = SaveTab(lambda: self.attempt(self._press_save))
        self._export = ExportTab(
            lambda: self.attempt(self._press_write), lambda: self.start(self._send_file)
        )
        tabs = {
            "Nodes": self._nodes.box,
            "Compare": self._changes.box,
            "Save": self._save.box,
            "Export": self._export.box,
        }
        if self._run is None:
            tabs["Run"] = self._run_box = w.VBox(layout=w.Layout(width="100%"))
        self._tabs = w.Tab(
            list(tabs.values()),
            titles=tuple(tabs),
            layout=w.Layout(width="100%", display="none"),
        )
        main = w.VBox(
            [row(self._head, self._run_button), self._version_box, self._tabs],
            layout=w.Layout(flex="3 1 440px", width="auto", min_width="0", grid_gap="8px"),
        )
        self.fill(
            w.HTML(f"<style>{style}</style>", layout=w.Layout(display="none")),
            w.HBox(
                [self._list.box, main],
                layout=w.Layout(
                    width="100%", flex_flow="row wrap", grid_gap="16px", align_items="flex-start"
                ),
            ),
        )
        self._version_box.observe(lambda change: self._choose_version(change["new"]), "value")
        self._tabs.observe(lambda _: self.attempt(self._show_tab), "selected_index")

    @property
    def _home(self) -> Workflows:
        kept = self.comfy.workflows
        return kept.cloud if self._cloud else kept

    def _carry_out(self, request: int, show: Callable[[], None]) -> None:
        """Show a workflow, unless there is a newer request to open one."""

        def task() -> None:
            if not self.closing:
                with self._own_choices.made():
                    show()

        self._requests.carry_out(request, task)

    @contextmanager
    def _updating(self) -> Iterator[None]:
        """Wait for other changes of what is shown, and mark choices as not made by the user."""
        with self._requests.lock, self._own_choices.made():
            yield

    def _begin(
        self,
        workflow: dict[str, Any] | str | bytes | os.PathLike[str] | None,
        workflow_id: str | None,
    ) -> None:
        request = self._requests.next()
        if workflow is not None:
            self.start(self._open_source, request, workflow, "")
        elif workflow_id is not None:
            self.start(self._open, request, workflow_id, None)
        self._list.refresh()

    def _open_listed(self, key: str, other: Path | EditorWorkflow) -> None:
        """Open a file, or a workflow of ComfyUI's editor, that the user chose in the list."""
        request = self._requests.next()
        if isinstance(other, EditorWorkflow):
            self._open_source(request, other.source, other.name, key)
        else:
            self._open_source(request, other, other.stem, key)

    def _listed(self, found: list[StoredWorkflow]) -> None:
        """Offer the stored workflows that are listed as those that get a new version."""
        chosen = self._list.list.value if self._stored is None else self._stored.id
        self._list.choose(chosen)
        if not self._list.search.value:
            self._save.offer(found, self._save.target.value or chosen or "")
        self._remember()

    def _changed(self, workflow_id: str, deleted: bool) -> None:
        """Show the new name of a stored workflow, if it is open; keep a deleted one open.

        What was typed under *Run* and *Save* stays.
        """

        def is_open() -> bool:
            return self._stored is not None and self._stored.id == workflow_id

        if not is_open():
            return
        stored = None if deleted else self._home.get(workflow_id)
        with self._updating():
            if self._workflow is None or not is_open():
                return  # another one was opened in the meantime
            self._stored = stored
            if stored is None:
                self._forget_versions(None)
                self._changes.fill(self._versions, self.version)
            elif stored.name != self._workflow.title:
                self._workflow.title = self._save.name.value = stored.name
                self._export.suggest(stored.name)
            self._show_head()
            self._remember()

    def _forget_versions(self, key: str | None) -> None:
        """Show that the open workflow is not stored; ``key`` is its key in the list."""
        self._stored, self._version, self._versions = None, None, []
        self._list.choose(key)
        self._version_box.layout.display = "none"
        self._save.target.value = ""

    def _choose_version(self, number: int | None) -> None:
        if self._own_choices.by_user and number is not None and self._stored is not None:
            self.clear_error()
            self.open_workflow(self._stored.id, number)

    def _take(self, path: Path) -> None:
        """Open a file that the user's browser sent."""
        self.clear_error()
        self._open_source(self._requests.next(), path, path.stem)

    def _open(self, request: int, workflow_id: str, number: int | None) -> None:
        home = self._home
        versions = home.versions(workflow_id, limit=1000)
        version = home.version(workflow_id, "latest" if number is None else number)
        stored = next((one for one in self._list.workflows if one.id == workflow_id), None)
        stored = stored or home.get(workflow_id)
        source, notes = in_api_format(self.comfy.server, graphs_of(version))
        workflow = Workflow(self.comfy.server, source, title=stored.name)

        def show() -> None:
            self._stored, self._version, self._versions = stored, version, versions
            self._version_box.options = [(version_label(one), one.number) for one in versions]
            self._version_box.rows = min(max(2, len(versions)), 6)
            self._version_box.value = version.number
            self._version_box.layout.display = ""
            self._list.choose(stored.id)
            if stored not in self._list.workflows:
                self._save.offer([*self._list.workflows, stored], stored.id)
            self._save.target.value = stored.id
            self._save.name.value = stored.name
            self._show(workflow, notes)

        self._carry_out(request, show)

    def _open_source(
        self,
        request: int,
        given: Source | dict[str, Any] | str | bytes | os.PathLike[str],
        title: str,
        key: str | None = None,
    ) -> None:
        title = title or ("" if isinstance(given, Source) else file_title(given))
        given = given if isinstance(given, Source) else Source(given)
        source, notes = in_api_format(self.comfy.server, given)
        workflow = Workflow(self.comfy.server, source, title=title)

        def show() -> None:
            self._forget_versions(key)
            self._save.name.value = workflow.title
            self._show(workflow, notes)

        self._carry_out(request, show)

    def _show_head(self) -> None:
        """Show the title and the version of the open workflow, and what its conversion lost."""
        assert self._workflow is not None
        title = html.escape(self._workflow.title or "Workflow")
        version = "not stored yet"
        if self._version is not None:
            version = f"version {self._version.number} of {len(self._versions)}"
        self._head.value = (
            f'<div><b style="overflow-wrap:anywhere">{title}</b> '
            f'<span class="comfydeploy-note">{version}, {len(self._workflow)} nodes'
            f"</span></div>{self._inexact}"
        )

    def _show(self, workflow: Workflow, notes: list[str]) -> None:
        self._workflow = workflow
        self._inexact = "".join(note(f"The conversion is not exact: {text}") for text in notes)
        self._show_head()
        self._nodes.show(workflow.to_api())
        self._picture.show(workflow)
        self._changes.fill(self._versions, self.version)
        self._save.state.show("")
        self._save.comment.value = ""
        self._export.suggest(workflow.title)
        self._export.state.show("")
        for control in (self._nodes.validate, self._save.save, self._export.write):
            control.disabled = False
        self._tabs.layout.display = ""
        self._run_button.layout.display = "none" if self._run is None else ""
        self._close_run_panel()
        self._show_tab()
        self._remember()

    def _show_tab(self) -> None:
        """Make the content of the Run tab if it is opened for the first time."""
        with self._run_tab_lock:
            if self._tabs.selected_index == RUN and self._run_panel is None and self._workflow:
                self._follow(RunPanel(self._workflow, self.comfy, directory=self._directory))
                self._run_box.children = [self._run_panel]

    def _follow(self, panel: RunPanel) -> None:
        """Mark the nodes of the open workflow that run or fail in a panel from now on."""
        if panel is self._run_panel:
            return
        self._run_panel = panel

        def is_open() -> bool:
            ours, theirs = self._workflow, panel.workflow
            is_same = ours is not None and theirs is not None and _is_same(ours, theirs)
            return is_same and not self.closing

        panel.follow_nodes(
            lambda node_id: self._picture.mark_running(node_id) if is_open() else None,
            lambda result: self._picture.mark_result(result) if is_open() else None,
        )

    def _close_run_panel(self) -> None:
        with self._run_tab_lock:
            if self._run_panel is not None and self._run is None:
                self._run_box.children = []
                self.start(self._run_panel.close)
                self._run_panel = None

    def _current(self) -> Workflow:
        """Return the open workflow with the valid values that were changed in the Run tab."""
        if self._workflow is None:
            raise ConflictError("open a workflow first")
        inputs = self._run_panel.valid_inputs if self._run_panel is not None else {}
        if self._run_panel is None or not inputs:
            return self._workflow
        shown = self._run_panel.workflow
        if shown is None or shown.to_api() != self._workflow.to_api():
            return self._workflow  # another one has been chosen there
        return Workflow(self.comfy.server, self._workflow).set(inputs)

    def _validate(self) -> None:
        try:
            workflow = self._current()
            found = workflow.validate()
            self._nodes.show(workflow.to_api(), found)
            self._picture.mark_findings(found)
            self._models.show_missing(workflow)
        finally:
            self._nodes.validate.disabled = False

    def _compare_versions(self) -> None:
        old, new = self._changes.old.value, self._changes.new.value
        if self._stored is None or old is None:
            self._changes.show_text("Versions can be compared once the workflow is stored.")
        elif old == new and len(self._versions) < 2:
            self._changes.show_text("There is one version so far.")
        else:
            diff = self._home.diff(self._stored.id, old, new)
            if (old, new) == (self._changes.old.value, self._changes.new.value):
                self._changes.show(diff)

    def _press_save(self) -> None:
        self.clear_error()
        name = self._save.name.value.strip()
        if not name and not self._save.target.value:
            raise InvalidRequestError.of_field("Name", "a new workflow needs a name")
        self._save.save.disabled = True
        self._save.state.show("Saving …")
        self.start(self._keep, name)

    def _keep(self, name: str) -> None:
        try:
            kept = self._home.save(
                self._current(),
                name or None,
                workflow_id=self._save.target.value or None,
                comment=self._save.comment.value.strip(),
                force=self._save.force.value,
            )
        except Exception:
            self._save.state.show("")
            raise
        finally:
            self._save.save.disabled = False
        if kept.record.get("new_version") is False:
            self._save.state.show(
                f"Nothing has changed since version {kept.record.get('version')}."
            )
            return
        self._list.find(self._list.search.value)
        self._open(self._requests.next(), kept.id, None)
        self._save.state.show(f"Saved as version {kept.record.get('version')}.")

    def _press_write(self) -> None:
        self.clear_error()
        self._export.write.disabled = True
        self.start(self._write)

    def _write(self) -> None:
        try:
            path = self._directory / Path(self._export.path.value.strip()).expanduser()
            if path.is_dir():
                raise InvalidRequestError.of_field("File", "give the name of a file")
            if path.exists() and not self._export.replace.value:
                raise ConflictError(
                    f"{path.name} exists already; choose another name, or tick Replace"
                )
            write_text(path, exported(self._current(), self._export.format.value))
            self._export.state.show(f"Written to {path}")
        finally:
            self._export.write.disabled = False

    def _send_file(self) -> None:
        self.clear_error()
        try:
            kind = str(self._export.format.value)
            text = exported(self._current(), kind)
        except Exception:
            self._export.download.nothing()
            raise
        name = Path(self._export.path.value.strip()).name or "workflow"
        content = text.encode("utf-8", "backslashreplace")
        self._export.download.send_file(name, content, MIMES[kind])

    def _remember(self) -> None:
        """Set the output that the saved notebook shows."""
        if self._workflow is None:
            heads = ("name", "version", "changed", "id")
            rows = [
                (one.name, str(one.latest_version or ""), when(one.updated_at), one.id)
                for one in self._list.workflows
            ]
        else:
            heads = ("node", "class", "id", "inputs")
            rows = graph_rows(self._workflow.to_api())
        if not rows:
            advice = "No workflow is open. Without widgets: connect().workflows.list()"
            self.keep(f"<p>{html.escape(advice)}</p>", advice)
            return
        title = "Workflows" if self._workflow is None else self._workflow.title
        number = "" if self.version is None else f", version {self.version}"
        head = f"{title}{number}"
        self.keep(
            f"<p><b>{html.escape(head)}</b></p>{html_table(heads, rows)}",
            f"{head}\n{text_table([heads, *rows])}",
        )


def _is_same(one: Workflow, other: Workflow) -> bool:
    """Return whether two workflows have the same graph, not counting changes of values."""
    return one.source.graph == other.source.graph
