"""``comfyui/ws``: the WebSocket of ComfyUI's own page, passed on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError

from ..errors import ComfyUIUnavailableError
from ..net.tasks import wait_for
from .comfyui_page import PageBase
from .sockets import SocketHandler

if TYPE_CHECKING:
    import aiohttp

SLOW_READER = 60.0  # seconds that a browser has to take a message; ComfyUI waits meanwhile
TRY_AGAIN = 1013  # close code "try again later"


class PageSocket(SocketHandler, PageBase):
    """``comfyui/ws``: the page's WebSocket, message by message."""

    _remote: aiohttp.ClientWebSocketResponse[bool] | None = None
    _pump: asyncio.Task[None] | None = None
    _closing: asyncio.Task[bool] | None = None

    @property
    def max_message_size(self) -> int:
        """Largest message of a browser, in bytes."""
        return self.extension.max_json_size

    async def open(self, *args: Any, **kwargs: Any) -> None:
        """Open the socket to ComfyUI; no message is read before that is done."""
        super().open(*args, **kwargs)
        try:
            client = await self.services.machines.get().ready()
            self._remote = await client.open_socket(self.target)
        except ComfyUIUnavailableError as fault:
            self.close(TRY_AGAIN, fault.message[:100])
            return
        if self.ws_connection is None:  # the browser has left meanwhile
            await self._remote.close()
            return
        self._pump = asyncio.ensure_future(self._pass_on(self._remote))

    async def on_message(self, message: str | bytes) -> None:
        """Pass a message of the browser on."""
        remote = self._remote
        if remote is None:
            return
        with contextlib.suppress(ConnectionError):  # the pump sees it too, and closes
            if isinstance(message, bytes):
                await remote.send_bytes(message)
            else:
                await remote.send_str(message)

    def on_close(self) -> None:
        """Close the socket to ComfyUI."""
        super().on_close()
        if self._remote is not None:
            # This ends `_pass_on` too. Cancelled before its first step, that would close nothing.
            self._closing = asyncio.ensure_future(self._remote.close())

    async def _pass_on(self, remote: aiohttp.ClientWebSocketResponse[bool]) -> None:
        """Pass ComfyUI's messages on until one side closes."""
        try:
            async for message in remote:
                if isinstance(message.data, (str, bytes)):
                    sent = self.write_message(message.data, isinstance(message.data, bytes))
                    await wait_for(sent, SLOW_READER)
        except (WebSocketClosedError, StreamClosedError, asyncio.TimeoutError):
            self.log.debug("A browser has closed ComfyUI's page, or reads too slowly")
        finally:
            self.close(TRY_AGAIN, "ComfyUI has closed the connection")
            await remote.close()
