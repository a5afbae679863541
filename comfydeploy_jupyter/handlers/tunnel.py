"""Tunnels: ways in from the internet."""

from __future__ import annotations

from .base import Handler, schemas


class TunnelStatusHandler(Handler):
    """``GET tunnel/status``: whether there is a tunnel, where, and who can get through it.

    Its secret link lets everybody in who has it, so it is only in the answers to users who may
    ``write``: they could get it by ``POST tunnel/start``, too.
    """

    is_activity = False

    async def get(self) -> None:
        """Answer at once with the known state."""
        query = self.query(schemas.TunnelQuery)
        reveal = await self.may("write")
        status = self.services.tunnels.status(query.target, reveal=reveal)
        self.reply({"success": True, **status})


class TunnelStartHandler(Handler):
    """``POST tunnel/start``: start a tunnel, or use the one that is up."""

    async def post(self) -> None:
        """Answer when the address of the tunnel is known, or at once with ``wait: false``."""
        asked = await self.body(schemas.TunnelStartRequest)
        self.reply({"success": True, **await self.services.start_tunnel(asked)})


class TunnelStopHandler(Handler):
    """``POST tunnel/stop``: end a tunnel."""

    async def post(self) -> None:
        """Answer when the tunnel has ended."""
        asked = await self.body(schemas.TunnelQuery)
        tunnels = self.services.tunnels
        ended = await tunnels.stop(asked.target)
        message = f"Ended: {', '.join(ended)}" if ended else "There was no tunnel"
        self.reply({"success": True, **tunnels.status(asked.target), "message": message})
