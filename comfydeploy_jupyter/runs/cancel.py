"""Cancel runs in any state."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ..comfyui.client import REPLY_TIMEOUT
from ..errors import ComfyUIUnavailableError, ConflictError
from ..machines.registry import AUTO
from ..util.tasks import wait_for
from .lifecycle import IN_DOUBT, Cause, State
from .outputs import unknown_run
from .waiting import done_by, outcome, result_of

if TYPE_CHECKING:
    from ..comfyui.client import ComfyUIClient
    from ..machines.machine import Machine
    from .creation import RunCreator
    from .finalize import Finalizer
    from .records import RunRecord
    from .run import Run
    from .shared import Shared

log = logging.getLogger(__name__)


class Canceller:
    """Removes runs from ComfyUI's queue, or interrupts them.

    Parameters
    ----------
    shared : Shared
        The objects that all modules of runs use.
    creator : RunCreator
        The runs that are still being created.
    finalizer : Finalizer
        Ends runs that ComfyUI does not have.
    """

    def __init__(
        self,
        shared: Shared,
        creator: RunCreator,
        finalizer: Finalizer,
    ) -> None:
        self._repository = shared.repository
        self._machines = shared.machines
        self._active = shared.active
        self._ended = shared.ended
        self._loader = shared.loader
        self._creator = creator
        self._saver = shared.saver
        self._finalizer = finalizer
        self._background = shared.background

    async def interrupt(self, prompt_id: str | None, machine_id: str | None) -> tuple[str, str]:
        """Cancel a run; see `RunService.interrupt`."""
        pool = self._machines.pool(machine_id)
        place = self._machines.get(machine_id).id if pool is None else pool.id
        if prompt_id is None:
            members = [place] if pool is None else pool.members
            running = [run for member in members if (run := self._active.running(member))]
            if not running:
                raise ConflictError(f"No run executes on machine {place!r}")
            run = min(running, key=lambda run: run.record.started_at or "")
            return run.prompt_id, await self._cancel(run)
        asked = None if machine_id in (None, AUTO) else place
        run = await self._loader.load(prompt_id)
        pending = self._creator.find(prompt_id)
        if run is None and pending is not None:
            machine, of_pool = pending.destination
            _check_place(prompt_id, machine.id, None if of_pool is None else of_pool.id, asked)
            pending.cancel()
            return prompt_id, "queued"
        known = run or self._ended.get(prompt_id)
        record = await self._repository.get(prompt_id) if known is None else known.record
        if record is None:
            raise unknown_run(prompt_id)
        _check_place(prompt_id, record.machine, record.pool, asked)
        if run is None:
            if record.finished:
                raise _ended_already(record)
            return prompt_id, await self._cancel_foreign(record)
        if record.status == "uploading":
            raise _uploads(prompt_id)
        return prompt_id, await self._cancel(run)

    async def interrupt_again(self, run: Run, machine: Machine) -> None:
        """Interrupt a run that starts although it was cancelled.

        When ComfyUI starts a prompt, it resets its interrupt flag (its execution.py).
        """
        client = machine.reachable_client()
        if client is not None:
            try:
                await client.interrupt(run.comfyui_id)
            except ComfyUIUnavailableError as fault:
                _cannot_cancel(run, fault)

    async def _cancel(self, run: Run) -> str:
        """Request the cancellation of a run; return ``queued`` or ``running``: its state before.

        The request is stored with the run. If ComfyUI cannot be reached now, it is sent when
        ComfyUI is back, and a run that ComfyUI has lost in the meantime is not queued again.
        """
        log.debug("Run %s is being cancelled", run.prompt_id, extra=run.record.log_fields)
        if run.transition(Cause.CANCEL_REQUESTED):
            try:
                await self._saver.now(run.record)
            except BaseException:
                run.transition(Cause.CANCEL_NOT_STORED)
                raise
        task = self._background.start(outcome(self._cancel_now(run)), run)
        if not await done_by(asyncio.get_running_loop().time() + REPLY_TIMEOUT, task):
            return "running" if run.record.status == "running" else "queued"
        return result_of(task)

    async def _cancel_now(self, run: Run) -> str:
        """Cancel a run once ComfyUI has answered whether it accepts it; return its state before."""
        await run.answered.wait()
        was = "running" if run.record.status == "running" else "queued"
        if run.ending:
            await run.settled.wait()
        if run.record.status == "uploading":
            raise _uploads(run.prompt_id)
        if run.state is State.DROPPED:
            raise unknown_run(run.prompt_id)
        if run.state is State.ENDED:
            return _unless_ended_otherwise(run.record, was)
        if run.state is State.WAITING:
            await self._finalizer.withdraw(run)
            return was
        machine = self._machines.find(run.record.machine)
        if machine is None or machine.is_dead:
            await self._finalizer.withdraw(run)
            return was
        client = machine.reachable_client()
        if client is None:
            return was
        try:
            return await self._cancel_at(client, run)
        except ComfyUIUnavailableError as fault:
            _cannot_cancel(run, fault)
            return was

    async def _cancel_at(self, client: ComfyUIClient, run: Run) -> str:
        if run.state in IN_DOUBT:
            return "queued"  # ComfyUI may still accept it; then it is found and cancelled
        executing, moves = run.record.status == "running", run.moves
        await client.cancel(run.comfyui_id)
        if executing or any(await client.find([run.comfyui_id])):
            return "running"
        entry = await client.history(run.comfyui_id)
        if run.moves != moves:
            return await self._cancel_now(run)  # it was sent again in the meantime
        if entry is not None:
            await self._finalizer.settle(run, entry)
        else:
            await self._finalizer.withdraw(run)
        return _unless_ended_otherwise(run.record, "queued")

    async def _cancel_foreign(self, record: RunRecord) -> str:
        """Cancel a run of another server in ComfyUI; return its state before."""
        if record.waits:
            raise ConflictError(
                f"The run {record.prompt_id!r} waits in the queue of another Jupyter server; cancel"
                " it there",
                details={"prompt_id": record.prompt_id, "status": record.status},
            )
        client = await self._machines.get(record.machine).ready()

        async def ask() -> str:
            running, _ = await client.find([record.comfyui_id])
            await client.cancel(record.comfyui_id)
            return "running" if running else "queued"

        try:
            return await wait_for(ask(), REPLY_TIMEOUT)
        except asyncio.TimeoutError:
            raise client.unavailable(f"no answer within {REPLY_TIMEOUT:g} s") from None


def _cannot_cancel(run: Run, fault: ComfyUIUnavailableError) -> None:
    log.warning(
        "Run %s cannot be cancelled yet: %s",
        run.prompt_id,
        fault.message,
        extra=run.record.log_fields,
    )


def _check_place(prompt_id: str, machine: str, pool: str | None, asked: str | None) -> None:
    if asked not in (None, machine, pool):
        raise unknown_run(prompt_id, f" on machine {asked!r}")


def _uploads(prompt_id: str) -> ConflictError:
    return ConflictError(
        f"The run {prompt_id!r} has been executed and uploads its outputs;"
        " cancel-uploads stops that",
        details={"prompt_id": prompt_id, "status": "uploading"},
    )


def _ended_already(record: RunRecord) -> ConflictError:
    return ConflictError(
        f"The run {record.prompt_id!r} has ended already: {record.status}",
        details={"prompt_id": record.prompt_id, "status": record.status},
    )


def _unless_ended_otherwise(record: RunRecord, was: str) -> str:
    """Return the state of a run before it was cancelled; raise if it had already ended."""
    if record.status != "cancelled":
        raise _ended_already(record)
    return was
