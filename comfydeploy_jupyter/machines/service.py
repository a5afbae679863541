"""Create, describe, update and delete machines."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from yarl import URL

from ..comfyui import kept
from ..comfyui.client import NONE, REPLY_TIMEOUT
from ..comfyui.find import installed_version, own_folder_arguments, unknown_option
from ..compat.comfydeploy import iso_utc, unreadable
from ..errors import ComfyUIUnavailableError, ConflictError, InvalidRequestError, NotFoundError
from ..tunnel.gate import Upstream
from ..tunnel.tunnels import Origin, TunnelOptions
from ..util.secrets import MASK, clean_url, masked_arguments, masked_environment
from ..util.sockets import ANYONE
from ..util.tasks import wait_for
from . import hardware
from .hardware import hardware_and_software, kind
from .machine import Machine
from .records import MachineRecord
from .registry import LOCAL, POOL
from .settings import CREDENTIAL_FILES, Configuration, check_without_cluster

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..compat.comfydeploy import CloudAccount
    from ..request_models import MachineCreate, MachineUpdate
    from .machine import MachineListener
    from .records import MachineRecords
    from .registry import MachineRegistry
    from .settings import MachineSettings

log = logging.getLogger(__name__)

_DATES = ("created_at", "updated_at")
# Fields of this package only: the service has other names for them, or does not have them.
_NOT_PASSED_ON = frozenset(
    {
        *("api_url", "autostart", "cd_token", "comfyui_path", "comfyui_python", "comfyui_url"),
        *("docker_steps", "env", "kind", "launch_args", "machine_id", "reset", "restart"),
        *("target", "token"),
    }
)
KINDS = ("local", "managed", "comfyui")  # machines with a ComfyUI that this server calls


class CloudMachines:
    def __init__(self, account: CloudAccount) -> None:
        self._account = account

    async def get(self, machine_id: str) -> dict[str, Any]:
        return _to_reply(await self._account.get("machine", machine_id))

    async def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a machine; its ``status`` is ``building`` until it is ``ready``."""
        return _to_reply(await self._account.post("machine", "serverless", body=_for_service(body)))

    async def update(self, machine_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Change the fields of a machine that are in `body`."""
        return _to_reply(
            await self._account.patch("machine", "serverless", machine_id, body=_for_service(body))
        )


def _for_service(body: dict[str, Any]) -> dict[str, Any]:
    passed = {k: v for k, v in body.items() if k not in _NOT_PASSED_ON and v is not None}
    steps = body.get("docker_command_steps") or body.get("docker_steps")
    if steps is not None:
        passed["docker_command_steps"] = {"steps": steps} if isinstance(steps, list) else steps
    return passed


def _to_reply(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise unreadable("the machine")
    # The token permits its owner to use the machine.
    row = {key: value for key, value in row.items() if key != "auth_token"}
    row |= {key: iso_utc(row[key]) for key in _DATES if key in row}
    gpu = row.get("gpu")
    named = {"id", "name", "status"}
    return {
        "id": row["id"],
        "name": row.get("name") or row["id"],
        "kind": "cloud",
        "status": row.get("status"),
        "hardware": {
            "cpu": None,
            "memory": None,
            "gpus": [{"name": gpu}] if gpu and gpu != "CPU" else [],
            "disks": [],
        },
        "software": {
            "comfyui": {
                "version": row.get("comfyui_version"),
                "url": row.get("endpoint"),
                "path": None,
                "managed": False,
                "pid": None,
            }
        },
        "config": {key: value for key, value in row.items() if key not in named},
        "restart_required": False,
    }


async def find_origin(
    options: TunnelOptions,
    machines: MachineRegistry,
    jupyter: Callable[[], Origin],
    *,
    start: bool,
) -> Origin:
    if options.target == "jupyter":
        origin = jupyter()
        if options.port not in (None, origin.port):
            raise InvalidRequestError.of_field(
                "port", f"must be that of Jupyter, {origin.port}, or not be given"
            )
        return origin
    if options.port is not None:
        url = f"http://127.0.0.1:{options.port}"
        return Origin(url, options.port, trusted_users=(ANYONE,))  # the user has given it
    machine = machines.get(options.machine)
    if machine.settings.access.tls is not None:
        raise InvalidRequestError.of_field(
            "machine",
            f"a tunnel cannot lead to {machine.id!r}: its ComfyUI is on a worker of a cluster, and"
            " accepts only Jupyter's certificate; open a tunnel to Jupyter instead",
        )
    if start:
        await machine.ready()
    elif not machine.connected:
        raise ComfyUIUnavailableError(f"The ComfyUI of machine {machine.id!r} is not available")
    assert machine.url is not None
    address = URL(machine.url)
    return Origin(
        str(address),
        address.port or 80,
        machine=machine.id,
        trusted_users=machine.settings.trusted_users,
        upstream=_upstream_of(machine.settings),
    )


def _upstream_of(settings: MachineSettings) -> Upstream:
    """Return the credentials that the ComfyUI at ``comfyui_url`` asks for."""
    asked = settings.credentials if settings.comfyui_url else NONE
    # The gate has another working directory than Jupyter.
    files = (getattr(asked, name) for name in CREDENTIAL_FILES)
    return Upstream(
        asked.all_headers, *(file and str(Path(file).expanduser().absolute()) for file in files)
    )


class MachineService:
    def __init__(
        self,
        records: MachineRecords,
        registry: MachineRegistry,
        configured: MachineSettings,
        *,
        autostart: bool,
        data_dir: Path,
        client_id: str,
        listener: MachineListener,
    ) -> None:
        self._records = records
        self._registry = registry
        self._configured = configured
        self._configuration = Configuration(registry, configured)
        self._autostart = autostart
        self._data_dir = data_dir
        self._client_id = client_id
        self._listener = listener
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._adding = asyncio.Lock()

    async def open(self) -> None:
        """Load all machines, including `local`, without starting any."""
        await self._records.load()
        for record in self._records:
            if record.kind == "cloud":
                self._registry.cloud[record.id] = record
            elif record.kind in KINDS:
                try:
                    settings = self._configuration.settings_of(record)
                except Exception:  # the others are not affected
                    log.exception("The stored settings of machine %r cannot be used", record.id)
                    if record.id != LOCAL:
                        continue
                    settings = self._configured
                self._registry.add(self.make(record.id, record.name, settings))

    def start(self) -> None:
        """Find or start the ComfyUI of each machine with the setting ``autostart``."""
        for machine in self._registry:
            record = self._records.find(machine.id)
            if record is not None and self._starts_early(record):
                machine.open()

    # -- description -------------------------------------------------------------------------

    async def describe(self, machine_id: str | None) -> dict[str, Any]:
        return await self._describe(self._registry.get(machine_id))

    def cloud_record(self, machine_id: str | None) -> MachineRecord | None:
        """Return the record of a machine of ComfyDeploy; None if it is not registered here."""
        with contextlib.suppress(NotFoundError):
            return self.is_in_cloud(machine_id)
        return None

    def is_in_cloud(self, machine_id: str | None) -> MachineRecord | None:
        """Return the record of a registered machine of ComfyDeploy; None for any other."""
        found = self._registry.resolve(machine_id or LOCAL, field="machine_id")
        return self._registry.cloud.get(found)

    def summaries(self) -> list[dict[str, Any]]:
        """Return short descriptions of all machines, `local` first, without sending requests."""
        known = self._registry
        return [
            self._summary(record)
            for record in self._records
            if record.id in known.cloud or known.find(record.id) is not None
        ]

    def _summary(self, record: MachineRecord) -> dict[str, Any]:
        machine = self._registry.find(record.id)
        if machine is None:
            return {
                "id": record.id,
                "name": record.name,
                "kind": "cloud",
                "status": None,
                "gpu": record.config.get("gpu"),
            }
        return {
            **self._registry.summary(machine),
            "kind": kind(machine),
            "gpu": machine.settings.gpu or None,
        }

    async def _describe(self, machine: Machine) -> dict[str, Any]:
        return {
            "id": machine.id,
            "name": machine.name,
            "kind": kind(machine),
            **self._registry.state(machine),
            **await hardware_and_software(machine),
            "config": self._config(machine),
            "restart_required": machine.restart_required,
            "work": self._registry.work(machine),
        }

    def _config(self, machine: Machine) -> dict[str, Any]:
        """Return the settings of a machine, with secrets masked."""
        settings = machine.settings
        record = self._records.find(machine.id)  # None: the provider of a pool has started it
        stored = {} if record is None else record.config
        return {
            "comfyui_url": clean_url(settings.comfyui_url),
            "comfyui_headers": dict.fromkeys(settings.credentials.headers, MASK),
            **{f"comfyui_{name}": getattr(settings.credentials, name) for name in CREDENTIAL_FILES},
            "comfyui_path": settings.comfyui_path,
            "comfyui_python": settings.comfyui_python,
            "launch_args": masked_arguments(settings.launch_args),
            "env": masked_environment(settings.env),
            "gpu": settings.gpu,
            "autostart": record is not None and self._starts_early(record),
            "docker_steps": stored.get("docker_steps"),
            "comfyui_version": stored.get("comfyui_version"),
            "changed": sorted(stored) if machine.id == LOCAL else [],
        }

    # -- changes -----------------------------------------------------------------------------

    async def create(self, request: MachineCreate) -> dict[str, Any]:
        """Register a ComfyUI at an address, or one that this server starts, and open it."""
        self._records.check_name(request.name)
        kind = kind_of(request)
        check_without_cluster(request, kind)
        if kind == "managed" and request.comfyui_url:
            raise InvalidRequestError.of_field(
                "comfyui_url", "must not be given for the kind managed, which this server starts"
            )
        if kind == "comfyui" and not request.comfyui_url:
            raise InvalidRequestError.of_field("comfyui_url", "is needed for the kind comfyui")
        given = await self._configuration.checked(request, {})
        # One at a time: else two requests could both find the same id, name or address unused.
        async with self._adding:
            self._records.check_name(request.name)
            machine = await self._add(request, kind, given)
        if self._starts_early(self._records[machine.id]):
            machine.open()
            await _wait_connected(machine)
        return await self._describe(machine)

    async def _add(self, request: MachineCreate, kind: str, given: dict[str, Any]) -> Machine:
        shared: Machine | None = None
        if kind == "managed":
            shared = self._configuration.copied(request, given)
        record = MachineRecord(self._records.free_id(request.name), request.name, kind, given)
        settings = self._configuration.settings_of(record)
        await self._configuration.check_whole(settings)
        if shared is not None:
            output = (await shared.folders()).directory("output") / record.id
            own = await asyncio.to_thread(
                own_folder_arguments,
                Path(settings.comfyui_path),
                settings.launch_args,
                output=output,
                folder=self._folder(record.id),
            )
            given["launch_args"] = [*settings.launch_args, *own]
        record = await self._records.keep(record)
        machine = self.make(record.id, record.name, self._configuration.settings_of(record))
        self._registry.add(machine)
        return machine

    async def create_for_each_gpu(self, request: MachineCreate) -> list[str]:
        """Create a managed machine for each GPU of this machine; return their ids.

        If one cannot be created, none is.
        """
        if request.kind not in (None, "pool") or request.members is not None or request.gpu:
            raise InvalidRequestError.of_field(
                "gpus", "must not be given together with kind, members or gpu"
            )
        found = await asyncio.to_thread(hardware.gpus_of_driver)
        if not found:
            raise InvalidRequestError.of_field(
                "gpus", "no NVIDIA GPU was found on the machine of Jupyter; give members instead"
            )
        made: list[str] = []
        try:
            for gpu in found:
                fields = {"name": f"{request.name}-{gpu['index']}", "gpu": str(gpu["index"])}
                each = request.model_copy(update={**fields, "kind": "managed", "gpus": None})
                made.append((await self.create(each))["id"])
        except BaseException:
            for machine_id in made:
                await self.delete(machine_id)
            raise
        return made

    async def store_cloud_machine(self, created: dict[str, Any], api_url: str | None) -> None:
        """Store a machine of ComfyDeploy, so that requests can contain its id or name."""
        config = {"gpu": created["config"].get("gpu"), "api_url": api_url}
        record = MachineRecord(created["id"], str(created["name"]), "cloud", config)
        self._registry.cloud[record.id] = await self._records.keep(record)

    async def update(self, request: MachineUpdate) -> dict[str, Any]:
        """Change a machine that is not in the cloud; after an error nothing is changed."""
        machine_id = self._registry.resolve(request.machine_id or LOCAL, field="machine_id")
        async with self._locks.setdefault(machine_id, asyncio.Lock()):
            self._check_own(machine_id)
            machine = self._registry.get(machine_id)
            record = self._records[machine_id]
            check_without_cluster(request, record.kind)
            if request.name is not None:
                self._records.check_name(request.name, but=machine_id)
            known = {} if request.reset else record.config
            given = await self._configuration.checked(request, known, machine.settings.launch_args)
            changed = replace(record, name=request.name or record.name, config={**known, **given})
            settings = self._configuration.settings_of(changed)
            if settings != machine.settings:
                await self._configuration.check_whole(settings, machine)
            self._check_possible(machine, settings, restart=bool(request.restart))
            if request.restart:
                # Stored only after a ComfyUI has started with it.
                await machine.restart(settings)
            kept = await self._records.keep(changed)
            applies_now = not request.restart and settings != machine.settings
            if applies_now:
                try:  # it may have got a run in the meantime
                    self._check_possible(machine, settings, restart=False)
                except ConflictError:
                    await self._records.keep(record)
                    raise
            machine.name = kept.name
            if applies_now:
                await machine.reconfigure(settings)
                await _wait_connected(machine)
        return {
            "machine": await self._describe(machine),
            "restart_required": machine.restart_required,
        }

    async def delete(self, machine_id: str) -> str:
        """Delete a machine, and stop its ComfyUI if this server started it; return its id.

        A machine of ComfyDeploy is only removed from this server.
        """
        machine_id = self._registry.resolve(machine_id, field="machine_id")
        if machine_id == LOCAL:
            raise ConflictError("machine_id: the machine 'local' cannot be deleted")
        async with self._locks.setdefault(machine_id, asyncio.Lock()):
            self._check_own(machine_id)
            self._check_idle(machine_id, "be deleted")
            with self._registry.removed(machine_id) as machines:
                await self._records.delete(machine_id)
            for machine in machines:
                await machine.close()
                await asyncio.to_thread(shutil.rmtree, self._folder(machine_id), True)
        return machine_id

    def own(self, machine_id: str | None) -> Machine:
        """Return a machine whose ComfyUI this server starts."""
        machine = self._registry.get(machine_id)
        if not machine.managed:
            raise _not_started(machine)
        return machine

    async def go_back(self, machine_id: str | None) -> dict[str, Any]:
        """Use the ComfyUI that is kept beside that of a machine, and keep the present one.

        All machines with this folder are stopped meanwhile, and started again.
        """
        machine = self.own(machine_id)
        await machine.folders()  # which finds its ComfyUI
        path = self.own(machine_id).path
        if path is None:
            raise _not_started(machine)
        if await machine.kept() is None:
            raise NotFoundError(
                f"machine: no earlier ComfyUI is kept beside {path}",
                details={"field": "machine", "path": str(path)},
                extra={"hint": "An update by the installer keeps one: see the page about updates."},
            )
        sharing = [each for each in self._registry if each.managed and each.path == path]
        other = kept.kept_path(path.resolve())
        for each in sharing:
            option = await asyncio.to_thread(unknown_option, each.settings.launch_args, other)
            if option is not None:
                raise ConflictError.of_field("machine", f"launch_args of {each.id!r}: {option}")
        notes: list[str] = []

        async def exchange() -> None:
            try:
                notes.extend(await asyncio.to_thread(_go_back, path))
            except (kept.KeptError, OSError) as error:
                raise ConflictError.of_field("machine", str(error), machine=machine.id) from error

        work: Callable[[], Awaitable[None]] = exchange
        for each in sharing:
            work = partial(each.while_stopped, work)
        await work()
        await machine.ready()
        version, commit = await asyncio.to_thread(installed_version, path)
        return {
            "machine": machine.id,
            "version": version,
            "commit": commit,
            "kept": await machine.kept(),
            "notes": notes,
        }

    # -- implementation ------------------------------------------------------------------------

    def make(self, machine_id: str, name: str, settings: MachineSettings) -> Machine:
        """Return a machine that is not registered or opened."""
        return Machine(
            machine_id,
            settings,
            client_id=self._client_id,
            folder=self._folder(machine_id),
            listener=self._listener,
            name=name,
        )

    def _folder(self, machine_id: str) -> Path:
        return self._data_dir if machine_id == LOCAL else self._data_dir / "machines" / machine_id

    def _starts_early(self, record: MachineRecord) -> bool:
        default = self._autostart if record.id == LOCAL else True
        return bool(record.config.get("autostart", default))

    def _check_possible(
        self, machine: Machine, settings: MachineSettings, *, restart: bool
    ) -> None:
        """Raise if a change would interrupt runs, or is not possible for this kind of machine."""
        moves = settings.place != machine.settings.place
        if not machine.managed and restart and (settings.comfyui_url or not moves):
            raise _not_started(machine, "restart")
        if not machine.managed and moves:
            self._check_idle(machine.id, "get another ComfyUI")

    def _check_own(self, machine_id: str) -> None:
        """Raise if the provider of a pool has started a machine."""
        for pool in self._registry.pools:
            if pool.kind != POOL and machine_id in pool.members:
                text = f"{machine_id!r} is started and ended by its pool {pool.id!r};"
                text = f"{text} change that pool"
                raise ConflictError.of_field("machine_id", text, machine=pool.id)

    def _check_idle(self, machine_id: str, what: str) -> None:
        count = self._registry.open_runs(machine_id)
        if count:
            raise ConflictError(
                f"Machine {machine_id!r} cannot {what} while it has unfinished runs: {count}",
                details={"field": "machine_id", "runs": count},
            )


def _not_started(machine: Machine, field: str = "machine") -> ConflictError:
    text = f"the ComfyUI of machine {machine.id!r} was not started by this server"
    return ConflictError.of_field(field, text, machine=machine.id)


def _go_back(path: Path) -> list[str]:
    try:
        with kept.locked(path.resolve().parent):
            return kept.go_back(path)
    except BlockingIOError:
        raise kept.KeptError(f"an installation into {path.parent} is running") from None


def kind_of(request: MachineCreate) -> str:
    """Return the kind of machine for a request, such as ``managed`` or ``pool``."""
    if request.kind is not None:
        return request.kind
    if request.in_cloud:
        return "cloud"
    if request.members is not None or request.gpus is not None:
        return "pool"
    if request.cluster is not None or request.scheduler is not None:
        return "dask"
    if request.comfyui_url:
        return "comfyui"
    if request.comfyui_path:
        return "managed"
    if request.gpu is not None or request.docker_command_steps is not None:
        return "cloud"
    raise InvalidRequestError.of_field(
        "kind",
        "is not clear: give kind, comfyui_path, comfyui_url, members for a pool, or gpu for"
        " ComfyDeploy",
    )


async def _wait_connected(machine: Machine) -> None:
    """Wait a limited time for a ComfyUI to connect that is not started by this server."""
    if not machine.managed:
        with contextlib.suppress(ComfyUIUnavailableError, asyncio.TimeoutError):
            await wait_for(machine.ready(), REPLY_TIMEOUT)
