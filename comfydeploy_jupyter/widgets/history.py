"""The earlier runs of a workflow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets as t

from ..client import Result
from ..client.events import FINAL
from ..lifeline import script
from .view import View

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client import Run, Workflow
    from .base import Panel

PAGE = 12
"""How many runs are shown at first, and how many more at a time."""


class History(View):
    """Lists the earlier runs of a workflow, whether a panel or a script started them.

    Parameters
    ----------
    panel : Panel
        The panel that it is in.
    show : callable
        Called with the `Result` of a run that the user chose.
    """

    _esm = script("history")

    runs: t.List[Any] = t.List().tag(sync=True)
    more = t.Bool(False).tag(sync=True)
    chosen = t.Unicode().tag(sync=True)
    opened = t.Bool(True).tag(sync=True)

    def __init__(self, panel: Panel, show: Callable[[Result], object]) -> None:
        self._show = show
        self._workflow: Workflow | None = None
        self._limit = PAGE
        self._known: dict[str, Run] = {}
        super().__init__(panel)

    def of(self, workflow: Workflow) -> list[Run]:
        """Show the runs of another workflow; return those that have not ended, oldest first."""
        self._workflow, self._limit = workflow, PAGE
        return self.refresh()

    def clear(self) -> None:
        """Show no runs."""
        self._workflow, self._known = None, {}
        with self.hold_sync():
            self.runs, self.more, self.chosen = [], False, ""

    def refresh(self) -> list[Run]:
        """Request the runs again; return those that have not ended, oldest first."""
        if self._workflow is None:
            return []
        found = self._panel.comfy.runs(limit=self._limit + 1, of=self._workflow)
        self._known = {run.prompt_id: run for run in found}
        ended = [run for run in found[: self._limit] if run.known["status"] in FINAL]
        with self.hold_sync():
            self.runs = [_entry(run) for run in ended]
            self.more = len(found) > self._limit
        return [run for run in found[::-1] if run.known["status"] not in FINAL]

    def record(self, prompt_id: str) -> dict[str, Any]:
        """Return the record of a run.

        Raises
        ------
        NotFoundError
            There is no run with that id.
        """
        known = self._known.get(prompt_id)
        return self._panel.comfy.get(prompt_id).known if known is None else known.known

    def _on_refresh(self, _: object, __: object) -> None:
        self._panel.start(self.refresh)

    def _on_more(self, _: object, __: object) -> None:
        self._limit += PAGE
        self._panel.start(self.refresh)

    def _on_show(self, message: dict[str, Any], _: object) -> None:
        self._panel.start(self._choose, str(message["prompt_id"]))

    def _choose(self, prompt_id: str) -> None:
        workflow = self._workflow
        source = None if workflow is None else workflow.source
        result = Result(self._panel.comfy.server, self.record(prompt_id), source)
        self.chosen = prompt_id
        self._show(result)


def _entry(run: Run) -> dict[str, Any]:
    """Return a run as the script in the page takes it."""
    result = run.result
    assert result is not None
    # An EXR file has a small copy only where the server can make one.
    pictures = [file for file in result.files if file.is_image]
    pictures.extend(file for file in result.files if file.is_hdr)
    kinds = {file.medium for file in result.files}
    kind = next((word for word in ("video", "audio", "3d") if word in kinds), "")
    changed = [f"{key}: {value}" for key, value in (run.known.get("inputs") or {}).items()]
    return {
        "prompt_id": run.prompt_id,
        "status": result.status,
        "title": "" if result.status == "success" else result.status.capitalize(),
        "created_at": run.known["created_at"],
        "seconds": result.execution_time,
        "query": pictures[0].query if pictures else None,
        "kind": kind or ("text" if result.texts else "file" if result.files else "no output"),
        "summary": "\n".join(changed[:12]),
    }
