"""Stored workflows: search, open, compare, validate, save, export and run them."""

from __future__ import annotations

import html
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets as t

from ..client.files import write_text
from ..client.graph import Source, file_title, in_api_format
from ..client.text import text_table
from ..client.workflow import Workflow
from ..client.workflows import graphs_of
from ..errors import ConflictError, InvalidRequestError
from ..graphs.outline import graph_rows
from ..util.markup import html_table
from .panel import Panel
from .run_panel import RunPanel

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from ..client import Comfy
    from ..client.server import Server
    from ..client.workflows import Workflows

MAX_VERSIONS = 1000


class _OpenWorkflow(Workflow):
    """A workflow that tells its panel when it is changed."""

    __slots__ = ("_on_change",)

    def __init__(
        self, server: Server, source: Source, title: str, on_change: Callable[[Workflow], object]
    ) -> None:
        self._on_change: Callable[[Workflow], object] = lambda _: None
        super().__init__(server, source, title=title)
        self._on_change = on_change

    def _put(self, node_id: str, name: str, value: Any) -> None:
        super()._put(node_id, name, value)
        self._on_change(self)

    def _remove(self, node_id: str, name: str) -> None:
        super()._remove(node_id, name)
        self._on_change(self)


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
    run : RunPanel or callable, optional
        The panel that runs the open workflow, or a function that is called with it and returns the
        panel that shows it. By default this panel has a tab for that.
    directory : path
        The folder whose workflow files are listed, and that exported files are written to; default
        the folder of the notebook.
    **kwargs
        Traits of `ipywidgets.DOMWidget`, such as ``layout``.
    """

    OWN_ARGUMENTS = ("workflow", "comfy", "workflow_id", "cloud", "run", "directory")

    # the stored workflow that is open; empty if it is not stored
    workflow_id = t.Unicode().tag(sync=True)
    version = t.Int(None, allow_none=True).tag(sync=True)
    # the graphs that are open, as text; empty if they are those of the version
    source = t.Dict().tag(sync=True)
    title = t.Unicode().tag(sync=True)
    # the inputs that were changed in the tab Run; numbers are texts
    values = t.Dict().tag(sync=True)
    search_text = t.Unicode().tag(sync=True)
    cloud = t.Bool().tag(sync=True)
    directory = t.Unicode().tag(sync=True)
    # the tab that is shown
    tab = t.Unicode("Nodes").tag(sync=True)
    # the format of exported files: ``api``, ``ui``, ``notebook`` or ``python``
    format = t.Unicode("api").tag(sync=True)
    # what the last validation has found
    validation = t.Dict(None, allow_none=True).tag(sync=True)
    runs_elsewhere = t.Bool().tag(sync=True)
    # the id of the panel that runs workflows, if this one was given it
    runner = t.Unicode().tag(sync=True)
    # increases when the open workflow is to be run by another panel
    run_requests = t.Int().tag(sync=True)

    def __init__(
        self,
        workflow: dict[str, Any] | str | bytes | os.PathLike[str] | None = None,
        comfy: Comfy | Panel | None = None,
        *,
        workflow_id: str | None = None,
        cloud: bool = False,
        run: RunPanel | Callable[[Workflow], RunPanel] | None = None,
        directory: str | os.PathLike[str] = ".",
        **kwargs: Any,
    ) -> None:
        self._run = run
        # the panel in which it was run last
        self._runner = run if isinstance(run, RunPanel) else None
        self._lock = threading.RLock()
        self._asked = 0  # the number of the last request to open a workflow
        self._loaded: tuple[object, Workflow | None] = None, None
        folder = str(Path(directory).expanduser().absolute())
        traits: dict[str, Any] = {"cloud": cloud, "directory": folder}
        traits["runs_elsewhere"] = run is not None
        traits["runner"] = "" if self._runner is None else self._runner.model_id
        super().__init__(comfy, **traits, **kwargs)
        self.observe(lambda _: self.start(self._remember), ["workflow_id", "version", "source"])
        if self._runner is None:  # else the page shows it there
            self.observe(lambda _: self.start(self.run), "run_requests")
        if workflow is not None:
            self.open_file(workflow)
        elif workflow_id is not None:
            self.open_workflow(workflow_id)
        else:
            self.start(self._remember)

    @property
    def workflow(self) -> Workflow | None:
        """The open workflow; it is validated, saved and exported with changes made to it."""
        with self._lock:
            key = self._key
            known, workflow = self._loaded
            if known != key:
                workflow = self._load()
                self._loaded = key, workflow
            return workflow

    @property
    def workflows(self) -> list[str]:
        """The names of the stored workflows that are listed."""
        return [one.name for one in self._home.list(self.search_text)]

    @property
    def versions(self) -> list[int]:
        """The version numbers of the open workflow, newest first."""
        if not self.workflow_id:
            return []
        found = self._home.versions(self.workflow_id, limit=MAX_VERSIONS)
        return [version.number for version in found]

    def open_workflow(self, workflow_id: str, version: int | None = None) -> None:
        """Open a stored workflow, by default its newest version; do not wait for it."""
        self.clear_error()
        self.start(self._open, self._next(), workflow_id, version)

    def open_file(self, source: dict[str, Any] | str | bytes | os.PathLike[str]) -> None:
        """Open a workflow that is not stored yet; do not wait for it.

        Parameters
        ----------
        source : dict, str, bytes or path
            As `Comfy.load` takes it.
        """
        self.clear_error()
        self.start(self._open_source, self._next(), source)

    def search(self, text: str) -> None:
        """List only workflows whose names or comments contain a text."""
        self.search_text = text

    def run(self) -> None:
        """Show the open workflow in the panel that runs it."""
        workflow = self.workflow
        if workflow is None:
            return
        if self._run is None:
            self.tab = "Run"
        elif not isinstance(self._run, RunPanel):
            self._runner = self._run(workflow)
        else:
            is_stored = self.workflow_id and not self.source
            self._run.show(self.workflow_id if is_stored else workflow, self.version)
            self.run_requests += 1

    def validate(self) -> None:
        """Validate the open workflow, like the button *Validate*; `validation` is the result."""
        self.clear_error()
        self.start(self._validate)

    def save(self, comment: str = "", name: str | None = None, *, force: bool = False) -> None:
        """Save with a comment and a name, like the button *Save*; do not wait for it.

        Parameters
        ----------
        comment : str
            What is new in this version.
        name : str, optional
            Its name; by default the present one.
        force : bool
            Whether to save a version even if nothing has changed.
        """
        self.clear_error()
        given = (self.title if name is None else name).strip()
        if not given and not self.workflow_id:
            raise InvalidRequestError.of_field("name", "a new workflow needs a name")
        self.start(self._save, comment, given, force)

    def export(self, path: str | os.PathLike[str], *, replace: bool = False) -> None:
        """Write the open workflow in the chosen format; do not wait for it.

        Parameters
        ----------
        path : path
            The file, relative to the folder of the panel.
        replace : bool
            Whether a file of this name is replaced.
        """
        self.clear_error()
        self.start(self._write, Path(self.directory, Path(path).expanduser()), replace)

    @property
    def _home(self) -> Workflows:
        kept = self.comfy.workflows
        return kept.cloud if self.cloud else kept

    @property
    def _key(self) -> object:
        return self.workflow_id, self.version, tuple(self.source.items())

    def _next(self) -> int:
        with self._lock:
            self._asked += 1
            return self._asked

    def _show(
        self, request: int, source: Source | None, title: str, stored: tuple[str, int] | None = None
    ) -> None:
        """Show a workflow, unless there is a newer request to open one."""
        with self._lock, self.hold_trait_notifications(), self.hold_sync():
            if request == self._asked and not self.closing:
                self.workflow_id, self.version = stored or ("", None)
                self.source = {} if source is None else source.texts()
                self.title, self.values = title, {}
                self.set_trait("validation", None)

    def _open(self, request: int, workflow_id: str, number: int | None) -> None:
        version = self._home.version(workflow_id, "latest" if number is None else number)
        title = self._home.get(workflow_id).name
        source = graphs_of(version) if self.cloud else None
        self._show(request, source, title, (workflow_id, version.number))

    def _open_source(
        self, request: int, given: dict[str, Any] | str | bytes | os.PathLike[str]
    ) -> None:
        self._show(request, Source(given), file_title(given))

    def _load(self) -> Workflow | None:
        if self.source:
            api, ui = self.source.get("workflow_api"), self.source.get("workflow")
            given = Source(api or ui, ui=json.loads(ui) if api and ui else None)
        elif self.workflow_id:
            given = graphs_of(self._home.version(self.workflow_id, self.version or "latest"))
        else:
            return None
        server = self.comfy.server
        converted, _ = in_api_format(server, given)  # the page says what is not exact
        return _OpenWorkflow(server, converted, self.title, self._changed)

    def _changed(self, workflow: Workflow) -> None:
        """Show the changes that were made to the open workflow."""
        with self._lock:
            source = workflow.source
            if workflow is self._loaded[1] and not source.files:
                graphs = Source(source.graph).texts()
                self._loaded = (self.workflow_id, self.version, tuple(graphs.items())), workflow
                self.source = graphs

    def _current(self) -> Workflow:
        """Return the open workflow with the values that were changed under Run."""
        workflow = self.workflow
        if workflow is None:
            raise ConflictError("open a workflow first")
        shown = self._runner.workflow if self._runner is not None else None
        if shown is not None and shown.source.graph == workflow.source.graph:
            assert self._runner is not None
            return Workflow(self.comfy.server, workflow).set(self._runner.inputs)
        if not self.values:
            return workflow
        body = {"workflow_api": workflow.to_api(), "inputs": self.values, "to": "api"}
        reply = self.comfy.server.post("workflow/convert", body)
        return Workflow(self.comfy.server, reply["workflow_api"], title=workflow.title)

    def _validate(self) -> None:
        workflow = self._current()
        found = workflow.validate()
        kept = ("valid", "by_node", "general", "definitions")
        self.validation = {name: found[name] for name in kept}

    def _save(self, comment: str, name: str, force: bool) -> None:
        kept = self._home.save(
            self._current(),
            name or None,
            workflow_id=self.workflow_id or None,
            comment=comment.strip(),
            force=force,
        )
        if kept.record.get("new_version") is not False:
            self._open(self._next(), kept.id, None)

    def _write(self, path: Path, replace: bool) -> None:
        if path.is_dir():
            raise InvalidRequestError.of_field("path", "give the name of a file")
        if path.exists() and not replace:
            raise ConflictError(f"{path.name} exists already; choose another name, or replace it")
        write_text(path, _exported(self._current(), self.format))

    def _remember(self) -> None:
        """Set the output that the saved notebook shows."""
        workflow = self.workflow
        if workflow is None:
            heads: tuple[str, ...] = ("name", "version", "changed", "id")
            rows: list[Any] = [
                (one.name, str(one.latest_version or ""), one.updated_at[:16], one.id)
                for one in self._home.list(self.search_text)
            ]
        else:
            heads = ("node", "class", "id", "inputs")
            rows = graph_rows(workflow.to_api())
        if not rows:
            advice = "No workflow is open. Without widgets: connect().workflows.list()"
            self.keep(f"<p>{html.escape(advice)}</p>", advice)
            return
        title = "Workflows" if workflow is None else self.title
        number = "" if self.version is None else f", version {self.version}"
        head = f"{title}{number}"
        self.keep(
            f"<p><b>{html.escape(head)}</b></p>{html_table(heads, rows)}",
            f"{head}\n{text_table([heads, *rows])}",
        )


def _exported(workflow: Workflow, kind: str) -> str:
    """Return a workflow as the text of a file."""
    if kind == "python":
        return workflow.to_python()
    if kind == "notebook":
        return json.dumps(workflow.to_notebook(), indent=1, ensure_ascii=False) + "\n"
    graph = workflow.to_api() if kind == "api" else workflow.to_ui()
    return json.dumps(graph, indent=2, ensure_ascii=False) + "\n"
