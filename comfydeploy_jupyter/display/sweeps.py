"""Sweeps as widgets in a notebook: the contact sheet to look at, stars, downloads."""

from __future__ import annotations

import html
import re
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import traitlets as t

from ..client.stream import FINAL
from ..client.sweep import current_cell
from ..client.sweep.plan import value_text
from ..client.text import duration
from ..errors import ComfyDeployError
from . import close_tree, sweep_activity, sweep_end, sweep_left
from .page import STATIC, KernelStatus, Record, View, script, server_facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..client import Comfy, Point, Sweep, SweepProgress
    from ..client.results import OutputFile
    from .page import Host


SIDE = 192
"""Longest side of the small copies that the kernel sends, pixels."""

MAX_LENGTH = 2_000
"""How many characters of a value or a text the page gets at most."""

PICTURE, TABLE = "image/png", "text/csv"


class SheetView(View):
    """Shows the points of a sweep, its progress, and the buttons.

    The page shows small copies of the pictures, which it requests when they come into sight.
    """

    _esm = script("sheet")

    # the headings, the names of the inputs, and the values of each point, all in words
    heads = t.Dict().tag(sync=True)
    # for each point: its status, its duration in s or None, a text, and the name, the query
    # and the kind of its picture, which are empty if it has none
    points: t.List[Any] = t.List().tag(sync=True)
    # the positions of the points that are marked as the best
    stars: t.List[Any] = t.List().tag(sync=True)
    # what is above the sheet; "blocking": the kernel reacts to nothing before the end
    progress = t.Dict().tag(sync=True)

    def __init__(self, host: Host, sweep: Sweep) -> None:
        self._sweep = sweep
        self._starring = threading.Lock()
        self._wanted: dict[int, bool] = {}
        self._pushed: set[str] = set()
        table = sweep.table
        super().__init__(
            host,
            heads={
                **table["heads"],
                "names": table["labels"],
                "values": [
                    [value[:MAX_LENGTH] for value in point["values"]] for point in table["points"]
                ],
                "labels": [point["label"] for point in table["points"]],
            },
        )
        self.refresh()

    def refresh(self) -> None:
        """Show the present state of the points and their stars."""
        with self.hold_sync():
            self.points = [_facts(point) for point in self._sweep]
            self.stars = [point.index for point in self._sweep.starred]

    def push_pictures(self) -> None:
        """Send the small pictures of the points that have ended since the last call.

        While the kernel waits for the sweep it answers no requests, so that a page that does not
        reach the server would see no pictures.
        """
        for point in self._sweep:
            picture = picture_of(point)
            if picture is None or picture.query in self._pushed:
                continue
            self._pushed.add(picture.query)
            with suppress(ComfyDeployError):
                content = picture.thumbnail(SIDE)
                message = {"kind": "copy", "query": picture.query, "mime": "image/webp"}
                self.send(message, [content])

    def _on_star(self, message: dict[str, Any], _: object) -> None:
        self._wanted[int(message["index"])] = bool(message["starred"])
        self._panel.start(self._save_stars)

    def _save_stars(self) -> None:
        """Set the stars that the user wants, and save them; one thread at a time."""
        with self._starring:
            failed = True
            try:
                while self._wanted:
                    index, starred = self._wanted.popitem()
                    (self._sweep.star if starred else self._sweep.unstar)(index)
                failed = False
            finally:
                # After a failure the page shows the stars that there are, and forgets the others.
                if failed:
                    self._wanted.clear()
                self.send({"kind": "stars", "failed": failed})

    def _on_stop(self, _: object, __: object) -> None:
        self._panel.start(self._sweep.stop)

    def _on_export(self, message: dict[str, Any], _: object) -> None:
        self._panel.start(self._export, str(message["format"]), bool(message["starred"]))

    def _export(self, kind: str, starred: bool) -> None:
        """Send the sheet or the table to the browser, which saves it."""
        name = re.sub(r"[^\w.-]+", "-", self._sweep.title).strip("-.")[:60] or "sweep"
        answer = {"kind": "export", "format": kind, "name": f"{name}.{kind}"}
        try:
            if kind == "png":
                content = self._sweep.to_png(starred=starred)
            else:
                text = self._sweep.to_csv(starred=starred)
                content = f"\ufeff{text}".encode("utf-8", "backslashreplace")
        except Exception as error:
            self.send({**answer, "problem": str(error)})
            return
        self.send({**answer, "mime": PICTURE if kind == "png" else TABLE}, [content])


def picture_of(point: Point) -> OutputFile | None:
    """Return the picture that stands for a point; one that was saved is preferred to a preview."""
    result = point.result
    if point.status != "success" or result is None:
        return None
    pictures = [file for file in result.files if file.is_image or file.is_hdr]
    pictures.sort(key=lambda file: (file.type != "output", file.is_hdr))
    return pictures[0] if pictures else None


def text_of(point: Point) -> str:
    """Return what is shown of a point without a picture: texts, names of files, or its error."""
    result = point.result
    if point.status != "success" or result is None:
        return point.error or point.status
    outputs = [*result.texts, *(file.filename for file in result.files)]
    return "\n".join(map(value_text, outputs)) or "no output"


def _facts(point: Point) -> list[Any]:
    picture = picture_of(point)
    result = point.result
    seconds = None if result is None else result.execution_time
    text = ""
    if point.status in FINAL and picture is None:
        text = text_of(point)[:MAX_LENGTH]
    if picture is None:
        return [point.status, seconds, text, "", "", ""]
    kind = "hdr" if picture.is_hdr else "image"
    return [point.status, seconds, text, picture.filename, picture.query, kind]


SWEEP_CLASS = "comfydeploy-sweep"
GONE = (
    "The kernel of this sweep was restarted or has ended. Run this cell again to continue it;"
    " queued runs continue."
)

SHEET_INTERVAL, SHEET_SHARE = 0.5, 10.0
"""Shortest time between two updates of the sheet: in s, and as a multiple of the time that the last
one took."""

POINTS_IN_A_SECOND = 2_000
"""How many points are sent to the page in a second at most."""


class SweepView:
    """A sweep in the output of a cell: its progress, its points, stars, downloads.

    It stays at the end, until its cell is run again. A plain sheet and a table, which are hidden
    meanwhile, are stored in the notebook.
    """

    def __init__(self, progress: SweepProgress) -> None:
        import ipywidgets as w
        from IPython.display import display

        self._sweep = progress.sweep
        self._progress = progress
        self._lock = threading.RLock()
        self._closed = False
        self._shown: object = None
        self._next_sheet = 0.0
        self._record = Record("Sweep", self.close)
        style = (STATIC / "panel.css").read_text(encoding="utf-8")
        self._view = SheetView(self, self._sweep)
        self._show_progress()
        self._box = w.VBox(
            [
                w.HTML(
                    f"<style>{style}{self._record.hiding}</style>", layout=w.Layout(display="none")
                ),
                KernelStatus(SWEEP_CLASS, GONE),
                self._view,
            ],
            layout=w.Layout(width="auto"),
        )
        self._box.add_class("comfydeploy-panel")
        self._box.add_class(SWEEP_CLASS)
        self._record.set("", f"A sweep of {len(self._sweep)} points")
        self._record.show()
        bundle = self._box._repr_mimebundle_()
        bundle["text/plain"] = f"A sweep of {len(self._sweep)} points"
        display(bundle, raw=True)
        self._sweep.shown_in = current_cell()
        self._sweep.changes.append(self._changed)
        self.start(self._connect)

    @property
    def comfy(self) -> Comfy:
        """The client."""
        return self._sweep.comfy

    @property
    def closing(self) -> bool:
        """Whether its cell was run again."""
        return self._closed

    def start(self, task: Callable[..., object], *args: object) -> threading.Thread:
        """Run a task in a thread, and show its error if it raises one."""
        thread = threading.Thread(
            target=self.attempt, args=(task, *args), name="comfydeploy-sheet", daemon=True
        )
        thread.start()
        return thread

    def attempt(self, task: Callable[..., object], *args: object) -> None:
        """Call a task in this thread, and show its error if it raises one."""
        try:
            task(*args)
        except Exception as error:
            if not self._closed:
                self._view.send({"kind": "problem", "problem": str(error)})

    def show(self, progress: SweepProgress) -> None:
        """Update the widgets."""
        self._show_progress()
        counts, now = progress.counts, time.monotonic()
        if now < self._next_sheet or counts == self._shown:
            return
        self._refresh()
        if progress.blocking:
            self._view.push_pictures()
        self._shown = counts
        done = time.monotonic()
        pause = max(
            SHEET_INTERVAL, SHEET_SHARE * (done - now), len(self._sweep) / POINTS_IN_A_SECOND
        )
        self._next_sheet = done + pause

    def end(self, progress: SweepProgress) -> None:
        """Show the end, and store the plain sheet and the table in the notebook."""
        self._changed()
        self.keep()

    def keep(self) -> None:
        """Store the plain sheet and the table in the notebook."""
        page = f"<div>{html.escape(self._headline())}</div>{self._sweep.to_html()}"
        self._record.set(page, repr(self._sweep))

    def close(self) -> None:
        """Remove the widgets."""
        self._closed = True
        self._sweep.changes.remove(self._changed)
        self._record.close()
        close_tree(self._box)

    def _changed(self) -> None:
        if not self._closed:
            self._show_progress()
            self._refresh()

    def _refresh(self) -> None:
        with self._lock:  # `hold_sync` of a widget is not for several threads
            self._view.refresh()

    def _connect(self) -> None:
        """Send the page the address of the server, from which it then requests the pictures."""
        self._view.server = server_facts(self.comfy)

    def _headline(self) -> str:
        progress = self._progress
        if progress.ended is None:
            return f"{self._sweep.status.capitalize()}: {progress.summary}"
        return sweep_end(progress)

    def _show_progress(self) -> None:
        progress, sweep = self._progress, self._sweep
        running = sweep.status == "running" and progress.ended is None
        text = self._headline()
        if running:
            elapsed = duration(progress.elapsed) if progress.elapsed >= 60 else None
            elapsed = elapsed or f"{progress.elapsed:.0f} s"
            text = " · ".join([progress.summary, elapsed, sweep_left(progress), *sweep.notes])
        state = {
            "phase": "running" if running else "ended",
            "text": text,
            "activity": sweep_activity(progress, self._label) if running else "",
            "spoken": f"{sweep.status.capitalize()}: {progress.summary}",
            "saved": "" if sweep.path is None else str(sweep.path),
            "fraction": progress.fraction,
            "blocking": progress.blocking,
        }
        with self._lock:
            self._view.progress = state

    def _label(self, point: Point) -> str:
        return str(self._sweep.table["points"][point.index]["label"])
