"""Machines: ComfyUIs here and elsewhere, and at ComfyDeploy; snapshots of their environments."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from .. import request_models as fields
from ..errors import (
    ComfyDeployError,
    ConflictError,
    DockerFailedError,
    DockerUnavailableError,
    InvalidRequestError,
    NotFoundError,
)
from ..machines import hardware, service
from ..request_models import (
    CloudTarget,
    MachineCreate,
    MachineUpdate,
    Model,
    SnapshotRequest,
    optional,
    required,
)
from ..runs.feed import RunEvent
from ..snapshots.snapshot import Snapshot
from . import route
from .base import Handler
from .route import CLOUD, EVENTS, FILES, JSON, MACHINE, Content, Link, ReplyModel, Success
from .runs import StreamEvent
from .status import COMMIT, KeptVersion

if TYPE_CHECKING:
    from collections.abc import Callable


class MachineSource(CloudTarget):
    machine_id: fields.MachineIdField = None


class MachinesQuery(Model):
    members: bool = optional(
        "Whether pools contain their members: the ComfyUI, GPU, models, present run and queue of"
        " each.",
        False,
        default=False,
    )


class MachineDelete(Model):
    machine_id: fields.MachineRef = required("A machine's id or name.", "studio")


class FreeRequest(Model):
    machine: fields.MachineField = None
    unload_models: bool = optional(
        "Whether to remove models from the memory of the GPU and of the machine.",
        True,
        default=True,
    )
    free_memory: bool = optional("Whether to remove cached outputs of nodes.", True, default=True)


_Kind = Literal["managed", "comfyui", "cloud", "pool", "dask"]


class PoolMember(ReplyModel):
    """A machine of a pool."""

    id: str = Field(examples=["studio"])
    name: str = Field(examples=["studio"])
    status: str = Field(examples=["ready"])
    url: str | None = Field(examples=["http://127.0.0.1:8189"])
    version: str | None = Field(examples=["0.33.0"])
    gpu: str | None = required("The GPU that its ComfyUI uses.", "cuda:0 L4")
    work: int = required("Prompts in its queue.", 0)
    error: str | None
    run: str | None = required("The id of the run that it executes.", None)
    queue: int = required("Prompts that it has, of all clients.", 0)
    models: list[str] = required("The model files of its last run.")


class NamedMachine(ReplyModel):
    """What each description of a machine has."""

    id: str = Field(examples=["studio"])
    name: str = Field(examples=["studio"])
    kind: _Kind = Field(examples=["comfyui"])
    status: str | None = Field(examples=["ready"])
    work: int = optional("Prompts in its queue; for a pool, its unfinished runs.", 0, default=0)
    error: str | None = None
    members: list[PoolMember] = optional("Of a pool.", default=[])


class MachineSummary(NamedMachine):
    """A short description of a machine, with the members of a pool if the query asks for them."""

    gpu: Any = Field(examples=[None])
    url: str | None = Field(None, examples=["http://127.0.0.1:8189"])
    version: str | None = Field(None, examples=["0.33.0"])


class Hardware(ReplyModel):
    """Hardware of a machine; sizes in bytes. Null or empty if not known."""

    cpu: dict[str, Any] | None = Field(examples=[{"name": "AMD EPYC", "cores": 8}])
    memory: dict[str, int | None] | None = Field(
        examples=[{"total": 68719476736, "available": 34359738368, "used": 34359738368}]
    )
    gpus: list[dict[str, Any]] = Field(examples=[[{"index": 0, "name": "NVIDIA L4"}]])
    disks: list[dict[str, Any]] = Field(
        examples=[[{"path": "/", "total": 500000000000, "used": 1, "free": 499999999999}]]
    )


class MachineReply(NamedMachine):
    """A machine; for one in ComfyDeploy, ``config`` has the data of the service."""

    hardware: Hardware
    software: dict[str, Any] = Field(
        examples=[{"os": "Linux", "python": "3.11.7", "comfyui": {"version": "0.33.0"}}]
    )
    config: dict[str, Any] = Field(examples=[{"comfyui_url": "http://127.0.0.1:8189", "env": {}}])
    restart_required: bool = required(
        "Whether a setting takes effect only after a restart of its ComfyUI.", False
    )
    gpu: str | None = None
    provider: dict[str, Any] | None = optional(
        "The state of the cluster that provides the machines of a pool."
    )


class MachineUpdated(Success):
    """A machine after a change; ``id`` is its id, for the node's web plug-in."""

    id: str = Field(examples=["local"])
    machine: MachineReply
    restart_required: bool = Field(examples=[False])


class MachineCreated(Success):
    """A new machine; ``id`` is its id too, for the node's web plug-in."""

    id: str = Field(examples=["studio"])
    machine_id: str = Field(examples=["studio"])
    machine: MachineReply


class MachineDeleted(Success):
    """The machine that was deleted."""

    machine_id: str = Field(examples=["studio"])


class MemoryChange(ReplyModel):
    """Free bytes before and after, and the difference."""

    before: int = Field(examples=[1024])
    after: int = Field(examples=[4096])
    freed: int = Field(examples=[3072])


class MemoryFreed(Success):
    """The memory that ComfyUI freed; `pending`: it will free it after the present prompt."""

    machine: str = Field(examples=["local"])
    pending: bool = Field(examples=[False])
    gpu: MemoryChange
    ram: MemoryChange = Field(examples=[{"before": 1024, "after": 2048, "freed": 1024}])


class ComfyUIStarted(Success):
    """ComfyUI is being started; `check-status` tells its state."""

    machine: str = Field(examples=["local"])


class ComfyUIStopped(Success):
    """ComfyUI does not run."""

    machine: str = Field(examples=["local"])


class OwnMachine(Model):
    machine: fields.MachineField = None


class WentBack(Success):
    """The version of ComfyUI that is used now, and the one that is kept."""

    machine: str = Field(examples=["local"])
    version: str | None = Field(examples=["0.33.0"])
    commit: str | None = Field(examples=[COMMIT])
    kept: KeptVersion | None
    notes: list[str] = required("What may not work with this version, such as node packs.")


_MACHINE_ID = {"machine_id": "$response.body#/machine_id"}
DEFAULT_GPU = "A10G"  # that of the ComfyUI node, whose web plug-in sends none


class MachinesHandler(Handler):
    """Machines, here and at ComfyDeploy, and pools of them."""

    tag = "Machines"

    @route.get("machine", "getMachine", is_activity=False)
    @route.replies(MachineReply, "The machine.")
    @route.errors(NotFoundError, *CLOUD)
    async def get_machine(self, query: MachineSource) -> Any:
        """A machine: its hardware, settings and state."""
        pool = None if self.is_for_cloud(query) else self.services.pools.find(query.machine_id)
        if pool is not None:
            return self.services.pools.describe(pool)
        cloud = self._cloud_id(query)
        if cloud is not None:
            return await self._cloud(query, cloud[1]).get(cloud[0])
        return await self.services.machine_service.describe(query.machine_id)

    @route.get("machines", "listMachines", is_activity=False)
    @route.replies(list[MachineSummary], "The machines.")
    async def list_machines(self, query: MachinesQuery) -> Any:
        """Short descriptions of all machines."""
        services = self.services
        pools = [services.pools.summary(p, members=query.members) for p in services.machines.pools]
        return [*services.machine_service.summaries(), *pools]

    @route.post("machine/update", "updateMachine")
    @route.takes(example=("machine_id", "name"))
    @route.replies(MachineUpdated, "The machine is changed.")
    @route.errors(*MACHINE, ConflictError, *CLOUD)
    async def update_machine(self, body: MachineUpdate) -> Any:
        """Change a machine, restart its ComfyUI."""
        pool = None if self.is_for_cloud(body) else self.services.pools.find(body.machine_id)
        if pool is not None:
            updated = await self.services.pools.update(pool, body)
            return {"id": pool.id, "machine": updated, "restart_required": False}
        cloud = self._cloud_id(body)
        if cloud is None:
            updated = await self.services.machine_service.update(body)
            return {"id": updated["machine"]["id"], **updated}
        machine_service = self.services.machine_service
        machines = self._cloud(body, cloud[1])
        registered = machine_service.cloud_record(cloud[0])
        if registered is not None and body.name is not None:
            self.services.machine_records.check_name(body.name, but=registered.id)
        updated = await machines.update(cloud[0], await self.json_body())
        if registered is not None:
            await machine_service.store_cloud_machine(updated, registered.config.get("api_url"))
        # The web plug-in of the ComfyUI node expects an `id` for success, also from `create`.
        return {"id": cloud[0], "machine": updated, "restart_required": False}

    @route.post("machine/create", "createMachine")
    @route.takes(example=("name", "comfyui_url"))
    @route.replies(
        MachineCreated,
        "The machine is registered.",
        Link("getMachine", _MACHINE_ID),
        Link("updateMachine", body=_MACHINE_ID),
        Link("deleteMachine", body=_MACHINE_ID),
    )
    @route.errors(*MACHINE, ConflictError, *CLOUD)
    async def create_machine(self, body: MachineCreate) -> Any:
        """Register a ComfyUI, start another one, or create a machine at ComfyDeploy."""
        query = self.query(CloudTarget)
        kind = "cloud" if query.in_cloud else service.kind_of(body)
        machine_service = self.services.machine_service
        if kind == "cloud":
            made = await self._create_in_cloud(body, body.api_url or query.api_url)
        elif self.services.pools.is_pool(kind):
            if body.gpus is not None:
                self.services.machine_records.check_name(body.name)
                members = await machine_service.create_for_each_gpu(body)
                body = body.model_copy(update={"members": members})
            made = await self.services.pools.create(kind, body)
        else:
            made = await machine_service.create(body)
        return {"id": made["id"], "machine_id": made["id"], "machine": made}

    async def _create_in_cloud(self, request: MachineCreate, api_url: str | None) -> dict[str, Any]:
        body = await self.json_body()
        if request.gpu is None and request.docker_command_steps is not None:
            body["gpu"] = request.gpu = DEFAULT_GPU
        if not isinstance(request.gpu, str) or not request.gpu:
            raise InvalidRequestError.of_field("gpu", "must be a kind of GPU, such as H100, or CPU")
        self.services.machine_records.check_name(request.name)
        made = await self._cloud(request).create(body)
        await self.services.machine_service.store_cloud_machine(made, api_url)
        return made

    @route.post("machine/delete", "deleteMachine")
    @route.replies(MachineDeleted, "The machine is deleted.")
    @route.errors(NotFoundError, ConflictError)
    async def delete_machine(self, body: MachineDelete) -> Any:
        """Delete a machine."""
        pool = self.services.pools.find(body.machine_id)
        if pool is not None:
            await self.services.pools.delete(pool)
            return {"machine_id": pool.id}
        machine_id = await self.services.machine_service.delete(body.machine_id)
        await self.services.pools.forget(machine_id)
        return {"machine_id": machine_id}

    @route.post("free", "freeMemory")
    @route.takes(example=("machine",))
    @route.replies(MemoryFreed, "The number of freed bytes.")
    @route.errors(*MACHINE)
    async def free_memory(self, body: FreeRequest) -> Any:
        """Make ComfyUI unload its models and free memory."""
        machines = self.services.machines
        what = {"unload_models": body.unload_models, "free_memory": body.free_memory}
        pool = machines.pool(body.machine)
        if pool is not None:
            connected = [machine for machine in machines.members(pool) if machine.connected]
            freed = await hardware.free_memory_of_all(connected, **what)
            return {"machine": pool.id, **freed}
        found = machines.get(body.machine)
        freed = await hardware.free_memory_of(found, **what)
        return {"machine": found.id, **freed}

    @route.post("comfyui/start", "startComfyUI")
    @route.takes(example=("machine",))
    @route.replies(ComfyUIStarted, "It is being started.")
    @route.errors(*MACHINE, ConflictError)
    async def start_comfyui(self, body: OwnMachine) -> Any:
        """Start a ComfyUI of this server that does not run.

        The reply does not wait for it. After an end of ComfyUI, this does not wait for the next
        automatic restart either. If it runs, nothing happens.
        """
        machine = self.services.machine_service.own(body.machine)
        machine.start()
        return {"machine": machine.id}

    @route.post("comfyui/stop", "stopComfyUI")
    @route.takes(example=("machine",))
    @route.replies(ComfyUIStopped, "It does not run.")
    @route.errors(*MACHINE, ConflictError)
    async def stop_comfyui(self, body: OwnMachine) -> Any:
        """Stop a ComfyUI of this server.

        A run that it executes fails; runs that wait stay. The next run starts it again.
        """
        machine = self.services.machine_service.own(body.machine)
        await machine.stop()
        return {"machine": machine.id}

    @route.post("comfyui/back", "goBackToKeptComfyUI")
    @route.takes(example=("machine",))
    @route.replies(WentBack, "The kept version runs.")
    @route.errors(*MACHINE, ConflictError)
    async def go_back(self, body: OwnMachine) -> Any:
        """Use the ComfyUI that an update has kept, and keep the present one.

        ComfyUI is stopped and started again. A run that it executes fails; runs that wait continue
        with the other version. Models, node packs and outputs stay as they are. The same request
        returns to the version that was used before it.
        """
        return await self.services.machine_service.go_back(body.machine)

    def _cloud(self, asked: CloudTarget, api_url: str | None = None) -> service.CloudMachines:
        return service.CloudMachines(self.account(asked, api_url))

    def _cloud_id(self, asked: MachineSource | MachineUpdate) -> tuple[str, str | None] | None:
        """Return id and API address of the ComfyDeploy machine in a request; None for others."""
        machine_service = self.services.machine_service
        if self.is_for_cloud(asked):
            if asked.machine_id is None:
                raise InvalidRequestError.of_field("machine_id", "is needed for ComfyDeploy")
            known = machine_service.cloud_record(asked.machine_id)
            return (known.id if known is not None else asked.machine_id), None
        found = machine_service.is_in_cloud(asked.machine_id)
        return None if found is None else (found.id, found.config.get("api_url"))


_SNAPSHOT: dict[str, Any] = {
    "comfyui": {"version": "0.33.0", "commit": COMMIT},
    "python": {
        "version": "3.11.7",
        "packages": [{"name": "torch", "version": "2.9.0", "requirement": "torch==2.9.0"}],
    },
    "custom_nodes": [
        {
            "name": "comfyui-deploy",
            "kind": "git",
            "repository": "https://github.com/BennyKok/comfyui-deploy",
            "commit": COMMIT,
        }
    ],
}


class EnvironmentReply(Success):
    """An environment in several forms."""

    docker_command_steps: dict[str, Any] = required(
        "The steps that make it on a machine of ComfyDeploy.", {"steps": []}
    )
    snapshot: Snapshot = Field(examples=[_SNAPSHOT])
    manager_snapshot: dict[str, Any] = required(
        "The same as ComfyUI-Manager restores it.", {"comfyui": COMMIT, "git_custom_nodes": {}}
    )
    warnings: list[str] = required("What is not in it, and why.", [])


class SnapshotReply(EnvironmentReply):
    """An environment, and its build context; no ``path`` if ComfyDeploy made the steps.

    If ComfyDeploy made the steps, ``steps`` are those of ``docker_command_steps``.
    """

    steps: list[Any] | None = None
    path: str = optional(
        "The folder of the build context.", "/home/ada/comfydeploy/snapshots/studio", default=""
    )
    dockerfile: str = optional("The text of the Dockerfile.", "FROM python:3.11.7\n", default="")
    image: str = ""
    log: str = ""


class SnapshotHandler(Handler):
    """``POST snapshot-to-docker``: a build context that recreates the environment."""

    tag = "Machines"

    @route.post("snapshot-to-docker", "snapshotToDocker")
    @route.takes(example={"name": "studio", "snapshot": _SNAPSHOT})
    @route.replies(
        (
            Content(JSON, SnapshotReply),
            Content(
                EVENTS,
                StreamEvent,
                'id: 1\nevent: event_update\ndata: {"event": "log",'
                ' "data": {"line": "Reading"}}\n\n'
                'id: 2\nevent: event_update\ndata: {"event": "result",'
                ' "data": {"success": true}}\n\n',
            ),
        ),
        "The context is written. With `Accept: text/event-stream` the progress is sent first, and"
        " an error is the last event.",
    )
    @route.errors(
        *FILES,
        ConflictError,
        DockerUnavailableError,
        DockerFailedError,
        *CLOUD,
        (503, ComfyDeployError),
    )
    async def snapshot_to_docker(self, body: SnapshotRequest) -> None:
        """The environment as a Docker build context, and as steps of a ComfyDeploy machine."""
        if "text/event-stream" in self.request.headers.get("Accept", ""):
            await self._stream(body)
            return
        try:
            reply = await self.for_client(self._begin(body, lambda _: None))
        except asyncio.CancelledError:
            raise _ending() from None
        await self.reply_large(reply)

    def _begin(
        self, request: SnapshotRequest, report: Callable[[str], None]
    ) -> asyncio.Task[dict[str, Any]]:
        snapshots = self.services.snapshots
        account = self.cloud_account(request)
        if account is None:
            return snapshots.begin(snapshots.to_docker(request, report))
        return snapshots.begin(snapshots.to_cloud(request, account, report))

    async def _stream(self, request: SnapshotRequest) -> None:
        """Send each line of progress as it is created, then the result or the error."""
        numbers = count(1)

        def send(line: str) -> None:
            if line:
                self.write(RunEvent(next(numbers), "log", {"line": line}).sse)
                self.flush()

        work = self._begin(request, send)
        self.want(work)
        self.begin_stream()
        self.flush()
        with self.kept_open():
            name, data = await self._outcome(work)
        if self.wanted is not None:  # the client is still there
            self.write(await asyncio.to_thread(lambda: RunEvent(next(numbers), name, data).sse))
            self.finish_stream()

    async def _outcome(self, work: asyncio.Task[dict[str, Any]]) -> tuple[str, dict[str, Any]]:
        try:
            return "result", await work
        except asyncio.CancelledError:
            error: ComfyDeployError = _ending()
        except Exception as exc:  # the same error that any other route sends
            error = self.error_of(exc, 500)
        return "error", {**error.to_reply(), "status": error.status}


def _ending() -> ComfyDeployError:
    error = ComfyDeployError("The snapshot was not finished because the server is stopping")
    error.status = 503
    return error
