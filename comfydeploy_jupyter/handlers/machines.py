"""Machines: the ComfyUI of this computer, others, and serverless machines of ComfyDeploy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequestError
from ..util.system import lazy_module
from .base import Handler, schemas

if TYPE_CHECKING:
    from ..machines import hardware, service
    from ..machines.service import CloudMachines
else:
    hardware = lazy_module("machines.hardware")
    service = lazy_module("machines.service")

DEFAULT_GPU = "A10G"  # that of the ComfyUI node, whose web plug-in sends none


class MachineBase(Handler):
    """Base of the routes whose requests may be for machines of ComfyDeploy."""

    def cloud(self, asked: schemas.CloudTarget, api_url: str | None = None) -> CloudMachines:
        """Return the machines of the `account` for a request."""
        return self.services.cloud_machines(self.account(asked, api_url))

    def cloud_id(
        self, asked: schemas.MachineSource | schemas.MachineUpdate
    ) -> tuple[str, str | None] | None:
        """Return id and API address of the ComfyDeploy machine in a request; None for others.

        Raises
        ------
        NotFoundError
            If there is no such machine here, and the request is not for ComfyDeploy.
        InvalidRequestError
            If the request is for ComfyDeploy and names no machine.
        """
        machine_service = self.services.machine_service
        if self.is_for_cloud(asked):
            if asked.machine_id is None:
                raise InvalidRequestError.of_field("machine_id", "is needed for ComfyDeploy")
            known = machine_service.cloud_record(asked.machine_id)
            return (known.id if known is not None else asked.machine_id), None
        found = machine_service.is_in_cloud(asked.machine_id)
        return None if found is None else (found.id, found.config.get("api_url"))


class MachineHandler(MachineBase):
    """``GET machine``: the description and the state of a machine."""

    is_activity = False

    async def get(self) -> None:
        """Reply for ``machine_id``, by default for the default machine."""
        query = self.query(schemas.MachineSource)
        pool = None if self.is_for_cloud(query) else self.services.pools.find(query.machine_id)
        if pool is not None:
            self.reply(self.services.pools.describe(pool))
            return
        cloud = self.cloud_id(query)
        if cloud is not None:
            self.reply(await self.cloud(query, cloud[1]).get(cloud[0]))
        else:
            self.reply(await self.services.machine_service.describe(query.machine_id))


class FreeHandler(Handler):
    """``POST free``: makes ComfyUI unload its models and free memory."""

    async def post(self) -> None:
        """Reply with the number of freed bytes."""
        request = await self.body(schemas.FreeRequest)
        machines = self.services.machines
        what = {"unload_models": request.unload_models, "free_memory": request.free_memory}
        pool = machines.pool(request.machine)
        if pool is not None:
            connected = [machine for machine in machines.members(pool) if machine.connected]
            freed = await hardware.free_memory_of_all(connected, **what)
            self.reply({"success": True, "machine": pool.id, **freed})
            return
        found = machines.get(request.machine)
        freed = await hardware.free_memory_of(found, **what)
        self.reply({"success": True, "machine": found.id, **freed})


class MachinesHandler(Handler):
    """``GET machines``: short descriptions of all machines."""

    is_activity = False

    async def get(self) -> None:
        """Reply with an array: the default machine first, pools last."""
        query = self.query(schemas.MachinesQuery)
        services = self.services
        pools = [services.pools.summary(p, members=query.members) for p in services.machines.pools]
        self.reply([*services.machine_service.summaries(), *pools])


class MachineUpdateHandler(MachineBase):
    """``POST machine/update``: change a machine."""

    async def post(self) -> None:
        """Change the settings that the body has, and no others."""
        request = await self.body(schemas.MachineUpdate)
        pool = None if self.is_for_cloud(request) else self.services.pools.find(request.machine_id)
        if pool is not None:
            updated = await self.services.pools.update(pool, request)
            self.reply(
                {"success": True, "id": pool.id, "machine": updated, "restart_required": False}
            )
            return
        cloud = self.cloud_id(request)
        if cloud is None:
            updated = await self.services.machine_service.update(request)
            self.reply({"success": True, "id": updated["machine"]["id"], **updated})
            return
        machine_service = self.services.machine_service
        machines = self.cloud(request, cloud[1])
        registered = machine_service.cloud_record(cloud[0])
        if registered is not None and request.name is not None:
            self.services.machine_records.check_name(request.name, but=registered.id)
        updated = await machines.update(cloud[0], await self.json_body())
        if registered is not None:
            await machine_service.store_cloud_machine(updated, registered.config.get("api_url"))
        # The web plug-in of the ComfyUI node expects an `id` for success, also from `create`.
        self.reply({"success": True, "id": cloud[0], "machine": updated, "restart_required": False})


class MachineCreateHandler(MachineBase):
    """``POST machine/create``: register a ComfyUI, or create a machine at ComfyDeploy."""

    async def post(self) -> None:
        """Reply with the new machine."""
        request = await self.body(schemas.MachineCreate)
        query = self.query(schemas.CloudTarget)
        kind = "cloud" if query.in_cloud else service.kind_of(request)
        machine_service = self.services.machine_service
        if kind == "cloud":
            made = await self._create_in_cloud(request, request.api_url or query.api_url)
        elif self.services.pools.is_pool(kind):
            if request.gpus is not None:
                self.services.machine_records.check_name(request.name)
                members = await machine_service.create_for_each_gpu(request)
                request = request.model_copy(update={"members": members})
            made = await self.services.pools.create(kind, request)
        else:
            made = await machine_service.create(request)
        self.reply({"success": True, "id": made["id"], "machine_id": made["id"], "machine": made})

    async def _create_in_cloud(
        self, request: schemas.MachineCreate, api_url: str | None
    ) -> dict[str, Any]:
        body = await self.json_body()
        if request.gpu is None and request.docker_command_steps is not None:
            body["gpu"] = request.gpu = DEFAULT_GPU
        if not isinstance(request.gpu, str) or not request.gpu:
            raise InvalidRequestError.of_field("gpu", "must be a kind of GPU, such as H100, or CPU")
        self.services.machine_records.check_name(request.name)
        made = await self.cloud(request).create(body)
        await self.services.machine_service.store_cloud_machine(made, api_url)
        return made


class MachineDeleteHandler(Handler):
    """``POST machine/delete``: delete a machine."""

    async def post(self) -> None:
        """Stop its ComfyUI, if this server has started it, and delete its record."""
        request = await self.body(schemas.MachineDelete)
        pool = self.services.pools.find(request.machine_id)
        if pool is not None:
            await self.services.pools.delete(pool)
            self.reply({"success": True, "machine_id": pool.id})
            return
        machine_id = await self.services.machine_service.delete(request.machine_id)
        await self.services.pools.forget(machine_id)
        self.reply({"success": True, "machine_id": machine_id})
