"""Tunnels: access from the internet."""

from __future__ import annotations

from .base import Handler, schemas


class TunnelStatusHandler(Handler):
    """``GET tunnel/status``: whether there is a tunnel, its address, and its protection.

    Everybody who has the secret link can use the tunnel. So the reply contains it only for users
    who may ``write``; they could also get it from ``POST tunnel/start``.
    """

    is_activity = False

    async def get(self) -> None:
        """Reply at once with the known state."""
        query = self.query(schemas.TunnelQuery)
        reveal = await self.is_allowed("write")
        status = self.services.tunnels.status(query.target, reveal=reveal)
        self.reply({"success": True, **status})


class TunnelStartHandler(Handler):
    """``POST tunnel/start``: start a tunnel, unless it is up already."""

    async def post(self) -> None:
        """Reply when the address of the tunnel is known, or at once with ``wait: false``."""
        asked = await self.body(schemas.TunnelStartRequest)
        self.reply({"success": True, **await self.services.start_tunnel(asked)})


class TunnelStopHandler(Handler):
    """``POST tunnel/stop``: stop a tunnel."""

    async def post(self) -> None:
        """Reply when the tunnel has ended."""
        asked = await self.body(schemas.TunnelQuery)
        tunnels = self.services.tunnels
        ended = await tunnels.stop(asked.target)
        message = f"Ended: {', '.join(ended)}" if ended else "There was no tunnel"
        self.reply({"success": True, **tunnels.status(asked.target), "message": message})
