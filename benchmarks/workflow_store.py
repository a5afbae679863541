"""Measures the store with 10,000 workflows of 10 versions each; bound: 20 ms for lists and saves.

Prints the median and the longest time of each call, and the ratio of the median to the reference.
The reference of saves is one transaction that writes a single row, and that of reads is one row
read by its key.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfydeploy_jupyter.store.database import Database
from comfydeploy_jupyter.workflows.store import Draft, LocalWorkflows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable

WORKFLOWS = 10_000
VERSIONS = 10
NODES = 40
LIMIT = 0.020  # seconds


def graph(stamp: int) -> dict[str, Any]:
    """Return a graph in API format of about 8 kB, the size of a workflow for video."""
    text = "a prompt of the length that people write for pictures, " * 2
    return {
        str(node): {
            "class_type": "CLIPTextEncode",
            "inputs": {"text": f"{stamp} {text}", "clip": ["4", 1]},
            "_meta": {"title": "CLIP Text Encode (Prompt)"},
        }
        for node in range(NODES)
    }


async def fill(database: Database) -> list[str]:
    """Store the workflows with one version each, and then their further versions in bulk."""
    workflows = LocalWorkflows(database)
    drafts = (
        Draft({"nodes": [n], "links": []}, None, name=f"workflow {n}", comment="initial version")
        for n in range(WORKFLOWS)
    )
    saved = await asyncio.gather(*map(workflows.save, drafts))
    await database.write(add_versions)
    return [made["workflow_id"] for made in saved]


def add_versions(connection: sqlite3.Connection) -> None:
    """Write the same rows as 90,000 calls of `LocalWorkflows.save`."""
    for version in range(2, VERSIONS + 1):
        connection.execute(
            "INSERT INTO graphs SELECT hash || ?, body FROM graphs WHERE length(hash) = 64",
            (version,),
        )
        connection.execute(
            "INSERT INTO workflow_versions SELECT workflow, ?1, workflow_hash || ?1,"
            " workflow_content, NULL, NULL, 'change ' || ?1 || ' of ' || workflow, created_at"
            " FROM workflow_versions WHERE version = 1",
            (version,),
        )
        connection.execute(
            "UPDATE workflows SET latest_version = ?1,"
            " search = search || char(10) || 'change ' || ?1 || ' of ' || id",
            (version,),
        )


def write_row(connection: sqlite3.Connection, number: int) -> None:
    """Write one row, the minimum cost of a save."""
    connection.execute("INSERT OR REPLACE INTO graphs VALUES (?, x'00')", (f"reference {number}",))


def read_row(connection: sqlite3.Connection) -> None:
    """Read one row, the minimum cost of a read."""
    connection.execute("SELECT * FROM workflows WHERE id = 5000").fetchone()


async def measure(call: Callable[[int], Awaitable[Any]], rounds: int) -> list[float]:
    """Return the seconds of each of several calls."""
    times = []
    for number in range(rounds):
        start = time.perf_counter()
        await call(number)
        times.append(time.perf_counter() - start)
    return times


async def main(rounds: int = 50) -> int:
    """Measure every call; return 1 if a median is over the limit."""
    with tempfile.TemporaryDirectory() as name:
        database = Database(Path(name, "db"))
        await database.open()
        workflows = LocalWorkflows(database)
        newest, versions = workflows.workflows, workflows.versions
        start = time.perf_counter()
        ids = await fill(database)
        took = time.perf_counter() - start
        print(f"filled with {WORKFLOWS * VERSIONS:,} versions in {took:.0f} s")
        size = len(json.dumps(graph(0)))
        middle = ids[WORKFLOWS // 2]
        reads: dict[str, Callable[[int], Awaitable[Any]]] = {
            "list": lambda _: newest(limit=100),
            "list, last page": lambda _: newest(limit=100, offset=WORKFLOWS - 100),
            "search, first page": lambda _: newest(search="WORKFLOW 9", limit=100),
            "search, one found": lambda _: newest(search="change 7 of 4321", limit=100),
            "search, none found": lambda _: newest(search="no such words", limit=100),
            "versions": lambda _: versions(middle),
            "search in versions": lambda _: versions(middle, search="CHANGE 3"),
            "one version": lambda _: workflows.version(middle, 5),
        }
        saves: dict[str, Callable[[int], Awaitable[Any]]] = {
            f"create ({size // 1000} kB)": lambda n: workflows.save(
                Draft(None, graph(n), name=f"n {n}")
            ),
            "new version": lambda n: workflows.save(
                Draft(None, graph(n + 1000), workflow_id=middle)
            ),
            "same content": lambda _: workflows.save(Draft(None, graph(0), workflow_id=ids[0])),
        }
        read = statistics.median(await measure(lambda _: database.read(read_row), rounds))
        write = statistics.median(await measure(lambda n: database.write(write_row, n), rounds))
        worst = 0.0
        for calls, reference in ((reads, read), (saves, write)):
            for what, call in calls.items():
                times = await measure(call, rounds)
                median = statistics.median(times)
                worst = max(worst, median)
                print(
                    f"{what:20} {median * 1e3:6.2f} ms  (worst {max(times) * 1e3:6.2f} ms)"
                    f"  {median / reference:6.1f} x reference"
                )
        await database.close()
    return int(worst > LIMIT)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
