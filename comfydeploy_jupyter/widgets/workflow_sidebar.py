"""The sidebar of WorkflowPanel: searches, lists, opens and changes workflows."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..display.page import server_facts
from ..errors import ComfyDeployError
from .throttle import Throttle
from .workflow_library import WorkflowLibrary
from .workflow_list import WorkflowList

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    import ipywidgets as w

    from ..client.workflows import EditorWorkflow, StoredWorkflow, Workflows
    from .base import Panel

SEARCH_INTERVAL = 0.3
"""Shortest time between two searches while somebody types, s."""


@dataclass(frozen=True)
class Opener:
    """How the sidebar shows workflows in its panel.

    Attributes
    ----------
    kept : callable
        Opens the newest version of a stored workflow by its id; does not wait.
    other : callable
        Opens a file or a workflow of the editor, with its key in the list; waits.
    changed : callable
        Called with the id of a stored workflow that was changed, and whether it was deleted.
    listed : callable
        Called, while `updating` is entered, with the stored workflows that are listed.
    updating : callable
        Returns the context in which the list is changed: its choices are not the user's.
    by_user : callable
        Returns whether a choice of this thread is the user's.
    """

    kept: Callable[[str], object]
    other: Callable[[str, Path | EditorWorkflow], object]
    changed: Callable[[str, bool], object]
    listed: Callable[[list[StoredWorkflow]], object]
    updating: Callable[[], AbstractContextManager[None]]
    by_user: Callable[[], bool]


class WorkflowSidebar:
    """The `ListActions` of the list of workflows.

    Parameters
    ----------
    panel : Panel
        Runs its threads and shows its errors.
    home : callable
        Returns where the workflows are kept.
    directory : pathlib.Path
        The folder that is searched for files.
    opener : Opener
        Shows workflows.
    *below : ipywidgets.Widget
        What is shown below the list.
    cloud : bool
        Whether the workflows are those of ComfyDeploy, which are not changed here.

    Attributes
    ----------
    list : WorkflowList
        The widgets.
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
