"""The search and the list in the sidebar of WorkflowPanel. It makes no requests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import ipywidgets as w
import traitlets as t

from ..display.page import FETCHERS, View, script
from ..errors import ComfyDeployError
from .parts import button, note, row
from .workflow_library import LISTED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..client.workflows import StoredWorkflow
    from .base import Panel


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
    """The list in the page.

    Attributes
    ----------
    entries : list of dict
        The workflows, as `workflow_library.entry` returns them.
    value : str or None
        The key of the workflow that is chosen.
    message : dict
        What happened: ``text``, whether it can be undone (``undo``) or is a ``problem``.
    editable : bool
        Whether stored workflows can be renamed, tagged and deleted.
    """

    _esm = script("workflow_list")

    entries: t.List[dict[str, Any]] = t.List().tag(sync=True)
    value = t.Unicode(None, allow_none=True).tag(sync=True)
    message: t.Dict[str, Any] = t.Dict().tag(sync=True)
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
    """A search field, the workflows that were found, and what opens a file.

    Parameters
    ----------
    panel : Panel
        The panel that contains it.
    actions : ListActions
        What can be done with a workflow.
    on_search : callable
        Called with the text of the search when it changes.
    on_refresh : callable
        Called when the list is to be made anew.
    on_choice : callable
        Called with the key of the workflow that is chosen, or None.
    *below : ipywidgets.Widget
        What is shown below the list; the button to refresh it comes after the first of them.
    editable : bool
        Whether stored workflows can be renamed, tagged and deleted.

    Attributes
    ----------
    workflows : list of StoredWorkflow
        The stored workflows that are listed.
    list : WorkflowChoices
        The list.
    """

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
        self.workflows: list[StoredWorkflow] = []
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
