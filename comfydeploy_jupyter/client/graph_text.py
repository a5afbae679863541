"""Graphs and tables as text and as HTML."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from ..graphs.formats import Graph, class_of, inputs_of, is_link, title_of
from .graph import NodeName, node_names
from .terminal import columns_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

MAX_VALUE = 40
"""Longest value of an input that is shown in full, characters."""


def run_order(graph: Graph) -> list[str]:
    """Return the node ids so that each comes after the nodes that it depends on.

    Otherwise the order is that of the graph. A cycle, which ComfyUI refuses, is ordered from the
    node of it that is reached first.
    """
    order: dict[str, None] = {}
    entered: set[str] = set()
    for start in graph:
        stack: list[tuple[str, Iterator[str]]] = []
        waiting = iter([start])
        while True:
            node_id = next(waiting, None)
            if node_id is None:
                if not stack:
                    break
                done, waiting = stack.pop()
                order[done] = None
            elif node_id in graph and node_id not in entered:
                entered.add(node_id)
                stack.append((node_id, waiting))
                links = inputs_of(graph[node_id]).values()
                waiting = iter([link[0] for link in links if is_link(link)])
    return list(order)


def graph_rows(graph: Graph) -> list[tuple[str, str, str, str]]:
    """Return title, class, id and inputs of each node, in the order in which they run."""
    names = node_names(graph)
    return [
        (
            title_of(graph[node_id]) or class_of(graph[node_id]),
            class_of(graph[node_id]),
            node_id,
            inputs_text(inputs_of(graph[node_id]), names),
        )
        for node_id in run_order(graph)
    ]


def inputs_text(inputs: dict[str, Any], names: Mapping[str, NodeName]) -> str:
    """Return the inputs of a node on one line: values first, then links as ``model ← Loader.0``.

    A number that is a colour by the name of its input is shown as the form shows it, too:
    ``color=255 (#0000ff)``.

    Parameters
    ----------
    inputs : dict
        The inputs.
    names : mapping of str to NodeName
        The nodes that links may lead to.
    """
    values = [
        f"{name}={shown(value)}{_colour(name, value)}"
        for name, value in inputs.items()
        if not is_link(value)
    ]
    links = [
        f"{name} ← {_origin(value[0], names)}.{value[1]}"
        for name, value in inputs.items()
        if is_link(value)
    ]
    return ", ".join([*values, *links])


def _origin(node_id: str, names: Mapping[str, NodeName]) -> str:
    known = names.get(node_id)
    return known.short if known is not None and known.unique else node_id


def _colour(name: str, value: object) -> str:
    named = name.split("_")[-1] in ("color", "colour")
    if named and type(value) is int and 0 <= value <= 0xFFFFFF:
        return f" (#{value:06x})"
    return ""


def shown(value: object) -> str:
    """Return a value on one line, shortened."""
    text = repr(value)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 2]} …"


def counted(number: float, noun: str) -> str:
    """Return a number and a noun in singular or plural, e.g. ``"2 files"``."""
    shown = number if isinstance(number, int) else f"{number:g}"
    return f"{shown} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a time span with units, e.g. ``"0.29 s"``, ``"1 min 05 s"``, ``"2 h 03 min"``."""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def text_table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as aligned lines of printable characters."""
    lines = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(map(columns_of, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(_padded, line, widths)).rstrip() for line in lines)


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - columns_of(cell))


def html_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows as an HTML table in which every text is escaped."""
    cell = 'style="text-align:left;vertical-align:top;padding:2px 12px 2px 0"'
    head = "".join(f"<th {cell}>{html.escape(text)}</th>" for text in heads)
    body = "".join(
        f"<tr>{''.join(f'<td {cell}>{html.escape(text)}</td>' for text in row)}</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
