"""The list of workflows: those in a folder, stored ones, and those of ComfyUI's editor."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ipywidgets as w
import traitlets as t

from ..client.workflows import EditorWorkflow
from ..display.page import FETCHERS, View, in_thread, script, server_facts
from ..errors import ComfyDeployError
from .base import Throttle
from .parts import button, column, note, row, text_box
from .picker import title_of_file, workflow_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ..client.workflows import StoredWorkflow, Workflows
    from .base import Panel


MAX_LISTED = 100
"""How many workflows of one place are listed at most; the search finds the others."""

LOOKED_AT = 5
"""How many of the last runs are searched for a picture."""

KEPT, FILES, EDITOR = "Stored", "Files beside the notebook", "In ComfyUI's editor"
"""The groups of the list."""


def entry(
    key: str, name: str, about: str, group: str, tags: list[str] | None = None, turn: int = 0
) -> dict[str, Any]:
    """Return a workflow as the script in the page takes it."""
    return {
        "id": key,
        "name": name,
        "note": about,
        "tags": tags or [],
        "group": group,
        "kept": group == KEPT,
        "turn": turn,
    }


def _version(stored: StoredWorkflow) -> str:
    return f"v{stored.latest_version}" if stored.latest_version else ""


class WorkflowChoices(View):
    """The list in the page."""

    _esm = script("workflow_list")

    # the workflows, as `entry` returns them
    entries: t.List[dict[str, Any]] = t.List().tag(sync=True)
    # the key of the workflow that is chosen
    value = t.Unicode(None, allow_none=True).tag(sync=True)
    # what happened: ``text``, whether it can be undone (``undo``) or is a ``problem``
    message: t.Dict[str, Any] = t.Dict().tag(sync=True)
    # whether stored workflows can be renamed, tagged and deleted
    editable = t.Bool(True).tag(sync=True)

    def __init__(self, panel: Panel, actions: WorkflowSidebar, *, editable: bool) -> None:
        self._actions = actions
        self._pictures: ThreadPoolExecutor | None = None
        super().__init__(panel, editable=editable)

    def close(self) -> None:
        """Remove the list."""
        if self._pictures is not None:
            self._pictures.shutdown(wait=False, cancel_futures=True)
        super().close()

    def received(self, path: Path, message: dict[str, Any]) -> None:
        """Keep a file that was dropped on the list."""
        self._actions.keep_file(path, first=bool(message.get("first", True)))

    @in_thread
    def _on_rename(self, message: dict[str, Any]) -> None:
        self._actions.rename(str(message["id"]), str(message["name"]))

    @in_thread
    def _on_tag(self, message: dict[str, Any]) -> None:
        self._actions.tag(str(message["id"]), [str(tag) for tag in message["tags"]])

    @in_thread
    def _on_delete(self, message: dict[str, Any]) -> None:
        self._actions.delete(str(message["id"]))

    @in_thread
    def _on_edit(self, message: dict[str, Any]) -> None:
        answer = {"kind": "edit", "id": str(message["id"])}
        try:
            self.send({**answer, "url": self._actions.edit(answer["id"])})
        except ComfyDeployError as error:
            self.send({**answer, "url": ""})  # the page closes the tab that it has opened for it
            self.message = {"text": str(error), "problem": True}

    @in_thread
    def _on_edited(self, _: object) -> None:
        self._actions.look_for_versions()

    @in_thread
    def _on_undo(self, _: object) -> None:
        self._actions.undo()

    @in_thread
    def _on_keep(self, message: dict[str, Any]) -> None:
        self._actions.keep_listed(str(message["id"]))

    def _on_picture(self, message: dict[str, Any], _: object) -> None:
        if self._pictures is None:
            self._pictures = ThreadPoolExecutor(FETCHERS, thread_name_prefix="comfydeploy-list")
        self._pictures.submit(self._panel.attempt, self._send_picture, str(message["id"]))

    def _send_picture(self, key: str) -> None:
        query = self._actions.picture(key)
        if query and not self._panel.closing:
            self.send({"kind": "picture", "id": key, "query": query})


SEARCH_INTERVAL = 0.3
"""Shortest time between two searches while somebody types, s."""


@dataclass(frozen=True)
class Opener:
    """How the sidebar shows workflows in its panel."""

    # opens the newest version of a stored workflow by its id; does not wait
    kept: Callable[[str], object]
    # opens a file or a workflow of the editor, with its key in the list; waits
    other: Callable[[str, Path | EditorWorkflow], object]
    # called with the id of a stored workflow that was changed, and whether it was deleted
    changed: Callable[[str, bool], object]
    # called, while `updating` is entered, with the stored workflows that are listed
    listed: Callable[[list[StoredWorkflow]], object]
    # returns the context in which the list is changed: its choices are not the user's
    updating: Callable[[], AbstractContextManager[None]]
    by_user: Callable[[], bool]  # returns whether a choice of this thread is the user's


class WorkflowSidebar:
    """A search field, the workflows that were found, and what opens a file.

    Its methods make requests: call them in a thread, except `choose` and `close`.
    """

    def __init__(
        self,
        panel: Panel,
        home: Callable[[], Workflows],
        directory: Path,
        opener: Opener,
        *below: w.Widget,
        cloud: bool,
    ) -> None:
        self.workflows: list[StoredWorkflow] = []  # the stored workflows that are listed
        self._panel = panel
        self._home = home
        self._directory = directory.expanduser().absolute()
        self._opener = opener
        self._cloud = cloud
        self._files: dict[str, Path] = {}
        self._in_editor: dict[str, EditorWorkflow] = {}
        self._turn = 0
        self._undo: tuple[str, Callable[[], StoredWorkflow | None]] = "", lambda: None
        self._lock = threading.Lock()
        self._keeping = threading.Lock()
        self._search = Throttle(lambda text: panel.start(self.find, text), SEARCH_INTERVAL)
        self.search = w.Text(
            description="Search",
            placeholder="in names, tags and comments",
            layout=w.Layout(width="100%", margin="0"),
        )
        self.search.add_class("comfydeploy-stacked")
        self.list = WorkflowChoices(panel, self, editable=not cloud)
        self._note = text_box(note("Connecting …", live=True))
        refresh = button(
            "",
            lambda: panel.start(self.refresh),
            icon="refresh",
            hint="List the workflows again",
        )
        first, *others = below
        self.box = column(
            self.search,
            self.list,
            self._note,
            row(first, refresh),
            *others,
            flex="1 1 210px",
            width="auto",
        )
        self.box.add_class("comfydeploy-side")
        self.search.observe(lambda change: self._search(change["new"]), "value")
        self.list.observe(lambda change: self._chosen(change["new"]), "value")

    def choose(self, key: str | None) -> None:
        """Choose a workflow by its key; choose none if it is not listed."""
        known = {one["id"] for one in self.list.entries}
        self.list.value = key if key in known else None

    def close(self) -> None:
        """Stop searching."""
        self._search.close()

    def refresh(self) -> None:
        """List the stored workflows, then files and those of the editor."""
        if not self.list.server:
            self.list.server = server_facts(self._panel.comfy)
        self.find(self.search.value)
        paths = list(workflow_files(self._directory, lambda: self._panel.closing))
        try:
            in_editor = self._panel.comfy.workflows.in_editor()
        except ComfyDeployError:
            in_editor = []  # ComfyUI may not answer
        with self._lock:
            self._turn += 1  # there may be new results, too
            self._files = {f"file:{path}": path for path in paths}
            self._in_editor = {f"editor:{each.path}": each for each in in_editor}
        self._show()

    def find(self, text: str) -> None:
        """List the workflows whose names, tags or comments contain a text."""
        found = self._home().list(text, limit=MAX_LISTED)
        if text != self.search.value or self._panel.closing:
            return  # the search text has changed since
        self.workflows = found
        self._show()

    def rename(self, workflow_id: str, name: str) -> None:
        """Rename a stored workflow."""
        changed = self._home().change(workflow_id, name=name)
        self._after(workflow_id, f"Renamed to {changed.name}.")

    def tag(self, workflow_id: str, tags: list[str]) -> None:
        """Replace the tags of a stored workflow."""
        changed = self._home().change(workflow_id, tags=tags)
        told = f"Tags: {', '.join(changed.tags)}." if changed.tags else "It has no tags now."
        self._after(workflow_id, told)

    def delete(self, workflow_id: str) -> None:
        """Delete a stored workflow; `undo` restores it."""
        deleted = self._home().delete(workflow_id)
        self._undo = workflow_id, lambda: self._home().restore(workflow_id)
        self._after(workflow_id, f"{deleted.name} is deleted.", deleted=True, undo=True)

    def edit(self, workflow_id: str) -> str:
        """Put a workflow into the folder of ComfyUI's editor; return the page that opens it."""
        return self._home().edit(workflow_id)

    def look_for_versions(self) -> None:
        """Open the newest version of the open workflow, if there is a newer one."""
        before = {each.id: each.latest_version for each in self.workflows}
        self.find(self.search.value)
        for stored in self.workflows:
            if stored.latest_version != before.get(stored.id, stored.latest_version):
                self._tell(f"{stored.name} has a new version {stored.latest_version}.")
                if stored.id == self.list.value:
                    self._opener.kept(stored.id)

    def undo(self) -> None:
        """Undo the last deletion, or what was kept last."""
        workflow_id, undo = self._undo
        restored = undo()
        if restored is None:
            self._after(workflow_id, "It is not stored any more.", deleted=True)
        else:
            self._after(workflow_id, f"{restored.name} was restored.")
            self._opener.kept(workflow_id)

    def keep_listed(self, key: str) -> None:
        """Keep a file, or a workflow of ComfyUI's editor, that is listed."""
        other = self._other(key)
        if other is not None:
            self._keep(other)

    def keep_file(self, path: Path, *, first: bool) -> None:
        """Keep a workflow file that was dropped on the list, under its name.

        ``first`` says whether it is the first of the files that were dropped together; the
        problems of those before it are shown, too.
        """
        with self._keeping:
            shown = self.list.message
            problems = [shown["text"]] if shown.get("problem") and not first else []
            try:
                self._keep(path)
            except (ComfyDeployError, OSError) as error:
                text = str(error).replace(f"{path.parent}{os.sep}", "")
                problems.append(f"{path.name} was not stored: {text}")
            if problems:
                self._tell("\n".join(problems), problem=True)

    def picture(self, workflow_id: str) -> str:
        """Return the address of a picture of the last result, as `OutputFile.query`, or ``""``."""
        stored = next((each for each in self.workflows if each.id == workflow_id), None)
        if stored is None or self._cloud:
            return ""
        try:
            runs = self._panel.comfy.runs(LOOKED_AT, status="success", of=stored.load())
        except ComfyDeployError:
            return ""  # a version without a graph in API format has no runs
        files = (file for run in runs if run.result for file in run.result.files)
        return next((file.query for file in files if file.is_image), "")

    def _keep(self, source: Path | EditorWorkflow) -> None:
        home = self._home()
        if isinstance(source, EditorWorkflow):
            kept = home.save(source.source.graph or {}, source.name)
        else:
            kept = home.save(source, source.stem)

        def undo() -> None:
            home.delete(kept.id)

        self._undo = kept.id, undo
        self.find(self.search.value)
        self._opener.kept(kept.id)
        self._tell(f"{kept.name} is stored on the server now.", undo=not self._cloud)

    def _after(
        self, workflow_id: str, text: str, *, deleted: bool = False, undo: bool = False
    ) -> None:
        """Show what has changed in a stored workflow."""
        self.find(self.search.value)
        self._opener.changed(workflow_id, deleted)
        self._tell(text, undo=undo)

    def _tell(self, text: str, *, undo: bool = False, problem: bool = False) -> None:
        """Show what happened below the list."""
        self.list.message = {"text": text, "undo": undo, "problem": problem}

    def _show(self) -> None:
        with self._opener.updating():
            found = self.workflows
            self.list.entries = self._entries(self.search.value)
            self.choose(self.list.value)
            many = f"These {MAX_LISTED} were changed last. Search to find others."
            none = "No workflow matches" if self.search.value else "No workflows are stored yet"
            few = many if len(found) == MAX_LISTED else ""
            self._note.value = note(few if self.list.entries else none, live=True)
            self._opener.listed(found)

    def _entries(self, text: str) -> list[dict[str, Any]]:
        """Return what the page lists for a search."""
        words = text.casefold().split()
        kept = [
            entry(each.id, each.name, _version(each), KEPT, each.tags, turn=self._turn)
            for each in self.workflows
        ]
        with self._lock:
            files = [
                entry(key, title_of_file(path, self._directory), "file", FILES)
                for key, path in self._files.items()
            ]
            saved = [
                entry(key, each.path.removesuffix(".json"), each.updated_at[:10], EDITOR)
                for key, each in self._in_editor.items()
            ]
        others = (
            [each for each in group if all(word in each["name"].casefold() for word in words)]
            for group in (files, saved)
        )
        return [*kept, *(each for group in others for each in group[:MAX_LISTED])]

    def _other(self, key: str) -> Path | EditorWorkflow | None:
        """Return a file, or a workflow of the editor, by its key in the list."""
        with self._lock:
            return self._files.get(key) or self._in_editor.get(key)

    def _chosen(self, key: str | None) -> None:
        if not self._opener.by_user() or key is None:
            return
        self._panel.clear_error()
        other = self._other(key)
        if other is None:
            self._opener.kept(key)
        else:
            self._panel.start(self._opener.other, key, other)
