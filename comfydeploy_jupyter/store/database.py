"""The SQLite file behind every record: one writer thread, a few reader threads."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from .migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

P = ParamSpec("P")
T = TypeVar("T")

BUSY_TIMEOUT = 10.0  # seconds to wait for a lock that another process holds


class Database:
    """An SQLite database in WAL mode that never touches the event loop.

    Every write is one transaction in the single writer thread, so writes are ordered as they were
    asked for. Reads run in a small pool and see the last committed state.

    Parameters
    ----------
    path : pathlib.Path
        The database file; its folder is made when missing.
    readers : int
        Number of reader threads.
    """

    def __init__(self, path: Path, *, readers: int = 2) -> None:
        self.path = path
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="comfydeploy-store-writer")
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="comfydeploy-store-reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._guard = threading.Lock()

    async def open(self) -> None:
        """Create the file if needed and bring its schema up to date."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._writer, self._prepare)

    async def close(self) -> None:
        """Finish what was asked for, then close all connections."""
        await asyncio.to_thread(self._shut_down)

    async def write(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run ``work(connection, …)`` as one transaction: all of it is kept, or nothing."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._writer, lambda: self._transaction(work, *args, **kwargs)
        )

    async def read(
        self,
        work: Callable[Concatenate[sqlite3.Connection, P], T],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run ``work(connection, …)`` on a connection that cannot write."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._readers, lambda: work(self._connection(write=False), *args, **kwargs)
        )

    def _prepare(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Tokens of unfinished uploads are in it. SQLite gives its side files the same mode.
        self.path.touch(mode=0o600)
        self.path.chmod(0o600)
        connection = self._connection(write=True)
        connection.execute("PRAGMA journal_mode = WAL")
        migrate(connection)

    def _connection(self, *, write: bool) -> sqlite3.Connection:
        found: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if found is None:
            found = sqlite3.connect(
                self.path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
            )
            found.row_factory = sqlite3.Row
            found.execute("PRAGMA synchronous = NORMAL")
            found.execute("PRAGMA foreign_keys = ON")
            if not write:
                found.execute("PRAGMA query_only = ON")
            self._local.connection = found
            with self._guard:
                self._connections.append(found)
        return found

    def _transaction(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        connection = self._connection(write=True)
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection, *args, **kwargs)
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        return result

    def _shut_down(self) -> None:
        self._writer.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        with self._guard:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
