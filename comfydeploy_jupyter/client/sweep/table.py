"""The table of a sweep: the values of each point and the outcome of its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..graph_text import html_table, text_table
from .grid import value_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .points import Point

MAX_ROWS = 500
"""How many points the table has as text and as HTML."""


def rows(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return for each point its values and its outcome; see `Sweep.rows`."""
    return [{**point.values, **_outcome(point)} for point in points]


def as_text(points: Sequence[Point]) -> str:
    """Return the table as aligned lines of text."""
    return text_table([[str(cell) for cell in row] for row in _cells(points)])


def as_html(points: Sequence[Point]) -> str:
    """Return the table as HTML that is folded at first."""
    head, *body = _cells(points)
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


def _cells(points: Sequence[Point]) -> list[list[str]]:
    """Return the table as texts, the headings first."""
    names = list(dict.fromkeys(name for point in points for name in point.values))
    table = [[*names, "status", "seconds", "output"]]
    for point in points[:MAX_ROWS]:
        result = point.result
        output, seconds = "", None
        if result is not None:
            seconds = result.execution_time
            files = [file.filename for file in result.files]
            output = ", ".join([*files, *map(value_text, result.texts)])
        table.append(
            [
                *(value_text(point[name]) if name in point.values else "" for name in names),
                point.status,
                "" if seconds is None else f"{seconds:.2f}",
                point.error or output,
            ]
        )
    return table
