"""Recover runs of servers that have exited, so that this server follows them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..errors import ComfyDeployError
from .lifecycle import RECOVERED, Cause, State

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..compat.comfy_account import ComfyAccount
    from .finalize import Finalizer
    from .pooled import Pooled
    from .records import RunRecord
    from .shared import Shared

log = logging.getLogger(__name__)

IDS_OF_A_SERVER = 1_000_000_000_000  # more events than one server can emit for a run


class Orphans:
    """Recovers runs from the store.

    Parameters
    ----------
    shared : Shared
        The objects that all modules of runs use.
    account : ComfyAccount
        Has the keys of a Comfy account for runs whose request had none.
    finalizer : Finalizer
        Ends runs whose machine does not exist any more.
    pooled : Pooled
        Lets runs of pools wait for another machine.
    """

    def __init__(
        self,
        shared: Shared,
        account: ComfyAccount,
        finalizer: Finalizer,
        pooled: Pooled,
    ) -> None:
        self._dispatching = shared.dispatching
        self._pooled = pooled
        self._repository = shared.repository
        self._machines = shared.machines
        self._active = shared.active
        self._account = account
        self._saver = shared.saver
        self._loader = shared.loader
        self._earlier_times = shared.earlier_times
        self._finalizer = finalizer
        self._background = shared.background

    async def recover(self, sessions: Collection[str]) -> None:
        """Load and follow the unfinished runs that were queued under the given session ids."""
        for record in await self._repository.active(sessions):
            if record.prompt_id in self._active:
                continue
            try:
                await self._recover(record)
            except ComfyDeployError:
                raise  # the store cannot be written
            except Exception:  # the others are not affected
                log.exception(
                    "Run %s cannot be recovered", record.prompt_id, extra=record.log_fields
                )
        for machine in self._machines:
            if self._active.of(machine):
                machine.open()

    async def _recover(self, record: RunRecord) -> None:
        machine = self._machines.find(record.machine)
        pool = None if record.pool is None else self._machines.find_pool(record.pool)
        # The ids of its events are larger than all ids that earlier servers used.
        record.first_id += IDS_OF_A_SERVER
        stored = await self._repository.prompt(record.prompt_id)
        run = await self._loader.make(record, stored, _state_of(record))
        await self._saver.now(run.record_after(Cause.RECOVERED))
        run.keys = {} if record.own_keys else self._account.known_keys()
        self._active.add(run)
        if run.state is not State.WAITING:
            self._earlier_times.load_for(run)
        run.transition(Cause.RECOVERED)
        log.info("Run %s is recovered", run.prompt_id, extra=record.log_fields)
        if run.state is State.UPLOADING:
            self._background.start(self._finalizer.upload(run), run)
        elif pool is None and (machine is None or record.waits):
            reason = f"There is no machine {record.machine!r} any more"
            self._background.start(self._finalizer.fail(run, reason), run)
        elif run.state is State.WAITING and record.cancelling:
            self._background.start(self._finalizer.withdraw(run), run)
        elif run.state is State.WAITING:
            self._dispatching.wait(run)
            self._active.unload(run)
        elif machine is None and pool is not None and pool.kind == "pool":
            reason = f"There is no machine {record.machine!r} any more"
            self._dispatching.reserve(run)
            self._background.start(self._pooled.give_back(run, reason), run)
        else:
            self._dispatching.record_assigned(run)


def _state_of(record: RunRecord) -> State:
    """Return the state of a recovered run."""
    if record.waits:
        return RECOVERED["waiting"]
    if record.status == "queued" and record.pool is not None and record.number is None:
        # It was assigned to a machine; whether that has accepted it was not stored.
        return RECOVERED["not-started"]
    return RECOVERED[record.status]
