"""Base classes of data from the server: records of stored objects, and replies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

Home = TypeVar("Home")


class Record(Generic[Home]):
    """An object that the server stores, with the server's record of it.

    Parameters
    ----------
    home : Machines or Workflows
        The collection that it belongs to.
    record : dict
        The server's record of it.

    Attributes
    ----------
    record : dict
        The server's record of it.
    """

    def __init__(self, home: Home, record: dict[str, Any]) -> None:
        self._home = home
        self.record = record


class Reply(Mapping[str, Any]):
    """A reply of the server as a read-only mapping.

    Parameters
    ----------
    reply : dict
        The JSON of the reply.
    """

    def __init__(self, reply: dict[str, Any]) -> None:
        self._reply = reply

    def __getitem__(self, key: str) -> Any:
        return self._reply[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._reply)

    def __len__(self) -> int:
        return len(self._reply)
