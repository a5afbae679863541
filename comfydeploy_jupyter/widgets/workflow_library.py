"""The workflows that WorkflowPanel lists: stored ones, files, and those of ComfyUI's editor."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ..client.workflows import EditorWorkflow
from ..errors import ComfyDeployError
from .workflow_files import title_of_file, workflow_files

if TYPE_CHECKING:
    from collections.abc import Callable
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

    Parameters
    ----------
    panel : Panel
        Its client is used, and it says when it is closed.
    home : callable
        Returns where the workflows are kept.
    directory : pathlib.Path
        The folder that is searched for files.

    Attributes
    ----------
    kept : list of StoredWorkflow
        The stored workflows that were found last.
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
        self.kept: list[StoredWorkflow] = []

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
        """Undo the last deletion, or what was kept last.

        Returns
        -------
        tuple of str and StoredWorkflow or None
            The id, and the workflow if it was restored.
        """
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
