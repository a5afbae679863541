"""The callbacks of runs: their endpoints, and the undelivered messages."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .database import Repository

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence


@dataclass
class Order:
    """Endpoints and tokens in the request of a run. They are never part of a reply.

    Attributes
    ----------
    prompt_id : str
        Id of the run.
    session : str
        Session id of the server that processes the order.
    status_endpoint, file_upload_endpoint : str or None
        The endpoint for states, and the endpoint that returns addresses for outputs.
    token : str or None
        The key in the request.
    gpu_event_id : str or None
        An id that is sent with each status.
    told_status : str or None
        The last status that was reported, or is waiting to be delivered.
    told_outputs : list of str
        The nodes whose outputs were reported.
    told_error : bool
        Whether the run's error was reported.
    webhook : dict or None
        If the endpoint is a webhook of ComfyDeploy's SDKs: ``view_url``, the absolute address of
        the ``view`` route, and ``intermediate``, whether it receives more than the end.
    """

    prompt_id: str
    session: str
    status_endpoint: str | None = None
    file_upload_endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    gpu_event_id: str | None = None
    told_status: str | None = None
    told_outputs: list[str] = field(default_factory=list)
    told_error: bool = False
    webhook: dict[str, Any] | None = None


@dataclass(eq=False)
class Callback:
    """One message to a status endpoint.

    Attributes
    ----------
    prompt_id : str
        Id of the run that the message is about.
    number : int
        Position among the messages of the run.
    body : bytes
        The message as JSON.
    passing : bool
        Whether a later message replaces it.
    created_at : float
        Time of creation, seconds since the epoch.
    delivered : bool
        Whether it was delivered to the endpoint.
    age : float
        Seconds between its creation and its arrival at this server.
    """

    prompt_id: str
    number: int
    body: bytes
    passing: bool
    created_at: float
    delivered: bool = False
    age: float = 0.0


_PLAIN = (
    "prompt_id",
    "session",
    "status_endpoint",
    "file_upload_endpoint",
    "token",
    "gpu_event_id",
)
_TOLD = ("told_status", "told_outputs", "told_error", "webhook")


class CallbackRepository(Repository):
    """Reads and writes orders and their messages."""

    async def add_order(self, order: Order) -> None:
        """Store the order of a new run, replacing an older one with the same id."""
        await self._database.write(_add_order, _row(order))

    async def apply(
        self,
        *,
        orders: Iterable[Order] = (),
        new: Sequence[Callback] = (),
        gone: Sequence[Callback] = (),
        settled: Iterable[str] = (),
    ) -> None:
        """Write many changes in one transaction.

        Parameters
        ----------
        orders : iterable of Order
            The changed orders.
        new, gone : sequence of Callback
            Messages to store, and messages to delete.
        settled : iterable of str
            Prompt ids of completed orders, which are deleted.
        """
        rows = [_row(order) for order in orders]
        await self._database.write(_apply, rows, new, gone, tuple(settled))

    async def recover(
        self, sessions: Iterable[str], session: str
    ) -> tuple[list[Order], list[Callback]]:
        """Assign the orders and messages of other sessions to a session, and return them."""
        return await self._database.write(_recover, tuple(sessions), session)


def _row(order: Order) -> dict[str, Any]:
    row = {name: getattr(order, name) for name in _PLAIN}
    return {**row, "told": json.dumps({name: getattr(order, name) for name in _TOLD})}


def _add_order(connection: sqlite3.Connection, row: dict[str, Any]) -> None:
    names = ", ".join(row)
    marks = ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT OR REPLACE INTO orders ({names}) VALUES ({marks})", row)  # noqa: S608 - our own column names


def _apply(
    connection: sqlite3.Connection,
    orders: list[dict[str, Any]],
    new: Sequence[Callback],
    gone: Sequence[Callback],
    settled: tuple[str, ...],
) -> None:
    connection.executemany(
        "UPDATE orders SET told = ? WHERE prompt_id = ?",
        [(row["told"], row["prompt_id"]) for row in orders],
    )
    connection.executemany(
        "INSERT OR IGNORE INTO callbacks (prompt_id, number, passing, created_at, body)"
        " SELECT prompt_id, ?, ?, ?, ? FROM orders WHERE prompt_id = ?",
        [(c.number, c.passing, c.created_at, c.body, c.prompt_id) for c in new],
    )
    connection.executemany(
        "DELETE FROM callbacks WHERE prompt_id = ? AND number = ?",
        [(c.prompt_id, c.number) for c in gone],
    )
    connection.executemany(
        "DELETE FROM orders WHERE prompt_id = ?", [(prompt_id,) for prompt_id in settled]
    )


def _recover(
    connection: sqlite3.Connection, sessions: tuple[str, ...], session: str
) -> tuple[list[Order], list[Callback]]:
    whose = f"WHERE session IN ({', '.join('?' * len(sessions))})"
    orders = [
        Order(**{name: row[name] for name in _PLAIN}, **json.loads(row["told"]))
        for row in connection.execute(f"SELECT * FROM orders {whose}", sessions)  # noqa: S608 - only marks are put in
    ]
    joined = f"callbacks JOIN orders USING (prompt_id) {whose}"
    rows = connection.execute(
        f"SELECT callbacks.* FROM {joined} ORDER BY prompt_id, number",  # noqa: S608 - likewise
        sessions,
    )
    callbacks = [
        Callback(
            row["prompt_id"],
            row["number"],
            row["body"],
            bool(row["passing"]),
            row["created_at"],
            age=max(time.time() - row["created_at"], 0.0),
        )
        for row in rows
    ]
    connection.execute(
        f"UPDATE orders SET session = ? {whose}",  # noqa: S608 - likewise
        (session, *sessions),
    )
    for order in orders:
        order.session = session
    return orders, callbacks
