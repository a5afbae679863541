"""The contact sheet of a sweep in the page: pictures to look at, stars, downloads."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

import traitlets as t

from ..client.sweep.sheet import key_of, picture_of, text_of
from ..view_scripts import script
from .page_view import View

if TYPE_CHECKING:
    from ..client import Point, Sweep
    from .page_view import Host

LONGEST = 2_000
"""How many characters of a value or a text the page gets at most."""

PICTURE, TABLE = "image/png", "text/csv"


class SheetView(View):
    """Shows the points of a sweep, its progress, and the buttons.

    The page shows small copies of the pictures, which it requests when they come into sight.

    Parameters
    ----------
    host : Host
        Runs threads and shows errors.
    sweep : Sweep
        The sweep.

    Attributes
    ----------
    heads : dict
        The headings, the names of the inputs, and for each point its values; all in words.
    points : list of list
        For each point: its status, its duration in s or None, a text, and the name, the query and
        the kind of its picture, which are empty if it has none.
    stars : list of int
        The positions of the points that are marked as the best.
    progress : dict
        What is above the sheet: ``text``, ``activity``, ``fraction``, ``saved``; ``phase`` is
        ``running`` or ``ended``; ``blocking``: whether the kernel reacts to nothing before the end;
        ``spoken``: what screen readers say.
    """

    _esm = script("sheet")

    heads = t.Dict().tag(sync=True)
    points: t.List[Any] = t.List().tag(sync=True)
    stars: t.List[Any] = t.List().tag(sync=True)
    progress = t.Dict().tag(sync=True)

    def __init__(self, host: Host, sweep: Sweep) -> None:
        self._sweep = sweep
        self._starring = threading.Lock()
        self._wanted: dict[int, bool] = {}
        self._pushed: set[str] = set()
        heads = sweep.contact_sheet.headings
        words = sweep.words
        super().__init__(
            host,
            heads={
                "row_title": heads.row_title,
                "rows": heads.rows,
                "column_title": heads.column_title,
                "columns": heads.columns,
                "names": list(words.names.values()),
                "values": [
                    [
                        words.whole(key, point[key])[:LONGEST] if key in point.values else ""
                        for key in words.names
                    ]
                    for point in sweep
                ],
                "labels": [words.label(point.values) for point in sweep],
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
            content = self._sweep.contact_sheet.thumbnails.of(key_of(point))
            if picture is None or not isinstance(content, bytes) or picture.query in self._pushed:
                continue
            self._pushed.add(picture.query)
            self.send({"kind": "copy", "query": picture.query, "mime": "image/webp"}, [content])

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


def _facts(point: Point) -> list[Any]:
    picture = picture_of(point)
    result = point.result
    seconds = None if result is None else result.execution_time
    text = ""
    if key_of(point) is not None and picture is None:
        text = text_of(point)[:LONGEST]
    if picture is None:
        return [point.status, seconds, text, "", "", ""]
    kind = "hdr" if picture.is_hdr else "image"
    return [point.status, seconds, text, picture.filename, picture.query, kind]
