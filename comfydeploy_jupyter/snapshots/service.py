"""The service of snapshots, for handlers."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..comfyui.find import Running, describe, find_python, running_at
from ..comfyui.folders import Folders
from ..comfyui.manager import Manager, Pack
from ..compat.comfydeploy import unreadable
from ..errors import ComfyDeployError, ComfyUIUnavailableError, ConflictError, InvalidRequestError
from ..util.tasks import BackgroundTasks
from .docker import build, find_engine, image_name, write_context
from .environment import (
    Environment,
    Place,
    read_custom_nodes,
    read_environment,
    read_models,
    read_versions,
)
from .snapshot import docker_command_steps, from_manager, read_snapshot, to_manager

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path
    from typing import TypeVar

    from ..compat.comfydeploy import CloudAccount
    from ..files.hashes import Hasher
    from ..machines.machine import Machine
    from ..machines.registry import MachineRegistry
    from ..request_models import SnapshotRequest
    from ..transfers.queue import Transfers
    from ..workflows.store import LocalWorkflows
    from .docker import Written

    T = TypeVar("T")


class Snapshots:
    """Reads environments and converts them to build contexts, images and steps."""

    def __init__(
        self,
        folder: Path,
        machines: MachineRegistry,
        hasher: Hasher,
        transfers: Transfers,
        workflows: LocalWorkflows,
        tokens: Mapping[str, str],  # build secrets by their ids, for the sites of models
    ) -> None:
        self._folder = folder
        self._machines = machines
        self._hasher = hasher
        self._transfers = transfers
        self._workflows = workflows
        self._tokens = dict(tokens)
        self._busy: set[str] = set()
        self._tasks = BackgroundTasks()

    async def close(self) -> None:
        await self._tasks.close()

    @property
    def at_work(self) -> bool:
        return bool(self._tasks)

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task to read or build a snapshot; the caller awaits it, `close` cancels it."""
        return self._tasks.start(work, "Reading or building a snapshot", expected=(Exception,))

    async def to_docker(
        self, request: SnapshotRequest, report: Callable[[str], None]
    ) -> dict[str, Any]:
        environment = await self._environment(request, report)
        name = request.name or datetime.now().strftime("comfyui-%Y%m%d-%H%M%S")
        if name in self._busy:
            raise ConflictError.of_field("name", f"the snapshot {name} is being built")
        self._busy.add(name)
        try:
            report(f"Writing the build context {name}")
            written = await asyncio.to_thread(
                write_context, self._folder, name, environment, models=bool(request.include_models)
            )
            reply = await asyncio.to_thread(_reply, environment, written)
            if request.build:
                await self._build(name, written, reply, report)
        finally:
            self._busy.discard(name)
        return reply

    async def to_cloud(
        self, request: SnapshotRequest, account: CloudAccount, report: Callable[[str], None]
    ) -> dict[str, Any]:
        """Convert an environment to steps with ComfyDeploy's service, without writing files."""
        environment = await self._environment(request, report)
        converted = to_manager(environment.snapshot)
        sent = ("comfyui", "git_custom_nodes", "cnr_custom_nodes")
        body = {name: converted[name] for name in sent if converted[name] is not None}
        report("Asking ComfyDeploy")
        answer = await account.post("snapshot-to-docker", body=body, idempotent=True)
        if not isinstance(answer, dict) or not isinstance(answer.get("steps"), list):
            raise unreadable("the snapshot")
        _, warnings = docker_command_steps(environment.snapshot)
        return {
            "success": True,
            "docker_command_steps": answer,
            "steps": answer["steps"],  # the field that the node's web plug-in reads
            "snapshot": environment.snapshot.model_dump(),
            "manager_snapshot": converted,
            "warnings": [*environment.warnings, *warnings],
        }

    # -- the environment ---------------------------------------------------------------------

    async def started(self, machine: Machine) -> float | None:
        """Return when the process of a ComfyUI began; None if that is not known."""
        running = await asyncio.to_thread(_running, machine)
        return running.started if running is not None else None

    async def versions(self, machine: Machine) -> Environment | None:
        """Return what a ComfyUI executes: its version, its packs and the Python packages they need.

        Of one on another computer, what its ComfyUI-Manager tells; None without it.
        """
        place = await self._place(machine)
        if place is None:
            client = machine.reachable_client()
            with contextlib.suppress(ComfyDeployError):  # what it tells is no snapshot, for example
                manager = await Manager.find(client) if client is not None else None
                if manager is not None:
                    told, there = await manager.snapshot(), await manager.installed()
                    snapshot, warnings = await asyncio.to_thread(from_manager, told, lenient=True)
                    for node in snapshot.custom_nodes:  # a snapshot does not name their folders
                        pack = Pack(node.id or node.repository or node.name, node.name)
                        node.name = pack.folder_in(there) or node.name
                    return Environment(snapshot, warnings=warnings, here=False)
            return None
        return await asyncio.to_thread(read_versions, place)

    async def _environment(
        self, request: SnapshotRequest, report: Callable[[str], None]
    ) -> Environment:
        machine = self._machines.get(request.machine)
        if request.snapshot is None:
            return await self._read(machine, bool(request.include_models), report)
        snapshot, warnings = await asyncio.to_thread(read_snapshot, request.snapshot)
        environment = Environment(snapshot, warnings=warnings)
        only_files = any(node.kind == "files" for node in environment.snapshot.custom_nodes)
        place = await self._place(machine) if only_files else None
        if place is not None:
            # Packs that consist of files only can be copied if they are on this machine.
            here = Environment()
            folders = place.folders.model_folder("custom_nodes").paths
            await asyncio.to_thread(read_custom_nodes, folders, here)
            environment.node_sources = here.node_sources
        return environment

    async def _read(
        self, machine: Machine, hash_models: bool, report: Callable[[str], None]
    ) -> Environment:
        place = await self._place(machine)
        if place is None:
            await machine.ready()  # raises with a hint if there is no ComfyUI at all
            raise InvalidRequestError.of_field(
                "snapshot",
                "is needed: this ComfyUI is not on this machine, or its folder is not known"
                " (comfyui_path), so that its environment cannot be read",
            )
        if place.python is None:
            raise ComfyUIUnavailableError(
                f"The Python of the ComfyUI in {place.path} is not known",
                extra={"hint": "Set comfyui_python to the Python that runs ComfyUI."},
            )
        report(f"Reading the environment of {place.path}")
        models, warnings = await read_models(
            place.folders,
            self._hasher,
            self._transfers,
            self._workflows,
            hash_all=hash_models,
            report=report,
        )
        environment = await asyncio.to_thread(read_environment, place, place.python, models)
        environment.warnings += warnings
        return environment

    async def _place(self, machine: Machine) -> Place | None:
        """Return the paths of a machine's ComfyUI, or None if it is not on this machine."""
        folders = await machine.folders()
        running = await asyncio.to_thread(_running, machine)
        path = machine.path or (running.path if running is not None else None)
        if path is None:
            return None
        launch_args, cwd = list(machine.settings.launch_args), None
        if running is not None and running.arguments is not None:
            launch_args, cwd = list(running.arguments), running.folder
        if folders.base is None:
            folders = await asyncio.to_thread(Folders, path, argv=launch_args, cwd=cwd)
        python = running.python if running is not None else None
        if python is None:
            python = machine.python or await asyncio.to_thread(find_python, path)
        started = running.started if running is not None else None
        return Place(path, python, launch_args, folders, started)

    # -- images ------------------------------------------------------------------------------

    async def _build(
        self, name: str, written: Written, reply: dict[str, Any], report: Callable[[str], None]
    ) -> None:
        image = image_name(name)
        log = self._folder / "~logs" / f"{name}.log"
        try:
            program = await find_engine()
            report(f"Building {image}")
            tokens = self._tokens if "--mount=type=secret" in written.dockerfile else {}
            await build(program, written.path, image, log=log, report=report, tokens=tokens)
        except ComfyDeployError as error:
            error.extra = {**reply, **error.extra}
            raise
        reply.update(image=image, log=str(log))


def _reply(environment: Environment, written: Written) -> dict[str, Any]:
    steps, warnings = docker_command_steps(environment.snapshot)
    return {
        "success": True,
        "path": str(written.path),
        "dockerfile": written.dockerfile,
        "docker_command_steps": steps,
        "snapshot": environment.snapshot.model_dump(),
        "manager_snapshot": to_manager(environment.snapshot),
        "warnings": [*environment.warnings, *written.warnings, *warnings],
    }


def _running(machine: Machine) -> Running | None:
    pid = machine.process.pid if machine.process is not None else None
    if pid is not None:
        return describe(pid)
    url = machine.url or machine.settings.comfyui_url
    return running_at(url) if url else None
