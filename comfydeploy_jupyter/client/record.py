"""What the server keeps and the client tells of."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

Home = TypeVar("Home")


class Record(Generic[Home]):
    """Base of what `Machines` and `Workflows` give: it holds what the server said of it.

    Parameters
    ----------
    home : Machines or Workflows
        Where it is.
    record : dict
        What the server says of it.

    Attributes
    ----------
    record : dict
        The same.
    """

    def __init__(self, home: Home, record: dict[str, Any]) -> None:
        self._home = home
        self.record = record
