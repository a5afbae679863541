"""The table of a sweep: the values of each point and the outcome of its run."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

from ..graph_text import html_table, text_table
from .grid import value_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .points import Point
    from .words import Words

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Beginnings of texts that spreadsheets take for formulas, also in full width (OWASP, CSV
injection)."""

MAX_ROWS = 500
"""How many points the table has as text and as HTML."""


def rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return for each point its values and its outcome; see `Sweep.rows`."""
    return [{**point.values, **_outcome(point)} for point in points]


def as_text(points: Sequence[Point]) -> str:
    """Return the table as aligned lines of text."""
    return text_table([[str(cell) for cell in row] for row in _cells(points)])


def as_csv(points: Sequence[Point], words: Words) -> str:
    """Return the table as CSV with headings in words and whole values.

    A text that a spreadsheet would take for a formula begins with an apostrophe.
    """
    outcomes = ("Starred", "Status", "Seconds", "Files", "Texts", "Error", "Run")
    names = words.names
    content = io.StringIO()
    writer = csv.writer(content)
    writer.writerow(map(_plain, ["Point", *names.values(), *outcomes]))
    for point in points:
        result = point.result
        values = [words.cell(name, point[name]) if name in point.values else "" for name in names]
        row = [
            point.index,
            *values,
            "yes" if point.starred else "no",
            point.status,
            "" if result is None else result.execution_time,
            "\n".join(file.filename for file in result.files) if result else "",
            "\n".join(result.texts) if result else "",
            point.error,
            point.prompt_id,
        ]
        writer.writerow(map(_plain, row))
    return content.getvalue()


def _plain(cell: Any) -> Any:
    """Return a cell as a spreadsheet shows it, never as a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def as_html(points: Sequence[Point], words: Words) -> str:
    """Return the table as HTML that is folded at first, with headings in words."""
    head, *body = _cells(points, words)
    return (
        '<details style="margin-top:8px"><summary style="cursor:pointer">Table</summary>'
        f"{html_table(head, body)}</details>"
    )


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


def _cells(points: Sequence[Point], words: Words | None = None) -> list[list[str]]:
    """Return the table as texts, the headings first: in words, or with the names of inputs."""
    names = list(dict.fromkeys(name for point in points for name in point.values))
    table = [[*(words.names[n] if words else n for n in names), "status", "seconds", "output"]]
    for point in points[:MAX_ROWS]:
        result = point.result
        output, seconds = "", None
        if result is not None:
            seconds = result.execution_time
            files = [file.filename for file in result.files]
            output = ", ".join([*files, *map(value_text, result.texts)])
        values = [
            ""
            if name not in point.values
            else words.value(name, point[name])
            if words
            else value_text(point[name])
            for name in names
        ]
        table.append(
            [
                *values,
                point.status,
                "" if seconds is None else f"{seconds:.2f}",
                point.error or output,
            ]
        )
    return table
