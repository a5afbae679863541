"""A sweep: one workflow, run at every point of a grid of values."""

from __future__ import annotations

import html
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from ...errors import InvalidRequestError, RunTimeoutError
from ..server import check_timeout
from . import file, table
from .contact_sheet import ContactSheet
from .plan import Plan
from .points import Job, Point
from .progress import SweepProgress
from .runner import Runner

if TYPE_CHECKING:
    import os

    from PIL.Image import Image

    from ..comfy import Comfy, Display
    from ..results import Result


class Sweep(Sequence[Point]):
    """A workflow, run at every point of a grid; made by ``comfy.sweep``.

    A sequence of its points. Its file always contains the finished runs: after a restart of the
    kernel, ``comfy.sweep.load(path).resume()`` continues it, with the runs that ended meanwhile.

    Parameters
    ----------
    comfy : Comfy
        The client.
    plan : Plan
        What is run.
    save : bool or path
        The file where it is saved. True: in the folder ``sweeps``, under a name made of the
        workflow's title and the points. Runs in the file with the same graph and the same values
        are not run again.
    fresh : bool
        Whether they are run again all the same.

    Attributes
    ----------
    shown_in : object
        The cell whose output already shows the sweep, as `current_cell` returns it.

    Raises
    ------
    UnknownInputError
        A name is no input of the workflow, or fits inputs of several nodes; nothing is queued.
    InvalidRequestError
        The path to save it is that of another file.
    """

    def __init__(
        self,
        comfy: Comfy,
        plan: Plan,
        *,
        save: bool | str | os.PathLike[str] = True,
        fresh: bool = False,
    ) -> None:
        self.shown_in: object = None
        self._comfy = comfy
        self._plan = plan
        jobs: dict[str, Job] = {}
        self._points = []
        for index, (key, values) in enumerate(zip(plan.keys(), plan.grid.points, strict=True)):
            job = jobs.setdefault(key, Job(plan, values))
            self._points.append(Point(index, values, job))
        path = None
        if save is not False:
            path = file.default_path(self.title, jobs) if save is True else Path(save).expanduser()
        self._file = file.SweepFile(plan, jobs, path)
        self._file.restore(fresh=fresh)
        self._runner = Runner(comfy, plan, jobs, self._file, SweepProgress(self))
        self._sheet = ContactSheet(self._points, plan.grid)

    @classmethod
    def load(cls, comfy: Comfy, path: Path) -> Sweep:
        """Return the sweep that is in a file, as it was when it was last saved.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        InvalidRequestError
            It is not the file of a sweep.
        """
        content = file.read(path)
        try:
            return cls(comfy, Plan.from_json(comfy.server, content), save=path)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise file.not_a_sweep(path) from error

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> list[Point]: ...
    def __getitem__(self, index: int | slice) -> Point | list[Point]:
        return self._points[index]

    def __len__(self) -> int:
        return len(self._points)

    @property
    def title(self) -> str:
        """The title of its workflow."""
        return self._plan.workflow.title

    @property
    def path(self) -> Path | None:
        """The file where it is saved; None if it is not saved."""
        return self._file.path

    @property
    def progress(self) -> SweepProgress:
        """Its progress."""
        return self._runner.progress

    @property
    def error(self) -> Exception | None:
        """What ended it early, such as a ComfyUI that does not answer; else None."""
        return self._runner.error

    @property
    def status(self) -> str:
        """``running``; ``done``, also with failed points; ``stopped``; ``failed``: see `error`."""
        return self._runner.status

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
                raise InvalidRequestError.of_field(name, f"is not swept; there are {known}")
        return [
            point
            for point in self
            if all(name in point.values and point[name] == v for name, v in wanted.items())
        ]

    def wait(self, timeout: float | None = None) -> Sweep:
        """Wait until no point is left; interrupting the kernel ends the waiting only.

        Parameters
        ----------
        timeout : float, optional
            Wait at most this long, s.

        Returns
        -------
        Sweep
            This one; points may have failed.

        Raises
        ------
        RunTimeoutError
            It has not ended in time; it continues.
        ComfyDeployError
            What ended it early, such as a ComfyUI that does not answer; `resume` continues.
        """
        check_timeout(timeout)
        if not self._runner.wait(timeout):
            raise RunTimeoutError(f"the sweep has not ended after {timeout:g} s; it continues")
        if self.error is not None:
            raise self.error
        return self

    def stop(self) -> None:
        """Queue no more points and cancel those that are queued or run; `resume` continues.

        Returns when they have ended, after 20 seconds at the latest.
        """
        self._runner.stop()

    def resume(
        self,
        *,
        wait: bool = True,
        progress: bool | str | Display = "auto",
        retry_failed: bool = True,
    ) -> Sweep:
        """Continue with the points that are left.

        The run of a point that was queued when the sweep ended is found by its id, even if it has
        ended meanwhile.

        Parameters
        ----------
        wait : bool
            Whether to wait for the end; then interrupting the kernel stops the sweep.
        progress : bool, "auto" or callable
            As `Comfy.run` takes it.
        retry_failed : bool
            Whether points that failed are run again.

        Returns
        -------
        Sweep
            This one.

        Raises
        ------
        ConflictError
            It is running.
        """
        display = self._comfy._display_for(progress)
        with self._runner.starting(retry_failed=retry_failed):
            self.save()
            self._runner.progress = SweepProgress(self, blocking=wait)
            view: AbstractContextManager[object] = nullcontext()
            if display is not None:
                view = display(self.progress)
            self._runner.start(view)
        return self._wait_or_stop() if wait else self

    def _wait_or_stop(self) -> Sweep:
        """Wait as `wait` does; interrupting the kernel stops the sweep."""
        try:
            return self.wait()
        except KeyboardInterrupt:
            self.stop()
            where = "" if self.path is None else f", comfy.sweep.load({str(self.path)!r})"
            raise KeyboardInterrupt(
                f"stopped at {self.progress.summary}; it continues with resume() of: "
                f"comfy.sweep.last{where}"
            ) from None

    def save(self, path: str | Path | None = None) -> Path | None:
        """Write the file of the sweep; a crash leaves the old content.

        Parameters
        ----------
        path : path, optional
            Another file, which the sweep uses from now on.

        Returns
        -------
        Path or None
            The file; None if it has none.
        """
        return self._file.save(path)

    def rows(self) -> list[dict[str, Any]]:
        """Return the table: for each point its values, then the outcome of its run.

        The columns after the values are ``status``, ``seconds``, ``images`` and ``texts`` (lists),
        ``error`` and ``prompt_id``. If an input has such a name, the column begins with ``_``.
        """
        return table.rows(self)

    def to_dataframe(self) -> Any:
        """Return the table as a `pandas.DataFrame`.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "to_dataframe() needs pandas: `pip install pandas`; rows() gives the same as dicts"
            ) from error
        return pd.DataFrame(self.rows())

    def sheet(self) -> Image:
        """Return the contact sheet: a picture for each point, labelled."""
        return self._sheet.image()

    def to_png(self) -> bytes:
        """Return the contact sheet as PNG."""
        return self._sheet.encoded("PNG")

    def to_webp(self) -> bytes:
        """Return the contact sheet as WebP, much smaller than PNG."""
        return self._sheet.encoded("WEBP")

    def to_html(self) -> str:
        """Return the contact sheet and the table as HTML that needs no other files."""
        return (
            f'<div style="max-width:100%"><div style="margin-bottom:4px">'
            f"{html.escape(self._headline())}</div>{self._sheet.to_html()}{table.as_html(self)}"
            "</div>"
        )

    def __repr__(self) -> str:
        return f"{self._headline()}\n{table.as_text(self)}"

    def _repr_html_(self) -> str | None:
        if self.shown_in is not None and self.shown_in == current_cell():
            return f"<div>{html.escape(self._headline())}</div>"
        return self.to_html()

    def _active_jobs(self) -> list[Job]:
        return self._runner.active_jobs()

    def _headline(self) -> str:
        title = f" {self.title!r}" if self.title else ""
        parts = [f"Sweep{title}: {self.progress.summary}, {self.status}"]
        if self.error is not None:
            parts.append(str(self.error))
        if self.path is not None:
            parts.append(f"saved in {self.path}")
        return "; ".join(parts)


def current_cell() -> object:
    """Return the execution count of the notebook cell that runs now; None outside of IPython."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return None if shell is None else shell.execution_count
