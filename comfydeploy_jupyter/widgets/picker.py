"""Choosing a workflow: files in a folder, stored workflows, examples."""

from __future__ import annotations

import json
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import ipywidgets as w
import traitlets as t

from ..client import EditorWorkflow, StoredWorkflow, Workflow, WorkflowVersion
from ..client.graph import Source, is_json
from ..client.workflows import graphs_of
from ..display.page import View, script
from ..errors import ComfyDeployError, InvalidRequestError, NotFoundError, RunTimeoutError
from .base import Problem
from .parts import FileButton, OwnChoices, SearchCombo, button, column, row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..graphs.examples import Example
    from .base import Panel


MAX_FILES = 200
MAX_LOOKED_AT = 2000
MAX_FILE_SIZE = 20 * 1024 * 1024  # bytes of a JSON file that may be a workflow
SKIPPED_FOLDERS = frozenset({"node_modules", "__pycache__", "site-packages"})
MAX_DEPTH = 4
MEDIA = (".png", ".webp", ".flac", ".mp3", ".opus", ".mp4", ".webm", ".latent")
"""Endings of files in which ComfyUI saves the workflow that made them."""

ACCEPTED = ",".join((".json", *MEDIA))


def workflow_files(directory: Path, stopped: Callable[[], bool]) -> Iterator[Path]:
    """Yield the paths of workflow files in a folder and its subfolders."""
    count = looked_at = 0
    for folder, folders, names in os.walk(directory):
        depth = len(Path(folder).relative_to(directory).parts)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in SKIPPED_FOLDERS and depth < MAX_DEPTH
        )
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or path.suffix.lower() not in (".json", *MEDIA):
                continue
            looked_at += 1
            if is_workflow(path):
                yield path
                count += 1
            if count >= MAX_FILES or looked_at >= MAX_LOOKED_AT or stopped():
                return


def is_workflow(path: Path) -> bool:
    """Return whether a file is a workflow, or carries one."""
    suffix = path.suffix.lower()
    try:
        if suffix in MEDIA:
            return Source(path).graph is not None
        if suffix != ".json" or path.stat().st_size > MAX_FILE_SIZE:
            return False
        graph = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError, ComfyDeployError):
        return False
    if not isinstance(graph, dict) or not graph:
        return False
    if isinstance(graph.get("nodes"), list) and "links" in graph:
        return True
    return all(isinstance(node, dict) and "class_type" in node for node in graph.values())


def title_of_file(path: Path, directory: Path) -> str:
    """Return what a list calls a file: its path in the folder where it is in that folder."""
    whole = path.absolute()
    below = whole.is_relative_to(directory)
    return whole.relative_to(directory).as_posix() if below else path.as_posix()


MAX_OFFERED = 5
"""How many files, and how many stored workflows, are offered."""


class StartBox(View):
    """Offers files, stored workflows and examples."""

    _esm = script("start")

    files: t.List[str] = t.List().tag(sync=True)
    stored: t.List[str] = t.List().tag(sync=True)
    examples: t.List[str] = t.List().tag(sync=True)
    shown = t.Bool(False).tag(sync=True)

    def __init__(
        self, panel: Panel, pick: Callable[[str], object], show: Callable[[Example], object]
    ) -> None:
        self._pick = pick
        self._show = show
        self._examples: dict[str, Example] = {}
        super().__init__(panel)

    def offer(
        self, files: Sequence[str], stored: Sequence[str], examples: Sequence[Example]
    ) -> None:
        """Show these ways to begin; files and stored workflows by their titles in the picker."""
        self._examples = {example.title: example for example in examples}
        with self.hold_sync():
            self.files, self.stored = [*files[:MAX_OFFERED]], [*stored[:MAX_OFFERED]]
            self.examples = [*self._examples]
            self.shown = True

    def _on_pick(self, message: dict[str, Any], _: object) -> None:
        self._pick(str(message["title"]))

    def _on_example(self, message: dict[str, Any], _: object) -> None:
        self._show(self._examples[str(message["title"])])


GivenWorkflow: TypeAlias = (
    Workflow | StoredWorkflow | WorkflowVersion | dict[str, Any] | str | bytes | os.PathLike[str]
)
"""What a panel accepts as a workflow."""

MAX_STORED = 200

EDITOR = "ComfyUI's editor"
"""The note beside workflows that ComfyUI's editor stores in its own folder."""


@dataclass(frozen=True)
class Choice:
    """A workflow that can be chosen."""

    title: str  # its name, and where it is from
    note: str
    source: Any  # the workflow: a path, a `Source`, a `StoredWorkflow` or an `EditorWorkflow`


class Requests:
    """The requests to show a workflow, of which only the last one is carried out."""

    def __init__(self) -> None:
        self.last = 0  # the number of the newest request
        self.lock = threading.Lock()
        self.done = threading.Event()  # set once the last request has ended

    def next(self) -> int:
        """Return the number of a new request, which takes the place of all before."""
        with self.lock:
            self.last += 1
            self.done.clear()
            return self.last

    def wait(self, seconds: float) -> None:
        """Wait until the last request has ended."""
        if not self.done.wait(seconds):
            raise RunTimeoutError(
                f"the workflow is still being opened after {seconds:g} s; try again later"
            )

    def carry_out(self, request: int, task: Callable[[], object]) -> bool:
        """Call a task unless there is a newer request; return whether it was called."""
        with self.lock:
            if request != self.last:
                return False
            task()
            return True


class Picker:
    """A field with all workflows, a list of versions, and a button that opens a file."""

    def __init__(
        self,
        panel: Panel,
        directory: Path,
        choose: Callable[[Source, str, Callable[[], bool]], object],
        requests: Requests,
    ) -> None:
        self._panel = panel
        self._directory = directory.expanduser().absolute()
        self._choose = choose
        self._requests = requests
        self._choices: dict[str, Choice] = {}
        self._own_choices = OwnChoices()
        # the stored workflow that is shown; None for any other workflow
        self.stored: StoredWorkflow | None = None
        self._field = SearchCombo(
            description="Workflow",
            placeholder="Search workflow files and stored workflows",
            free=False,
        )
        self._field.layout.flex, self._field.layout.width = "1 1 200px", "auto"
        self._field.layout.min_width = "0"
        self._version = w.Dropdown(
            description="Version",
            layout=w.Layout(width="auto", margin="0", display="none"),
            style={"description_width": "auto"},
        )
        self._problem = Problem()
        self._upload = FileButton(
            panel,
            "Open",
            self._take,
            self._problem,
            hint="Open a workflow of your computer: a JSON file, or a picture that ComfyUI made",
            accept=ACCEPTED,
        )
        again = button(
            "",
            lambda: panel.start(self.refresh),
            icon="refresh",
            hint="Search for workflows again",
        )
        bar = row(self._field, self._version, again, self._upload)
        self.box = column(bar, self._problem)
        self.box.add_class("cd-picker")
        self._field.observe(lambda _: self._picked(None), "value")
        self._version.observe(lambda change: self._picked(change["new"]), "value")

    @property
    def problem(self) -> str:
        """Why the last workflow could not be opened, as HTML; empty if it could."""
        return str(self._problem.value)

    @property
    def titles(self) -> list[str]:
        """The titles of the workflows that can be chosen."""
        return list(self._choices)

    def titles_of(self, note: str) -> list[str]:
        """Return the titles of the workflows from one place, such as ``"file"`` or ``"stored"``."""
        return [title for title, choice in self._choices.items() if choice.note == note]

    def pick(self, title: str) -> None:
        """Choose by title."""
        if title not in self._choices:
            raise KeyError(title)
        self._field.value = title

    def begin(self, workflow: GivenWorkflow, version: int | None, request: int) -> None:
        """Show a workflow in any form that a panel accepts; call it in a thread."""
        with self._carrying_out(request):
            choice = self._choice_of(workflow)
            self._add(choice)
            self._requests.carry_out(request, lambda: self._show(choice))
            self._open(choice, version, request)

    def refresh(self) -> None:
        """Search for workflows again; call it in a thread."""
        given = [c for c in self._choices.values() if c.note in {"given", "opened"}]
        found = [*given, *self._stored(), *self._files(), *self._in_editor()]
        chosen = self._choices.get(self._field.value)
        choices: dict[str, Choice] = {}
        for choice in found if chosen is None else [*found, chosen]:
            title = choice.title
            known = choices.get(title)
            if known is not None and known.source != choice.source:
                title = f"{title} ({choice.note})"
            choices.setdefault(title, choice)
        self._choices = choices
        self._field.options = [(title, title, c.note) for title, c in choices.items()]
        if not choices:
            self._field.placeholder = "There is no workflow here. Open one from your computer."

    def _add(self, choice: Choice) -> None:
        self._choices = {choice.title: choice, **self._choices}
        self._field.options = [(title, title, c.note) for title, c in self._choices.items()]

    def _show(self, choice: Choice) -> None:
        with self._own_choices.made():
            self._field.value = choice.title

    def _picked(self, version: int | None) -> None:
        choice = self._choices.get(self._field.value)
        if choice is not None and self._own_choices.by_user:
            self._panel.clear_error()
            self._panel.start(self._open_chosen, choice, version, self._requests.next())

    def _open_chosen(self, choice: Choice, version: int | None, request: int) -> None:
        with self._carrying_out(request):
            self._open(choice, version, request)

    @contextmanager
    def _carrying_out(self, request: int) -> Iterator[None]:
        """End a request with the ``with`` block; show its error if it is still the newest."""
        self._problem.clear()
        try:
            yield
        except Exception as error:
            show = partial(self._problem.show, error)
            if not self._panel.closing:
                self._requests.carry_out(request, show)
        finally:
            self._requests.carry_out(request, self._requests.done.set)

    def _open(self, choice: Choice, version: int | None, request: int) -> None:
        source, number = choice.source, 1
        stored = source if isinstance(source, StoredWorkflow) else None
        self._requests.carry_out(request, self._hide_versions)
        if stored is not None:
            chosen = stored.version("latest" if version is None else version)
            source, number = graphs_of(chosen), chosen.number
        elif isinstance(source, EditorWorkflow):
            source = source.source

        def settle() -> bool:
            return self._requests.carry_out(request, lambda: self._show_versions(stored, number))

        source = source if isinstance(source, Source) else Source(source)
        self._choose(source, choice.title, settle)

    def _hide_versions(self) -> None:
        self._version.layout.display = "none"

    def _show_versions(self, stored: StoredWorkflow | None, number: int) -> None:
        """Show the versions of the workflow that is shown from now on."""
        self.stored = stored
        latest = 1 if stored is None else stored.latest_version or number
        with self._own_choices.made():
            self._version.options = [(f"{n}", n) for n in range(latest, 0, -1)]
            self._version.value = number
        self._version.layout.display = "" if latest > 1 else "none"

    def _take(self, path: Path) -> None:
        """Open a file from the user's browser."""
        choice = Choice(path.name, "opened", Source(path))
        request = self._requests.next()
        self._add(choice)
        self._panel.clear_error()
        try:
            self._requests.carry_out(request, lambda: self._show(choice))
            self._open(choice, None, request)
        finally:
            self._requests.carry_out(request, self._requests.done.set)

    def _choice_of(self, workflow: Any) -> Choice:
        if isinstance(workflow, Workflow):
            return Choice(workflow.title or "Given workflow", "given", workflow.source)
        if isinstance(workflow, StoredWorkflow):
            return Choice(workflow.name, "stored", workflow)
        if isinstance(workflow, WorkflowVersion):
            stored = self._panel.comfy.workflows.get(workflow.workflow_id)
            return Choice(f"{stored.name}, version {workflow.number}", "given", graphs_of(workflow))
        if isinstance(workflow, (Source, dict, bytes)):
            source = workflow if isinstance(workflow, Source) else Source(workflow)
            return Choice("Given workflow", "given", source)
        if isinstance(workflow, str) and is_json(workflow):
            return Choice("Given workflow", "given", Source(workflow))
        if isinstance(workflow, (str, os.PathLike)):
            path = Path(workflow).expanduser()
            if isinstance(workflow, str) and not path.is_file():
                return self._named(workflow)
            return self._file(path)
        raise InvalidRequestError.of_field(
            "workflow",
            "must be a path, a dict, JSON text, a Workflow, or the name or id of a stored one, "
            f"not a {type(workflow).__name__}",
        )

    def _named(self, name: str) -> Choice:
        """Return the stored workflow of a name or id."""
        workflows = self._panel.comfy.workflows
        found = [w for w in workflows.list(name, limit=MAX_STORED) if w.name == name]
        if not found:
            try:
                found = [workflows.get(name)]
            except (NotFoundError, InvalidRequestError):
                raise InvalidRequestError.of_field(
                    "workflow", f"there is neither a file nor a stored workflow {name!r}"
                ) from None
        return Choice(found[0].name, "stored", found[0])

    def _stored(self) -> list[Choice]:
        try:
            stored = self._panel.comfy.workflows.list(limit=MAX_STORED)
        except ComfyDeployError:
            return []  # the next request of the panel shows the same error
        return [Choice(each.name, "stored", each) for each in stored]

    def _file(self, path: Path) -> Choice:
        return Choice(title_of_file(path, self._directory), "file", path.absolute())

    def _files(self) -> Iterator[Choice]:
        yield from map(self._file, workflow_files(self._directory, lambda: self._panel.closing))

    def _in_editor(self) -> list[Choice]:
        try:
            found = self._panel.comfy.workflows.in_editor()
        except ComfyDeployError:
            return []  # ComfyUI may not answer
        return [Choice(each.path, EDITOR, each) for each in found]
