"""Large JSON objects, such as graphs, that are kept as text."""

from __future__ import annotations

from typing import Any

LARGE = 1024 * 1024  # bytes of JSON above which Jupyter's process does not parse a graph


class Unparsed:
    """A JSON object as text.

    A parsed graph of 20 MB consists of some hundred thousand Python objects. Jupyter's event loop
    is blocked while these are created, searched by the garbage collector, or freed. A worker
    process (`worker.call`) gets the parsed object instead of the text.

    Parameters
    ----------
    text : bytes
        The object as JSON, in ASCII.
    """

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text


def is_large(*values: Any) -> bool:
    """Return whether any of these values was not parsed."""
    return any(isinstance(value, Unparsed) for value in values)
