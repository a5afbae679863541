"""A sweep: one workflow, run at every point of a grid of values, as a batch of the server."""

from __future__ import annotations

import html
import io
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from ...errors import (
    ComfyDeployError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    RunCancelledError,
    RunFailedError,
    RunTimeoutError,
    ServerUnreachableError,
    printable,
)
from ...util.markup import value_text
from ..files import write_bytes, write_text
from ..graph import Source
from ..proofs import verify_batch
from ..results import Result
from ..runs import Run
from ..server import check_timeout
from ..stream import FINAL, RunProgress
from ..text import ipython_shell, text_table
from .file import VERSION, SweepFile
from .plan import Grid

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from PIL.Image import Image

    from ..comfy import Comfy, Display
    from ..proofs import SweepVerification

BYTE_ORDER_MARK = "\ufeff"
UPDATE_INTERVAL = 0.2  # s, the shortest time between two requests for the state of a batch
PAGE = 500  # points that one request returns
STOP_TIMEOUT = 20.0  # s that `Sweep.stop` waits for cancelled runs to end
AWAY = 60.0  # s for which `Sweep.wait` tries to reach the server again
MAX_ROWS = 500  # points that the table has as text


class Point:
    """One point of a sweep: its values and its run."""

    __slots__ = ("_facts", "_result", "_sweep", "index", "values")

    def __init__(self, sweep: Sweep, index: int, values: dict[str, Any]) -> None:
        self._sweep = sweep
        self._facts: dict[str, Any] = {}
        self._result: Result | None = None
        self.index = index
        """Its position in the sweep, from 0."""
        self.values = values
        """The values by input."""

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def label(self) -> str:
        """Its values on one line, e.g. ``"seed 3, cfg 7"``."""
        return ", ".join(f"{name} {value_text(value)}" for name, value in self.values.items())

    @property
    def status(self) -> str:
        """``waiting``, or the status of its run."""
        return str(self._known.get("status", "waiting"))

    @property
    def error(self) -> str:
        """Why it failed; empty if it did not."""
        result = self.result
        failure = "" if result is None or self.status != "failed" else result.failure
        return failure or str(self._facts.get("error") or "")

    @property
    def prompt_id(self) -> str:
        """The id of its run; empty if it has none yet."""
        return str(self._known.get("prompt_id") or "")

    @property
    def starred(self) -> bool:
        """Whether it is marked as one of the best, see `Sweep.star`."""
        return bool((self._known.get("run") or {}).get("starred"))

    @property
    def progress(self) -> RunProgress | None:
        """The progress of its run while that is queued or runs; else None."""
        record = self._known.get("run")
        if record is None or self._facts["status"] in FINAL:
            return None
        source, node = self._sweep.source, record.get("current_node")
        return RunProgress(
            source,
            status=self._facts["status"],
            fraction=float(record.get("progress") or 0),
            node=None if node is None else source.name(node, record.get("current_class")),
            step=record.get("step", 0),
            steps=record.get("steps", 0),
            iterations=[(done, total) for done, total in record.get("iterations", ())],
        )

    @property
    def run(self) -> Run:
        """The handle on its run."""
        record = self._known.get("run") or {"prompt_id": self.prompt_id}
        return Run(self._sweep.comfy.server, record, self._sweep.source)

    @property
    def result(self) -> Result | None:
        """The result of its run; None before that has ended, and if ComfyUI never ran it."""
        facts = self._known
        if facts.get("status") not in FINAL or facts.get("run") is None:
            return None
        if self._result is None:
            self._result = Result(self._sweep.comfy.server, facts["run"], self._sweep.source)
        return self._result

    def wait(self, timeout: float | None = None) -> Result:
        """Wait until it has ended, and return the result of its run, which succeeded.

        Parameters
        ----------
        timeout : float, optional
            Wait at most this long, s.

        Raises
        ------
        RunFailedError
            It has failed.
        RunCancelledError
            It was cancelled.
        RunTimeoutError
            It has not ended in time; it continues.
        """
        check_timeout(timeout)
        if not self._sweep._wait(timeout, lambda: self.status in FINAL):
            raise RunTimeoutError(f"the point has not ended after {timeout:g} s; it continues")
        result = self.result
        if result is not None:
            return result.raise_for_status()
        if self.status == "cancelled":
            raise RunCancelledError(f"point {self.index} was cancelled")
        raise RunFailedError(self.error or f"the run of point {self.index} was deleted")

    def __repr__(self) -> str:
        return printable(f"<Point {self.index}: {self.label}: {self.status}>")

    @property
    def _known(self) -> dict[str, Any]:
        self._sweep._update(points=True)
        return self._facts

    def _set(self, facts: dict[str, Any]) -> None:
        self._facts, self._result = facts, None


class SweepProgress:
    """The progress of a sweep."""

    def __init__(self, sweep: Sweep) -> None:
        self.sweep = sweep
        """The sweep."""
        self.started = time.monotonic()
        """When it was started, s of `time.monotonic`."""
        self.ended: float | None = None
        """When it ended, s of `time.monotonic`; None while it runs."""

    @property
    def status(self) -> str:
        """The status of the sweep."""
        return self.sweep.status

    @property
    def version(self) -> int:
        """A number that grows with each change."""
        with suppress(ComfyDeployError):
            self.sweep._update()
        return self.sweep._changes

    @property
    def counts(self) -> dict[str, int]:
        """How many points have each status; ``total`` is the number of all points."""
        return self.sweep.counts

    @property
    def fraction(self) -> float:
        """The part that is done, 0 to 1."""
        return float(self.sweep.record["fraction"])

    @property
    def elapsed(self) -> float:
        """Time since the start, or from the start to the end, s."""
        return (time.monotonic() if self.ended is None else self.ended) - self.started

    @property
    def time_left(self) -> float | None:
        """How long it will probably take from now on, s; None if that is not known.

        It is known once a point has ended.
        """
        left: float | None = self.sweep.record["time_left"]
        return None if self.ended is not None else left

    @property
    def summary(self) -> str:
        """The counts as text, e.g. ``"5 of 16 points, 1 failed"``."""
        counts = self.counts
        words = [f"{counts.get('success', 0)} of {counts['total']} points"]
        words += [f"{counts[name]} {name}" for name in ("failed", "cancelled") if name in counts]
        return ", ".join(words)

    @property
    def current(self) -> tuple[Point, RunProgress | None] | None:
        """The point that runs now, else one that is queued, with its progress; else None."""
        self.sweep._update(points=True)
        active = sorted(self.sweep._active, key=lambda point: point.status != "running")
        return next(((point, point.progress) for point in active), None)

    def finish(self, status: str) -> None:
        """Record the end; ``status`` is ignored, because the sweep has its own status."""
        self.ended = time.monotonic()


class Sweep(Sequence[Point]):
    """A workflow, run at every point of a grid; made by ``comfy.sweep``.

    A sequence of its points. It is a batch of the server, which goes on without this kernel: after
    a restart, ``comfy.sweep.load(path)`` or ``comfy.batches()`` return it. If its points are the
    outputs of runs that have not ended (`Comfy.map`), its length and its points are waited for.
    """

    def __init__(
        self,
        comfy: Comfy,
        batch: dict[str, Any],
        *,
        source: Source | None = None,
        grid: Grid | None = None,
        file: SweepFile | None = None,
    ) -> None:
        self.shown_in: object = None
        """The cell whose output already shows the sweep, as `current_cell` returns it."""
        self.comfy = comfy
        """The client."""
        self.source = source or Source(None)
        """Its workflow, if that is known."""
        self.progress = SweepProgress(self)
        """Its progress."""
        self._batch = batch
        self._file = file
        self._grid = grid
        self._made: list[Point] = []
        self._lock = threading.RLock()
        self._changes = 0
        self._forget()

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Point]: ...
    def __getitem__(self, index: int | slice) -> Point | Sequence[Point]:
        return self._points[index]

    def __len__(self) -> int:
        return len(self._points)

    @property
    def id(self) -> str:
        """The id of its batch."""
        return str(self._batch["batch_id"])

    @property
    def record(self) -> dict[str, Any]:
        """Its present record, with the keys of the reply of ``batch/{batch_id}``."""
        self._update()
        return self._batch

    @property
    def grid(self) -> Grid:
        """The axes, and the values of the points; waits for those that are outputs of others."""
        if self._batch.get("waiting_for"):
            self._wait(None, lambda: not self._batch.get("waiting_for"))
        if self._grid is None:
            axes = self.record["axes"]
            self._grid = Grid.from_json(
                {"axes": axes, "points": () if axes else [*self._all_values()]}
            )
        return self._grid

    @property
    def labels(self) -> dict[str, str]:
        """Its labels: texts by name, which its runs have, too."""
        return dict(self.record["labels"])

    @property
    def counts(self) -> dict[str, int]:
        """How many points have each status; ``total`` is the number of all points."""
        present = self.record
        return {"total": present["total"], **present["counts"]}

    @property
    def results(self) -> dict[Point, Result]:
        """The results of the points whose runs have ended."""
        found = ((point, point.result) for point in self)
        return {point: result for point, result in found if result is not None}

    @property
    def starred(self) -> list[Point]:
        """The points that are marked as the best, see `star`."""
        return [point for point in self if point.starred]

    def find(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> list[Point]:
        """Return the points that have these values, e.g. ``sweep.find(cfg=7)``.

        Raises InvalidRequestError if no point has a value of this name.
        """
        wanted = {**(values or {}), **named}
        known = dict.fromkeys(key for point in self for key in point.values)
        for name in wanted.keys() - known.keys():
            text = f"is not an input of the sweep; its inputs are {', '.join(known)}"
            raise InvalidRequestError.of_field(name, text)
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
            if wanted._sweep is self:
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
        return str(self._batch["title"])

    @property
    def path(self) -> Path | None:
        """The file where it is saved; None if it is not saved."""
        return None if self._file is None else self._file.path

    @property
    def notes(self) -> list[str]:
        """A sentence for each thing to know before it runs, such as loops, which are not cached."""
        return list(self.record["notes"])

    @property
    def status(self) -> str:
        """``running``; ``done``, also with failed points; ``stopped``: `resume` continues it."""
        batch = self.record
        if batch["state"] == "done":
            return "done"
        ending = batch["state"] == "cancelled" and batch["finished_at"] is None
        return "running" if batch["state"] == "running" or ending else "stopped"

    @property
    def error(self) -> Exception | None:
        """What ended it early, such as too many points that have failed; else None."""
        return ComfyDeployError(self.why) if self.status == "stopped" and self.why else None

    @property
    def why(self) -> str:
        """Why no point is queued now, such as a ComfyUI that does not answer; else empty."""
        return str(self.record["why"])

    def star(self, *points: Point | int) -> None:
        """Mark points as the best; the server keeps the marks with their runs.

        Parameters
        ----------
        *points : Point or int
            The points, or their positions: ``sweep.star(3, *sweep.find(cfg=7))``.

        Raises
        ------
        NotFoundError
            There is no such point; then no point is marked.
        InvalidRequestError
            A point has no run yet; then no point is marked.
        """
        self._set_stars(points, starred=True)

    def unstar(self, *points: Point | int) -> None:
        """Remove the marks that `star` has set; takes and raises the same."""
        self._set_stars(points, starred=False)

    def wait(self, timeout: float | None = None) -> Sweep:
        """Wait until no point is left; interrupting the kernel ends the waiting only.

        Returns this sweep; points may have failed. It waits through a pause, which the page can
        end, but not if too many failed points have paused it.

        Parameters
        ----------
        timeout : float, optional
            Wait at most this long, s.

        Raises
        ------
        RunTimeoutError
            It has not ended in time; it continues.
        ServerUnreachableError
            The server does not answer for a minute. The sweep goes on when it has started again.
        """
        check_timeout(timeout)
        if not self._wait(timeout):
            raise RunTimeoutError(f"the sweep has not ended after {timeout:g} s; it continues")
        return self

    def pause(self) -> None:
        """Let no further point run; those that are queued go on. `resume` continues."""
        self._change("pause")

    def stop(self) -> None:
        """Queue no more points and cancel those that are queued or run; `resume` continues.

        Returns when they have ended, after 20 seconds at the latest.
        """
        with suppress(ConflictError):  # it has ended
            self._change("cancel")
        self._wait(STOP_TIMEOUT)

    def resume(
        self,
        *,
        wait: bool = True,
        progress: bool | str | Display = "auto",
        retry_failed: bool = True,
    ) -> Sweep:
        """Continue with the points that are left.

        Returns this one.

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
        if self._file is not None:
            self._file.check(self.comfy)
        self._update(now=True)
        if self.status == "running":
            raise ConflictError("the sweep is running")
        if self._batch["state"] in ("paused", "cancelled") or self.counts.get("cancelled"):
            self._change("resume")
        if retry_failed and self.counts.get("failed"):
            self._change("retry")
        self.save()
        return self._follow(wait=wait, progress=progress)

    def save(self, path: str | Path | None = None) -> Path | None:
        """Write the file of the sweep, which names its batch; a crash leaves the old content.

        Returns the file; None if it has none.

        Parameters
        ----------
        path : path, optional
            Another file, which the sweep uses from now on.
        """
        if path is not None:
            key = self._batch["key"] if self._file is None else self._file.key
            self._file = SweepFile(Path(path).expanduser(), {"key": key, "version": VERSION})
        if self._file is not None:
            self._file.put(self.comfy, self.title, self.source, self.id)
        return self.path

    def delete(self, *, files: bool = False) -> None:
        """Delete its batch, which does not run; its runs stay, and its file on this disk.

        Raises ConflictError if it runs.

        Parameters
        ----------
        files : bool
            Whether its runs and their output files are deleted, too.
        """
        address = self.comfy.server.address(f"batch/{self.id}", {"files": str(files).lower()})
        with self.comfy.server.request("DELETE", address):
            pass

    def verify(
        self,
        points: int | Iterable[Point | int] | None = None,
        *,
        machine: str | None = None,
        nodes: bool = False,
        timeout: float | None = None,
    ) -> SweepVerification:
        """Make its points once more, one after the other, and compare what was made.

        Each runs with empty caches on a machine that executes nothing: it waits until there is one.
        Interrupting the kernel cancels it.

        Parameters
        ----------
        points : int or iterable of Point or int, optional
            A sample: so many points, evenly spread over those that have succeeded, or these. By
            default all.
        machine : str, optional
            The machine or pool; by default that of the sweep.
        nodes : bool
            Execute each twice, and name the first node whose pictures differ.
        timeout : float, optional
            Wait at most this long, s.

        Returns
        -------
        SweepVerification
            It is true if each point is identical.

        Raises
        ------
        ConflictError
            The sweep has points that have not ended, or is being verified already.
        NotFoundError
            There is no such point.
        RunTimeoutError
            Not all points were compared in time; it goes on.
        """
        check_timeout(timeout)
        chosen = points
        if points is not None and not isinstance(points, int):
            chosen = [self.point_of(point).index for point in points]
        asked = {"machine": machine, "points": chosen, "nodes": nodes}
        return verify_batch(self.comfy.server, self.id, asked, timeout)

    def rows(self) -> list[dict[str, Any]]:
        """Return the table: for each point its values, then the outcome of its run.

        The columns after the values are ``status``, ``seconds``, ``images`` and ``texts`` (lists),
        ``error`` and ``prompt_id``. If an input has such a name, the column begins with ``_``.
        """
        return [{**point.values, **_outcome(point)} for point in self]

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
        import PIL.Image

        return PIL.Image.open(io.BytesIO(self.to_png(starred=starred)))

    def to_png(self, path: str | os.PathLike[str] | None = None, *, starred: bool = False) -> bytes:
        """Return the contact sheet as PNG.

        Parameters
        ----------
        path : path, optional
            Also write it into this file, which is replaced if it exists.
        starred : bool
            As in `sheet`, which raises the same.
        """
        content = self._render("sheet", "png", starred=starred)
        if path is not None:
            write_bytes(path, content)
        return content

    def to_webp(self) -> bytes:
        """Return the contact sheet as WebP, much smaller than PNG."""
        return self._render("sheet", "webp")

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
        text = self._render("table", "csv", starred=starred).decode()
        if path is not None:
            write_text(path, f"{BYTE_ORDER_MARK}{text}")
        return text

    def to_html(self) -> str:
        """Return the contact sheet and the table as HTML that needs no other files."""
        page = self._render("sheet", "html").decode()
        return f"<div>{html.escape(self._headline())}</div>{page}"

    def __repr__(self) -> str:
        known = () if self.record.get("waiting_for") else self
        return f"{printable(self._headline())}\n{_table_text(known)}"

    def _repr_html_(self) -> str | None:
        if self.shown_in is not None and self.shown_in == current_cell():
            return f"<div>{html.escape(self._headline())}</div>"
        return self.to_html()

    # -- the batch -----------------------------------------------------------------------------

    @property
    def _points(self) -> list[Point]:
        grid = self.grid
        with self._lock:
            self._made = self._made or [
                Point(self, index, values) for index, values in enumerate(grid.points)
            ]
        return self._made

    def _forget(self) -> None:
        self._mark = "0-0"
        self._active: list[Point] = []
        self._updated_at = -UPDATE_INTERVAL
        self._is_complete = self._is_read = False
        for point in self._made:
            point._set({})

    def _all_values(self) -> Iterator[dict[str, Any]]:
        read = 0
        while page := self._get("points", limit=PAGE, offset=read)["points"]:
            read += len(page)
            yield from (point["values"] for point in page)

    def _get(self, part: str = "", **query: Any) -> Any:
        path = f"batch/{self.id}/{part}" if part else f"batch/{self.id}"
        return self.comfy.server.get(path, **query)

    def _update(self, *, points: bool = False, now: bool = False) -> None:
        """Ask the server what has changed, unless that was a moment ago, or nothing can change."""
        with self._lock:
            is_due = time.monotonic() - self._updated_at >= UPDATE_INTERVAL
            if now or (is_due and not self._is_complete):
                before, axes = self._batch, self._batch.get("axes")
                self._batch = self._get(axes="false" if axes else "true")
                self._batch["axes"] = axes or self._batch["axes"]  # they do not change any more
                self._changes += self._batch != before
                self._is_complete, self._is_read = self._batch["finished_at"] is not None, False
                self._updated_at = time.monotonic()
            if not points or self._is_read or self._batch.get("waiting_for"):
                return
            known, page = self._points, None
            while page is None or len(page["points"]) == PAGE:
                page = self._get("points", after=self._mark, limit=PAGE)
                self._mark = page["mark"]
                for facts in page["points"]:
                    known[facts["point"]]._set(facts)
            for point in self._active:
                if point._facts["status"] not in FINAL:
                    point._set({})
            active = self._get("points", status="active", limit=PAGE)["points"]
            for facts in active:
                known[facts["point"]]._set(facts)
            self._active = [known[facts["point"]] for facts in active]
            self._is_read = True

    def _change(self, what: str) -> None:
        self._batch = self.comfy.server.post(f"batch/{self.id}/{what}", {})
        with self._lock:
            self._forget()
            self._changes += 1

    def _wait(self, timeout: float | None, ended: Callable[[], bool] | None = None) -> bool:
        """Wait until no point is left, or something else is true; return whether it is."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause, answered = 0.05, time.monotonic()
        while True:
            try:
                self._update(now=True)
                answered = time.monotonic()
                if self._is_over() if ended is None else ended():
                    return True
            except ServerUnreachableError:
                if time.monotonic() - answered > AWAY:
                    raise
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return False
            time.sleep(pause if deadline is None else max(min(pause, deadline - now), 0))
            pause = min(1.5 * pause, 0.5)

    def _is_over(self) -> bool:
        batch = self.record
        is_asked = batch["state"] == "paused" and not batch["why"]
        return self.status != "running" and not is_asked  # else too many points have failed

    def _follow(self, *, wait: bool, progress: bool | str | Display) -> Sweep:
        """Show the progress; wait for the end, or let a thread update the view."""
        self.comfy.sweep.last = self
        self.progress = SweepProgress(self)
        if not wait:
            view = self.comfy._view(progress, self.progress)
            if not isinstance(view, nullcontext):
                threading.Thread(target=self._watch, args=(view,), daemon=True).start()
            return self
        try:
            self._show(self.comfy._view(progress, self.progress))
        except KeyboardInterrupt:
            if self.progress.ended is None:  # before the view was there
                self.stop()
            where = "" if self.path is None else f", comfy.sweep.load({str(self.path)!r})"
            raise KeyboardInterrupt(
                f"stopped at {self.progress.summary}; it continues with resume() of: "
                f"comfy.sweep.last{where}"
            ) from None
        return self

    def _watch(self, view: AbstractContextManager[object]) -> None:
        with suppress(ComfyDeployError):  # it was deleted, or the server is away
            self._show(view)

    def _show(self, view: AbstractContextManager[object]) -> None:
        with view:
            try:
                self._wait(None)
            except KeyboardInterrupt:
                self.stop()
                raise
            finally:
                self.progress.finish(self._batch["state"])

    def _render(self, what: str, kind: str, *, starred: bool = False) -> bytes:
        """Return a sheet or a table that the server makes."""
        query = {"format": kind, "starred": str(starred).lower()}
        address = self.comfy.server.address(f"batch/{self.id}/{what}", query)
        with self.comfy.server.request("GET", address, timeout=300) as response:
            return response.content

    def _set_stars(self, points: Sequence[Point | int], *, starred: bool) -> None:
        own = [self.point_of(point) for point in points]
        for point in own:
            if not point.prompt_id:
                raise InvalidRequestError.of_field("points", f"point {point.index} has no run yet")
        ids = {point.prompt_id for point in own if point.starred != starred}
        if ids:
            body = {"prompt_ids": sorted(ids), "starred": starred}
            self.comfy.server.post("runs/update", body)
        for point in self:
            record = point._facts.get("run")
            if record is not None and record["prompt_id"] in ids:
                record["starred"] = starred

    def _headline(self) -> str:
        title = f" {self.title!r}" if self.title else ""
        parts = [f"Sweep{title}: {self.progress.summary}, {self.status}"]
        parts += [self.why] if self.why else []
        if self.path is not None:
            parts.append(f"saved in {self.path}")
        parts += self.notes
        return "; ".join(parts)


def _outcome(point: Point) -> dict[str, Any]:
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


def _table_text(points: Sequence[Point]) -> str:
    names = list(dict.fromkeys(name for point in points for name in point.values))
    table = [[*names, "status", "seconds", "output"]]
    for point in points[:MAX_ROWS]:
        result, output, seconds = point.result, "", ""
        if result is not None:
            seconds = "" if result.execution_time is None else f"{result.execution_time:.2f}"
            files = [file.filename for file in result.files]
            output = ", ".join([*files, *map(value_text, result.texts)])
        values = [value_text(point[n]) if n in point.values else "" for n in names]
        table.append([*values, point.status, seconds, point.error or output])
    return text_table(table)


def current_cell() -> object:
    """Return the execution count of the notebook cell that runs now; None outside of IPython."""
    return getattr(ipython_shell(), "execution_count", None)
