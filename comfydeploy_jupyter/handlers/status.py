"""Status of the service, of its WebSocket and of ComfyUI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._version import __version__
from ..errors import ComfyUIUnavailableError, InvalidRequestError, NotFoundError
from ..util.times import timestamp_of
from .base import Handler, schemas

if TYPE_CHECKING:
    from ..machines.machine import Machine


# The status of a pool that has no machines now.
NO_COMFYUI: dict[str, Any] = {
    "reachable": False,
    "url": None,
    "version": None,
    "version_note": None,
    "managed": False,
}


class CheckStatusHandler(Handler):
    """``GET check-status``: the state of the service, or of a run.

    Only with ``strict`` does it fail if ComfyUI does not answer.
    """

    is_activity = False

    async def get(self) -> None:
        """Reply with the record of ``prompt_id``, else with the state of the service."""
        query = self.query(schemas.StatusQuery)
        services = self.services
        self.is_activity = query.in_use
        if query.prompt_id is not None:
            if query.strict:
                raise InvalidRequestError.of_field(
                    "strict", "must not be given together with prompt_id: it concerns the service"
                )
            record = await services.runs.record(query.prompt_id)
            await self.reply_large(services.runs.reply(record))
            return
        try:
            machine = services.machines.get(query.machine)
        except ComfyUIUnavailableError:  # a pool without machines
            if query.strict:
                raise
            self.reply(await self._status(None, query))
            return
        if query.strict:
            try:
                await machine.check(query.timeout)
            except ComfyUIUnavailableError as fault:
                fault.extra = {
                    **await self._status(machine, query),
                    **fault.extra,
                    "status": "degraded",
                }
                raise
        self.reply(await self._status(machine, query))

    async def head(self) -> None:
        """Reply as `get` does, without the body; some uptime checkers send HEAD."""
        await self.get()

    async def _status(self, machine: Machine | None, query: schemas.StatusQuery) -> dict[str, Any]:
        services = self.services
        comfyui, hangs = NO_COMFYUI, False
        if machine is not None:
            comfyui = machine.status()
            unresponsive, connection = services.runs.unresponsive(machine), machine.connection
            # A ComfyUI that hangs keeps its WebSocket open.
            hangs = bool(unresponsive and connection and connection.last_heard < unresponsive.since)
        return {
            "status": "ok" if comfyui["reachable"] and not hangs else "degraded",
            "version": __version__,
            "instance": services.instance,
            "comfyui": comfyui,
            "queue": services.runs.counts(self._counted(machine, query.machine)),
            "uploads": services.transfers.queue.counts(),
            "tunnel": services.tunnels.summary(),
            "store": await services.database.status(),
        }

    def _counted(self, machine: Machine | None, asked: str | None) -> list[str] | None:
        """Return the ids whose runs are counted: for a pool, those of its members and its own."""
        pool = self.services.machines.pool(asked)
        if pool is not None:
            return [pool.id, *pool.members]
        return None if asked is None or machine is None else [machine.id]


class CheckWSStatusHandler(Handler):
    """``GET check-ws-status``: whether events arrive from ComfyUI, and the number of clients."""

    is_activity = False

    async def get(self) -> None:
        """Reply with the state of the server's socket to ComfyUI and of the clients' sockets."""
        query = self.query(schemas.SocketStatusQuery)
        machine = self.services.machines.get(query.machine)
        connection = machine.connection
        last = connection.last_event_at if connection is not None else None
        body = {
            "connected": machine.connected,
            "clients": len(self.extension.sockets),
            "last_event_at": None if last is None else timestamp_of(last),
        }
        if query.client_id is not None:
            runs = self.services.runs
            remaining = runs.open_runs(query.client_id)
            here = any(s.client_id == query.client_id for s in self.extension.sockets)
            if not here and not remaining and not await runs.has_runs(query.client_id):
                raise NotFoundError(
                    f"client_id: there is no client {query.client_id!r}",
                    details={"field": "client_id"},
                )
            body["remaining_queue"] = remaining
        self.reply(body)


class ComfyUIVersionHandler(Handler):
    """``GET comfyui-version``: which ComfyUI runs, or is installed."""

    is_activity = False

    async def get(self) -> None:
        """Reply with version and commit; for ComfyDeploy, also with the newest version there."""
        query = self.query(schemas.VersionInfoQuery)
        account = self.cloud_account(query)
        body = {"success": True, **await self.services.machines.get(query.machine).version()}
        if account is not None:
            latest = body["latest"] = await account.get("latest-hashes")
            # The web plug-in of the ComfyUI node reads this field.
            body["comfyui_hash"] = latest.get("comfyui_hash") if isinstance(latest, dict) else None
        self.reply(body)


class ObjectInfoHandler(Handler):
    """``GET object_info``: ComfyUI's node definitions."""

    async def get(self) -> None:
        """Reply with the definitions as ComfyUI sends them."""
        machine = self.services.machines.get(self.query(schemas.MachineQuery).machine)
        await self.finish(await machine.object_info())


class ComfyUILogHandler(Handler):
    """``GET comfyui/log``: the last log lines of a ComfyUI that this server has started."""

    is_activity = False

    async def get(self) -> None:
        """Reply with ``path`` and ``lines``."""
        query = self.query(schemas.LogQuery)
        machine = self.services.machines.get(query.machine)
        process = machine.process
        if process is None:
            raise NotFoundError(
                f"The ComfyUI of machine {machine.id!r} was not started by this server, which"
                " therefore does not have its log",
                extra={
                    "hint": "Set comfyui_path instead of comfyui_url so that this server starts it."
                },
            )
        lines = await process.log_tail(query.lines)
        self.reply({"path": str(process.log_path), "lines": lines})
