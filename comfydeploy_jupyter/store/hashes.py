"""A cache of the hashes of files, so that an unchanged file is not hashed twice."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .database import Repository

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence


@dataclass(frozen=True)
class FileKey:
    """Identifies one state of a file.

    Attributes
    ----------
    path : str
        Absolute path without links.
    size : int
        Size in bytes.
    mtime_ns : int
        Modification time, nanoseconds since 1970.
    inode : int
        Inode number in the file system.
    """

    path: str
    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, path: str | Path, status: os.stat_result) -> FileKey:
        """Return the key of a file for a result of `os.stat`."""
        return cls(str(path), status.st_size, status.st_mtime_ns, status.st_ino)


class HashRepository(Repository):
    """Stores the SHA-256 of files; each file has one row, for its last known state."""

    async def get(self, key: FileKey) -> str | None:
        """Return the hexadecimal SHA-256 of a file in exactly this state, or None."""
        return await self._database.read(_get, key)

    async def get_all(self, keys: Sequence[FileKey]) -> dict[FileKey, str]:
        """Return the hexadecimal SHA-256 of those files for which it is stored."""
        return await self._database.read(_get_all, keys)

    async def put(self, key: FileKey, sha256: str) -> None:
        """Store the SHA-256 of a file, replacing the hash of an earlier state."""
        await self._database.write(_put, key, sha256)

    async def prune(self) -> int:
        """Delete the rows of files that do not exist any more; return their number.

        The row of a file in a missing folder is kept: its disk may be unmounted.
        """
        gone = await self._database.read(_gone)
        await self._database.write(_forget, gone)
        return len(gone)


def _row(key: FileKey) -> tuple[str, int, int, int]:
    """Return the key as values for SQLite: Unicode text and signed 64-bit integers."""
    path = os.fsencode(key.path).decode(errors="backslashreplace")
    inode = key.inode if key.inode < 1 << 63 else key.inode - (1 << 64)
    return path, key.size, key.mtime_ns, inode


def _get(connection: sqlite3.Connection, key: FileKey) -> str | None:
    row = connection.execute(
        "SELECT sha256 FROM hashes WHERE path = ? AND size = ? AND mtime_ns = ? AND inode = ?",
        _row(key),
    ).fetchone()
    return None if row is None else str(row[0])


def _get_all(connection: sqlite3.Connection, keys: Sequence[FileKey]) -> dict[FileKey, str]:
    found = {key: _get(connection, key) for key in keys}
    return {key: sha256 for key, sha256 in found.items() if sha256 is not None}


def _put(connection: sqlite3.Connection, key: FileKey, sha256: str) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO hashes (path, size, mtime_ns, inode, sha256)"
        " VALUES (?, ?, ?, ?, ?)",
        (*_row(key), sha256),
    )


def _gone(connection: sqlite3.Connection) -> list[str]:
    paths = [Path(row[0]) for row in connection.execute("SELECT path FROM hashes")]
    return [str(path) for path in paths if not path.exists() and path.parent.exists()]


def _forget(connection: sqlite3.Connection, paths: list[str]) -> None:
    connection.executemany("DELETE FROM hashes WHERE path = ?", [(path,) for path in paths])
