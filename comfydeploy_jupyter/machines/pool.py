"""Pools: their settings, their members, and the providers that start and end these."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..comfyui.client import Access
from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
)
from ..util.tasks import BackgroundTasks, close_each
from .records import MachineRecord
from .registry import AUTO, DASK, POOL, Pool
from .settings import check_without_cluster

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Collection, Mapping, Sequence

    from ..request_models import MachineConfig, MachineCreate, MachineUpdate
    from .dask import DaskKind
    from .dask_leases import DaskProvider
    from .machine import Machine, MachineListener
    from .records import MachineRecords
    from .registry import MachineRegistry
    from .settings import MachineSettings

log = logging.getLogger(__name__)

CLUSTER = ("cluster", "scheduler")
# A ComfyUI keeps these settings until it ends.
OF_MEMBERS = ("comfyui_path", "comfyui_python", "launch_args", "shared_dir")
EARLIER = "earlier_shared_dirs"
MAX_MEMBERS = 10_000
MAX_NAMED = 3  # machines that a text names


@dataclass(frozen=True)
class Member:
    """A ComfyUI that a provider has started."""

    id: str  # no other ComfyUI gets it; one of which only the address has changed keeps it
    url: str
    name: str = ""  # default: its id
    tls: ssl.SSLContext | None = None  # default: the certificates that the system trusts


async def provider_config(
    kind: DaskKind, request: MachineConfig, known: Mapping[str, Any]
) -> dict[str, Any]:
    fields = request.model_dump(exclude_none=True, exclude={"token", "cd_token"})
    replaced = CLUSTER if any(name in fields for name in CLUSTER) else ()
    kept = {name: known[name] for name in known if name not in replaced}
    config = await kind.check({**kept, **fields}, known)
    present, before = config.get("shared_dir"), known.get("shared_dir")
    earlier = dict.fromkeys([*known.get(EARLIER, ()), before])
    if folders := [folder for folder in earlier if folder and folder != present]:
        config[EARLIER] = folders
    return config


def for_provider(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in config if name not in ("retry", EARLIER)}


def members_end(
    registry: MachineRegistry, pool: Pool, before: Mapping[str, Any], after: Mapping[str, Any]
) -> bool:
    """Return whether all members have to end, so that a change of the settings takes effect."""
    changed = [name for name in (*CLUSTER, *OF_MEMBERS) if before.get(name) != after.get(name)]
    if not changed:
        return False
    moves = [name for name in CLUSTER if name in changed]
    field = next((name for name in moves if after.get(name)), changed[0])
    on_members = sum(registry.open_runs(member) for member in pool.members)
    runs = max(registry.pool_runs(pool.id), on_members) if moves else on_members
    if runs:
        which = f"runs of {pool.id!r}" if moves else f"runs on machines of {pool.id!r}"
        text = f"cannot be changed while {which} are unfinished: {runs}"
        raise ConflictError.of_field(field, text, runs=runs)
    return True


def pool_of(record: MachineRecord, members: tuple[str, ...] = ()) -> Pool:
    """Return the pool of a record; ``members`` are those that its provider has started."""
    config = record.config
    folders = (config.get("shared_dir"), *config.get(EARLIER, ()))
    return Pool(
        record.id,
        record.name,
        record.kind,
        tuple(config.get("members", ())) if record.kind == POOL else members,
        retry=config.get("retry") or 0,
        shared_dirs=tuple(folder for folder in folders if folder),
    )


def _in_words(machine: Machine, status: str) -> str:
    process = machine.process
    if status == "backoff" or (status == "starting" and process is not None and process.restarts):
        return "is down, it is being started again"
    return {"failed": "does not start"}.get(status, f"is {status}")


class Pools:
    def __init__(
        self,
        records: MachineRecords,
        registry: MachineRegistry,
        make: Callable[[str, str, MachineSettings], Machine],
        listener: MachineListener,
        *,
        defaults: MachineSettings,
        dask: DaskKind,
    ) -> None:
        self._records = records
        self._registry = registry
        self._make = make
        self._listener = listener
        self._defaults = defaults
        self._dask = dask
        self._providers: dict[str, DaskProvider] = {}  # that have started
        self._unready: dict[str, DaskProvider] = {}  # that start, or have failed to
        self._failures: dict[str, ComfyDeployError] = {}
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._lock = asyncio.Lock()
        self._tasks = BackgroundTasks(log)
        registry.demand = self._wanted
        registry.why_waiting = self._why_waiting

    def open(self) -> None:
        """Register all pools, once their machines are registered; nothing is started."""
        for record in self._records:
            if self.is_pool(record.kind):
                self._registry.set_pool(pool_of(record))

    def start(self) -> None:
        """Start the providers of all pools, in the background."""
        for record in self._records:
            if record.kind == DASK:
                self._begin(record)

    async def close(self) -> None:
        """Close all providers; their ComfyUIs may continue."""
        await self._tasks.close()
        providers = [*self._providers.values(), *self._unready.values()]
        self._providers, self._unready = {}, {}
        await asyncio.gather(
            *(close_each(partial(provider.close, delete=False)) for provider in providers)
        )
        await close_each(self._dask.close)

    def is_pool(self, kind: str) -> bool:
        return kind in (POOL, DASK)

    # -- description -------------------------------------------------------------------------

    def find(self, machine_id: str | None) -> Pool | None:
        """Return the pool with an id or a name, None if it is a machine."""
        pool = self._registry.pool(machine_id, field="machine_id")
        return None if pool is None or pool.id == AUTO else pool

    def describe(self, pool: Pool) -> dict[str, Any]:
        record, provider = self._records[pool.id], self._providers.get(pool.id)
        if record.kind == POOL:
            config = dict(record.config)
        else:
            shown = self._dask.shown(record.config)
            config = {**shown, "members": [*pool.members]}
        return {
            **self.summary(pool, members=True),
            "hardware": {"cpu": None, "memory": None, "gpus": [], "disks": []},
            "software": {},
            "config": config,
            "provider": None if provider is None else provider.describe(),
            "restart_required": False,
        }

    def summary(self, pool: Pool, *, members: bool) -> dict[str, Any]:
        """Return a short description of a pool, without sending requests."""
        machines = self._registry.members(pool)
        failure = self._failures.get(pool.id)
        provider = self._providers.get(pool.id)
        known = provider.describe() if provider is not None else {}
        states: set[Any] = {machine.state for machine in machines} or {known.get("state")}
        ranked = ("ready", "starting", "backoff", "failed", "stopped", "unreachable")
        found: dict[str, Any] = {
            "id": pool.id,
            "name": pool.name,
            "kind": pool.kind,
            "status": next((state for state in ranked if state in states), "unreachable"),
            "gpu": None,
            "work": self._registry.pool_runs(pool.id),
            "error": known.get("error") if failure is None else failure.message,
        }
        if members:
            found["members"] = [self.member(machine) for machine in machines]
        return found

    def _why_waiting(self, machine_id: str) -> str | None:
        """Return why a machine, or each of a pool, gets no runs now; None if one does."""
        registry, pool = self._registry, self._registry.find_pool(machine_id)
        one = registry.find(machine_id)
        machines = registry.members(pool) if pool else [one] if one else []
        answering = [machine for machine in machines if machine.answers]
        # A pause concerns only the runs of pools.
        if any(pool is None or registry.pause_of(machine.id) is None for machine in answering):
            return None
        if pool is not None:
            found = self.summary(pool, members=False)
            if found["error"]:
                return f"pool {pool.name!r}: {found['error']}"
            if not machines:
                return f"the pool {pool.name!r} has no machines now"
        states = []
        for machine in machines[:MAX_NAMED]:
            known = self._registry.state(machine)
            silent = machine.connected and not machine.answers
            state = "does not answer" if silent else _in_words(machine, known["status"])
            error = f" ({known['error']})" if known["error"] else ""
            states.append(f"machine {machine.name!r} {state}{error}")
        more = len(machines) - len(states)
        return ", ".join([*states, *([f"and {more} more"] if more else [])])

    def member(self, machine: Machine) -> dict[str, Any]:
        return {
            **self._registry.summary(machine),
            "gpu": machine.settings.gpu or machine.gpu_name,
            **self._registry.activity(machine.id),
        }

    # -- changes -----------------------------------------------------------------------------

    async def create(self, kind: str, request: MachineCreate) -> dict[str, Any]:
        self._records.check_name(request.name)
        config = await self._config(kind, request, {})
        async with self._lock:
            self._records.check_name(request.name)
            machine_id = self._records.free_id(request.name)
            record = MachineRecord(machine_id, request.name, kind, config)
            record = await self._records.keep(record)
            pool = pool_of(record)
            self._registry.set_pool(pool)
        if record.kind == DASK:
            await self._begin(record).wait()
            pool = self._present(pool.id)
        return self.describe(pool)

    async def update(self, pool: Pool, request: MachineUpdate) -> dict[str, Any]:
        """Change the name, the members or the provider of a pool.

        Runs that were assigned to a machine stay there when it is removed from the pool.
        """
        attempted = None
        async with self._lock:
            self._present(pool.id)  # it may have been deleted in the meantime
            record = self._records[pool.id]
            before = record.config
            if request.name is not None:
                self._records.check_name(request.name, but=pool.id)
            config = await self._config(record.kind, request, before)
            restarts = request.restart or for_provider(config) != for_provider(before)
            ends = members_end(self._registry, self._present(pool.id), before, config)
            changed = replace(record, name=request.name or record.name, config=config)
            ending = self._present(pool.id).members if ends else ()
            with self._registry.removed(*ending) as provided:
                record = await self._records.keep(changed)
            members = self._present(pool.id).members
            self._registry.set_pool(pool_of(record, members))
            if record.kind == DASK and restarts:
                for member_id in members if ends else ():
                    await self.left(pool.id, member_id, "The settings of its pool were changed")
                stays = all(before.get(name) == config.get(name) for name in CLUSTER)
                await self._end_provider(pool.id, delete=ends, stays=stays)
                for machine in provided:
                    await machine.close()
                attempted = self._begin(record)
        if attempted is not None:
            await attempted.wait()
        return self.describe(self._present(pool.id))

    async def delete(self, pool: Pool) -> None:
        async with self._lock:
            if count := self._registry.pool_runs(pool.id):
                raise ConflictError(
                    f"Machine {pool.id!r} cannot be deleted while runs of it are unfinished:"
                    f" {count}",
                    details={"field": "machine_id", "runs": count},
                )
            ending = () if pool.kind == POOL else self._present(pool.id).members
            with self._registry.removed(*ending, pool.id) as provided:
                await self._records.delete(pool.id)
            await self._end_provider(pool.id, delete=True)
            for machine in provided:
                self._listener.machine_ended(machine, "Its pool was deleted", gone=True)
                await machine.close()

    async def forget(self, machine_id: str) -> None:
        """Remove a machine that was deleted from all pools; a pool without machines stays."""
        async with self._lock:
            for record in self._records:
                members = record.config.get("members", ())
                if record.kind == POOL and machine_id in members:
                    left = [member for member in members if member != machine_id]
                    config = {**record.config, "members": left}
                    changed = await self._records.keep(replace(record, config=config))
                    self._registry.set_pool(pool_of(changed))

    # -- members of providers ----------------------------------------------------------------
    # A provider calls nothing for a member that does not answer: its runs wait for it until it
    # answers again or `left` is called. Only `left` moves runs to other members.

    async def joined(self, pool_id: str, member: Member) -> None:
        """Add a member, or change the address of one; runs are assigned to it once it answers."""
        pool = self._registry.find_pool(pool_id)
        if pool is None:
            return  # it is being deleted
        settings = self._defaults.of_another(comfyui_url=member.url, access=Access(member.tls))
        machine = self._registry.find(member.id)
        if machine is not None and member.id not in pool.members:
            raise ConflictError(
                f"A machine {member.id!r} exists already",
                details={"field": "machine_id", "machine": member.id},
            )
        if machine is not None:
            await machine.reconfigure(settings)
            return
        machine = self._make(member.id, member.name or member.id, settings)
        self._registry.set_pool(replace(pool, members=(*pool.members, member.id)))
        self._registry.add(machine)
        machine.open()

    async def left(self, pool_id: str, member_id: str, reason: str) -> None:
        """Remove a member whose ComfyUI has certainly ended, or whose queue is certainly lost.

        The run that it executed fails, or is executed again if its request allows that; its other
        runs wait for another member. The member may be one that only an earlier server had.
        """
        pool = self._registry.find_pool(pool_id)
        if pool is None:
            return  # it is being deleted
        machine = self._registry.find(member_id)
        if machine is not None and member_id not in pool.members:
            return
        members = tuple(known for known in pool.members if known != member_id)
        self._registry.set_pool(replace(pool, members=members))
        self._listener.machine_ended(
            machine or self._make(member_id, member_id, self._defaults), reason, gone=True
        )
        self._registry.remove(member_id)
        if machine is not None:
            await machine.close()

    async def found(self, pool_id: str, member_ids: Collection[str]) -> None:
        """Call `left` for all others that are in the pool, or that have a run of it."""
        pool = self._registry.find_pool(pool_id)
        known = set() if pool is None else {*pool.members, *self._listener.machines_of(pool_id)}
        for member_id in known - {*member_ids, pool_id}:
            await self.left(pool_id, member_id, "Its ComfyUI has ended")

    async def find_members(self) -> None:
        """Start each provider again that does not know the machine of a run of its pool.

        That machine may be a member that only another server has had; if it does not exist any
        more, the provider calls `found`.
        """
        async with self._lock:
            for record in self._records:
                pool = self._registry.find_pool(record.id)
                if pool is None or record.kind != DASK:
                    continue
                if self._listener.machines_of(pool.id) - {*pool.members, pool.id}:
                    await self._end_provider(pool.id, delete=False)
                    self._begin(record)

    # -- providers ---------------------------------------------------------------------------

    def _wanted(self, pool_id: str, runs: int) -> None:
        provider = self._providers.get(pool_id)
        if provider is not None:
            provider.wanted(runs)

    def _begin(self, record: MachineRecord) -> asyncio.Event:
        """Start the provider of a pool; return an event that is set after the first attempt."""
        attempted = asyncio.Event()
        self._starting[record.id] = task = self._tasks.keep(
            partial(self._run_provider, record, attempted), f"Starting pool {record.id!r}"
        )
        # Also if it is cancelled before its first step.
        task.add_done_callback(lambda _: attempted.set())
        return attempted

    async def _run_provider(self, record: MachineRecord, attempted: asyncio.Event) -> None:
        provider: DaskProvider | None = None
        try:
            provider = self._dask.make(record.id, record.config)
            self._unready[record.id] = provider
            await provider.start(self)
        except Exception as error:
            self._failures[record.id] = _failure_of(error)
            attempted.set()
            if provider is not None:
                await provider.close(delete=False)
            raise
        self._failures.pop(record.id, None)
        self._providers[record.id] = self._unready.pop(record.id)
        provider.wanted(self._registry.pool_runs(record.id))

    async def _end_provider(self, pool_id: str, *, delete: bool, stays: bool = False) -> None:
        task = self._starting.pop(pool_id, None)
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        unready = self._unready.pop(pool_id, None)
        provider = self._providers.pop(pool_id, unready)
        self._failures.pop(pool_id, None)
        if provider is not None:
            await provider.close(delete=delete, stays=stays)

    # -- implementation ------------------------------------------------------------------------

    def _present(self, pool_id: str) -> Pool:
        pool = self._registry.pool(pool_id)
        if pool is None:
            raise NotFoundError(f"There is no pool {pool_id!r}")
        return pool

    async def _config(
        self, kind: str, request: MachineConfig, known: Mapping[str, Any]
    ) -> dict[str, Any]:
        if kind != POOL:
            return await provider_config(self._dask, request, known)
        check_without_cluster(request, kind)
        config = dict(known)
        if request.members is not None:
            config["members"] = self._checked(request.members)
        elif not known:
            raise InvalidRequestError.of_field("members", "is needed: the machines of the pool")
        if request.retry is not None:
            config["retry"] = request.retry
        return config

    def _checked(self, members: Sequence[str]) -> list[str]:
        found: list[str] = []
        for member in members:
            machine_id = AUTO if member == AUTO else self._registry.resolve(member, field="members")
            record = self._records.find(machine_id)
            if record is None or self.is_pool(record.kind):
                raise InvalidRequestError.of_field(
                    "members", f"{member!r} is a pool, or belongs to one; give its machines"
                )
            if record.kind == "cloud":
                raise InvalidRequestError.of_field(
                    "members", f"{member!r} is a serverless machine of ComfyDeploy"
                )
            if machine_id not in found:
                found.append(machine_id)
        if not found:
            raise InvalidRequestError.of_field("members", "is empty: a pool needs a machine")
        if len(found) > MAX_MEMBERS:
            raise InvalidRequestError.of_field("members", f"has more than {MAX_MEMBERS} machines")
        return found


def _failure_of(error: Exception) -> ComfyDeployError:
    if isinstance(error, ComfyDeployError):
        return error
    return ComfyUIUnavailableError(f"The pool cannot be started: {type(error).__name__}: {error}")
