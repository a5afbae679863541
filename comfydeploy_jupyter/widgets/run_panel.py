"""Choose a workflow, edit its inputs, run it, watch it, see the pictures."""

from __future__ import annotations

import html
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from ..client import Result, RunProgress
from ..client.graph import Source
from ..client.results import INLINE_IMAGES, inline_picture
from ..display import Live, ProgressWidgets
from ..errors import ComfyDeployError, ConflictError
from ..graphs.inputs import input_form
from .base import GAP, LABEL_WIDTH, Panel, close_tree
from .form import Form

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..client import Comfy, EventStream, OutputFile

MOST_FILES = 200
LARGEST_FILE = 20 * 1024 * 1024
SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "site-packages"})
DEEPEST = 4

UI_NOTE = (
    '<div class="comfydeploy-note">This file has the format of ComfyUI\'s editor. It runs with the '
    "values it has; to change them here, export it in API format.</div>"
)


class RunPanel(Panel):
    """A panel that runs workflows; the kernel stays free while they run.

    Parameters
    ----------
    workflow : dict, str or path, optional
        The workflow to begin with. Others can be chosen: workflow files in the folder of the
        notebook and below it, and files of the user's own machine.
    comfy : Comfy, optional
        The client; by default the panel connects by itself.
    directory : path
        Where to look for workflow files; default the folder of the notebook.
    **kwargs
        Traits of `ipywidgets.VBox`, such as ``layout``.

    Attributes
    ----------
    result : Result or None
        The result of the last run that ended.
    """

    OWN_ARGUMENTS = ("workflow", "comfy", "directory")

    def __init__(
        self,
        workflow: dict[str, Any] | str | os.PathLike[str] | None = None,
        comfy: Comfy | None = None,
        *,
        directory: str | os.PathLike[str] = ".",
        **kwargs: Any,
    ) -> None:
        super().__init__(comfy, **kwargs)
        self.result: Result | None = None
        self._directory = Path(directory)
        self._workflow: Source | None = None
        self._definitions: dict[str, Any] | None = None
        self._opened = threading.Event()
        self._running = False
        self._form = Form([])
        self._form_lock = threading.Lock()
        self._stream: EventStream | None = None
        self._build()
        self.start(self._open, workflow)

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs that were changed in the form, by their keys."""
        return self._form.values(seeds=not self._random.value)

    def set_input(self, key: str, value: object) -> None:
        """Set an input of the form, e.g. ``set_input("3.steps", 30)``.

        Raises
        ------
        KeyError
            The form has no such input.
        """
        self._form.set(key, value)

    @property
    def ready(self) -> bool:
        """Whether the form is there, or the error why ComfyUI could not be asked for it."""
        return self._opened.is_set()

    @property
    def running(self) -> bool:
        """Whether a run is being followed."""
        return self._running

    @property
    def report(self) -> str:
        """What the panel says of the last run, as HTML; the pictures are beside it."""
        return str(self._report.value)

    @property
    def workflows(self) -> list[str]:
        """The workflows that can be chosen, by name."""
        return [name for name, value in self._files.options if value is not None]

    def choose(self, name: str) -> None:
        """Choose one of `workflows`.

        Raises
        ------
        KeyError
            There is none of that name.
        """
        if name not in self.workflows:
            raise KeyError(name)
        self._files.value = dict(self._files.options)[name]

    def run(self) -> None:
        """Do what the Run button does: start the workflow, do not wait for it."""
        if self._workflow is None or self._running:
            return
        self.clear_error()
        self._busy(True)
        self.start(self._run, self._workflow)

    def cancel(self) -> None:
        """Do what the Cancel button does."""
        self._cancel_button.disabled = True
        self._say("Cancelling …")
        self.start(self._cancel)

    def stop(self) -> None:
        """Stop following; the run goes on."""
        if self._stream is not None:
            self._stream.close()

    def _build(self) -> None:
        labelled = {"description_width": LABEL_WIDTH}
        self._files = w.Dropdown(
            description="Workflow",
            options=[("Looking for workflows …", None)],
            style=labelled,
            layout=w.Layout(flex="1 1 auto", width="auto", margin="0"),
        )
        self._upload = w.FileUpload(
            accept=".json",
            multiple=False,
            description="Upload",
            tooltip="Open a workflow file from your computer",
            layout=w.Layout(width="120px", margin="0"),
        )
        self._refresh = w.Button(
            icon="refresh",
            tooltip="Look for workflow files again",
            layout=w.Layout(width="36px", margin="0"),
        )
        self._form_box = w.VBox(layout=w.Layout(width="100%"))
        self._random = w.Checkbox(
            value=False,
            description="New seeds for each run",
            style=labelled,
            layout=w.Layout(width="100%", margin="0", display="none"),
        )
        self._run_button = w.Button(
            description="Run",
            icon="play",
            button_style="primary",
            tooltip="Run the workflow",
            disabled=True,
            layout=w.Layout(width="110px", margin="0"),
        )
        self._cancel_button = w.Button(
            description="Cancel",
            icon="stop",
            tooltip="Cancel the run",
            disabled=True,
            layout=w.Layout(width="110px", margin="0"),
        )
        self._state = w.HTML(layout=w.Layout(margin="0", flex="1 1 auto", width="auto"))
        self._progress = ProgressWidgets()
        self._progress.box.layout.display = "none"
        self._progress.box.layout.max_width = "100%"
        self._gallery = w.Box(
            layout=w.Layout(flex_flow="row wrap", grid_gap=GAP, width="100%", display="none")
        )
        self._gallery.add_class("comfydeploy-gallery")
        self._report = w.HTML(layout=w.Layout(width="100%", margin="0", display="none"))
        row = {"align_items": "center", "grid_gap": GAP, "width": "100%"}
        self.fill(
            w.HBox([self._files, self._refresh, self._upload], layout=w.Layout(**row)),
            self._form_box,
            self._random,
            w.HBox([self._run_button, self._cancel_button, self._state], layout=w.Layout(**row)),
            self._progress.box,
            self._gallery,
            self._report,
        )
        self._files.observe(lambda change: self.attempt(self._choose, change["new"]), "value")
        self._upload.observe(lambda change: self.attempt(self._take, change["new"]), "value")
        self._refresh.on_click(lambda _: self.start(self._list_files))
        self._run_button.on_click(lambda _: self.attempt(self.run))
        self._cancel_button.on_click(lambda _: self.attempt(self.cancel))

    def _say(self, text: str) -> None:
        attributes = 'class="comfydeploy-note" role="status" aria-live="polite"'
        self._state.value = f"<div {attributes}>{html.escape(text)}</div>"

    def _busy(self, running: bool) -> None:
        self._running = running
        self._run_button.disabled = running or self._workflow is None
        self._cancel_button.disabled = not running

    def _open(self, workflow: dict[str, Any] | str | os.PathLike[str] | None) -> None:
        """Find the workflows, ask ComfyUI what their inputs are, then show the first form."""
        self._list_files(workflow)
        self._say("Connecting …")
        try:
            self._definitions = self.comfy.object_info()
        except ComfyDeployError as error:
            self.show_error(error)
        if not self.closing:
            self._show_form()
            self._busy(False)
            self._say("Ready" if self._workflow else "Choose a workflow")
        self._opened.set()

    def _list_files(self, workflow: dict[str, Any] | str | os.PathLike[str] | None = None) -> None:
        found = {path.relative_to(self._directory).as_posix(): path for path in self._found()}
        options: list[tuple[str, Any]] = list(found.items())
        chosen: Any = None
        if workflow is not None:
            source = workflow if isinstance(workflow, dict) else str(workflow)
            chosen = _Choice(_title_of(source), source)
        elif isinstance(self._files.value, _Choice) or self._files.value in found.values():
            chosen = self._files.value
        if isinstance(chosen, _Choice):
            options = [(chosen.title, chosen), *(o for o in options if o[0] != chosen.title)]
        first = ("Choose a workflow" if options else "No workflow files here", None)
        self._files.options = [first, *options]
        self._files.value = chosen

    def _found(self) -> Iterator[Path]:
        count = 0
        for folder, folders, names in os.walk(self._directory):
            depth = len(Path(folder).relative_to(self._directory).parts)
            folders[:] = sorted(
                name
                for name in folders
                if not name.startswith(".") and name not in SKIPPED_FOLDERS and depth < DEEPEST
            )
            for name in sorted(names):
                path = Path(folder, name)
                if name.endswith(".json") and not name.startswith(".") and _is_workflow(path):
                    yield path
                    count += 1
                    if count >= MOST_FILES or self.closing:
                        return

    def _choose(self, chosen: Path | _Choice | None) -> None:
        self.clear_error()
        self._workflow = None
        if chosen is not None:
            source = chosen.source if isinstance(chosen, _Choice) else chosen
            self._workflow = Source(source)
        if self.ready:
            self._show_form()
            self._busy(self._running)

    def _take(self, files: tuple[dict[str, Any], ...]) -> None:
        """Open a file that the user's browser sent."""
        for file in files:
            text = bytes(file["content"]).decode("utf-8-sig")
            choice = _Choice(str(file["name"]), Source(text).graph or {})
            self._files.options = [*self._files.options, (choice.title, choice)]
            self._files.value = choice

    def _show_form(self) -> None:
        workflow = self._workflow
        graph = None if workflow is None or workflow.is_ui else workflow.graph
        is_ui = workflow is not None and workflow.is_ui
        with self._form_lock:
            # The old form goes last: a page does not bear widgets that are gone before it
            # has shown what takes their place.
            old = self._form
            self._form = Form([] if graph is None else input_form(graph, self._definitions))
            self._form_box.children = [w.HTML(UI_NOTE) if is_ui else self._form.box]
            self._random.layout.display = "" if self._form.has_seed or is_ui else "none"
            old.close()

    def _run(self, workflow: Source) -> None:
        try:
            self._say("Queueing …")
            options: dict[str, Any] = {"seed_mode": "random"} if self._random.value else {}
            self._stream = self.comfy.stream(workflow.graph, self.inputs, previews=True, **options)
            self._say("")
            self._follow(workflow, self._stream)
        finally:
            self._stream = None
            if not self.closing:
                self._say("")
                self._progress.box.layout.display = "none"
                self._busy(False)

    def _follow(self, workflow: Source, stream: EventStream) -> None:
        progress = RunProgress(workflow)
        reply: dict[str, Any] = {}
        self._progress.reset()
        self._progress.box.layout.display = ""
        with Live(progress, self._progress, on_error=self.show_error), stream:
            for event in stream:
                progress.feed(event)
                if event.event == "result":
                    reply = event.data
        if not self.closing:
            reply = reply or self.comfy.get(stream.prompt_id).record
            self._show(Result(self.comfy.server, reply, workflow))

    def _show(self, result: Result) -> None:
        self.result = result
        self._report.value = result.to_html(files=False)
        self._report.layout.display = ""
        pictures = [file for file in result.files if file.mime.startswith("image/")]
        images = [_framed(file) for file in pictures[:INLINE_IMAGES]]
        old = self._gallery.children
        self._gallery.children = images
        self._gallery.layout.display = "flex" if images else "none"
        for image in old:
            close_tree(image)

    def _cancel(self) -> None:
        stream = self._stream
        if stream is None:
            return
        try:
            self.comfy.interrupt(stream.prompt_id)
        except ConflictError:
            return
        except Exception:
            self._cancel_button.disabled = False
            raise


def _framed(file: OutputFile) -> w.Widget:
    """Return a picture over its name; ipywidgets has no alternative text for pictures."""
    mime, content = inline_picture(file)
    image = w.Image(
        value=content,
        format=mime.partition("/")[2].partition("+")[0],
        layout=w.Layout(max_width="min(100%, 384px)", margin="0"),
    )
    name = html.escape(file.filename)
    caption = w.HTML(f'<div class="comfydeploy-note">{name}</div>', layout=w.Layout(margin="0"))
    return w.VBox([image, caption], layout=w.Layout(max_width="100%"))


class _Choice:
    """A workflow in the list that is no file in the folder."""

    def __init__(self, title: str, source: dict[str, Any] | str) -> None:
        self.title = title
        self.source = source


def _title_of(source: dict[str, Any] | str) -> str:
    if isinstance(source, dict) or source.lstrip().startswith("{"):
        return "Given workflow"
    return Path(source).as_posix()


def _is_workflow(path: Path) -> bool:
    try:
        if path.stat().st_size > LARGEST_FILE:
            return False
        graph = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(graph, dict) or not graph:
        return False
    if isinstance(graph.get("nodes"), list) and "links" in graph:
        return True
    return all(isinstance(node, dict) and "class_type" in node for node in graph.values())
