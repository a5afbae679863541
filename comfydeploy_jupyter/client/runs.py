"""A run in the background."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import ConflictError, printable
from .deletion import Deletion, delete_runs
from .events import FINAL
from .graph import Source
from .results import Result
from .stream import EventStream

if TYPE_CHECKING:
    from .server import Server


class StoryEntry(NamedTuple):
    """An event in the life of a run.

    Attributes
    ----------
    at : str
        When, ISO 8601 in UTC.
    cause : str
        What: ``accepted by ComfyUI``, ``connection lost``, … (``docs/routes.md``, the story of a
        run).
    state : str
        The state of the run since then.
    detail : str or None
        More about the cause.
    """

    at: str
    cause: str
    state: str
    detail: str | None

    def __str__(self) -> str:
        detail = f" ({self.detail})" if self.detail else ""
        return printable(f"{self.at} {self.cause}{detail} -> {self.state}")


class Run:
    """A handle on one run in any state.

    Made by `Comfy.submit`, `Comfy.get` and `Comfy.runs`. It keeps no connection open. After the
    kernel was restarted, `Comfy.get` returns it by its id.

    Parameters
    ----------
    server : Server
        The server that has the run.
    record : dict
        The record of the run; has at least its ``prompt_id``.
    workflow : Source, optional
        The graph, for the titles of nodes.
    """

    def __init__(
        self, server: Server, record: dict[str, Any], workflow: Source | None = None
    ) -> None:
        self._server = server
        self._record = record
        self._workflow = workflow or Source(None)

    @property
    def prompt_id(self) -> str:
        """The id of the run."""
        return str(self._record["prompt_id"])

    @property
    def record(self) -> dict[str, Any]:
        """The present record of the run, with the keys of the reply of ``run``."""
        return self._refresh()

    @property
    def labels(self) -> dict[str, str]:
        """The labels that the run was given: texts by name."""
        return dict(self._record.get("metadata") or {})

    @property
    def workflow(self) -> Source:
        """The graph, if it is known."""
        return self._workflow

    @property
    def known(self) -> dict[str, Any]:
        """The last known record of the run, without a request."""
        return self._record

    @property
    def status(self) -> str:
        """``queued``, ``running``, …; requested from the server until the run has ended."""
        return str(self.record.get("status", "not-started"))

    @property
    def done(self) -> bool:
        """Whether the run has ended, also if it failed."""
        return self.status in FINAL

    @property
    def result(self) -> Result | None:
        """The result if the run has ended, also if it failed; else None."""
        return self._result() if self.done else None

    def events(self, *, previews: bool = False, timeout: float | None = None) -> EventStream:
        """Return the events of the run from its start, also those that are still to come.

        Parameters
        ----------
        previews : bool
            Whether to get the previews of samplers.
        timeout : float, optional
            Follow at most this long, s.
        """
        return EventStream(self._server, self.prompt_id, previews=previews, timeout=timeout)

    def wait(self, timeout: float | None = None) -> Result:
        """Wait until the run has ended.

        Interrupting the kernel ends the waiting, not the run.

        Parameters
        ----------
        timeout : float, optional
            Wait at most this long, s.

        Returns
        -------
        Result
            The result of a run that succeeded.

        Raises
        ------
        RunFailedError
            A node failed; the message names it.
        RunCancelledError
            The run was cancelled.
        RunTimeoutError
            It has not ended in time; it continues.
        """
        if not self.done:
            with self.events(timeout=timeout) as events:
                for _ in events:
                    pass
            self._refresh()
        return self._result().raise_for_status()

    def story(self) -> list[StoryEntry]:
        """Return the events in the life of the run so far, in order, for debugging.

        Returns
        -------
        list of StoryEntry
            At most 100: of a longer story, entries after the first ones are left out.

        Raises
        ------
        NotFoundError
            If the server does not know the run.
        """
        entries = self._server.get("runs", story=self.prompt_id)
        return [StoryEntry(**entry) for entry in entries]

    def cancel(self) -> bool:
        """Cancel the run: remove it from the queue, or interrupt it.

        Returns
        -------
        bool
            Whether it was cancelled; False if it had ended already.
        """
        try:
            self._server.post("interrupt", {"prompt_id": self.prompt_id})
        except ConflictError:
            return False
        return True

    @property
    def pinned(self) -> bool:
        """Whether the run is pinned, so that it is not deleted; as it was last read."""
        return bool(self._record.get("pinned"))

    @property
    def from_editor(self) -> bool:
        """Whether ComfyUI's editor has queued the run, at ComfyUI itself."""
        return bool(self._record.get("from_editor"))

    def pin(self, pinned: bool = True) -> None:
        """Pin the run, so that it is not deleted, or unpin it.

        Raises
        ------
        NotFoundError
            There is no such run any more.
        """
        self._server.post("runs/update", {"prompt_ids": [self.prompt_id], "pinned": pinned})
        self._record = {**self._record, "pinned": pinned}

    def delete(self, *, files: bool = False) -> Deletion:
        """Delete the run, which must have ended.

        Parameters
        ----------
        files : bool
            Whether to delete its output files, too, unless something else uses them.

        Returns
        -------
        Deletion
            What was deleted, and which files were kept and why.

        Raises
        ------
        NotFoundError
            There is no such run any more.
        ConflictError
            It is pinned, or has not ended.
        """
        deletion = delete_runs(self._server, {"prompt_ids": [self.prompt_id], "files": files})
        for kept in deletion.kept:
            if kept.file is None:
                raise ConflictError(f"The run {self.prompt_id} is not deleted: {kept.reason}")
        return deletion

    def _refresh(self) -> dict[str, Any]:
        if self._record.get("status") not in FINAL:
            self._record = self._server.get("check-status", prompt_id=self.prompt_id)
        return self._record

    def _result(self) -> Result:
        return Result(self._server, self._record, self._workflow)

    def __repr__(self) -> str:
        return printable(f"<Run {self.prompt_id}: {self.status}>")

    def _repr_html_(self) -> str:
        result = self.result
        if result is not None:
            return result._repr_html_()
        status = html.escape(str(self._record.get("status", "not-started")))
        return f"<div>Run <code>{html.escape(self.prompt_id)}</code>: <b>{status}</b></div>"
