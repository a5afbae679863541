"""The state of the service, of its WebSocket and of ComfyUI."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from .. import request_models as fields
from .._version import __version__
from ..errors import ComfyUIUnavailableError, InvalidRequestError, NotFoundError
from ..request_models import CloudTarget, MachineQuery, Model, optional, required
from ..util.times import timestamp_of
from . import route
from .base import Handler
from .route import CLOUD, MACHINE, TIME, Large, OpenReplyModel, ReplyModel, Success
from .runs import RunReply
from .transfers import TransferCounts
from .tunnel import TunnelSummary

if TYPE_CHECKING:
    from ..machines.machine import Machine


class StatusQuery(Model):
    prompt_id: fields.Identifier | None = optional(
        "A run; by default the reply describes the service.", fields.RUN_ID
    )
    machine: fields.MachineField = None
    strict: bool = optional(
        "Whether to check ComfyUI, and to reply 503 unless it accepts runs now.",
        True,
        default=False,
    )
    timeout: Annotated[float, Field(gt=0, le=60)] = optional(
        "With `strict`: the time limit for ComfyUI's reply in seconds.", 2, default=2.0
    )
    in_use: bool = optional(
        "Whether a user or a program is active. If true, the request counts as activity for"
        " programs that end idle servers.",
        True,
        default=False,
    )


class SocketStatusQuery(Model):
    client_id: fields.ClientIdField = None
    machine: fields.MachineField = None


class VersionInfoQuery(CloudTarget):
    machine: fields.MachineField = None


class NodeOptionsQuery(MachineQuery):
    class_type: Annotated[str, Field(min_length=1, max_length=500)] = required(
        "A class of nodes.", "LoadImageOutput"
    )
    input: Annotated[str, Field(min_length=1, max_length=500)] = required(
        "The name of an input of it, as in the API format.", "image"
    )
    inputs: Annotated[str, Field(max_length=4000)] = optional(
        "Other inputs of the node as a JSON object: the options of dynamic combos decide which"
        " inputs there are.",
        '{"mode": "large"}',
        default="{}",
    )


class LogQuery(MachineQuery):
    lines: Annotated[int, Field(ge=1, le=10_000)] = optional(
        "The largest number of lines to return.", 200, default=200
    )


COMMIT = "30c259cac8c08ff8d015f9aff3151cb525c9b702"


class KeptVersion(ReplyModel):
    """A version of ComfyUI that is installed beside the one that is used."""

    version: str = Field(examples=["0.33.0"])
    commit: str | None = Field(examples=[COMMIT])
    size: int | None = required(
        "The bytes that a deletion of its folder would free: it shares unchanged files with the"
        " version that is used.",
        412000000,
    )
    since: str | None = Field(examples=[TIME])


class ComfyUIStatus(ReplyModel):
    """Data of a ComfyUI that need no request to it."""

    reachable: bool = Field(examples=[True])
    url: str | None = Field(examples=["http://127.0.0.1:8188"])
    version: str | None = Field(examples=["0.33.0"])
    version_note: str | None = required("A hint if this package was not tested with this version.")
    managed: bool = required("Whether this server has started it.", False)
    kept: KeptVersion | None = optional(
        "The version before the last update, which `comfyui/back` returns to."
    )
    path: str = ""
    state: str = ""
    pid: int | None = None
    restarts: int = 0
    last_exit: int | None = None
    end_reason: str | None = optional("Why its process ended the last time.")
    log: str = ""
    database_note: str | None = optional("Why it works without its database, and what to do.")
    passed_over: str | None = None
    error: str | None = None
    hint: str | None = None


class QueueCounts(ReplyModel):
    """The numbers of executing and waiting runs of this server."""

    running: int = Field(examples=[0])
    pending: int = Field(examples=[0])


class StoreStatus(ReplyModel):
    """The file of the store; ``warnings`` are messages for the user."""

    path: str = Field(examples=["/home/ada/comfydeploy.db"])
    id: str = required(
        "Identifies its content, also after a restart or in another place.", "7a1c0e5d9b"
    )
    journal: Literal["wal", "delete", "truncate", "persist", "memory", "off"]
    warnings: list[str]


class ServiceStatus(ReplyModel):
    """State of the service; ``degraded`` while ComfyUI cannot be reached."""

    status: Literal["ok", "degraded"]
    version: str = Field(examples=["0.1.0"])
    instance: str = required("An id that changes at each start of the server.", "2f1d9c4e7b")
    comfyui: ComfyUIStatus
    queue: QueueCounts
    uploads: TransferCounts
    tunnel: TunnelSummary
    store: StoreStatus


class SocketStatus(ReplyModel):
    """Whether events arrive from ComfyUI, and the number of connected clients."""

    connected: bool = Field(examples=[True])
    clients: int = Field(examples=[1])
    last_event_at: str | None = Field(examples=[TIME])
    remaining_queue: int = 0


class ComfyUIVersion(Success):
    """The ComfyUI that runs or is installed; ``latest`` is the newest version for ComfyDeploy.

    ``comfyui_hash`` is its commit of ComfyUI.
    """

    version: str | None = Field(examples=["0.33.0"])
    commit: str | None = Field(examples=[COMMIT])
    source: Literal["running", "installed"]
    latest: Any = None
    comfyui_hash: str | None = None


class ComfyUILog(ReplyModel):
    """The last log lines of a ComfyUI that this server has started."""

    path: str = Field(examples=["/home/ada/comfyui.log"])
    lines: list[str] = Field(examples=[["Starting server"]])


class NodeOption(ReplyModel):
    """A value that an input can have."""

    value: str | int | float = Field(examples=["a.png"])
    label: str = Field(examples=["a.png"])
    note: str = Field(examples=[""])


class NodeOptions(ReplyModel):
    """The options of an input."""

    options: list[NodeOption]
    left_out: int = required("How many items of the list are no values, or too many.", 0)
    refresh: float | None = required("Seconds after which the list may be another one.", None)


class NodeDefinition(OpenReplyModel):
    """A class of nodes, as ComfyUI describes it."""


NO_COMFYUI: dict[str, Any] = {"reachable": False, "managed": False}
NO_COMFYUI |= dict.fromkeys(("url", "version", "version_note"))


class StatusHandler(Handler):
    """The state of the service, of its sockets and of ComfyUI."""

    tag = "Status"

    @route.get("check-status", "getStatus", is_activity=False)
    @route.replies(ServiceStatus | RunReply, "The state of the service, or the record of the run.")
    @route.errors(*MACHINE)
    async def check_status(self, query: StatusQuery) -> Large:
        """The state of the service, or with `prompt_id` of a run.

        With `strict` it is a health check of ComfyUI: 503 if it accepts no run now, with the same
        fields and those of the error.
        """
        services = self.services
        self.is_activity = query.in_use
        if query.prompt_id is not None:
            if query.strict:
                raise InvalidRequestError.of_field(
                    "strict", "must not be given together with prompt_id: it concerns the service"
                )
            record = await services.runs.record(query.prompt_id)
            return services.runs.reply(record)
        try:
            machine = services.machines.get(query.machine)
        except ComfyUIUnavailableError:  # a pool without machines
            if query.strict:
                raise
            return await self._status(None, query)
        if query.strict:
            try:
                await machine.check(query.timeout)
            except ComfyUIUnavailableError as exc:
                exc.extra = {
                    **await self._status(machine, query),
                    **exc.extra,
                    "status": "degraded",
                }
                raise
        return await self._status(machine, query)

    @route.mount("HEAD", "check-status", "headStatus", is_activity=False)
    @route.replies(None, "The service answers; with `strict`, ComfyUI too.")
    @route.errors(*MACHINE)
    async def head_status(self, query: StatusQuery) -> Large:
        """Whether the service answers, or with `strict` whether ComfyUI does."""
        return await self.check_status(query)

    async def _status(self, machine: Machine | None, query: StatusQuery) -> dict[str, Any]:
        services = self.services
        comfyui, hangs = NO_COMFYUI, False
        if machine is not None:
            comfyui = {**machine.status(), "kept": await machine.kept()}
            unresponsive, connection = services.runs.unresponsive(machine), machine.connection
            # A ComfyUI that hangs keeps its WebSocket open.
            hangs = bool(unresponsive and connection and connection.last_heard < unresponsive.since)
        return {
            "status": "ok" if comfyui["reachable"] and not hangs else "degraded",
            "version": __version__,
            "instance": services.instance,
            "comfyui": comfyui,
            "queue": services.runs.active.counts(self._counted(machine, query.machine)),
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

    @route.get("check-ws-status", "getSocketStatus", is_activity=False)
    @route.replies(SocketStatus, "The state of the sockets.")
    @route.errors(NotFoundError)
    async def get_socket_status(self, query: SocketStatusQuery) -> Any:
        """Whether events arrive from ComfyUI, and the number of connected clients."""
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
            remaining = runs.active.of_client(query.client_id)
            here = any(s.client_id == query.client_id for s in self.extension.sockets)
            if not here and not remaining and not await runs.has_runs(query.client_id):
                text = f"there is no client {query.client_id!r}"
                raise NotFoundError.of_field("client_id", text)
            body["remaining_queue"] = remaining
        return body

    @route.get("comfyui-version", "getComfyUIVersion", is_activity=False)
    @route.replies(ComfyUIVersion, "Its version.")
    @route.errors(*MACHINE, *CLOUD)
    async def get_comfyui_version(self, query: VersionInfoQuery) -> Any:
        """The version of the ComfyUI that runs or is installed."""
        account = self.cloud_account(query)
        body = await self.services.machines.get(query.machine).version()
        if account is not None:
            latest = body["latest"] = await account.get("latest-hashes")
            # The web plug-in of the ComfyUI node reads this field.
            body["comfyui_hash"] = latest.get("comfyui_hash") if isinstance(latest, dict) else None
        return body

    @route.get("object_info", "getObjectInfo")
    @route.replies(
        dict[str, NodeDefinition],
        "The definitions in ComfyUI's form.",
        example={"EmptyImage": {"display_name": "EmptyImage", "category": "image"}},
    )
    @route.errors(*MACHINE)
    async def get_object_info(self, query: MachineQuery) -> None:
        """ComfyUI's node definitions."""
        machine = self.services.machines.get(query.machine)
        await self.finish(await machine.object_info())

    @route.get("node-options", "getNodeOptions")
    @route.replies(NodeOptions, "The options.")
    @route.errors(*MACHINE)
    async def get_node_options(self, query: NodeOptionsQuery) -> Large:
        """The options of an input that a route gives (`remote_combo`, `remote`).

        The node definitions of the machine name the route: one of its ComfyUI, or a public address,
        which gets no keys. 503 if there is no list; the input takes any value then, too.
        """
        machine = self.services.machines.get(query.machine)
        options = self.services.remote_options
        return await options.get(machine, query.class_type, query.input, query.inputs)

    @route.get("comfyui/log", "getComfyUILog", is_activity=False)
    @route.replies(ComfyUILog, "The lines.")
    @route.errors(*MACHINE)
    async def get_comfyui_log(self, query: LogQuery) -> Any:
        """The last log lines of a ComfyUI that this server has started."""
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
        return {"path": str(process.log_path), "lines": lines}

    @route.get("openapi.json", "getSpecification")
    @route.replies(dict[str, Any], "The description.", example={"openapi": "3.1.0"})
    async def get_specification(self) -> None:
        """This description of the routes, as OpenAPI 3.1."""
        if self.extension.document is None:
            from .document import document  # which is rarely needed

            self.extension.document = await asyncio.to_thread(document, self.base_url)
        self.set_header("Cache-Control", "private, no-cache")
        await self.finish(self.extension.document)
