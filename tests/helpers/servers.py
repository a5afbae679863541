"""Servers of tests: aiohttp applications at free ports of 127.0.0.1."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine


@contextlib.asynccontextmanager
async def serving(app: web.Application, port: int = 0, **site: Any) -> AsyncIterator[str]:
    """Serve an application in this event loop, by default at a free port; give its address."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, **site).start()
        yield f"http{'s' if site else ''}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class AppServer:
    """An application with its own thread and event loop, so that it works while a test waits."""

    url: str
    ssl_context: Any = None

    def start(self) -> None:
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)

    def app(self) -> web.Application:
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        site = {} if self.ssl_context is None else {"ssl_context": self.ssl_context}
        async with serving(self.app(), **site) as self.url:
            yield

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Return the result of a coroutine on the loop of the server."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    async def _run(self) -> None:
        self.loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        async with self.serving():
            self._started.set()
            await self._ended.wait()
