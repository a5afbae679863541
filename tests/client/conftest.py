"""Fixtures for the tests of the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.client.small_server import Reply, Request, SmallServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def small_server() -> Iterator[Callable[[Callable[[Request, Reply], None]], SmallServer]]:
    """A function that starts a small server, whose replies the test defines."""
    servers: list[SmallServer] = []

    def start(answer: Callable[[Request, Reply], None]) -> SmallServer:
        servers.append(SmallServer(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
