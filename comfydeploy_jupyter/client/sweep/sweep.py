"""A sweep: one workflow, run at every point of a grid of values."""

from __future__ import annotations

import html
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from ...errors import InvalidRequestError, NotFoundError, RunTimeoutError, brief, printable
from ..files import Uploader, has_files, with_files, write_bytes, write_text
from ..runs import check_options
from ..server import check_timeout, plain
from ..workflow import Workflow
from .plan import AtOnce, Grid, Plan, Points
from .runner import (
    Job,
    Point,
    Runner,
    SweepFile,
    SweepProgress,
    default_path,
    not_a_sweep,
    read_file,
)
from .sheet import ContactSheet, Words, table_csv, table_html, table_rows, table_text

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from PIL.Image import Image

    from ..comfy import Comfy, Display
    from ..results import Result


BYTE_ORDER_MARK = "\ufeff"


class Sweep(Sequence[Point]):
    """A workflow, run at every point of a grid; made by ``comfy.sweep``.

    A sequence of its points. Its file always contains the finished runs: after a restart of the
    kernel, ``comfy.sweep.load(path).resume()`` continues it, with the runs that ended meanwhile.
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
        """The cell whose output already shows the sweep, as `current_cell` returns it."""
        self.comfy = comfy
        """The client."""
        self._plan = plan
        self.words = Words(plan)
        """The names and values of its inputs as the form of the workflow shows them."""
        self.changes: list[Callable[[], object]] = []
        """What is called after each change of a star, and at each end of the sweep."""
        jobs: dict[str, Job] = {}
        points = []
        self._jobs: list[Job] = []
        for index, (key, values) in enumerate(zip(plan.keys(), plan.grid.points, strict=True)):
            job = jobs.setdefault(key, Job(plan, values))
            self._jobs.append(job)
            points.append(Point(index, values, job))
        self._points = points
        path = None
        if save is not False:
            path = default_path(self.title, jobs) if save is True else Path(save).expanduser()
        self._file = SweepFile(plan, jobs, path)
        self._file.restore(fresh=fresh)
        self._runner = Runner(comfy, plan, jobs, self._file, SweepProgress(self))
        self.contact_sheet = ContactSheet(points, plan.grid, self.words)
        """Draws the contact sheet of all points."""

    @classmethod
    def load(cls, comfy: Comfy, path: Path) -> Sweep:
        """Return the sweep that is in a file, as it was last saved; raises as `Sweeps.load`."""
        content = read_file(path)
        try:
            return cls(comfy, Plan.from_json(comfy.server, content), save=path)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise not_a_sweep(path) from error

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
        """The points that are marked as the best, see `star`."""
        return [point for point in self if point.starred]

    def chosen(self, *, starred: bool) -> Sequence[Point]:
        """Return all points, or those that are marked as the best.

        Raises InvalidRequestError if ``starred``, and no point is marked.
        """
        if starred and not self.starred:
            raise InvalidRequestError.of_field("starred", "no point of the sweep has a star")
        return self.starred if starred else self

    def find(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> list[Point]:
        """Return the points that have these values, e.g. ``sweep.find(cfg=7)``.

        Raises InvalidRequestError if no point has a value of this name.
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

        Raises NotFoundError if there is no such point.
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

    @property
    def title(self) -> str:
        """The title of its workflow."""
        return self._plan.workflow.title

    @property
    def path(self) -> Path | None:
        """The file where it is saved; None if it is not saved."""
        return self._file.path

    @property
    def notes(self) -> list[str]:
        """A sentence for each thing to know before it runs, such as loops, which are not cached."""
        return self._plan.notes

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

    def star(self, *points: Point | int) -> None:
        """Mark points as the best; the marks are in the file of the sweep when this returns.

        Parameters
        ----------
        *points : Point or int
            The points, or their positions: ``sweep.star(3, *sweep.find(cfg=7))``.

        Raises
        ------
        NotFoundError
            There is no such point; then no point is marked.
        OSError
            The file cannot be written; then no point is marked.
        """
        self._set_stars(points, starred=True)

    def unstar(self, *points: Point | int) -> None:
        """Remove the marks that `star` has set; takes and raises the same."""
        self._set_stars(points, starred=False)

    def wait(self, timeout: float | None = None) -> Sweep:
        """Wait until no point is left; interrupting the kernel ends the waiting only.

        Returns this sweep; points may have failed.

        Parameters
        ----------
        timeout : float, optional
            Wait at most this long, s.

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

        The run of a point that was queued when the sweep ended is found by its id, even if
        it has ended meanwhile. Returns this one.

        Parameters
        ----------
        wait : bool
            Whether to wait for the end; then interrupting the kernel stops the sweep.
        progress : bool, "auto" or callable
            As `Comfy.run` takes it.
        retry_failed : bool
            Whether points that failed are run again.

        Raises
        ------
        ConflictError
            It is running, or its runs are on another server.
        ServerUnreachableError
            The server does not answer.
        """
        with self._runner.starting(retry_failed=retry_failed):
            self._file.check_server()
            self.save()
            self._runner.progress = SweepProgress(self, blocking=wait)
            self._runner.start(self.comfy._view(progress, self.progress))
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

        Returns the file; None if it has none.

        Parameters
        ----------
        path : path, optional
            Another file, which the sweep uses from now on.
        """
        return self._file.save(path)

    def rows(self) -> list[dict[str, Any]]:
        """Return the table: for each point its values, then the outcome of its run.

        The columns after the values are ``status``, ``seconds``, ``images`` and ``texts`` (lists),
        ``error`` and ``prompt_id``. If an input has such a name, the column begins with ``_``.
        """
        return table_rows(self)

    def to_dataframe(self) -> Any:
        """Return the table as a `pandas.DataFrame`.

        Raises ImportError if pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "to_dataframe() needs pandas: `pip install pandas`;"
                " rows() returns the same table as dicts"
            ) from error
        return pd.DataFrame(self.rows())

    def sheet(self, *, starred: bool = False) -> Image:
        """Return the contact sheet: a picture for each point, labelled.

        Raises InvalidRequestError if ``starred``, and no point is marked.

        Parameters
        ----------
        starred : bool
            Whether only the points that are marked as the best are on it.
        """
        return self._sheet_of(starred=starred).image()

    def to_png(self, path: str | os.PathLike[str] | None = None, *, starred: bool = False) -> bytes:
        """Return the contact sheet as PNG.

        Parameters
        ----------
        path : path, optional
            Also write it into this file, which is replaced if it exists.
        starred : bool
            As in `sheet`, which raises the same.
        """
        content = self._sheet_of(starred=starred).encoded("PNG")
        if path is not None:
            write_bytes(path, content)
        return content

    def to_webp(self) -> bytes:
        """Return the contact sheet as WebP, much smaller than PNG."""
        return self.contact_sheet.encoded("WEBP")

    def to_csv(self, path: str | os.PathLike[str] | None = None, *, starred: bool = False) -> str:
        """Return the table as CSV: for each point its values, its star, the outcome of its run.

        The headings are the labels of the workflow's form. A text that a spreadsheet would take for
        a formula begins with an apostrophe.

        Parameters
        ----------
        path : path, optional
            Also write it into this file, which is replaced if it exists. It begins with a byte
            order mark, by which spreadsheets recognise UTF-8.
        starred : bool
            As in `sheet`, which raises the same.
        """
        text = table_csv(self.chosen(starred=starred), self.words)
        if path is not None:
            write_text(path, f"{BYTE_ORDER_MARK}{text}")
        return text

    def to_html(self) -> str:
        """Return the contact sheet and the table as HTML that needs no other files."""
        return (
            f'<div style="max-width:100%"><div style="margin-bottom:4px">'
            f"{html.escape(self._headline())}</div>{self.contact_sheet.to_html()}"
            f"{table_html(self, self.words)}"
            "</div>"
        )

    def __repr__(self) -> str:
        return f"{printable(self._headline())}\n{table_text(self)}"

    def _repr_html_(self) -> str | None:
        if self.shown_in is not None and self.shown_in == current_cell():
            return f"<div>{html.escape(self._headline())}</div>"
        return self.to_html()

    def _set_stars(self, points: Sequence[Point | int], *, starred: bool) -> None:
        own = [self._jobs[self.point_of(point).index] for point in points]
        changed = [job for job in own if job.starred != starred]
        for job in changed:
            job.starred = starred
        try:
            if changed:
                self.save()
        except BaseException:
            for job in changed:
                job.starred = not starred
            raise
        self._notify()

    def _notify(self) -> None:
        for changed in list(self.changes):
            changed()

    def _sheet_of(self, *, starred: bool) -> ContactSheet:
        if not starred:
            return self.contact_sheet
        return ContactSheet(self.chosen(starred=True), Grid((), ()), self.words)

    def _headline(self) -> str:
        title = f" {self.title!r}" if self.title else ""
        parts = [f"Sweep{title}: {self.progress.summary}, {self.status}"]
        if self.error is not None:
            parts.append(str(self.error))
        if self.path is not None:
            parts.append(f"saved in {self.path}")
        parts += self.notes
        return "; ".join(parts)


def current_cell() -> object:
    """Return the execution count of the notebook cell that runs now; None outside of IPython."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return None if shell is None else shell.execution_count


NOT_FOR_SWEEPS = frozenset({"prompt_id", "version", "workflow_id", "gpu_event_id"})
"""Options of a run that a sweep does not take, since they belong to a single run."""


class Sweeps:
    """Runs a workflow at every point of a grid: ``comfy.sweep(…)``.

    Examples
    --------
    >>> sweep = comfy.sweep("portrait.json", {"seed": range(8), "cfg": [4, 7]})  # doctest: +SKIP
    >>> sweep.to_dataframe()                                                  # doctest: +SKIP
    """

    def __init__(self, comfy: Comfy) -> None:
        self._comfy = comfy
        self.last: Sweep | None = None
        """The sweep that was made or loaded last."""

    def __repr__(self) -> str:
        return "comfy.sweep(workflow, {input: values}), or comfy.sweep.load(path)"

    def __call__(
        self,
        workflow: Workflow | dict[str, Any] | str | bytes | os.PathLike[str],
        points: Points,
        inputs: Mapping[str, Any] | None = None,
        *,
        seed: int | None = None,
        machine: str | None = None,
        at_once: AtOnce = "auto",
        save: bool | str | os.PathLike[str] = True,
        fresh: bool = False,
        wait: bool = True,
        progress: bool | Literal["auto"] | Display = "auto",
        **options: Any,
    ) -> Sweep:
        """Run a workflow at every point of a grid; show the pictures as they arrive.

        Points with the same graph and the same values that have ended according to the file
        of the sweep are not run again. Returns the points with their results; points may have
        failed.

        Parameters
        ----------
        workflow : Workflow, dict, str, bytes or path
            As `Comfy.load` takes it.
        points : dict or list of dict
            A dict of inputs, by the names that `Comfy.run` takes, to their values. Every
            combination runs; the last input changes fastest. Inputs that change together are one
            key: ``{("width", "height"): [(512, 768), (768, 512)]}``. Or a list of points, each a
            dict. Values may be files, pictures and lists of rows. If no input is called ``seed``,
            or several are, ``seed`` sets every seed of the workflow.
        inputs : dict, optional
            Inputs that are the same at all points.
        seed : int, optional
            As in `Comfy.run`, the same at all points.
        machine : str, optional
            The machine or pool that runs it, by its id or name. Each machine of a pool gets points
            that share as much of their work as possible.
        at_once : int or "auto"
            How many points are queued at a time, 1 to 64. With few, other runs do not wait long,
            and stopping is quick. By default, two for a machine, and four for each machine of a
            pool.
        save : bool or path
            The JSON file where it is saved. True: in the folder ``sweeps``, under a name made of
            the workflow's title and the points, so that the same call continues where the last one
            ended. False: it is not saved.
        fresh : bool
            Whether to run also the points that have ended before.
        wait : bool
            Whether to wait for the end; then interrupting the kernel stops the sweep. False: it
            runs in threads.
        progress : bool, "auto" or callable
            As in `Comfy.run`; a callable gets the `SweepProgress`.
        **options
            As `Comfy.run` takes them. ``seed_mode`` is ``"saved"`` by default, so that points
            differ only in their values.

        Raises
        ------
        UnknownInputError
            A name is no input of the workflow, or fits inputs of several nodes; nothing has been
            queued.
        InvalidRequestError
            Something else is wrong with the arguments; nothing has been queued.
        ConflictError
            The runs in the file are on another server; nothing has been queued.
        ComfyUIUnavailableError, ServerUnreachableError
            ComfyUI or the server does not answer; ``comfy.sweep.last.resume()`` continues.
        KeyboardInterrupt
            The kernel was interrupted; ``comfy.sweep.last.resume()`` continues.
        """
        for name in options:
            if name in NOT_FOR_SWEEPS:
                text = f"a sweep has no option {name!r}: each point is a separate run"
                raise brief(TypeError(text))
        check_options(options, {"at_once", "fresh", "points", "save", "wait"})
        loaded = Workflow(self._comfy.server, workflow)
        seeds = {} if seed is None else loaded.source.seed_inputs(seed)
        constant = {**loaded.source.files, **seeds, **(inputs or {})}
        grid = Grid.of(points)
        # wrong names are found before any file is uploaded
        empty = dict.fromkeys(constant, "")
        Plan(
            self._comfy.server, loaded, grid.map(_without_files), inputs=empty, at_once=at_once
        ).keys()
        values = [*constant.values(), *(value for p in grid.points for value in p.values())]
        if machine == "auto" and any(map(has_files, values)):
            machine = self._comfy.machines.get(machine).id  # files go to the machine that runs
        uploader = Uploader(self._comfy.server, machine)

        def sent(value: Any) -> Any:
            return plain(uploader.stored(value))

        plan = Plan(
            self._comfy.server,
            loaded,
            grid.map(sent),
            inputs={key: sent(value) for key, value in constant.items()},
            machine=machine,
            options=options,
            at_once=at_once,
        )
        sweep = self.last = Sweep(self._comfy, plan, save=save, fresh=fresh)
        return sweep.resume(wait=wait, progress=progress)

    def load(self, path: str | os.PathLike[str]) -> Sweep:
        """Return a sweep that was saved; ``resume()`` continues with it.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        InvalidRequestError
            It is not the file of a sweep.
        ConflictError
            Its runs are on another server.
        """
        self.last = Sweep.load(self._comfy, Path(path).expanduser())
        return self.last


def _without_files(value: Any) -> Any:
    return plain(with_files(value, lambda _: "file"))
