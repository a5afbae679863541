"""``comfyui/ws``: a proxy of the WebSocket of ComfyUI's own page."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClosedError

from ..errors import ComfyUIUnavailableError
from ..util.system import lazy_module
from .comfyui_page import PageBase
from .sockets import SocketHandler

if TYPE_CHECKING:
    import aiohttp

    from ..util import proxy
else:
    proxy = lazy_module("util.proxy")

READER_TIMEOUT = 60.0  # seconds that a browser has to receive a message; ComfyUI waits meanwhile
TRY_AGAIN = 1013  # close code "try again later"


class PageSocket(SocketHandler, PageBase):
    """``comfyui/ws``: forwards each message of the page's WebSocket."""

    _remote: aiohttp.ClientWebSocketResponse[bool] | None = None

    @property
    def max_message_size(self) -> int:
        """Largest message of a browser, in bytes."""
        return self.extension.max_json_size

    async def open(self, *args: Any, **kwargs: Any) -> None:
        """Open the socket to ComfyUI; no message of the browser is read before that."""
        super().open(*args, **kwargs)
        try:
            client = await self.services.machines.get().ready()
            self._remote = await client.open_socket(self.target)
        except ComfyUIUnavailableError as fault:
            self.close(TRY_AGAIN, fault.message[:100])
            return
        if self.ws_connection is None:  # the browser has disconnected in the meantime
            await self._remote.close()
            return
        what = "Forwarding ComfyUI's messages to its page"
        self.extension.tasks.start(self._pass_on(self._remote), what, when_done=self.close)

    async def on_message(self, message: str | bytes) -> None:
        """Forward a message of the browser."""
        remote = self._remote
        if remote is None:
            return
        with contextlib.suppress(ConnectionError):  # `_pass_on` notices it too, and closes
            if isinstance(message, bytes):
                await remote.send_bytes(message)
            else:
                await remote.send_str(message)

    def on_close(self) -> None:
        """Close the socket to ComfyUI."""
        super().on_close()
        if self._remote is not None:
            # This also ends `_pass_on`. Cancelling it before its first step would close nothing.
            self.extension.tasks.start(self._remote.close(), "Closing the socket to ComfyUI")

    async def send_str(self, text: str) -> None:
        """Send a text to the browser."""
        await self.write_message(text)

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message to the browser."""
        await self.write_message(data, binary=True)

    async def _pass_on(self, remote: aiohttp.ClientWebSocketResponse[bool]) -> None:
        """Forward ComfyUI's messages until one side closes."""
        try:
            await proxy.pump(remote, self, timeout=READER_TIMEOUT)
        except (WebSocketClosedError, StreamClosedError, asyncio.TimeoutError):
            self.log.debug("A browser has closed ComfyUI's page, or reads too slowly")
        finally:
            self.close(TRY_AGAIN, "ComfyUI has closed the connection")
            await remote.close()
