"""The callbacks of runs: their endpoints, and the messages that are not delivered yet."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..store.database import DETAILS, Repository, readable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence


@dataclass
class CallbackTarget:
    """The endpoints to which the states and outputs of one run are sent, and their tokens.

    They are from the request of the run, and are never part of a reply.
    """

    prompt_id: str
    session: str
    status_endpoint: str | None = None
    file_upload_endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    gpu_event_id: str | None = None
    reported_status: str | None = None
    reported_outputs: list[str] = field(default_factory=list)
    reported_error: bool = False
    webhook: dict[str, Any] | None = None


@dataclass(eq=False)
class Callback:
    """One message to a status endpoint."""

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
_STATE = {  # the keys in the column ``told``, and the attributes
    "told_status": "reported_status",
    "told_outputs": "reported_outputs",
    "told_error": "reported_error",
    "webhook": "webhook",
}


class CallbackRepository(Repository):
    """Reads and writes the callback targets of runs, and their messages."""

    async def add_target(self, target: CallbackTarget) -> None:
        """Store the target of a new run, in place of that of a deleted run with the same id."""
        await self._database.write(_add_target, _row(target))

    async def apply(
        self,
        *,
        targets: Iterable[CallbackTarget] = (),
        new: Sequence[Callback] = (),
        gone: Sequence[Callback] = (),
        settled: Mapping[str, str | None] | None = None,
    ) -> None:
        """Write many changes in one transaction."""
        rows = [_row(target) for target in targets]
        await self._database.write(_apply, rows, new, gone, settled or {})

    async def webhook_status(self, prompt_id: str) -> str | None:
        """Return what came of the webhook of a run; None if it had none."""
        return await self._database.read(_webhook_status, prompt_id)

    async def recover(
        self, sessions: Iterable[str], session: str
    ) -> tuple[list[CallbackTarget], list[Callback]]:
        """Assign the targets and messages of other sessions to a session, and return them."""
        return await self._database.write(_recover, tuple(sessions), session)


def _row(target: CallbackTarget) -> dict[str, Any]:
    row = {name: getattr(target, name) for name in _PLAIN}
    state = {key: getattr(target, name) for key, name in _STATE.items()}
    return {**row, "told": json.dumps(state)}


def _target(row: sqlite3.Row) -> CallbackTarget:
    told = json.loads(row["told"])  # a later version may have further keys
    state = {name: told[key] for key, name in _STATE.items() if key in told}
    return CallbackTarget(**{name: row[name] for name in _PLAIN}, **state)


def _add_target(connection: sqlite3.Connection, row: dict[str, Any]) -> None:
    names = ", ".join(row)
    marks = ", ".join(f":{name}" for name in row)
    changes = ", ".join(f"{name} = :{name}" for name in row)
    connection.execute(
        f"INSERT INTO orders ({names}) VALUES ({marks})"  # noqa: S608 - our own column names
        f" ON CONFLICT (prompt_id) DO UPDATE SET {changes}",
        row,
    )


def _apply(
    connection: sqlite3.Connection,
    targets: list[dict[str, Any]],
    new: Sequence[Callback],
    gone: Sequence[Callback],
    settled: Mapping[str, str | None],
) -> None:
    connection.executemany(
        "UPDATE orders SET told = ? WHERE prompt_id = ?",
        [(row["told"], row["prompt_id"]) for row in targets],
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
        "UPDATE runs SET record = json_set(record, '$.webhook_status', ?)"
        " WHERE prompt_id = ? AND json_valid(record)",
        [(outcome, prompt_id) for prompt_id, outcome in settled.items() if outcome is not None],
    )
    connection.executemany(
        "DELETE FROM orders WHERE prompt_id = ?", [(prompt_id,) for prompt_id in settled]
    )


def _webhook_status(connection: sqlite3.Connection, prompt_id: str) -> str | None:
    found = connection.execute(
        f"SELECT json_extract({DETAILS}, '$.webhook_status') FROM runs WHERE prompt_id = ?",  # noqa: S608 - a constant
        (prompt_id,),
    ).fetchone()
    return None if found is None else found[0]


def _recover(
    connection: sqlite3.Connection, sessions: tuple[str, ...], session: str
) -> tuple[list[CallbackTarget], list[Callback]]:
    whose = f"WHERE session IN ({', '.join('?' * len(sessions))})"
    orders = connection.execute(f"SELECT * FROM orders {whose}", sessions)  # noqa: S608 - only marks are put in
    targets = readable(orders, _target, "The status endpoint of run", "prompt_id")
    known = {target.prompt_id for target in targets}
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
        if row["prompt_id"] in known
    ]
    connection.execute(
        f"UPDATE orders SET session = ? {whose}",  # noqa: S608 - likewise
        (session, *sessions),
    )
    for target in targets:
        target.session = session
    return targets, callbacks
