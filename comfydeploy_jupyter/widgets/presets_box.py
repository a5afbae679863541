"""The presets of a workflow: named values of the form."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import traitlets as t

from ..display.page import View, in_thread, script
from ..errors import ComfyDeployError, ConflictError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client import StoredWorkflow
    from ..client.workflows import Preset, Presets
    from .base import Panel
    from .form import Form


class PresetsBox(View):
    """Offers the presets of a stored workflow, and saves and deletes them.

    Each change names the revision that the form began with, used or saved. If another panel has
    changed the preset since then, nothing is changed, and the user decides which values stay.
    """

    _esm = script("presets")

    names: t.List[str] = t.List().tag(sync=True)
    chosen = t.Unicode().tag(sync=True)
    # whether a workflow is shown, and whether it is stored
    shown = t.Bool(False).tag(sync=True)
    stored = t.Bool(False).tag(sync=True)
    # What happened: {"text", "kind"}; kind is "", "problem" or "conflict".
    message: t.Dict[str, Any] = t.Dict().tag(sync=True)

    def __init__(self, panel: Panel, form: Form, keep: Callable[[], StoredWorkflow]) -> None:
        self._form = form
        self._keep = keep
        self._presets: Presets | None = None
        self._known: dict[str, Preset] = {}
        self._revisions: dict[str, str] = {}  # those that this panel replaces, by name
        super().__init__(panel)

    def show(self, workflow: StoredWorkflow | None) -> None:
        """Offer the presets of another workflow; call it in a thread."""
        self._presets = None if workflow is None else workflow.presets
        self._known, self._revisions = {}, {}
        with self.hold_sync():
            self.names, self.chosen, self.message = [], "", {}
            self.stored = workflow is not None
        self.refresh()
        self.shown = True

    def hide(self) -> None:
        """Show nothing, since there is no workflow."""
        self._presets, self._known, self._revisions = None, {}, {}
        with self.hold_sync():
            self.names, self.chosen, self.message, self.shown = [], "", {}, False

    def refresh(self, *, replaceable: bool = True) -> None:
        """Request the presets again; call it in a thread."""
        found = [] if self._presets is None else self._presets.list()
        self._known = {preset.name: preset for preset in found}
        if replaceable:
            self._revisions = {preset.name: preset.revision for preset in found}
        self.names = list(self._known)

    def use(self, name: str) -> None:
        """Put the latest values of a preset into the form; call it in a thread."""
        self.refresh(replaceable=False)
        preset = self._known.get(name)
        if preset is None:
            self.message = {"text": f"{name} has been deleted", "kind": "problem"}
            return
        unknown = self._form.use(preset.inputs, preset.locked)
        self._revisions[name] = preset.revision
        self.chosen = name
        text = f"The workflow has no input {', '.join(unknown)}" if unknown else ""
        self.message = {"text": text, "kind": "problem" if unknown else ""}

    def save(self, name: str) -> None:
        """Save the values of the form under a name; call it in a thread."""
        inputs = self._form.changed()
        locked = list(self._form.locked)
        if self._presets is None:
            self._presets = self._keep().presets
            self.stored = True
        known = next((p for p in self._known.values() if p.name.lower() == name.lower()), None)
        seen = "" if known is None else self._revisions.get(known.name, "")
        preset = self._presets.save(name, inputs, locked=locked, revision=seen)
        self.refresh()
        self.chosen = preset.name
        self.message = {"text": f"Saved as {preset.name}", "kind": ""}

    def delete(self, name: str) -> None:
        """Delete a preset; call it in a thread."""
        if self._presets is None:
            return
        self._presets.delete(name, revision=self._revisions.get(name, ""))
        self.refresh()
        self.chosen = ""
        self.message = {"text": f"Deleted {name}", "kind": ""}

    def _with_message(self, task: Callable[..., object], *args: object) -> None:
        """Run a task; show its error, or the conflict that it met, beside the presets."""
        self.message = {}
        try:
            task(*args)
        except ConflictError as error:
            is_there = bool(error.details.get("preset"))
            happened = "changed" if is_there else "deleted"
            # This panel now has the revision of the other one, so the next attempt succeeds.
            self.refresh()
            self.message = {
                "text": f"Another panel has {happened} this preset. Your values are still here.",
                "kind": "conflict" if is_there else "problem",
            }
        except ComfyDeployError as error:
            self.message = {"text": str(error), "kind": "problem"}

    @in_thread
    def _on_use(self, message: dict[str, Any]) -> None:
        self._with_message(self.use, str(message["name"]))

    def _on_save(self, message: dict[str, Any], _: object) -> None:
        self._form.take_typed(message["typed"])
        self._panel.start(self._with_message, self.save, str(message["name"]))

    @in_thread
    def _on_delete(self, message: dict[str, Any]) -> None:
        if message["name"] in self._known:
            self._with_message(self.delete, str(message["name"]))

    @in_thread
    def _on_refresh(self, _: object) -> None:
        """Offer the names of other panels; the form still has the values of earlier revisions."""
        with contextlib.suppress(ComfyDeployError):  # the next change reports it
            self.refresh(replaceable=False)
