"""The graphs of runs and workflows, each stored once."""

from __future__ import annotations

import zlib
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3


def keep_graph(connection: sqlite3.Connection, body: bytes) -> str:
    """Store a graph unless it is there.

    Parameters
    ----------
    connection : sqlite3.Connection
        Within a transaction.
    body : bytes
        The graph, as JSON.

    Returns
    -------
    str
        Its hexadecimal SHA-256, the key of the table ``graphs``.
    """
    digest = sha256(body).hexdigest()
    known = connection.execute("SELECT 1 FROM graphs WHERE hash = ?", (digest,)).fetchone()
    if known is None:
        connection.execute(
            "INSERT INTO graphs (hash, body) VALUES (?, ?)", (digest, zlib.compress(body, 1))
        )
    return digest


def read_graph(body: bytes | None) -> bytes | None:
    """Return the JSON of a row of ``graphs``, None where a join found no row."""
    return None if body is None else zlib.decompress(body)
