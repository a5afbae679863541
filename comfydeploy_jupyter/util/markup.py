"""Pieces of pages and tables: values as texts, HTML."""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


MAX_LABEL = 60
"""Longest text of a value in a label, characters."""


def value_text(value: Any) -> str:
    """Return a value as text on one line, shortened to `MAX_LABEL` characters."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= MAX_LABEL else f"{text[: MAX_LABEL - 2]} …"


def differing(outputs: Iterable[Mapping[str, Any]], first: Mapping[str, Any] | None) -> list[str]:
    """Return a line for each output that was not made again, and for the node that differs."""
    lines = []
    for output in outputs:
        if output["verdict"] != "identical":
            name = output.get("filename") or f"the text of node {output['node_id']}"
            share = output.get("share")
            how = "" if share is None else f": {share:.2%} of the pixels"
            reason = f" ({output['reason']})" if output.get("reason") else ""
            lines.append(f"{name} {output['verdict']}{how}{reason}")
    if first is not None:
        lines.append(f"the first node that differs is {first['name']}")
    return lines


def data_url(mime: str, content: bytes) -> str:
    """Return the address of a page's own content."""
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def html_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows as an HTML table in which every text is escaped."""
    cell = 'style="text-align:left;vertical-align:top;padding:2px 12px 2px 0"'
    head = "".join(f"<th {cell}>{html.escape(text)}</th>" for text in heads)
    body = "".join(
        f"<tr>{''.join(f'<td {cell}>{html.escape(text)}</td>' for text in row)}</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
