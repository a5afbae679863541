"""The points of a sweep and the runs that they share."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..events import FINAL, RunProgress
from ..results import Result
from ..runs import Run
from .grid import value_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .plan import Plan

WAITING = "waiting"
"""Status of a point that is not queued yet."""

SAVED = ("values", "prompt_id", "status", "error", "record", "sent")
"""The attributes of a `Job` that are saved in the file of the sweep."""


@dataclass
class Job:
    """One run of a sweep; points with the same graph and values share it.

    Attributes
    ----------
    plan : Plan
        What the sweep runs.
    values : dict
        The values of the inputs that are swept.
    prompt_id : str
        The id that the run has, or will have.
    status : str
        ``waiting``, or the status of the run.
    error : str
        Why it failed; empty if it did not.
    record : dict
        The server's record of the run, once the run has ended.
    sent : bool
        Whether the server may know the run.
    progress : RunProgress or None
        The progress of the run while it is followed.
    """

    plan: Plan
    values: dict[str, Any]
    prompt_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = WAITING
    error: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    sent: bool = False
    progress: RunProgress | None = None
    _result: Result | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what is saved of it."""
        return {name: getattr(self, name) for name in SAVED}

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Set the state that `to_json` returned; the values stay.

        Raises
        ------
        KeyError, TypeError
            `to_json` did not return this.
        """
        for name in SAVED:
            if name != "values":
                setattr(self, name, saved[name])

    def reset(self) -> None:
        """Remove the run, so that a new one is created."""
        self.prompt_id = str(uuid.uuid4())
        self.status, self.error, self.record = WAITING, "", {}
        self.sent, self.progress, self._result = False, None, None

    @property
    def run(self) -> Run:
        """The handle on the run."""
        return Run(self.plan.server, {"prompt_id": self.prompt_id, **self.record}, self.plan.source)

    @property
    def result(self) -> Result | None:
        """The result of the run; None before it has ended, and if ComfyUI never ran it."""
        if self.status not in FINAL or not self.record:
            return None
        if self._result is None:
            self._result = Result(self.plan.server, self.record, self.plan.source)
        return self._result


class Point:
    """One point of a sweep: its values and its run.

    Attributes
    ----------
    index : int
        Its position in the sweep, from 0.
    values : dict
        The values by input.
    """

    __slots__ = ("_job", "index", "values")

    def __init__(self, index: int, values: dict[str, Any], job: Job) -> None:
        self._job = job
        self.index = index
        self.values = values

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def label(self) -> str:
        """Its values on one line, e.g. ``"seed 3, cfg 7"``."""
        return ", ".join(f"{name} {value_text(value)}" for name, value in self.values.items())

    @property
    def status(self) -> str:
        """``waiting``, or the status of its run."""
        return self._job.status

    @property
    def error(self) -> str:
        """Why it failed; empty if it did not."""
        return self._job.error

    @property
    def prompt_id(self) -> str:
        """The id that its run has, or will have."""
        return self._job.prompt_id

    @property
    def progress(self) -> RunProgress | None:
        """The progress of its run while that is followed; else None."""
        return self._job.progress

    @property
    def run(self) -> Run:
        """The handle on its run."""
        return self._job.run

    @property
    def result(self) -> Result | None:
        """The result of its run; None before that has ended."""
        return self._job.result

    def __repr__(self) -> str:
        return f"<Point {self.index}: {self.label}: {self.status}>"
