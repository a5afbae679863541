"""Store the runs of pools that wait, and take back those that a machine does not have."""

from __future__ import annotations

import logging
import uuid
from typing import TYPE_CHECKING, Any

from ..errors import ComfyDeployError
from ..graphs.validation import validate_prompt
from ..util import worker
from ..util.jsons import loads
from ..util.tasks import report
from .lifecycle import IN_DOUBT, POSTING, Cause, State
from .prepare import DEFINITIONS_MAX_AGE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from ..comfyui.definitions import DefinitionSet
    from ..errors import ComfyUIUnavailableError
    from ..machines.machine import Machine
    from .finalize import Finalizer
    from .new_run import NewRun
    from .run import Run
    from .shared import Shared

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 2  # exits of ComfyUI with a run as the next one, after which the run fails


class Pooled:
    """Puts runs of pools into the queue in front of the machines, in the store first.

    Parameters
    ----------
    shared : Shared
        The objects that all modules of runs use.
    finalizer : Finalizer
        Ends runs at whose start ComfyUI exits again and again, and runs that were cancelled.
    """

    def __init__(self, shared: Shared, finalizer: Finalizer) -> None:
        self._saver = shared.saver
        self._active = shared.active
        self._dispatching = shared.dispatching
        self._finalizer = finalizer
        self._machines = shared.machines
        self._repository = shared.repository

    async def keep(self, new: NewRun, begin_delivery: Callable[[], Awaitable[None]]) -> None:
        """Store a new run for which no machine has room, and put it into the queue.

        Parameters
        ----------
        new : NewRun
            The run.
        begin_delivery : callable
            Stores the reports and uploads that its request asks for.

        Raises
        ------
        StoreUnavailableError, NoSpaceError, ConflictError
            If it cannot be stored; then there is no run.
        """
        run, _, prepared, key = new
        before, stored = run.record, run.record_after(Cause.NO_ROOM)
        try:
            await self._repository.add(stored, prepared.prompt, prepared.workflow, key=key)
        except BaseException:
            self._finalizer.drop(run, Cause.NOT_STORED, "The run could not be stored")
            raise
        await begin_delivery()
        latest = run.record is before
        while not latest:  # its cancellation was requested, and stored after this state
            latest = await self._saver.try_ahead(run, Cause.NO_ROOM)
        if run.transition(Cause.NO_ROOM, saved=True):
            self._dispatching.wait(run)
            self._active.unload(run)

    def wait_again(self, run: Run) -> None:
        """Put a run back into the queue that was assigned to a machine, but not sent there."""
        if run.state is State.WAITING:
            self._dispatching.wait(run)

    async def not_taken(
        self, run: Run, machine: Machine | None, fault: ComfyUIUnavailableError
    ) -> None:
        """Put a run into the queue again that ComfyUI has not received.

        If ComfyUI may have received it, nothing is done: it will be looked up there.
        """
        if run.state is State.WAITING:  # its input files could not be sent
            if machine is not None:
                self._dispatching.pause(machine)
            self.wait_again(run)
        elif run.state in (State.RECEIVED, State.POSTED):
            if machine is not None:
                self._dispatching.pause(machine)
            await self.give_back(run, fault.message)
        else:
            await self.check_machine(run)

    async def refused(self, run: Run, machine: Machine | None, prompt: bytes) -> bool:
        """Put a run into the queue again that a machine refuses because it lacks a file or class.

        Returns
        -------
        bool
            False if no other machine of its pool is known to have what is missing; then nothing was
            done.
        """
        pool = None if run.record.pool is None else self._machines.find_pool(run.record.pool)
        members = [] if pool is None else self._machines.members(pool)
        try:
            if machine is None or len(members) < 2 or not await self._lacks(machine, prompt):
                return False
            for other in members:
                if other is not machine and other.answers and not await self._lacks(other, prompt):
                    break
            else:
                return False
        except Exception as error:  # the run must end as refused
            report(log, "Run %s", run.prompt_id, error=error, extra=run.record.log_fields)
            return False
        await self.give_back(run, f"{machine.id} lacks a node class or a model of it")
        return run.state is State.WAITING

    async def _lacks(self, machine: Machine, prompt: bytes) -> bool:
        """Return whether a connected machine lacks node classes or models, and remember which."""
        definitions = await machine.definitions(max_age=DEFINITIONS_MAX_AGE)
        if definitions.source != "live":
            return True
        lacking = await worker.run(_lacking, prompt, definitions)
        self._dispatching.set_lacks(machine.id, lacking)
        return bool(lacking)

    async def check_machine(self, run: Run) -> None:
        """Put a run into the queue again whose ComfyUI ended while the run was being sent.

        Its machine may have been removed before it was known as the machine of the run. If it has
        started again, it may have received the run then: its queue is requested soon.
        """
        reason = run.comfyui_exit
        machine = self._machines.find(run.record.machine)
        if machine is not None and machine.connected:
            return
        if reason is None and machine is None:
            reason = f"There is no machine {run.record.machine!r} any more"
        waits = run.state in (State.UNANSWERED, State.QUEUED)
        if reason is not None and (waits or may_be_repeated(run)):
            await self.give_back(run, reason)

    def give_back(
        self, run: Run, reason: str, *, failed: bool = False
    ) -> Coroutine[Any, Any, None]:
        """Put a run into the queue again that its machine does not have.

        If its machine may still receive the request to queue it, which is on its way, the prompt
        gets another id, and the old one is deleted there when it arrives.

        Nothing is done if the run moves, starts or ends before the coroutine has stored it.

        Parameters
        ----------
        run : Run
            The run, which must not be executing, unless its request allows to execute it again.
        reason : str
            What has happened.
        failed : bool
            Whether its execution has failed on a machine that is paused: it is executed elsewhere.
        """
        return self._give_back(run, reason, run.moves, run.state, failed=failed)

    async def _give_back(
        self, run: Run, reason: str, moves: int, state: State, *, failed: bool
    ) -> None:
        if (run.moves, run.state) != (moves, state):
            return
        reason_to_fail = why_not_again(run)
        if reason_to_fail is not None:
            await self._finalizer.fail(run, reason_to_fail)
            return
        pool = run.record.pool
        if pool is None or self._machines.find_pool(pool) is None:
            await self._finalizer.fail(run, f"{reason}, and there is no pool {pool!r} any more")
            return
        cause = Cause.RETURNED
        facts: dict[str, Any] = {
            "machine": pool,
            "attempts": run.record.attempts + (run.was_next and state not in POSTING),
        }
        if failed:
            cause = Cause.MOVED
        elif state is State.RUNNING:
            cause, facts["retry"] = Cause.RETRIED, run.record.retry - 1
        elif state in IN_DOUBT:
            facts["comfyui_id"] = str(uuid.uuid4())
        before, prompt = run.record.machine, run.comfyui_id
        stored = latest = False
        while not latest:
            if run.record.cancelling:
                await self._finalizer.withdraw(run)
                return
            try:
                latest = stored = await self._saver.ahead(run, cause, reason, **facts)
            except ComfyDeployError as fault:
                # After a restart, the run is not found on that machine, and waits again then.
                latest = True
                log.warning(
                    "Run %s waits again, which cannot be stored: %s",
                    run.prompt_id,
                    fault.message,
                    extra=run.record.log_fields,
                )
            if (run.moves, run.state) != (moves, state):
                return  # another task has done the same, or it has started or ended
        if run.record.cancelling:
            await self._finalizer.withdraw(run)
            return
        run.transition(cause, reason, **facts)
        run.restart()
        if "comfyui_id" in facts:
            self._active.give_up(before, prompt)
        self._active.moved(run)
        log.info(
            "Run %s waits again: machine %r does not have it: %s",
            run.prompt_id,
            before,
            reason,
            extra=run.record.log_fields,
        )
        self._dispatching.wait(run, failed=failed)
        if stored:
            self._active.unload(run)


def _lacking(prompt: bytes, definitions: DefinitionSet) -> set[str]:
    """Return the node classes and model files of a graph that a ComfyUI does not have."""
    found = validate_prompt(loads(prompt), definitions.nodes)
    classes = {str(issue["class_type"]) for issue in found.missing_nodes}
    return classes | {str(issue["name"]) for issue in found.missing_models}


def may_be_repeated(run: Run) -> bool:
    """Return whether a run that is lost while it executes may be executed again, by its pool."""
    record = run.record
    return run.state is State.RUNNING and record.retry > 0 and record.pool is not None


def why_not_again(run: Run) -> str | None:
    """Return why a run that ComfyUI has lost fails; None if it may be queued again.

    It fails if it was the next one each time that ComfyUI exited, `MAX_ATTEMPTS` times. A run that
    ComfyUI has not received was not.
    """
    if not run.was_next or run.state in POSTING or run.record.attempts < MAX_ATTEMPTS:
        return None
    ended = run.comfyui_exit or "ComfyUI ended"
    return f"{ended}, {run.record.attempts} times when the run was about to begin"
