"""The list of workflows: those in a folder, stored ones, and those of ComfyUI's editor."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import ipywidgets as w
import traitlets as t

from ..client.workflows import EditorWorkflow
from ..display.page import FETCHERS, View, script, server_facts
from ..errors import ComfyDeployError
from .base import Throttle
from .parts import button, note, row
from .picker import title_of_file, workflow_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ..client.workflows import StoredWorkflow, Workflows
    from .base import Panel


LISTED = 100
"""How many workflows of one place are listed at most; the search finds the others."""

LOOKED_AT = 5
"""How many of the last runs are searched for a picture."""

KEPT, FILES, EDITOR = "Stored", "Files beside the notebook", "In ComfyUI's editor"
"""The groups of the list."""


class WorkflowLibrary:
    """Finds workflows, changes stored ones, and stores others.

    Its methods make requests: call them in a thread.
    """

    def __init__(self, panel: Panel, home: Callable[[], Workflows], directory: Path) -> None:
        self._panel = panel
        self._home = home
        self._directory = directory.expanduser().absolute()
        self._files: dict[str, Path] = {}
        self._in_editor: dict[str, EditorWorkflow] = {}
        self._turn = 0
        self._undo: tuple[str, Callable[[], StoredWorkflow | None]] = "", lambda: None
        self._lock = threading.Lock()
        self.kept: list[StoredWorkflow] = []  # the stored workflows that were found last

    def find(self, text: str) -> list[StoredWorkflow]:
        """Request the stored workflows whose names, tags or comments contain a text."""
        return self._home().list(text, limit=LISTED)

    def look(self) -> None:
        """Look for files, and for workflows of the editor, again."""
        paths = list(workflow_files(self._directory, lambda: self._panel.closing))
        try:
            in_editor = self._panel.comfy.workflows.in_editor()
        except ComfyDeployError:
            in_editor = []  # ComfyUI may not answer
        with self._lock:
            self._turn += 1  # there may be new results, too
            self._files = {f"file:{path}": path for path in paths}
            self._in_editor = {f"editor:{each.path}": each for each in in_editor}

    def entries(self, text: str) -> list[dict[str, Any]]:
        """Return what the page lists for a search."""
        words = text.casefold().split()

        def matches(name: str) -> bool:
            return all(word in name.casefold() for word in words)

        kept = [
            entry(each.id, each.name, _version(each), KEPT, each.tags, turn=self._turn)
            for each in self.kept
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
        return [
            *kept,
            *[each for each in files if matches(each["name"])][:LISTED],
            *[each for each in saved if matches(each["name"])][:LISTED],
        ]

    def other(self, key: str) -> Path | EditorWorkflow | None:
        """Return a file, or a workflow of the editor, by its key in the list."""
        with self._lock:
            return self._files.get(key) or self._in_editor.get(key)

    def rename(self, workflow_id: str, name: str) -> str:
        """Rename a stored workflow, and return a message about it."""
        changed = self._home().change(workflow_id, name=name)
        return f"Renamed to {changed.name}."

    def tag(self, workflow_id: str, tags: list[str]) -> str:
        """Replace the tags of a stored workflow, and return a message about it."""
        changed = self._home().change(workflow_id, tags=tags)
        return f"Tags: {', '.join(changed.tags)}." if changed.tags else "It has no tags now."

    def delete(self, workflow_id: str) -> str:
        """Delete a stored workflow, and return a message about it."""
        deleted = self._home().delete(workflow_id)
        self._undo = workflow_id, lambda: self._home().restore(workflow_id)
        return f"{deleted.name} is deleted."

    def edit(self, workflow_id: str) -> str:
        """Put a workflow into the folder of ComfyUI's editor; return the page that opens it."""
        return self._home().edit(workflow_id)

    def keep(self, source: Path | EditorWorkflow) -> StoredWorkflow:
        """Keep a file, or a workflow of the editor, under its name."""
        home = self._home()
        if isinstance(source, EditorWorkflow):
            kept = home.save(source.source.graph or {}, source.name)
        else:
            kept = home.save(source, source.stem)

        def undo() -> None:
            home.delete(kept.id)

        self._undo = kept.id, undo
        return kept

    def undo(self) -> tuple[str, StoredWorkflow | None]:
        """Undo the last deletion, or what was kept last."""
        workflow_id, undo = self._undo
        return workflow_id, undo()

    def picture(self, workflow_id: str) -> str:
        """Return the address of a picture of the last result, as `OutputFile.query`, or ``""``."""
        stored = next((each for each in self.kept if each.id == workflow_id), None)
        if stored is None:
            return ""
        try:
            runs = self._panel.comfy.runs(LOOKED_AT, status="success", of=stored.load())
        except ComfyDeployError:
            return ""  # a version without a graph in API format has no runs
        files = (file for run in runs if run.result for file in run.result.files)
        return next((file.query for file in files if file.is_image), "")


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


class ListActions(Protocol):
    """The actions on workflows in the list; each method is called in a thread."""

    def rename(self, workflow_id: str, name: str) -> None:
        """Rename a stored workflow."""

    def tag(self, workflow_id: str, tags: list[str]) -> None:
        """Replace the tags of a stored workflow."""

    def delete(self, workflow_id: str) -> None:
        """Delete a stored workflow."""

    def edit(self, workflow_id: str) -> str:
        """Put a stored workflow into ComfyUI's editor; return the address of the page."""

    def look_for_versions(self) -> None:
        """Open the newest version of the open workflow, if there is a newer one."""

    def undo(self) -> None:
        """Undo the last deletion, or the last *Keep*."""

    def keep_listed(self, key: str) -> None:
        """Keep a file or a workflow of the editor that is listed."""

    def keep_file(self, path: Path, *, first: bool) -> None:
        """Keep a file that was dropped on the list.

        ``first`` says whether it is the first of the files that were dropped together; the
        problems of those before it are shown, too.
        """

    def picture(self, workflow_id: str) -> str:
        """Return the address of a picture of the last result; empty if there is none."""


class WorkflowChoices(View):
    """The list in the page."""

    _esm = script("workflow_list")

    # the workflows, as `workflow_library.entry` returns them
    entries: t.List[dict[str, Any]] = t.List().tag(sync=True)
    # the key of the workflow that is chosen
    value = t.Unicode(None, allow_none=True).tag(sync=True)
    # what happened: ``text``, whether it can be undone (``undo``) or is a ``problem``
    message: t.Dict[str, Any] = t.Dict().tag(sync=True)
    # whether stored workflows can be renamed, tagged and deleted
    editable = t.Bool(True).tag(sync=True)

    def __init__(self, panel: Panel, actions: ListActions, *, editable: bool) -> None:
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

    def _on_rename(self, message: dict[str, Any], _: object) -> None:
        self._panel.start(self._actions.rename, str(message["id"]), str(message["name"]))

    def _on_tag(self, message: dict[str, Any], _: object) -> None:
        tags = [str(tag) for tag in message["tags"]]
        self._panel.start(self._actions.tag, str(message["id"]), tags)

    def _on_delete(self, message: dict[str, Any], _: object) -> None:
        self._panel.start(self._actions.delete, str(message["id"]))

    def _on_edit(self, message: dict[str, Any], _: object) -> None:
        self._panel.start(self._edit, str(message["id"]))

    def _edit(self, key: str) -> None:
        answer = {"kind": "edit", "id": key}
        try:
            self.send({**answer, "url": self._actions.edit(key)})
        except ComfyDeployError as error:
            self.send({**answer, "url": ""})  # the page closes the tab that it has opened for it
            self.message = {"text": str(error), "problem": True}

    def _on_edited(self, _: object, __: object) -> None:
        self._panel.start(self._actions.look_for_versions)

    def _on_undo(self, _: object, __: object) -> None:
        self._panel.start(self._actions.undo)

    def _on_keep(self, message: dict[str, Any], _: object) -> None:
        self._panel.start(self._actions.keep_listed, str(message["id"]))

    def _on_picture(self, message: dict[str, Any], _: object) -> None:
        if self._pictures is None:
            self._pictures = ThreadPoolExecutor(FETCHERS, thread_name_prefix="comfydeploy-list")
        self._pictures.submit(self._panel.attempt, self._send_picture, str(message["id"]))

    def _send_picture(self, key: str) -> None:
        query = self._actions.picture(key)
        if query and not self._panel.closing:
            self.send({"kind": "picture", "id": key, "query": query})


class WorkflowList:
    """A search field, the workflows that were found, and what opens a file."""

    def __init__(
        self,
        panel: Panel,
        actions: ListActions,
        on_search: Callable[[str], object],
        on_refresh: Callable[[], object],
        on_choice: Callable[[str | None], object],
        *below: w.Widget,
        editable: bool = True,
    ) -> None:
        self.workflows: list[StoredWorkflow] = []  # the stored workflows that are listed
        self.search = w.Text(
            description="Search",
            placeholder="in names, tags and comments",
            layout=w.Layout(width="100%", margin="0"),
        )
        self.search.add_class("comfydeploy-stacked")
        self.list = WorkflowChoices(panel, actions, editable=editable)
        self._note = w.HTML(note("Connecting …", live=True), layout=w.Layout(margin="0"))
        refresh = button("", on_refresh, icon="refresh", hint="List the workflows again")
        first, *others = below
        self.box = w.VBox(
            [self.search, self.list, self._note, row(first, refresh), *others],
            layout=w.Layout(flex="1 1 210px", width="auto", grid_gap="8px"),
        )
        self.box.add_class("comfydeploy-side")
        self.search.observe(lambda change: on_search(change["new"]), "value")
        self.list.observe(lambda change: on_choice(change["new"]), "value")

    def show(
        self,
        found: list[StoredWorkflow],
        entries: list[dict[str, Any]],
        chosen: str | None,
    ) -> None:
        """Show workflows, and choose one by its key if it is among them."""
        self.workflows = found
        self.list.entries = entries
        self.choose(chosen)
        many = f"These {LISTED} were changed last. Search to find others."
        none = "No workflow matches" if self.search.value else "No workflows are stored yet"
        text = none if not entries else many if len(found) == LISTED else ""
        self._note.value = note(text, live=True)

    def choose(self, key: str | None) -> None:
        """Choose a workflow by its key; choose none if it is not listed."""
        known = {one["id"] for one in self.list.entries}
        self.list.value = key if key in known else None

    def show_message(self, text: str, *, undo: bool = False, problem: bool = False) -> None:
        """Show what happened below the list."""
        self.list.message = {"text": text, "undo": undo, "problem": problem}


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
    """The `ListActions` of the list of workflows."""

    def __init__(
        self,
        panel: Panel,
        home: Callable[[], Workflows],
        directory: Path,
        opener: Opener,
        *below: w.Widget,
        cloud: bool,
    ) -> None:
        self._panel = panel
        self._opener = opener
        self._cloud = cloud
        self._keeping = threading.Lock()
        self._library = WorkflowLibrary(panel, home, directory)
        self._search = Throttle(lambda text: panel.start(self.find, text), SEARCH_INTERVAL)
        self.list = WorkflowList(
            panel,
            self,
            self._search,
            lambda: panel.start(self.refresh),
            self._choose,
            *below,
            editable=not cloud,
        )

    def close(self) -> None:
        """Stop searching."""
        self._search.close()

    def refresh(self) -> None:
        """List the stored workflows, then all others; call it in a thread."""
        if not self.list.list.server:
            server = self._panel.comfy.server
            instance = str(self._panel.comfy.status().get("instance", ""))
            self.list.list.server = server_facts(server, instance)
        self.find(self.list.search.value)
        self._library.look()
        self._show()

    def find(self, text: str) -> None:
        """List the workflows whose names, tags or comments contain a text."""
        found = self._library.find(text)
        if text != self.list.search.value or self._panel.closing:
            return  # the search text has changed since
        self._library.kept = found
        self._show()

    def rename(self, workflow_id: str, name: str) -> None:
        """Rename a stored workflow."""
        self._after(workflow_id, self._library.rename(workflow_id, name))

    def tag(self, workflow_id: str, tags: list[str]) -> None:
        """Replace the tags of a stored workflow."""
        self._after(workflow_id, self._library.tag(workflow_id, tags))

    def delete(self, workflow_id: str) -> None:
        """Delete a stored workflow; `undo` restores it."""
        self._after(workflow_id, self._library.delete(workflow_id), deleted=True)

    def edit(self, workflow_id: str) -> str:
        """Put a stored workflow into ComfyUI's editor; return the address of the page."""
        return self._library.edit(workflow_id)

    def look_for_versions(self) -> None:
        """Open the newest version of the open workflow, if there is a newer one."""
        before = {each.id: each.latest_version for each in self.list.workflows}
        self.find(self.list.search.value)
        for stored in self.list.workflows:
            if stored.latest_version != before.get(stored.id, stored.latest_version):
                self.list.show_message(f"{stored.name} has a new version {stored.latest_version}.")
                if stored.id == self.list.list.value:
                    self._opener.kept(stored.id)

    def undo(self) -> None:
        """Undo the last deletion, or what was kept last."""
        workflow_id, restored = self._library.undo()
        if restored is None:
            self._after(workflow_id, "It is not stored any more.", deleted=True, undo=False)
        else:
            self._after(workflow_id, f"{restored.name} was restored.")
            self._opener.kept(workflow_id)

    def keep_listed(self, key: str) -> None:
        """Keep a file, or a workflow of ComfyUI's editor, that is listed."""
        other = self._library.other(key)
        if other is not None:
            self._keep(other)

    def keep_file(self, path: Path, *, first: bool) -> None:
        """Keep a workflow file, or one that carries a workflow, under its name."""
        with self._keeping:
            shown = self.list.list.message
            problems = [shown["text"]] if shown.get("problem") and not first else []
            try:
                self._keep(path)
            except (ComfyDeployError, OSError) as error:
                text = str(error).replace(f"{path.parent}{os.sep}", "")
                problems.append(f"{path.name} was not stored: {text}")
            if problems:
                self.list.show_message("\n".join(problems), problem=True)

    def picture(self, workflow_id: str) -> str:
        """Return the address of a picture of a workflow's last result; empty if there is none."""
        return "" if self._cloud else self._library.picture(workflow_id)

    def _keep(self, other: Path | EditorWorkflow) -> None:
        kept = self._library.keep(other)
        self.find(self.list.search.value)
        self._opener.kept(kept.id)
        self.list.show_message(f"{kept.name} is stored on the server now.", undo=not self._cloud)

    def _after(
        self, workflow_id: str, text: str, *, deleted: bool = False, undo: bool | None = None
    ) -> None:
        """Show what has changed in a stored workflow."""
        self.find(self.list.search.value)
        self._opener.changed(workflow_id, deleted)
        self.list.show_message(text, undo=deleted if undo is None else undo)

    def _show(self) -> None:
        with self._opener.updating():
            kept = self._library.kept
            entries = self._library.entries(self.list.search.value)
            self.list.show(kept, entries, self.list.list.value)
            self._opener.listed(kept)

    def _choose(self, key: str | None) -> None:
        if not self._opener.by_user() or key is None:
            return
        self._panel.clear_error()
        other = self._library.other(key)
        if other is None:
            self._opener.kept(key)
        else:
            self._panel.start(self._opener.other, key, other)
