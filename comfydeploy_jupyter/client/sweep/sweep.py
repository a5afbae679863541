"""A sweep: one workflow, run at every point of a grid of values, as a batch of the server."""

from __future__ import annotations

import hashlib
import html
import io
import json
import re
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from ...errors import (
    ComfyDeployError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    RunTimeoutError,
    ServerUnreachableError,
    brief,
    printable,
)
from ...util.markup import value_text
from ..files import Uploader, has_files, write_bytes, write_text
from ..graph import Source
from ..results import Result
from ..runs import Run, check_options
from ..server import check_timeout, plain
from ..stream import FINAL, RunProgress
from ..text import text_table
from ..workflow import Workflow
from .plan import Grid, Points

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from PIL.Image import Image

    from ..comfy import Comfy, Display

AtOnce: TypeAlias = int | Literal["auto"]

BYTE_ORDER_MARK = "\ufeff"
FORMAT = "comfydeploy-sweep"
VERSION = 2
SERVER = ("url", "store", "id")
"""What identifies the server that has the runs: its address, and the file and id of its store."""

FOLDER = Path("sweeps")
"""The folder where sweeps are saved by default, relative to the working directory."""

UPDATE_INTERVAL = 0.2
"""Shortest time between two requests for the state of a batch, s."""

PAGE = 500
"""How many points one request returns."""

STOP_TIMEOUT = 20.0
"""How long `Sweep.stop` waits for cancelled runs to end, s."""

AWAY = 60.0
"""How long `Sweep.wait` tries to reach the server again, s."""

MAX_ROWS = 500
"""How many points the table has as text."""


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
        progress = RunProgress(self._sweep.source, status=self._facts["status"])
        progress.fraction = float(record.get("progress") or 0)
        progress.step, progress.steps = record.get("step", 0), record.get("steps", 0)
        progress.iterations = [(done, total) for done, total in record.get("iterations", ())]
        if record.get("current_node") is not None:
            known = self._sweep.source.name(record["current_node"], record.get("current_class"))
            progress.node = known
        return progress

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

    def __repr__(self) -> str:
        return printable(f"<Point {self.index}: {self.label}: {self.status}>")

    @property
    def _known(self) -> dict[str, Any]:
        self._sweep._update()
        return self._facts

    def _set(self, facts: dict[str, Any]) -> None:
        self._facts, self._result = facts, None


class SweepProgress:
    """The progress of a sweep."""

    def __init__(self, sweep: Sweep, *, blocking: bool = False) -> None:
        self.sweep = sweep
        """The sweep."""
        self.blocking = blocking
        """Whether the kernel waits for it; then the kernel cannot react to buttons."""
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
        return float(self.sweep._present["fraction"])

    @property
    def elapsed(self) -> float:
        """Time since the start, or from the start to the end, s."""
        return (time.monotonic() if self.ended is None else self.ended) - self.started

    @property
    def time_left(self) -> float | None:
        """How long it will probably take from now on, s; None if that is not known.

        It is known once a point has ended.
        """
        left: float | None = self.sweep._present["time_left"]
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
        self.sweep._update()
        active = [self.sweep[index] for index in self.sweep._active]
        active.sort(key=lambda point: point.status != "running")
        return next(((point, point.progress) for point in active), None)

    def finish(self, status: str) -> None:
        """Record the end; ``status`` is ignored, because the sweep has its own status."""
        self.ended = time.monotonic()


class Sweep(Sequence[Point]):
    """A workflow, run at every point of a grid; made by ``comfy.sweep``.

    A sequence of its points. It is a batch of the server, which goes on without this kernel: after
    a restart, ``comfy.sweep.load(path)`` or ``comfy.batches()`` return it.
    """

    def __init__(
        self,
        comfy: Comfy,
        batch: dict[str, Any],
        *,
        source: Source | None = None,
        grid: Grid | None = None,
        path: Path | None = None,
        content: dict[str, Any] | None = None,
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
        self._path = path
        self._content = content or {}
        self._lock = threading.RLock()
        self._in_words: Any = None
        self._forget()
        if grid is None:
            grid = Grid.from_json(batch) if batch.get("axes") else Grid((), self._all_values())
        self.grid = grid
        """The axes, and the values of the points."""
        self._points = [Point(self, index, values) for index, values in enumerate(grid.points)]

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
    def labels(self) -> dict[str, str]:
        """Its labels: texts by name, which its runs have, too."""
        return dict(self._present["labels"])

    @property
    def counts(self) -> dict[str, int]:
        """How many points have each status; ``total`` is the number of all points."""
        return {"total": len(self), **self._present["counts"]}

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
        return str(self._batch["title"])

    @property
    def path(self) -> Path | None:
        """The file where it is saved; None if it is not saved."""
        return self._path

    @property
    def notes(self) -> list[str]:
        """A sentence for each thing to know before it runs, such as loops, which are not cached."""
        return list(self._batch["notes"])

    @property
    def status(self) -> str:
        """``running``; ``done``, also with failed points; ``stopped``: `resume` continues it."""
        batch = self._present
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
        return str(self._present["why"])

    @property
    def table(self) -> Any:
        """The values of all points, and the headings of the sheet, in the words of the form.

        ``keys`` are the names of its inputs, ``labels`` their labels, ``heads`` the headings of
        rows and columns, ``points`` the points with ``label`` and ``values``.
        """
        if self._in_words is None:
            self._in_words = json.loads(self._render("table", "json"))
        return self._in_words

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

        Returns this sweep; points may have failed.

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
        if self._content:
            check_server(self.comfy, self._content, self._path)
        self._update(now=True)
        if self.status == "running":
            raise ConflictError("the sweep is running")
        if self._batch["state"] in ("paused", "cancelled"):
            self._change("resume")
        if retry_failed and self.counts.get("failed"):
            self._change("retry")
        if self._content:
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
            self._path = Path(path).expanduser()
        if self._path is None:
            return None
        if not self._content:
            self._content = new_content(self.comfy, self.title, self.source)
        self._content["batch_id"] = self.id
        write_file(self._path, self._content)
        return self._path

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
        return f"{printable(self._headline())}\n{_table_text(self)}"

    def _repr_html_(self) -> str | None:
        if self.shown_in is not None and self.shown_in == current_cell():
            return f"<div>{html.escape(self._headline())}</div>"
        return self.to_html()

    # -- the batch -----------------------------------------------------------------------------

    @property
    def _present(self) -> dict[str, Any]:
        """The batch, as the server has described it a moment ago."""
        self._update()
        return self._batch

    def _forget(self) -> None:
        """Forget what is known of the points."""
        self._mark = "0-0"
        self._active: list[int] = []
        self._updated_at = -UPDATE_INTERVAL
        self._complete = False
        self._changes = 0

    def _all_values(self) -> tuple[dict[str, Any], ...]:
        found: list[dict[str, Any]] = []
        while len(found) < self._batch["total"]:
            page = self._get("points", limit=PAGE, offset=len(found))["points"]
            if not page:
                break
            found += (point["values"] for point in page)
        return tuple(found)

    def _get(self, part: str = "", **query: Any) -> Any:
        path = f"batch/{self.id}/{part}" if part else f"batch/{self.id}"
        return self.comfy.server.get(path, **query)

    def _update(self, *, now: bool = False) -> None:
        """Ask the server what has changed, unless that was a moment ago, or nothing can change."""
        with self._lock:
            if not now and (
                self._complete or time.monotonic() - self._updated_at < UPDATE_INTERVAL
            ):
                return
            before = self._batch
            self._batch = self._get()
            while True:
                page = self._get("points", after=self._mark, limit=PAGE)
                self._mark = page["mark"]
                for facts in page["points"]:
                    self._points[facts["point"]]._set(facts)
                if len(page["points"]) < PAGE:
                    break
            over = self._batch["finished_at"] is not None
            active = [] if over else self._get("points", status="active", limit=PAGE)["points"]
            for index in self._active:
                if self._points[index]._facts["status"] not in FINAL:
                    self._points[index]._set({})
            for facts in active:
                self._points[facts["point"]]._set(facts)
            self._active = [facts["point"] for facts in active]
            if over:
                for point in self._points:  # they were cancelled before they had a run
                    if not point._facts and self._batch["state"] == "cancelled":
                        point._set({"status": "cancelled"})
            self._changes += self._batch != before
            self._complete = over
            self._updated_at = time.monotonic()

    def _change(self, what: str) -> None:
        """Send a request that changes the batch."""
        self._batch = self.comfy.server.post(f"batch/{self.id}/{what}", {})
        with self._lock:
            changes = self._changes + 1
            self._forget()
            self._changes = changes
            for point in self._points:
                point._set({})

    def _wait(self, timeout: float | None) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        pause, answered = 0.05, time.monotonic()
        while True:
            try:
                self._update(now=True)
                answered = time.monotonic()
                if self.status != "running":
                    return True
            except ServerUnreachableError:
                if time.monotonic() - answered > AWAY:
                    raise
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                return False
            time.sleep(pause if deadline is None else max(min(pause, deadline - now), 0))
            pause = min(1.5 * pause, 0.5)

    def _follow(
        self, *, wait: bool, progress: bool | str | Display, last: Sweeps | None = None
    ) -> Sweep:
        """Show the progress; wait for the end, or let a thread update the view."""
        self.progress = SweepProgress(self, blocking=wait)
        if wait:
            try:
                if last is not None:
                    last.last = self
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
        if last is not None:
            last.last = self
        if progress:
            view = self.comfy._view(progress, self.progress)
            threading.Thread(
                target=self._show, args=(view,), name="comfydeploy-sweep", daemon=True
            ).start()
        return self

    def _show(self, view: AbstractContextManager[object]) -> None:
        with view:
            try:
                self._wait(None)
            except KeyboardInterrupt:
                self.stop()
                raise
            finally:
                self.progress.finish(self.status)

    def _render(self, what: str, kind: str, *, starred: bool = False) -> bytes:
        """Return a sheet or a table that the server makes."""
        if starred and not self.starred:
            raise InvalidRequestError.of_field("starred", "no point of the sweep has a star")
        query = {"format": kind, "starred": str(starred).lower()}
        address = self.comfy.server.address(f"batch/{self.id}/{what}", query)
        with self.comfy.server.request("GET", address, timeout=300) as response:
            return response.content

    def _set_stars(self, points: Sequence[Point | int], *, starred: bool) -> None:
        own = [self.point_of(point) for point in points]
        for point in own:
            if not point.prompt_id:
                raise InvalidRequestError.of_field("points", f"point {point.index} has no run yet")
        changed = [point for point in own if point.starred != starred]
        if changed:
            ids = [point.prompt_id for point in changed]
            self.comfy.server.post("runs/update", {"prompt_ids": ids, "starred": starred})
        for point in self._points:
            record = point._facts.get("run")
            if record is not None and any(record["prompt_id"] == p.prompt_id for p in changed):
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
    """Return the table as aligned lines of text."""
    names = list(dict.fromkeys(name for point in points for name in point.values))
    table = [[*names, "status", "seconds", "output"]]
    for point in points[:MAX_ROWS]:
        result = point.result
        output, seconds = "", ""
        if result is not None:
            seconds = "" if result.execution_time is None else f"{result.execution_time:.2f}"
            files = [file.filename for file in result.files]
            output = ", ".join([*files, *map(value_text, result.texts)])
        values = [value_text(point[n]) if n in point.values else "" for n in names]
        table.append([*values, point.status, seconds, point.error or output])
    return text_table(table)


# -- the file of a sweep -----------------------------------------------------------------------


def new_content(comfy: Comfy, title: str, source: Source) -> dict[str, Any]:
    """Return what the file of a new sweep has, without its batch."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "server": server_of(comfy),
        "key": f"sweep-{uuid.uuid4()}",
        "batch_id": "",
        "request": "",
        "title": title,
        "workflow_api": source.graph,
        "workflow": source.ui,
    }


def server_of(comfy: Comfy) -> dict[str, str]:
    """Return what identifies the present server."""
    store = comfy.server.get("check-status", timeout=10).get("store", {})
    return {"url": comfy.server.url, "store": store["path"], "id": store["id"]}


def check_server(comfy: Comfy, content: dict[str, Any], path: Path | None) -> None:
    """Raise a ConflictError if the runs of a sweep are on another server than the present one."""
    known = content.get("server")  # older files have none
    present = server_of(comfy)
    known = known if isinstance(known, dict) else {}
    if all(isinstance(known.get(name), str) for name in SERVER) and known["id"] != present["id"]:
        runs = "this sweep" if path is None else str(path)
        raise ConflictError(
            f"the runs of {runs} are on the Jupyter server {known['url']!r}, whose data are in"
            f" {known['store']!r}; {present['url']!r} is another one, or its data were replaced."
            " Connect to that server to continue, or run the points here with save= another file"
        )
    content["server"] = present


def write_file(path: Path, content: dict[str, Any]) -> None:
    """Write the file of a sweep."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, ensure_ascii=False) + "\n")


def read_file(path: Path) -> dict[str, Any]:
    """Return the content of the file of a sweep, which may be that of an earlier version."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise not_a_sweep(path) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise not_a_sweep(path)
    if content.get("version") not in (1, VERSION):
        raise InvalidRequestError.of_field("path", f"{path} was saved by a newer version")
    return content


def not_a_sweep(path: Path) -> InvalidRequestError:
    """Return the error for a file that holds something else."""
    return InvalidRequestError.of_field("path", f"{path} is not the file of a sweep")


def default_path(title: str, request: str) -> Path:
    """Return the path of a sweep's file, the same for the same workflow and points."""
    name = re.sub(r"[^\w.-]+", "-", title).strip("-.")[:60] or "sweep"
    return FOLDER / f"{name}-{request[:8]}.json"


def digest(value: object) -> str:
    """Return the SHA-256 of a value's JSON, hexadecimal."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _earlier_runs(content: dict[str, Any], points: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the runs that the file of an earlier version has, by the numbers of points."""
    saved = list(content.get("runs", {}).values())
    runs = {}
    for number, values in enumerate(points):
        for each in saved:
            if each["values"] == values and each["sent"] and each["status"] != "waiting":
                runs[str(number)] = str(each["prompt_id"])
    return runs


def current_cell() -> object:
    """Return the execution count of the notebook cell that runs now; None outside of IPython."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return None if shell is None else shell.execution_count


NOT_FOR_SWEEPS = frozenset(
    {
        *("client_id", "extra_data", "file_upload_endpoint", "front", "gpu_event_id"),
        *("prompt_id", "status_endpoint", "version", "workflow_id"),
    }
)
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
            How many points are queued at a time, 1 to 256; the others wait at the server. By
            default, two for a machine, more if they take only moments, and four for each machine
            of a pool.
        save : bool or path
            The JSON file that names it, so that the same call continues where the last one ended.
            True: in the folder ``sweeps``, under a name made of the workflow's title and the
            points. False: no file.
        fresh : bool
            Whether to run also the points that have ended before.
        wait : bool
            Whether to wait for the end; then interrupting the kernel stops the sweep. The server
            goes on in any case, also without this kernel.
        progress : bool, "auto" or callable
            As in `Comfy.run`; a callable gets the `SweepProgress`.
        **options
            As `Comfy.run` takes them. ``seed_mode`` is ``"saved"`` by default, so that points
            differ only in their values. Also ``retry``, ``stop_after``, ``order`` and ``webhook``
            of the route ``batch``.

        Raises
        ------
        UnknownInputError
            A name is no input of the workflow, or fits inputs of several nodes; nothing has been
            queued.
        InvalidRequestError
            Something else is wrong with the arguments; nothing has been queued.
        ConflictError
            The runs in the file are on another server, or other points with this file are
            running; nothing has been queued.
        ServerUnreachableError
            The server does not answer.
        KeyboardInterrupt
            The kernel was interrupted; ``comfy.sweep.last.resume()`` continues.
        """
        for name in options:
            if name in NOT_FOR_SWEEPS:
                text = f"a sweep has no option {name!r}: each point is a separate run"
                raise brief(TypeError(text))
        own = {"order", "retry", "stop_after", "webhook"}
        check_options(
            {n: v for n, v in options.items() if n not in own},
            {*("at_once", "fresh", "points", "save", "wait"), *own},
        )
        comfy, server = self._comfy, self._comfy.server
        loaded = Workflow(server, workflow)
        source = loaded.source
        seeds = {} if seed is None else source.seed_inputs(seed)
        constant = {**source.files, **seeds, **(inputs or {})}
        grid = Grid.of(points)
        if any("seed" in point for point in grid.points):
            _check_seed(source)
        values = [*constant.values(), *(value for p in grid.points for value in p.values())]
        if machine == "auto" and any(map(has_files, values)):
            machine = comfy.machines.get(machine).id  # files go to the machine that runs
        uploader = Uploader(server, machine)

        def sent(value: Any) -> Any:
            return plain(uploader.stored(value))

        grid = grid.map(sent)
        fields = grid.to_json()
        body = {
            **source.body(),
            **fields,
            "inputs": {**{k: sent(v) for k, v in constant.items()}, **fields.get("inputs", {})},
            "machine": machine,
            **options,
        }
        request = digest(body)
        body |= {"at_once": at_once, "title": loaded.title or None}
        if save is False:
            batch = server.post("batch", _given(body))
            sweep = Sweep(comfy, server.get(f"batch/{batch['batch_id']}"), source=source, grid=grid)
        else:
            path = default_path(loaded.title, request) if save is True else Path(save).expanduser()
            sweep = self._saved(path, request, body, source, grid, fresh=fresh)
        state, counts = sweep._batch["state"], sweep._batch["counts"]
        if state in ("paused", "cancelled") or (state == "done" and counts.get("failed")):
            self.last = sweep
            return sweep.resume(wait=wait, progress=progress)
        return sweep._follow(wait=wait, progress=progress, last=self)

    def _saved(
        self,
        path: Path,
        request: str,
        body: dict[str, Any],
        source: Source,
        grid: Grid,
        *,
        fresh: bool,
    ) -> Sweep:
        """Return the sweep of a file, or a new one that continues it."""
        comfy, server = self._comfy, self._comfy.server
        known = read_file(path) if path.exists() else {}
        title = str(body["title"] or "")
        content = new_content(comfy, title, source) | {"request": request}
        if known:
            check_server(comfy, known, path)
        if known.get("version") == VERSION:
            content["key"] = known["key"]
            before = _batch_of(comfy, known)
            if before is not None and known["request"] == request and not fresh:
                return Sweep(comfy, before, source=source, grid=grid, path=path, content=content)
            if before is not None and before["state"] == "running":
                raise ConflictError(
                    f"the sweep in {path} is running; comfy.sweep.load({str(path)!r}) returns it,"
                    " and stop() ends it"
                )
        elif known and not fresh:
            body = {**body, "runs": _earlier_runs(known, grid.points)}
        write_file(path, {**content, "batch_id": known.get("batch_id", "")})
        batch = server.post("batch", _given({**body, "key": content["key"], "fresh": fresh}))
        found = server.get(f"batch/{batch['batch_id']}")
        sweep = Sweep(comfy, found, source=source, grid=grid, path=path, content=content)
        sweep.save()
        return sweep

    def load(self, path: str | os.PathLike[str]) -> Sweep:
        """Return a sweep that was saved; ``resume()`` continues with it if it is stopped.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        InvalidRequestError
            It is not the file of a sweep.
        ConflictError
            Its runs are on another server.
        """
        comfy, where = self._comfy, Path(path).expanduser()
        content = read_file(where)
        check_server(comfy, content, where)
        try:
            source = Source(content["workflow_api"], ui=content["workflow"])
            if content["version"] == VERSION:
                batch, grid = _batch_of(comfy, content), None
                if batch is None:
                    raise NotFoundError(f"the server has deleted the batch of {where}")
            else:
                grid = Grid.from_json(content)
                options = {k: v for k, v in content["options"].items() if k not in NOT_FOR_SWEEPS}
                fields = grid.to_json()
                body = {
                    **source.body(),
                    **fields,
                    "inputs": {**content["inputs"], **fields.get("inputs", {})},
                    "machine": content["machine"],
                    **options,
                    "title": content["title"] or None,
                    "runs": _earlier_runs(content, grid.points),
                    "paused": True,
                }
                content = new_content(comfy, content["title"], source)
                made = comfy.server.post("batch", _given({**body, "key": content["key"]}))
                batch = comfy.server.get(f"batch/{made['batch_id']}")
            self.last = Sweep(comfy, batch, source=source, grid=grid, path=where, content=content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise not_a_sweep(where) from error
        if not content["batch_id"]:
            self.last.save()
        return self.last


class Batches:
    """The batches that the server has: ``comfy.batches()``."""

    def __init__(self, comfy: Comfy) -> None:
        self._comfy = comfy

    def __repr__(self) -> str:
        return "comfy.batches(), or comfy.batches.get(id)"

    def __call__(
        self,
        *,
        limit: int = 100,
        offset: int = 0,
        state: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> list[Sweep]:
        """Return the batches, the newest first, whoever has started them.

        Parameters
        ----------
        limit, offset : int
            How many to return, and how many of the newest to skip.
        state : str, optional
            Only those that are ``running``, ``paused``, ``cancelled`` or ``done``.
        labels : dict, optional
            Only those with all of these labels.
        """
        wanted = {f"labels[{name}]": value for name, value in (labels or {}).items()}
        query: dict[str, Any] = {"limit": limit, "offset": offset, "state": state, **wanted}
        found = self._comfy.server.get("batches", **query)["batches"]
        return [self.get(batch["batch_id"]) for batch in found]

    def get(self, batch_id: str) -> Sweep:
        """Return a batch by its id; raises NotFoundError if there is none."""
        return Sweep(self._comfy, self._comfy.server.get(f"batch/{batch_id}"))


def _batch_of(comfy: Comfy, content: dict[str, Any]) -> dict[str, Any] | None:
    """Return the batch of a file; also if the kernel has ended before its id was saved."""
    batch_id = content["batch_id"]
    if not batch_id:
        found = comfy.server.get("batches", key=content["key"], limit=1)["batches"]
        batch_id = found[0]["batch_id"] if found else ""
    if not batch_id:
        return None
    try:
        batch: dict[str, Any] = comfy.server.get(f"batch/{batch_id}")
    except NotFoundError:
        return None
    return batch


def _check_seed(source: Source) -> None:
    """Raise if ``seed`` is varied, and the workflow has none."""
    if source.graph is not None and not source.is_ui:
        named = [node for node in source.graph.values() if "seed" in node.get("inputs", {})]
        if len(named) != 1:
            source.seed_inputs(0)


def _given(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}
