"""Pieces of HTML."""

from __future__ import annotations

import base64
import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


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
