"""The base of the WebSocket routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from jupyter_server.base.websocket import WebSocketMixin
from tornado.websocket import WebSocketHandler

from ..errors import InvalidRequestError
from .base import Base

if TYPE_CHECKING:
    from collections.abc import Awaitable


class SocketHandler(WebSocketMixin, Base, WebSocketHandler):
    """Base of the WebSocket routes: the user is authenticated and authorized before the handshake.

    A page of another user on the same host can open a socket with the login cookie of this user,
    so the XSRF token is needed, too.
    """

    auth_action = "execute"
    xsrf_on_get = True

    async def prepare(self, *args: Any, **kwargs: Any) -> None:
        """Check credentials and permission."""
        await cast("Awaitable[None]", super().prepare(*args, **kwargs))
        await self.authorize()

    async def get(self, *args: Any, **kwargs: Any) -> None:
        """Open the socket; reply with a JSON error to a request that is not for a WebSocket."""
        if self.request.headers.get("Upgrade", "").lower() != "websocket":
            raise InvalidRequestError.of_field(
                "Upgrade", "must be websocket: connect to this route with a WebSocket client"
            )
        await super().get(*args, **kwargs)
