"""Ways in from the internet."""

from __future__ import annotations

from .base import Handler, schemas


class TunnelStatusHandler(Handler):
    """``GET tunnel/status``: whether there is a tunnel, where, and who can get through it.

    Its secret link lets in whoever has it, so only who may ``write`` gets it here. They could have
    it from ``POST tunnel/start`` as well.
    """

    is_activity = False

    async def get(self) -> None:
        """Answer at once, from what is known."""
        query = self.query(schemas.TunnelQuery)
        reveal = await self.may("write")
        status = self.services.tunnels.status(query.target, reveal=reveal)
        self.reply({"success": True, **status})


class TunnelStartHandler(Handler):
    """``POST tunnel/start``: start a tunnel, or join the one that is there."""

    async def post(self) -> None:
        """Answer when its address is known."""
        asked = await self.body(schemas.TunnelStartRequest)
        self.reply({"success": True, **await self.services.start_tunnel(asked)})


class TunnelStopHandler(Handler):
    """``POST tunnel/stop``: end a tunnel."""

    async def post(self) -> None:
        """Answer when nothing of it is left."""
        asked = await self.body(schemas.TunnelQuery)
        tunnels = self.services.tunnels
        ended = await tunnels.stop(asked.target)
        message = f"Ended: {', '.join(ended)}" if ended else "No tunnel was up"
        self.reply({"success": True, **tunnels.status(asked.target), "message": message})
