"""Sweeps: one workflow, run at every point of a grid of values."""

from __future__ import annotations

import hashlib
import html
import json
import re
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from ..errors import (
    ComfyDeployError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    RunCancelledError,
    RunTimeoutError,
    ServerUnreachableError,
    UnauthorizedError,
)
from ..graphs.inputs import apply_inputs
from .contact_sheet import ContactSheet
from .events import FINAL, RunProgress
from .graph import Source
from .graph_text import html_table, text_table
from .grid import Grid, value_text
from .results import Result
from .runs import Run
from .server import check_timeout
from .workflow import Workflow
from .writing import write_text

if TYPE_CHECKING:
    import os

    from PIL.Image import Image

    from .comfy import Comfy, Display
    from .stream import EventStream

P = ParamSpec("P")
T = TypeVar("T")

FORMAT = "comfydeploy-sweep"
FOLDER = Path("sweeps")
"""Where sweeps are saved, in the folder of the notebook."""

AT_ONCE = 2
"""Points that are queued at a time: while one runs the next one waits, so ComfyUI never idles."""

MOST_AT_ONCE = 64
STOP_WITHIN = 10.0
"""How long `Sweep.stop` waits for the points that it cancels, s; then it only lets go of them."""

SAVE_EVERY = 1.0
"""Shortest time between two savings, s; the ids of all runs are saved before the first starts."""

TELL_EVERY = 3.0
"""How often the server is told that a sweep goes on, s; it is not idle between two runs."""

MAX_ROWS = 500
"""How many points the table in HTML has."""

WAITING = "waiting"


@dataclass
class Job:
    """One run of a sweep; points of the same content share it.

    Attributes
    ----------
    key : str
        Stands for the graph with its values.
    values : dict
        The values.
    prompt_id : str
        The id that its run has, or will have.
    status : str
        ``waiting``, or the status of the run.
    error : str
        Why it failed.
    record : dict
        What the server told of the run when it had ended.
    sent : bool
        Whether the server may have the run.
    progress : RunProgress or None
        Of the run that is followed now.
    result : Result or None
        Made of the record when it is first asked for.
    """

    key: str
    values: dict[str, Any]
    prompt_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = WAITING
    error: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    sent: bool = False
    progress: RunProgress | None = None
    result: Result | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what is saved of it."""
        names = ("values", "prompt_id", "status", "error", "record", "sent")
        return {name: getattr(self, name) for name in names}

    def reset(self) -> None:
        """Make ready for another run."""
        self.prompt_id = str(uuid.uuid4())
        self.status, self.error, self.record = WAITING, "", {}
        self.sent, self.progress, self.result = False, None, None


class Point:
    """One point of a sweep: its values, and what became of it.

    Attributes
    ----------
    index : int
        Its place in the sweep.
    values : dict
        The values by input.
    """

    __slots__ = ("_job", "_sweep", "index", "values")

    def __init__(self, sweep: Sweep, index: int, values: dict[str, Any], job: Job) -> None:
        self._sweep = sweep
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
        """How far its run is, while it is followed."""
        return self._job.progress

    @property
    def run(self) -> Run:
        """The handle on its run."""
        return self._sweep._run_of(self._job)

    @property
    def result(self) -> Result | None:
        """What its run made; None before it has ended."""
        return self._sweep._result_of(self._job)

    def __repr__(self) -> str:
        return f"<Point {self.index}: {self.label}: {self.status}>"


class SweepProgress:
    """How far a sweep is.

    Attributes
    ----------
    sweep : Sweep
        Which.
    started : float
        When it was started, s of `time.monotonic`.
    ended : float or None
        When it ended.
    blocking : bool
        Whether the kernel waits for it, and hears no button meanwhile.
    """

    def __init__(self, sweep: Sweep, *, blocking: bool = False) -> None:
        self.sweep = sweep
        self.blocking = blocking
        self.started = time.monotonic()
        self.ended: float | None = None
        self._changes = 0

    @property
    def status(self) -> str:
        """The status of the sweep."""
        return self.sweep.status

    @property
    def version(self) -> int:
        """Grows with each change."""
        return self._changes + sum(p.version for p in self._running())

    @property
    def counts(self) -> dict[str, int]:
        """How many points there are of each status; ``total`` is all of them."""
        return self.sweep.counts

    @property
    def fraction(self) -> float:
        """How much is done, 0 to 1."""
        ended = sum(point.status in FINAL for point in self.sweep)
        running = sum(progress.fraction for progress in self._running())
        return min(1.0, (ended + running) / len(self.sweep))

    @property
    def elapsed(self) -> float:
        """How long it goes on, s."""
        return (time.monotonic() if self.ended is None else self.ended) - self.started

    @property
    def summary(self) -> str:
        """What there is, e.g. ``"5 of 16 points, 1 failed"``."""
        counts = self.counts
        words = [f"{counts.get('success', 0)} of {counts['total']} points"]
        words += [f"{counts[name]} {name}" for name in ("failed", "cancelled") if name in counts]
        return ", ".join(words)

    @property
    def current(self) -> tuple[Point, RunProgress | None] | None:
        """The point that runs now and its progress, or one that waits in the queue."""
        found = None
        for point in self.sweep:
            if point.status == "running":
                return point, point.progress
            if point.status == "queued" and found is None:
                found = point, point.progress
        return found

    def changed(self) -> None:
        """Note that something is different."""
        self._changes += 1

    def finish(self, status: str) -> None:
        """Note the end; the status is the sweep's own."""
        self.ended = time.monotonic()
        self._changes += 1

    def _running(self) -> list[RunProgress]:
        return [job.progress for job in self.sweep._active_jobs() if job.progress is not None]


class Sweep(Sequence[Point]):
    """A workflow, run at every point of a grid; made by ``comfy.sweep``.

    A sequence of its points. What it did is in its file at any time: after the death of the kernel
    ``comfy.sweep.load(path).resume()`` goes on, with the runs that went on meanwhile.

    Parameters
    ----------
    comfy : Comfy
        The client.
    workflow : Workflow
        What is run; copied.
    grid : Grid
        The points; no files any more.
    inputs : dict, optional
        Further inputs, the same at all points.
    machine : str, optional
        The ComfyUI that shall run it.
    options : dict, optional
        As `Comfy.run` takes them.
    at_once : int
        Points that are queued at a time.
    save : bool or path
        Where it is saved; true: in `FOLDER`, under a name that says workflow and points. Runs of
        the same content that are in the file are taken over.
    fresh : bool
        Whether they are not.

    Attributes
    ----------
    path : Path or None
        Where it is saved.
    title : str
        What it is called: the name of its workflow.
    error : Exception or None
        What ended it early: ComfyUI or the Jupyter server is away, say.
    shown_in : object
        The cell whose output shows it already.

    Raises
    ------
    UnknownInputError
        A name is no input of the workflow, or several; nothing has been queued.
    """

    def __init__(
        self,
        comfy: Comfy,
        workflow: Workflow,
        grid: Grid,
        *,
        inputs: Mapping[str, Any] | None = None,
        machine: str | None = None,
        options: Mapping[str, Any] | None = None,
        at_once: int = AT_ONCE,
        save: bool | str | os.PathLike[str] = True,
        fresh: bool = False,
    ) -> None:
        if at_once not in range(1, MOST_AT_ONCE + 1):
            raise InvalidRequestError.of_field("at_once", f"must be from 1 to {MOST_AT_ONCE}")
        self._comfy = comfy
        self._workflow = Workflow(comfy.server, workflow)
        self.title = workflow.title
        self._source = self._workflow.source
        self.grid = grid
        self._inputs = dict(inputs or {})
        self._machine = machine
        # What is not swept stays the same at all points, also where the editor would draw seeds.
        self._options = {"seed_mode": "saved", **(options or {})}
        self._at_once = at_once
        self.error: Exception | None = None
        self.shown_in: object = None
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._saving = threading.Lock()
        self._saved_at, self._saving_takes = 0.0, 0.0
        self._queue: deque[Job] = deque()
        self._active: list[Job] = []
        self._streams: dict[str, EventStream] = {}
        self._stopping = threading.Event()
        self._over = threading.Event()
        self._over.set()
        self._earlier: dict[str, Any] = {}
        self._every_seed = self._sets_every_seed()
        jobs: dict[str, Job] = {}
        self._points = []
        for index, (key, values) in enumerate(zip(self._keys(), grid.points, strict=True)):
            job = jobs.setdefault(key, Job(key, values))
            self._points.append(Point(self, index, values, job))
        self._jobs = jobs
        self.progress = SweepProgress(self)
        self._sheet = ContactSheet(self._points, grid)
        self.path: Path | None = None
        if save is not False:
            self.path = self._default_path() if save is True else Path(save).expanduser()
            if self.path.exists():
                self._take_over(read_file(self.path), self.path, fresh=fresh)

    @classmethod
    def load(cls, comfy: Comfy, path: Path) -> Sweep:
        """Return the sweep that is in a file, as it was when it was last saved.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        InvalidRequestError
            It is no file of a sweep.
        """
        kept = read_file(path)
        try:
            source = Source(kept["workflow_api"], ui=kept["workflow"])
            workflow = Workflow(comfy.server, source, title=str(kept["title"]))
            return cls(
                comfy,
                workflow,
                Grid.from_json(kept),
                inputs=kept["inputs"],
                machine=kept["machine"],
                options=kept["options"],
                at_once=kept["at_once"],
                save=path,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _no_sweep(path) from error

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> list[Point]: ...
    def __getitem__(self, index: int | slice) -> Point | list[Point]:
        return self._points[index]

    def __len__(self) -> int:
        return len(self._points)

    def find(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> list[Point]:
        """Return the points that have these values, e.g. ``sweep.find(cfg=7)``."""
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

    @property
    def status(self) -> str:
        """``running``; ``done``, failed points or not; ``stopped``; ``failed``: see `error`."""
        over = self._over.is_set() or self.progress.ended is not None
        return self._final_status if over else "running"

    @property
    def _final_status(self) -> str:
        """What `status` will be if nothing more is done."""
        if self.error is not None:
            return "failed"
        done = all(job.status in {"success", "failed"} for job in self._jobs.values())
        return "done" if done else "stopped"

    @property
    def counts(self) -> dict[str, int]:
        """How many points there are of each status; ``total`` is all of them."""
        counts = {"total": len(self)}
        for point in self:
            counts[point.status] = counts.get(point.status, 0) + 1
        return counts

    @property
    def results(self) -> dict[Point, Result]:
        """What the points made that have ended."""
        found = ((point, point.result) for point in self)
        return {point: result for point, result in found if result is not None}

    def _start(self, display: Display | None, *, blocking: bool, retry_failed: bool) -> None:
        """Go on, or begin, in threads.

        Parameters
        ----------
        display : callable, optional
            Makes the live view, as that of `Comfy.run`.
        blocking : bool
            Whether the kernel will wait for it.
        retry_failed : bool
            Whether points that failed are run again.

        Raises
        ------
        ConflictError
            It is running.
        """
        with self._lock:
            if not self._over.is_set():
                raise ConflictError("the sweep is running")
            self._over.clear()
        try:
            self.error = None
            again = {"cancelled", *(("failed",) if retry_failed else ())}
            for job in self._jobs.values():
                if job.status in again:
                    job.reset()
                elif job.status not in FINAL:
                    job.status = WAITING
            self._queue = deque(j for j in self._jobs.values() if j.status == WAITING)
            self._stopping.clear()
            self.save()
            self.progress = SweepProgress(self, blocking=blocking)
            view: AbstractContextManager[object] = nullcontext()
            if display is not None:
                view = display(self.progress)
            threading.Thread(
                target=self._run, args=(view,), name="comfydeploy-sweep", daemon=True
            ).start()
        except BaseException:
            self._over.set()
            raise

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
            It has not ended in time; it goes on.
        ComfyDeployError
            What ended it early, such as a ComfyUI that is away; `resume` goes on.
        """
        check_timeout(timeout)
        if not self._over.wait(timeout):
            raise RunTimeoutError(f"the sweep is not finished after {timeout:g} s; it goes on")
        if self.error is not None:
            raise self.error
        return self

    def _watch(self) -> Sweep:
        """Wait as `wait` does; interrupting the kernel stops the sweep."""
        try:
            return self.wait()
        except KeyboardInterrupt:
            self.stop()
            where = "" if self.path is None else f", comfy.sweep.load({str(self.path)!r})"
            raise KeyboardInterrupt(
                f"stopped at {self.progress.summary}; it goes on with resume() of: "
                f"comfy.sweep.last{where}"
            ) from None

    def stop(self) -> None:
        """Queue no more points and cancel those that are queued; `resume` goes on.

        Returns when they have ended, after ten seconds at the latest.
        """
        self._stopping.set()
        for job in self._active_jobs():
            self._cancel(job)
        if not self._over.wait(STOP_WITHIN):
            for stream in list(self._streams.values()):
                stream.close()
            self._over.wait(STOP_WITHIN)

    def resume(
        self,
        *,
        wait: bool = True,
        progress: bool | str | Display = "auto",
        retry_failed: bool = True,
    ) -> Sweep:
        """Go on with the points that are left.

        A point that was queued when the sweep ended is found by its id, whatever it does now.

        Parameters
        ----------
        wait : bool
            Whether to wait for the end.
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
        self._start(display, blocking=wait, retry_failed=retry_failed)
        return self._watch() if wait else self

    def save(self, path: str | Path | None = None) -> Path | None:
        """Write what it did into its file, or into another one; a crash leaves the old content.

        Parameters
        ----------
        path : path, optional
            From now on its file.

        Returns
        -------
        Path or None
            Where it is; None if it has no file.
        """
        with self._saving:
            if path is not None:
                self.path = Path(path).expanduser()
            if self.path is None:
                return None
            began = time.monotonic()
            runs = {key: job.to_json() for key, job in self._jobs.items()}
            kept = {
                "format": FORMAT,
                "version": 1,
                "title": self.title,
                "workflow_api": self._source.graph,
                "workflow": self._source.ui,
                "inputs": self._inputs,
                "machine": self._machine,
                "options": self._options,
                "at_once": self._at_once,
                **self.grid.to_json(),
                "runs": {**self._earlier, **runs},
            }
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps(kept, ensure_ascii=False) + "\n")
            self._saved_at = time.monotonic()
            self._saving_takes = self._saved_at - began
            return self.path

    def rows(self) -> list[dict[str, Any]]:
        """Return the table: for each point its values, then what became of it.

        The columns after the values are ``status``, ``seconds``, ``images`` and ``texts`` (lists),
        ``error`` and ``prompt_id``; one that a value's name takes gets a ``_`` in front.
        """
        return [{**point.values, **self._outcome(point)} for point in self]

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
        """Return sheet and table as HTML that needs nothing else; every text is escaped."""
        return (
            f'<div style="max-width:100%"><div style="margin-bottom:4px">'
            f"{html.escape(self._headline())}</div>{self._sheet.to_html()}{self._html_table()}</div>"
        )

    def __repr__(self) -> str:
        rows = [[str(cell) for cell in row] for row in self._table()[: MAX_ROWS + 1]]
        return f"{self._headline()}\n{text_table(rows)}"

    def _repr_html_(self) -> str | None:
        if self.shown_in is not None and self.shown_in == current_cell():
            return f"<div>{html.escape(self._headline())}</div>"
        return self.to_html()

    def _run_of(self, job: Job) -> Run:
        """Return the handle on the run of a job."""
        return Run(self._comfy.server, {"prompt_id": job.prompt_id, **job.record}, self._source)

    def _result_of(self, job: Job) -> Result | None:
        """Return the result of a job that has ended, if its run was made at all."""
        if job.status not in FINAL or not job.record:
            return None
        if job.result is None:
            job.result = Result(self._comfy.server, job.record, self._source)
        return job.result

    def _active_jobs(self) -> list[Job]:
        """Return the jobs that are queued or run now."""
        with self._lock:
            return list(self._active)

    def _default_path(self) -> Path:
        """Return where it is saved: the same for the same workflow and points."""
        title = re.sub(r"[^\w.-]+", "-", self.title).strip("-.")[:60] or "sweep"
        return FOLDER / f"{title}-{_digest(list(self._jobs))[:8]}.json"

    def _take_over(self, kept: Mapping[str, Any], path: Path, *, fresh: bool) -> None:
        """Take the runs of the same content from a file; the others stay in the file."""
        try:
            for key, run in kept["runs"].items():
                job = self._jobs.get(key)
                if job is None:
                    self._earlier[key] = run
                elif not fresh:
                    for name in ("prompt_id", "status", "error", "record", "sent"):
                        setattr(job, name, run[name])
        except (KeyError, TypeError, AttributeError) as error:
            raise _no_sweep(path) from error

    def _sets_every_seed(self) -> bool:
        """Tell whether ``seed`` means every seed, as in `Comfy.run`: no input has that name."""
        if not any("seed" in point for point in self.grid.points):
            return False
        graph = self._source.graph or {}
        return bool(apply_inputs(graph, {"seed": 0}, strict=False).unknown)

    def _expanded(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs of a point."""
        inputs = {**self._inputs, **values}
        if self._every_seed and "seed" in values:
            del inputs["seed"]
            inputs = {**self._source.seed_inputs(values["seed"]), **inputs}
        return inputs

    def _keys(self) -> Iterable[str]:
        """Give a key for the content of each point: the graph, and the values in it."""
        templates: dict[frozenset[str], tuple[str, dict[str, str]]] = {}
        for point in self.grid.points:
            names = frozenset(point)
            if names not in templates:
                templates[names] = self._template(point)
            digest, targets = templates[names]
            inputs = self._expanded(point)
            values = {target: inputs[name] for target, name in targets.items()}
            yield _digest([digest, values])

    def _template(self, point: dict[str, Any]) -> tuple[str, dict[str, str]]:
        """Check the names of a point; return the graph without its values, and where they go."""
        graph = self._source.graph or {}
        inputs = self._expanded(point)
        applied = apply_inputs(graph, inputs)
        for node_id, name in applied.given:
            applied.graph[node_id]["inputs"][name] = None
        targets = {f"{node_id}.{name}": key for (node_id, name), key in applied.given.items()}
        return _digest(applied.graph), targets

    def _run(self, view: AbstractContextManager[object]) -> None:
        threading.Thread(target=self._tell_alive, name="comfydeploy-alive", daemon=True).start()
        try:
            with view:
                workers = [
                    threading.Thread(target=self._work, name="comfydeploy-point", daemon=True)
                    for _ in range(min(self._at_once, len(self._queue)))
                ]
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()
                self._try_save()
                self.progress.finish(self._final_status)
        except Exception as error:
            self.error = self.error or error
        finally:
            self._over.set()
            self.progress.changed()

    def _tell_alive(self) -> None:
        while not self._over.wait(TELL_EVERY):
            with suppress(ComfyDeployError):  # whoever needs the server will say so
                self._comfy.server.get("check-status", in_use="true")

    def _work(self) -> None:
        while True:
            with self._turn:  # one after the other, so that they are queued in their order
                job = self._next()
                if job is None:
                    return
                stream = self._attempt(job, self._open, job)
            if stream is not None:
                self._attempt(job, self._follow, job, stream)
            job.progress = None
            self._streams.pop(job.key, None)
            with self._lock:
                self._active.remove(job)
            self.progress.changed()
            if time.monotonic() - self._saved_at > max(SAVE_EVERY, 20 * self._saving_takes):
                self._try_save()

    def _next(self) -> Job | None:
        """Take the next job, if there is one and nobody wants to stop."""
        with self._lock:
            if self._stopping.is_set() or not self._queue:
                return None
            job = self._queue.popleft()
            job.status, job.progress = "queued", RunProgress(self._source)
            self._active.append(job)
        self.progress.changed()
        return job

    def _attempt(
        self, job: Job, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """Do one step of a job; an error fails it, or ends the sweep where all would fail."""
        try:
            return step(*args, **kwargs)
        except RunCancelledError:
            job.status = "cancelled"
            return None
        except Exception as error:
            refused = isinstance(error, ComfyDeployError) and error.status < 500
            if refused and not isinstance(error, (UnauthorizedError, RunTimeoutError)):
                job.status, job.error = "failed", str(error)
                return None
            job.status = WAITING
            self.error = self.error or error
            self._stopping.set()
            return None

    def _follow(self, job: Job, stream: EventStream) -> None:
        """Follow the run of a job to its end."""
        assert job.progress is not None
        reply: dict[str, Any] = {}
        with stream:
            self._streams[job.key] = stream
            if self._stopping.is_set():
                self._cancel(job)
            for event in stream:
                job.progress.feed(event)
                if job.progress.status not in FINAL:  # not before its record is there
                    job.status = job.progress.status
                if event.event == "result":
                    reply = event.data
        record = reply or self._comfy.server.get("check-status", prompt_id=job.prompt_id)
        if record.get("status") not in FINAL:
            job.status = WAITING
            return
        if record["status"] == "failed":
            job.error = Result(self._comfy.server, record, self._source).failure
        job.record = record
        job.status = str(record["status"])

    def _open(self, job: Job) -> EventStream:
        if job.sent:
            with suppress(NotFoundError):
                return self._run_of(job).events()
        job.sent = True
        try:
            return self._comfy.stream(
                self._workflow,
                self._expanded(job.values),
                machine=self._machine,
                prompt_id=job.prompt_id,
                **self._options,
            )
        except ConflictError:
            return self._run_of(job).events()
        except ServerUnreachableError as error:
            job.sent = bool(error.extra.get("sent"))
            raise

    def _cancel(self, job: Job) -> None:
        # A run that is not known yet is cancelled once its stream is open.
        with suppress(ComfyDeployError):
            self._comfy.server.post("interrupt", {"prompt_id": job.prompt_id}, timeout=5)

    def _try_save(self) -> None:
        try:
            self.save()
        except (OSError, ComfyDeployError) as error:
            self.error = self.error or error

    def _headline(self) -> str:
        title = f" {self.title!r}" if self.title else ""
        parts = [f"Sweep{title}: {self.progress.summary}, {self.status}"]
        if self.error is not None:
            parts.append(str(self.error))
        if self.path is not None:
            parts.append(f"saved in {self.path}")
        return "; ".join(parts)

    def _outcome(self, point: Point) -> dict[str, Any]:
        result = point.result
        outcome = {
            "status": point.status,
            "seconds": None if result is None else result.execution_time,
            "images": [] if result is None else [f.filename for f in result.files if f.is_image],
            "texts": [] if result is None else result.texts,
            "error": point.error,
            "prompt_id": point.prompt_id,
        }
        return {f"_{k}" if k in point.values else k: value for k, value in outcome.items()}

    def _table(self) -> list[list[str]]:
        names = list(dict.fromkeys(name for point in self for name in point.values))
        rows = [[*names, "status", "seconds", "output"]]
        for point in self:
            result = point.result
            made = ""
            if result is not None:
                made = ", ".join(
                    [*(f.filename for f in result.files), *map(value_text, result.texts)]
                )
            took = None if result is None else result.execution_time
            rows.append(
                [
                    *(value_text(point[name]) if name in point.values else "" for name in names),
                    point.status,
                    "" if took is None else f"{took:.2f}",
                    point.error or made,
                ]
            )
        return rows

    def _html_table(self) -> str:
        head, *rows = self._table()
        return (
            '<details style="margin-top:8px"><summary style="cursor:pointer">Table</summary>'
            f"{html_table(head, rows[:MAX_ROWS])}</details>"
        )


def read_file(path: Path) -> dict[str, Any]:
    """Return the content of a sweep's file.

    Raises
    ------
    FileNotFoundError
        There is none.
    InvalidRequestError
        It is something else.
    """
    try:
        kept = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise _no_sweep(path) from error
    if not isinstance(kept, dict) or kept.get("format") != FORMAT:
        raise _no_sweep(path)
    if kept.get("version") != 1:
        raise InvalidRequestError.of_field("path", f"{path} was saved by a newer version")
    return kept


def current_cell() -> object:
    """Return what stands for the cell that is executed now; None outside of IPython."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return None if shell is None else shell.execution_count


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _no_sweep(path: Path) -> InvalidRequestError:
    return InvalidRequestError.of_field("path", f"{path} is not the file of a sweep")
