"""Measures how the owner of the other end of a connection is found; needs Linux.

The reference is the time to read the table of all sockets in ``/proc/net``, which is needed if the
kernel does not answer by netlink. There are 500 connections, before and after they are accepted.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
from typing import TYPE_CHECKING

from comfydeploy_jupyter.util.sockets import as_end, by_table, owners_of

from .common import Figure, in_turns, report, run, seconds

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECTIONS = 500
BOUND = 0.1


def figure(name: str, connections: Sequence[socket.socket]) -> Figure:
    """Measure the search for the owner of the other end of one connection."""
    pairs = [(as_end(each.getsockname()), as_end(each.getpeername())) for each in connections]
    local, remote = pairs[0]
    table, ours = in_turns(
        seconds(lambda: list(by_table(remote, local))),
        seconds(lambda: [owners_of(*ends) for ends in pairs]),
        20,
    )
    each = statistics.median(ours) * 1000 / len(pairs)
    return Figure(name, each, statistics.median(table) * 1000, "ratio", BOUND)


def main() -> int:
    """Measure, print, and return the exit code."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=CONNECTIONS))
        clients = [
            stack.enter_context(socket.create_connection(listener.getsockname()))
            for _ in range(CONNECTIONS)
        ]
        waiting = figure("owner of a connection that is not accepted yet", clients)
        for _ in clients:
            stack.enter_context(listener.accept()[0])
        return report(waiting, figure("owner of a connection", clients))


if __name__ == "__main__":
    run(main)
