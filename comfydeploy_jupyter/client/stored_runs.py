"""``comfy.runs``: list, pin and delete the runs that the server stores."""

from __future__ import annotations

from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

from ..graphs.structure import structure_of
from .deletion import Deletion, delete_runs
from .runs import Run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .server import Server
    from .workflow import Workflow


class Runs:
    """The runs that the server stores: ``comfy.runs(…)`` lists them, newest first.

    Parameters
    ----------
    server : Server
        The server.

    Examples
    --------
    >>> comfy.runs(limit=5, status="failed")                                  # doctest: +SKIP
    >>> comfy.runs.delete(status="failed", before="2026-01-31", files=True)   # doctest: +SKIP
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    def __repr__(self) -> str:
        return "comfy.runs(limit=…), comfy.runs.delete(…), comfy.runs.pin(…)"

    def __call__(
        self,
        limit: int | None = None,
        offset: int | None = None,
        status: str | None = None,
        *,
        of: Workflow | None = None,
        labels: dict[str, str] | None = None,
        machine: str | None = None,
        workflow_id: str | None = None,
        before: str | date | None = None,
        after: str | date | None = None,
        search: str | None = None,
        pinned: bool | None = None,
    ) -> list[Run]:
        """Return handles of the runs, newest first.

        Parameters
        ----------
        limit, offset : int, optional
            How many to return, and how many to skip.
        status : str, optional
            Only those that are ``queued``, ``running``, ``uploading``, ``success``, ``failed`` or
            ``cancelled``.
        of : Workflow, optional
            Only those of this workflow, with any values of its inputs.
        labels : dict of str to str, optional
            Only those with all of these labels.
        machine, workflow_id : str, optional
            Only those of this machine, and of this stored workflow.
        before, after : str, date or datetime, optional
            Only those that were created before this time, and at it or after it. A date begins at
            midnight; without a time zone, a text is in UTC, and a `datetime` in local time.
        search : str, optional
            Only those with this text in their id, inputs, seeds, error, outputs or labels.
        pinned : bool, optional
            Only pinned runs, or only those that are not.
        """
        chosen: dict[str, Any] = {
            f"metadata[{name}]": value for name, value in (labels or {}).items()
        }
        chosen.update(_chosen(of, machine, workflow_id, before, after, search))
        records = self._server.get(
            "runs",
            limit=limit,
            offset=offset,
            status=status,
            pinned=None if pinned is None else str(pinned).lower(),
            **chosen,
        )
        source = None if of is None else of.source
        return [Run(self._server, record, source) for record in records]

    def pin(self, runs: Iterable[Run | str], pinned: bool = True) -> None:
        """Pin runs, so that they are not deleted, or unpin them.

        Parameters
        ----------
        runs : iterable of Run or str
            The runs or their ids.
        pinned : bool
            Whether they are pinned.

        Raises
        ------
        NotFoundError
            One of them does not exist; then nothing is changed.
        """
        ids = _ids(runs)
        if ids:
            self._server.post("runs/update", {"prompt_ids": ids, "pinned": pinned})

    def delete(
        self,
        runs: Iterable[Run | str] | None = None,
        *,
        files: bool = False,
        status: str | None = None,
        of: Workflow | None = None,
        labels: dict[str, str] | None = None,
        machine: str | None = None,
        workflow_id: str | None = None,
        before: str | date | None = None,
        after: str | date | None = None,
        search: str | None = None,
    ) -> Deletion:
        """Delete those runs that fulfil all conditions; at least one is needed.

        Runs that have not ended and pinned runs are kept.

        Parameters
        ----------
        runs : iterable of Run or str, optional
            Only these runs; also their ids.
        files : bool
            Whether to delete their output files, too. Files that another run, a workflow or an
            upload uses are kept, and so are files of a ComfyUI whose folders the server does not
            know.
        status : str, optional
            Only those that ended with ``success``, ``failed`` or ``cancelled``.
        of, labels, machine, workflow_id, before, after, search
            As for `Runs` itself.

        Returns
        -------
        Deletion
            What was deleted, and what was kept and why.

        Raises
        ------
        InvalidRequestError
            There is no condition.
        NotFoundError
            None of ``runs`` exists.
        """
        fields = _chosen(of, machine, workflow_id, before, after, search)
        if runs is not None:
            fields["prompt_ids"] = _ids(runs)
            if not fields["prompt_ids"]:
                return Deletion(0, 0, 0, [], 0)
        more = {"status": status, "metadata": labels, "files": files}
        return delete_runs(self._server, {**fields, **more})


def _ids(runs: Iterable[Run | str]) -> list[str]:
    return [run if isinstance(run, str) else run.prompt_id for run in runs]


def _chosen(
    of: Workflow | None,
    machine: str | None,
    workflow_id: str | None,
    before: str | date | None,
    after: str | date | None,
    search: str | None,
) -> dict[str, Any]:
    """Return the fields of a request that select runs."""
    return {
        "structure": None if of is None else structure_of(of.to_api()),
        "machine": machine,
        "workflow_id": workflow_id,
        "before": _time(before),
        "after": _time(after),
        "search": search,
    }


def _time(moment: str | date | None) -> str | None:
    """Return a time as ISO 8601; local time gets its time zone."""
    if moment is None or isinstance(moment, str):
        return moment
    if not isinstance(moment, datetime):
        moment = datetime.combine(moment, time())
    return moment.astimezone().isoformat()
