"""The points of a sweep and the runs that they share."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

from ...errors import InvalidRequestError, NotFoundError, printable
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
    starred : bool
        Whether the user has marked it as one of the best.
    """

    plan: Plan
    values: dict[str, Any]
    prompt_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = WAITING
    error: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    sent: bool = False
    progress: RunProgress | None = None
    starred: bool = False
    _result: Result | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what is saved of it."""
        star = {"starred": True} if self.starred else {}
        return {**{name: getattr(self, name) for name in SAVED}, **star}

    def restore(self, saved: Mapping[str, Any], *, fresh: bool = False) -> None:
        """Set the state that `to_json` returned; the values stay.

        Parameters
        ----------
        saved : dict
            What `to_json` returned.
        fresh : bool
            Whether to ignore the run; only the star is restored.

        Raises
        ------
        KeyError, TypeError
            `to_json` did not return this.
        """
        self.starred = saved.get("starred") is True
        for name in SAVED:
            if name != "values" and not fresh:
                setattr(self, name, saved[name])

    def reset(self) -> None:
        """Remove the run, so that a new one is created; the star stays."""
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
    def starred(self) -> bool:
        """Whether it is marked as one of the best, see `Sweep.star`."""
        return self._job.starred

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
        return printable(f"<Point {self.index}: {self.label}: {self.status}>")


class PointSequence(Sequence[Point]):
    """A sequence of points that can be searched.

    Parameters
    ----------
    points : sequence of Point
        The points.
    """

    def __init__(self, points: Sequence[Point]) -> None:
        self._points = points

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Point]: ...
    def __getitem__(self, index: int | slice) -> Point | Sequence[Point]:
        return self._points[index]

    def __len__(self) -> int:
        return len(self._points)

    @property
    def counts(self) -> dict[str, int]:
        """How many points have each status; ``total`` is the number of all points."""
        counts = {"total": len(self)}
        for point in self:
            counts[point.status] = counts.get(point.status, 0) + 1
        return counts

    @property
    def results(self) -> dict[Point, Result]:
        """The results of the points whose runs have ended."""
        found = ((point, point.result) for point in self)
        return {point: result for point, result in found if result is not None}

    @property
    def starred(self) -> list[Point]:
        """The points that are marked as the best, see `Sweep.star`."""
        return [point for point in self if point.starred]

    def chosen(self, *, starred: bool) -> Sequence[Point]:
        """Return all points, or those that are marked as the best.

        Raises
        ------
        InvalidRequestError
            ``starred``, and no point is marked.
        """
        if starred and not self.starred:
            raise InvalidRequestError.of_field("starred", "no point of the sweep has a star")
        return self.starred if starred else self

    def find(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> list[Point]:
        """Return the points that have these values, e.g. ``sweep.find(cfg=7)``.

        Raises
        ------
        InvalidRequestError
            No point has a value of this name.
        """
        wanted = {**(values or {}), **named}
        for name in wanted:
            if not any(name in point.values for point in self):
                known = ", ".join(dict.fromkeys(key for point in self for key in point.values))
                raise InvalidRequestError.of_field(
                    name, f"is not an input of the sweep; its inputs are {known}"
                )
        return [
            point
            for point in self
            if all(name in point.values and point[name] == v for name, v in wanted.items())
        ]

    def point_of(self, wanted: Point | int) -> Point:
        """Return the point that is meant by its position, or by a point with the same values.

        Raises
        ------
        NotFoundError
            There is no such point.
        """
        if isinstance(wanted, Point):
            if wanted.index < len(self) and self[wanted.index] is wanted:
                return wanted
            found = next((point for point in self if point.values == wanted.values), None)
        else:
            found = self[wanted] if -len(self) <= wanted < len(self) else None
        if found is None:
            name = wanted.label if isinstance(wanted, Point) else wanted
            raise NotFoundError(
                f"the sweep has no point {name}; it has the points 0 to {len(self) - 1}"
            )
        return found
