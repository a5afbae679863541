"""Forwarding of requests: what is left behind when a response ends too early."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from comfydeploy_jupyter.errors import CloudError
from comfydeploy_jupyter.handlers.streamed import ProxyHandler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def too_early() -> AsyncIterator[bytes]:
    for chunk in (b"", b"x"):
        if chunk:
            raise CloudError("it ended its response too early")
        yield chunk


async def test_a_response_that_ends_too_early_is_closed():
    closed: list[str] = []
    handler: Any = ProxyHandler.__new__(ProxyHandler)
    handler.has_begun = True
    handler.application = SimpleNamespace(settings={})
    handler.write = lambda chunk: None
    handler.flush = lambda: asyncio.sleep(0)
    handler.detach = lambda: SimpleNamespace(close=lambda: closed.append("browser"))
    handler.response = asyncio.get_running_loop().create_future()
    handler.response.set_result(SimpleNamespace(close=lambda: closed.append("server")))
    await handler.stream(too_early())
    await asyncio.sleep(0)
    assert closed == ["browser", "server"]
