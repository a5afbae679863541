"""JSON objects of megabytes, such as graphs, kept as text."""

from __future__ import annotations

from typing import Any

LARGE = 1024 * 1024  # bytes of JSON above which Jupyter's process does not parse a graph


class Unparsed:
    """A JSON object as text.

    A parsed graph of 20 MB is some hundred thousand Python objects. While these are made, searched
    by the garbage collector or freed, Jupyter's event loop waits. A worker process (`worker.call`)
    gets the object itself in place of the text.

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
