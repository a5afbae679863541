"""A cache of the hashes of files, so that an unchanged file is not hashed twice."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..store.database import Repository

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence


@dataclass(frozen=True)
class FileKey:
    """Identifies one state of a file."""

    path: str
    size: int
    mtime_ns: int
    inode: int
    ctime_ns: int | None = None

    @classmethod
    def of(cls, path: str | Path, status: os.stat_result) -> FileKey:
        """Return the key of a file for a result of `os.stat`."""
        return cls(
            *(str(path), status.st_size, status.st_mtime_ns, status.st_ino, status.st_ctime_ns)
        )

    def fits(self, status: os.stat_result) -> bool:
        """Return whether a file with this result of `os.stat` is in this state."""
        now = FileKey.of(self.path, status)
        return self in (now, replace(now, ctime_ns=None))


class Hashes(NamedTuple):
    """The hashes of a file's content, hexadecimal."""

    sha256: str
    blake3: str | None


class HashRepository(Repository):
    """Stores the hashes of files; each file has one row, for its last known state."""

    async def get(self, key: FileKey) -> Hashes | None:
        """Return the hashes of a file in exactly this state, or None."""
        return await self._database.read(_get, key)

    async def get_all(self, keys: Sequence[FileKey]) -> dict[FileKey, Hashes]:
        """Return the hashes of those files for which they are stored."""
        return await self._database.read(_get_all, keys)

    async def of_blake3(self, blake3: str) -> list[FileKey]:
        """Return the states of files that had the content with this BLAKE3."""
        return await self._database.read(_of_blake3, blake3)

    async def put(self, key: FileKey, hashes: Hashes) -> None:
        """Store the hashes of a file, replacing those of an earlier state."""
        await self._database.write(_put, key, hashes)

    async def prune(self) -> int:
        """Delete the rows of files that do not exist any more; return their number.

        The row of a file in a missing folder is kept: its disk may be unmounted.
        """
        names = await self._database.read(_paths)
        gone = await asyncio.to_thread(lambda: [name for name in names if _is_gone(name)])
        await self._database.write(_forget, gone)
        return len(gone)


def _row(key: FileKey) -> tuple[str, int, int, int, int | None]:
    """Return the key as values for SQLite: Unicode text and signed 64-bit integers."""
    path = os.fsencode(key.path).decode(errors="backslashreplace")
    inode = key.inode if key.inode < 1 << 63 else key.inode - (1 << 64)
    return path, key.size, key.mtime_ns, inode, key.ctime_ns


def _get(connection: sqlite3.Connection, key: FileKey) -> Hashes | None:
    row = connection.execute(
        "SELECT sha256, blake3 FROM hashes"
        " WHERE path = ? AND size = ? AND mtime_ns = ? AND inode = ?"
        " AND (ctime_ns IS NULL OR ctime_ns = ?)",
        _row(key),
    ).fetchone()
    return None if row is None else Hashes(*row)


def _get_all(connection: sqlite3.Connection, keys: Sequence[FileKey]) -> dict[FileKey, Hashes]:
    found = {key: _get(connection, key) for key in keys}
    return {key: hashes for key, hashes in found.items() if hashes is not None}


def _of_blake3(connection: sqlite3.Connection, blake3: str) -> list[FileKey]:
    rows = connection.execute(
        "SELECT path, size, mtime_ns, inode, ctime_ns FROM hashes WHERE blake3 = ?", (blake3,)
    )
    return [
        FileKey(path, size, mtime_ns, inode if inode >= 0 else inode + (1 << 64), ctime_ns)
        for path, size, mtime_ns, inode, ctime_ns in rows
    ]


def _put(connection: sqlite3.Connection, key: FileKey, hashes: Hashes) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO hashes (path, size, mtime_ns, inode, ctime_ns, sha256, blake3)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*_row(key), *hashes),
    )


def _paths(connection: sqlite3.Connection) -> list[str]:
    return [path for (path,) in connection.execute("SELECT path FROM hashes")]


def _is_gone(name: str) -> bool:
    """Return whether a file is missing in an existing folder. A dead network drive blocks this."""
    path = Path(name)
    try:
        return not path.exists() and path.parent.exists()
    except OSError:
        return False


def _forget(connection: sqlite3.Connection, paths: list[str]) -> None:
    connection.executemany("DELETE FROM hashes WHERE path = ?", [(path,) for path in paths])
