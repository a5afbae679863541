"""The graphs of runs and workflows, each stored once."""

from __future__ import annotations

import json
import logging
import re
import zlib
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

log = logging.getLogger(__name__)

_TEXT = re.compile(rb'"((?:[^"\\]|\\.)*)"')


def keep_graph(connection: sqlite3.Connection, body: bytes) -> str:
    """Store a graph, as JSON, unless it is stored already; return its SHA-256, the key."""
    digest = sha256(body).hexdigest()
    known = connection.execute("SELECT 1 FROM graphs WHERE hash = ?", (digest,)).fetchone()
    if known is None:
        connection.execute(
            "INSERT INTO graphs (hash, body) VALUES (?, ?)", (digest, compress(body))
        )
    return digest


def discard_graphs(connection: sqlite3.Connection, hashes: Iterable[str | None]) -> None:
    """Delete those of the given graphs that no run and no version of a workflow refers to."""
    for digest in filter(None, hashes):
        connection.execute(
            "DELETE FROM graphs WHERE hash = :hash"
            " AND NOT EXISTS (SELECT 1 FROM runs WHERE prompt_hash = :hash)"
            " AND NOT EXISTS (SELECT 1 FROM runs WHERE workflow_hash = :hash)"
            " AND NOT EXISTS (SELECT 1 FROM workflow_versions WHERE workflow_hash = :hash)"
            " AND NOT EXISTS (SELECT 1 FROM workflow_versions WHERE api_hash = :hash)",
            {"hash": digest},
        )


def compress(body: bytes) -> bytes:
    """Compress a graph in a format that `zlib.decompress` reads.

    With its default window, zlib allocates 256 KiB, which takes twenty times as long as compressing
    a small graph: so the window is made no larger than the graph.
    """
    window = min(max(len(body).bit_length(), 9), zlib.MAX_WBITS)
    packer = zlib.compressobj(1, zlib.DEFLATED, window, min(window - 7, zlib.DEF_MEM_LEVEL))
    return packer.compress(body) + packer.flush()


def read_graph(body: bytes | None) -> bytes | None:
    """Return the JSON of a row of ``graphs``; None if a join found no row, or if it is damaged."""
    try:
        return None if body is None else zlib.decompress(body)
    except (zlib.error, TypeError) as error:
        log.error("A stored graph cannot be read: %s", error)  # noqa: TRY400 - no traceback for data
        return None


def graph_of(connection: sqlite3.Connection, digest: str) -> bytes | None:
    row = connection.execute("SELECT body FROM graphs WHERE hash = ?", (digest,)).fetchone()
    return None if row is None else read_graph(row["body"])


def texts_in(body: bytes) -> Iterator[str]:
    """Yield all texts in JSON, also the names of its objects, without parsing the whole."""
    for found in _TEXT.finditer(body):
        try:
            yield json.loads(found[0]) if b"\\" in found[1] else found[1].decode()
        except ValueError:
            continue
