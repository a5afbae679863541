"""The side of WorkflowPanel with the search and the list of workflows. It makes no requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets as w

from .parts import button, note, row

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client.workflows import StoredWorkflow

LISTED = 100
"""How many workflows are listed at most; the search finds the others."""


class WorkflowList:
    """A search field, the workflows that were found, and what opens a file.

    Parameters
    ----------
    on_search : callable
        Called with the text of the search when it changes, or when the list is to be refreshed.
    on_choice : callable
        Called with the id of the workflow that is chosen, or None.
    *below : ipywidgets.Widget
        What is shown below the list; the button to refresh it comes after the first of them.

    Attributes
    ----------
    workflows : list of StoredWorkflow
        The workflows that are listed.
    """

    def __init__(
        self,
        on_search: Callable[[str], object],
        on_choice: Callable[[str | None], object],
        *below: w.Widget,
    ) -> None:
        full = {"width": "100%", "margin": "0"}
        self.workflows: list[StoredWorkflow] = []
        self.search = w.Text(
            description="Search",
            placeholder="in names and comments",
            layout=w.Layout(**full),
        )
        self.list = w.Select(
            description="Workflows", rows=9, layout=w.Layout(**full, height="auto")
        )
        for control in (self.search, self.list):
            control.add_class("comfydeploy-stacked")
        self._note = w.HTML(note("Connecting …", live=True), layout=w.Layout(margin="0"))
        refresh = button(
            "",
            lambda: on_search(self.search.value),
            icon="refresh",
            hint="List the workflows again",
        )
        first, *others = below
        self.box = w.VBox(
            [self.search, self.list, self._note, row(first, refresh), *others],
            layout=w.Layout(flex="1 1 210px", width="auto", grid_gap="8px"),
        )
        self.box.add_class("comfydeploy-side")
        self.search.observe(lambda change: on_search(change["new"]), "value")
        self.list.observe(lambda change: on_choice(change["new"]), "value")

    def show(self, found: list[StoredWorkflow], chosen: str | None) -> None:
        """Show workflows, and choose one by its id if it is among them."""
        self.workflows = found
        self.list.options = [(_label(one), one.id) for one in found]
        self.choose(chosen)
        many = f"These {LISTED} were changed last. Search to find others."
        none = "No workflow matches" if self.search.value else "No workflows are stored yet"
        text = none if not found else many if len(found) == LISTED else ""
        self._note.value = note(text, live=True)

    def choose(self, workflow_id: str | None) -> None:
        """Choose a workflow by its id; choose none if it is not listed."""
        known = {one.id for one in self.workflows}
        self.list.value = workflow_id if workflow_id in known else None


def _label(stored: StoredWorkflow) -> str:
    version = f" · v{stored.latest_version}" if stored.latest_version else ""
    return f"{stored.name}{version}"
