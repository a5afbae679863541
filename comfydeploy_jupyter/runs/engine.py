"""The engine of runs: performs what `RunState.handle` decides, and tells it the results as events.

Nothing else stores runs, sends them to ComfyUI, or ends them. Effects are performed in order. Those
that take time are tasks, or are awaited by the caller that wants to know their result.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from .. import metrics
from ..comfyui.client import REPLY_TIMEOUT
from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    ConflictError,
    ForbiddenPathError,
    InvalidRequestError,
    NotFoundError,
    PromptInvalidError,
    RunTimeoutError,
    TooLargeError,
)
from ..graphs.validation import explain, refusal, validate_prompt
from ..util import worker
from ..util.http import reason_of
from ..util.jsons import loads, rough_size
from ..util.tasks import report, wait_for, wait_until_set
from ..util.times import Backoff, utc_now
from .background import done_by, note, note_failure, now, outcome, result_of
from .chains import Reference, why_no_output
from .inputs import InputChangedError
from .outputs import reply, unknown_run
from .prepare import DEFINITIONS_MAX_AGE, read_stored, recovered
from .state import EXECUTING, Cause, Do, Effect, Event, Notification, Place, State, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Sequence

    from ..comfyui.client import ComfyUIClient
    from ..comfyui.definitions import DefinitionSet
    from ..compat.comfy_account import ComfyAccount
    from ..machines.machine import Machine
    from ..machines.outputs import KeptOutputs
    from ..machines.registry import MachineRegistry
    from ..request_models import RunRequest
    from ..store.session import Session
    from .active import ActiveRuns
    from .background import Background
    from .chains import Chains
    from .delivery import Delivery
    from .estimates import DurationEstimates
    from .inputs import PoolInputs
    from .prepare import Prepared
    from .queue import RunQueue
    from .records import RunRecord, RunRepository
    from .run import Run

log = logging.getLogger(__name__)

SAVE_DELAY = 0.01  # seconds until a state is stored that no client has received
SAVE_AGAIN = Backoff(first=3.0, longest=3.0)  # pauses between two attempts to store an end
RELEASE_TIMEOUT = 0.5  # seconds from the success of a run to its last event
LATE_EVENT = 2.0  # seconds for an event that is received after a later reply, on a busy machine
DECIDE_INTERVAL = 1.0  # seconds between two decisions about waiting runs without an event
IDS_OF_A_SERVER = 1_000_000_000_000  # more events than one server can emit for a run
FORGOTTEN = (
    "Jupyter was restarted, and had the run's keys of a Comfy account only in its memory. Start the"
    " run again"
)
# Effects that nobody waits for: an upload may take hours, and an error of these requests must not
# be taken for one of the request whose result led to them.
NOT_AWAITED = (Do.UPLOAD, Do.KEEP_OUTPUTS, Do.OUTCOME, Do.LOOK, Do.FILL)
# Errors of the files of a run, which would be the same at the next attempt.
OF_FILES = (NotFoundError, ForbiddenPathError, ConflictError, InvalidRequestError, OSError)


Request: TypeAlias = "Callable[[ComfyUIClient, Run, Effect], Coroutine[Any, Any, None]]"


class StateSaver:
    """Writes the states of runs that are due, together; a reader can have one written at once."""

    def __init__(self, repository: RunRepository, background: Background) -> None:
        self._repository = repository
        self._background = background
        self._unsaved: dict[str, Run] = {}
        self._saving: dict[str, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def soon(self, run: Run) -> None:
        """Store the state of a run within `SAVE_DELAY`, with the others in one transaction."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SAVE_DELAY, self._save_all)
        self._unsaved[run.prompt_id] = run

    async def now_if_due(self, prompt_id: str, *, again: bool = True) -> None:
        """Store the state of a run at once if it is due: a client is about to receive it.

        With ``again``, also those that it gets meanwhile. Raises StoreUnavailableError or
        NoSpaceError if the store cannot be written to.
        """
        while prompt_id in self._unsaved or prompt_id in self._saving:
            if prompt_id in self._unsaved:
                self._save(self._unsaved[prompt_id], keep=True)
            saving = self._saving.get(prompt_id)
            if saving is None:
                return
            await asyncio.wait({saving})
            self._forget(prompt_id, saving)
            saving.result()
            if not again:
                return

    def discard(self, run: Run) -> None:
        self._unsaved.pop(run.prompt_id, None)

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._saving:  # their tasks may not have begun, and are cancelled next
            await asyncio.wait([*self._saving.values()])
        unsaved, self._unsaved = self._unsaved, {}
        for run in unsaved.values():
            if run.due and not run.ending:
                with suppress(ComfyDeployError):
                    await self._repository.save(run.record)

    def _save_all(self) -> None:
        self._timer = None
        for run in list(self._unsaved.values()):
            self._save(run)

    def _save(self, run: Run, *, keep: bool = False) -> None:
        for effect in run.handle(Event(Cause.SAVE_DUE, keep=keep)):
            assert effect.record is not None
            task = self._background.step(self._repository.save(effect.record), run)
            self._saving[run.prompt_id] = task
            task.add_done_callback(partial(self._forget, run.prompt_id))
        if not run.due:
            self._unsaved.pop(run.prompt_id, None)

    def _forget(self, prompt_id: str, task: asyncio.Task[None]) -> None:
        if self._saving.get(prompt_id) is task:
            del self._saving[prompt_id]


@dataclass(frozen=True)
class RunContext:
    """The objects that all modules of runs use."""

    repository: RunRepository
    machines: MachineRegistry
    session: Session  # the identity of this server in its requests to ComfyUI
    active: ActiveRuns
    saver: StateSaver
    estimates: DurationEstimates
    background: Background
    queue: RunQueue  # in front of pools; has the load of all machines
    kept_outputs: KeptOutputs
    inputs: PoolInputs
    chains: Chains
    account: ComfyAccount


class NewRun(NamedTuple):
    run: Run
    client: ComfyUIClient | None  # None if the run has to wait for a machine with room
    prepared: Prepared
    key: str | None  # the idempotency key of its request


class Engine:
    """Performs effects of runs; see the module."""

    def __init__(self, context: RunContext, delivery: Delivery) -> None:
        self._context = context
        self._delivery = delivery
        self._at_once: dict[Do, Callable[[Run, Effect], None]] = {
            Do.SEND: lambda run, effect: run.send(effect.sends),
            Do.SAVE_SOON: lambda run, _: context.saver.soon(run),
            Do.BEGUN: self._begun,
            Do.STOPPED: lambda run, _: run.live_status.stop(),
            Do.RESTART: lambda run, _: run.restart(),
            Do.MOVE: lambda run, _: context.active.moved(run),
            Do.GIVE_UP: lambda _, effect: context.active.give_up(*effect.prompt),
            Do.ENQUEUE: self._enqueue,
            Do.REORDER: self._reorder,
            Do.FOLLOW: lambda run, _: context.queue.record_assigned(run),
            Do.PAUSE: self._pause,
            Do.LEAVE: lambda run, effect: context.queue.ended(
                run, effect.seconds, failed=effect.failed
            ),
            Do.END: self._end,
            Do.DROP: self._drop,
        }
        self._later: dict[Do, Callable[[Run, Effect], Coroutine[Any, Any, object]]] = {
            Do.STORE: self._store,
            Do.SEARCH: partial(self._ask, self._search),
            Do.HISTORY: partial(self._ask, self._look_in_history),
            Do.OUTCOME: partial(self._ask, self._read_outcome),
            Do.TAKE_BACK: partial(self._ask, self._take_back),
            Do.CANCEL: partial(self._ask, self._cancel_there),
            Do.INTERRUPT: partial(self._ask, self._interrupt),
            Do.READ_GRAPH: partial(self._ask, self._queue_anew),
            Do.POST: self._post_again,
            Do.LOOK: self._look,
            Do.FILL: self._fill,
            Do.TRY_LATER: self._try_later,
            Do.KEEP_OUTPUTS: self._keep_outputs,
            Do.UPLOAD: self._upload,
            Do.STORE_END: self._store_end,
            Do.DISCARD: self._discard,
        }

    # -- events in, effects out --------------------------------------------------------------

    def event(self, run: Run, cause: Cause, detail: str = "", **fields: Any) -> Event:
        """Return an event that happens now; ``fields`` are further ones of `Event`."""
        place = self._place(run)
        return Event(cause, detail, at=utc_now(), now=now(), place=place, **fields)

    def tell(
        self, run: Run, cause: Cause, detail: str = "", **fields: Any
    ) -> list[asyncio.Task[None]]:
        """Tell a run about an `event`; what takes time because of it are tasks."""
        return self.start(run, run.handle(self.event(run, cause, detail, **fields)))

    async def tell_and_wait(self, run: Run, cause: Cause, detail: str = "", **fields: Any) -> None:
        """Tell a run the same, and wait until all is done; an error of a request is raised."""
        await self.carry_out(run, run.handle(self.event(run, cause, detail, **fields)))

    def perform(self, run: Run, effects: Sequence[Effect]) -> list[Effect]:
        """Perform the effects that take no time; return the others."""
        later = []
        for effect in effects:
            if effect.do in self._later:
                later.append(effect)
            else:
                self._at_once[effect.do](run, effect)
        return later

    def start(self, run: Run, effects: Sequence[Effect]) -> list[asyncio.Task[None]]:
        step = self._context.background.step
        return [step(self._quietly(run, each), run) for each in self.perform(run, effects)]

    async def carry_out(self, run: Run, effects: Sequence[Effect]) -> None:
        """Perform effects, and those that follow from their results, except `NOT_AWAITED`.

        Raises ComfyUIUnavailableError if ComfyUI does not answer.
        """
        for effect in self.perform(run, effects):
            if effect.do in NOT_AWAITED:
                self._context.background.step(self._quietly(run, effect), run)
            else:
                await self._later[effect.do](run, effect)

    async def _quietly(self, run: Run, effect: Effect) -> None:
        try:
            await self._later[effect.do](run, effect)
        except ComfyUIUnavailableError as exc:
            text = "Run %s: ComfyUI does not answer; it is asked again: %s"
            note(log.warning, run, text, exc.message)

    async def _again(self, run: Run, effect: Effect, **changes: Any) -> None:
        """Let the event of an effect come back with its result, and carry out what follows."""
        assert effect.event is not None
        now_known = {"at": utc_now(), "now": now(), "place": self._place(run)}
        event = effect.event._replace(**{**now_known, "detail": "", "facts": {}, **changes})
        await self.carry_out(run, run.handle(event))

    def _place(self, run: Run) -> Place:
        context, record = self._context, run.record
        machine = context.machines.find(record.machine)
        pool = None if record.pool is None else context.machines.find_pool(record.pool)
        client = None if machine is None else machine.reachable_client()
        return Place(
            machine is not None,
            client is not None,
            machine is not None and machine.is_dead,
            context.kept_outputs.may_have(record.machine),
            self._delivery.uploads(record.prompt_id),
            None if pool is None else pool.kind,
            Place().patience if client is None else client.timeout,
        )

    # -- effects that take no time -----------------------------------------------------------

    def _begun(self, run: Run, _: Effect) -> None:
        run.begun()
        note(log.debug, run, "Run %s is executing")

    def _enqueue(self, run: Run, effect: Effect) -> None:
        """Put a run into the queue of its pool."""
        if run.state is not State.WAITING:
            return
        self._context.queue.wait(run, failed=effect.failed)
        if effect.event is not None and effect.event.cause is not Cause.NO_ROOM:
            note(log.info, run, "Run %s waits again: %s", effect.event.detail)

    def _reorder(self, run: Run, effect: Effect) -> None:
        if self._context.queue.leave(run):  # else it was assigned in the meantime
            self._enqueue(run, effect)

    def _pause(self, run: Run, _: Effect) -> None:
        machine = self._context.machines.find(run.record.machine)
        if machine is not None:
            self._context.queue.pause(machine)

    def _drop(self, run: Run, _: Effect) -> None:
        note(log.info, run, "Run %s was not queued")
        self._context.active.remove(run)
        self._context.queue.ended(run)
        self._context.saver.discard(run)
        run.send(Notification.CLOSED, reply(run.record, self._context.active.view_url))
        self._tell_needing(run.record)

    def _end(self, run: Run, _: Effect) -> None:
        context, record = self._context, run.record
        run.stop_timer()
        context.active.remove(run)
        context.saver.discard(run)
        context.estimates.add(record)
        run.send(Notification.END, reply(record, context.active.view_url))
        context.active.ended.add(run)
        self._tell_needing(record)
        # After the tasks that wait for the run.
        asyncio.get_running_loop().call_soon(_note_end, record)

    # -- the store ---------------------------------------------------------------------------

    async def _store(self, run: Run, effect: Effect) -> None:
        assert effect.record is not None
        assert effect.event is not None
        stored = True
        try:
            await self._context.repository.save(effect.record)
        except Exception as exc:  # of any type: the run would wait for its result for ever
            stored = False
            text = "The state of run %s (%s) cannot be stored: %s"
            note_failure(log, run, text, effect.event.cause.value, exc=exc)
        detail, facts = effect.event.detail, effect.event.facts
        await self._again(run, effect, stored=stored, detail=detail, facts=facts)

    async def _store_end(self, run: Run, effect: Effect) -> None:
        record = effect.record
        assert record is not None
        cause = Cause.END_STORED

        async def save() -> None:
            await self._context.repository.save(record)
            run.unstored = ""

        try:
            await save()
        except Exception as exc:
            cause, run.unstored = Cause.END_NOT_STORED, str(exc)
            note(log.exception, run, "The end of run %s cannot be stored yet")
            self._context.background.keep(
                save,
                f"Storing the end of run {record.prompt_id}",
                again=SAVE_AGAIN,
            )
        await _release(run)
        await self._again(run, effect, cause=cause, moves=None, state=None, stored=None)

    async def _discard(self, run: Run, _: Effect) -> None:
        await self._context.repository.discard(run.prompt_id)
        self._delivery.forget(run.prompt_id)

    async def _try_later(self, run: Run, _: Effect) -> None:
        await asyncio.sleep(SAVE_AGAIN.first)
        self._wait_again(run)

    # -- what ComfyUI has --------------------------------------------------------------------

    async def _ask(self, ask: Request, run: Run, effect: Effect) -> None:
        """Send a request about a run, unless its ComfyUI is away: it is looked at later then."""
        machine = self._context.machines.find(run.record.machine)
        client = None if machine is None else machine.reachable_client()
        if client is not None:
            await ask(client, run, effect)

    async def _search(self, client: ComfyUIClient, run: Run, effect: Effect) -> None:
        asked = now()  # what happens until the answer comes is not in it
        running, pending = await client.find([run.comfyui_id])
        if running or pending:
            cause = Cause.FOUND_EXECUTING if running else Cause.FOUND_QUEUED
            await self._again(run, effect, cause=cause, state=None)
        else:
            await self._again(run, effect, cause=Cause.MISSING, now=asked)

    async def _look_in_history(self, client: ComfyUIClient, run: Run, effect: Effect) -> None:
        """Look for the end of a run that is not in the queue; its events may still report it."""
        assert effect.event is not None
        asked = effect.event.now
        entry = await client.history(run.comfyui_id)
        if entry is None:
            await self._again(run, effect, cause=Cause.NOT_IN_HISTORY, now=asked)
            return
        if run.events_complete and not run.ending:
            with suppress(asyncio.TimeoutError):
                await wait_for(run.ended.wait(), asked + LATE_EVENT - now())
        await self._found_in_history(run, effect, entry, state=None)

    async def _read_outcome(self, client: ComfyUIClient, run: Run, effect: Effect) -> None:
        entry = await client.history(run.comfyui_id)
        if entry is not None:
            await self._found_in_history(run, effect, entry)

    async def _found_in_history(
        self, run: Run, effect: Effect, entry: dict[str, Any], **changes: Any
    ) -> None:
        if not run.ending:
            run.outputs_size = await asyncio.to_thread(rough_size, entry.get("outputs"))
        facts = {"entry": entry, "excused": self._context.queue.is_excused(run)}
        await self._again(run, effect, cause=Cause.FOUND_IN_HISTORY, facts=facts, **changes)

    async def _cancel_there(self, client: ComfyUIClient, run: Run, effect: Effect) -> None:
        await client.cancel(run.comfyui_id)
        await self._again(run, effect, cause=Cause.CANCEL_SENT)

    async def _take_back(self, client: ComfyUIClient, run: Run, effect: Effect) -> None:
        run.order = None  # in the queue of its pool, if it returns there
        await client.withdraw(run.comfyui_id)
        await self._search(client, run, effect)

    async def _interrupt(self, client: ComfyUIClient, run: Run, _: Effect) -> None:
        await client.interrupt(run.comfyui_id)

    # -- sending runs to ComfyUI -------------------------------------------------------------

    async def submit(
        self, request: RunRequest, new: NewRun, *, keep: bool, deadline: float | None
    ) -> None:
        """Store a new run and send it to ComfyUI's queue, or let it wait for a machine with room.

        With ``keep`` the acceptance is stored before this returns, as its caller tells a client
        about it. After ``deadline`` (`now`) the work goes on in the background. Raises
        PromptInvalidError or TooLargeError if ComfyUI refuses it, ComfyUIUnavailableError if
        it does not answer, RunTimeoutError if it does not do so in time.
        """
        handing = self._hand_over(request, new, keep=keep)
        if deadline is None:
            await handing
            return
        run = new.run
        task = self._context.background.step(outcome(handing), run)
        if not await done_by(deadline, task):
            if self._context.active.get(run.prompt_id) is run:
                self.tell(run, Cause.NOT_IN_TIME)
                raise RunTimeoutError(
                    "ComfyUI did not answer in time whether it accepts the run",
                    extra={"prompt_id": run.prompt_id},
                )
            await asyncio.wait({task})  # the outcome is known and only being stored
        result_of(task)

    async def _hand_over(self, request: RunRequest, new: NewRun, *, keep: bool) -> None:
        run, client, prepared, key = new
        add = self._context.repository.add
        if client is None:
            needs = run.record.waiting_for is not None
            cause = Cause.NEEDS if needs else Cause.NO_ROOM
            [effect] = run.handle(self.event(run, cause))
            assert effect.record is not None
            await self._added(run, add(effect.record, prepared.prompt, prepared.workflow, key=key))
            await self._begin_delivery(request, run)
            await self._again(run, effect, stored=True)
            return
        adding = add(run.record, prepared.prompt, prepared.workflow, key=key)
        adding.add_done_callback(partial(self._note_stored, run))
        # A point need not be fast, and its request is sent in one piece then.
        if run.record.batch is not None or self._delivery.is_wanted(request):
            await self._added(run, adding)
            await self._begin_delivery(request, run)
        try:
            await self._post(run, client, prepared.prompt, prepared.workflow, keep, adding)
        except (PromptInvalidError, TooLargeError, ComfyUIUnavailableError) as exc:
            await self._added(run, adding)
            if run.ending:  # it was cancelled, or its ComfyUI exited, in the meantime
                await run.ended.wait()
                return
            await self._not_taken(run, exc, prepared.prompt)
            if not isinstance(exc, ComfyUIUnavailableError):
                if run.state is not State.WAITING:
                    raise
            elif run.record.pool is None:
                if run.state is State.DROPPED:
                    raise
                if run.state is State.UNANSWERED or not exc.details.get("sent", True):
                    # ComfyUI may still queue it. This is decided once it cannot do so any more.
                    exc.extra["prompt_id"] = run.prompt_id
                    raise

    def _note_stored(self, run: Run, adding: asyncio.Future[None]) -> None:
        if not adding.cancelled() and adding.exception() is None:
            self.tell(run, Cause.STORED)

    async def _added(self, run: Run, adding: asyncio.Future[None]) -> None:
        """Wait until a new run is stored; if it cannot be stored, there is no run."""
        try:
            await adding
        except BaseException as exc:
            if not isinstance(exc, ConflictError):
                note(log.warning, run, "Run %s cannot be stored")
            self.tell(run, Cause.NOT_STORED, "The run could not be stored")
            raise

    async def _begin_delivery(self, request: RunRequest, run: Run) -> None:
        if not self._delivery.is_wanted(request):
            return
        try:
            await self._delivery.begin(request, run.prompt_id)
        except ComfyDeployError as exc:
            reason = f"The run was not handed to ComfyUI: {exc.message}"
            await self._lose(run, "NotQueued", reason)
            exc.extra["prompt_id"] = run.prompt_id
            raise

    async def _post(
        self,
        run: Run,
        client: ComfyUIClient,
        prompt: bytes,
        workflow: bytes | None,
        keep: bool = False,
        after: asyncio.Future[None] | None = None,
    ) -> None:
        """Ask ComfyUI to queue a run; with ``keep``, store its acceptance before reporting it.

        The last byte of the request is sent when ``after`` is done.
        """
        method = run.record.preview_method
        try:
            answer = await client.post_prompt(
                prompt,
                prompt_id=run.comfyui_id,
                client_id=self._context.session.id,
                workflow=workflow,
                front=run.record.front,
                outputs=run.record.targets,
                extra={**run.keys, **({"preview_method": method} if method else {})},
                after=after,
            )
        except (PromptInvalidError, TooLargeError, ComfyUIUnavailableError):
            raise
        except Exception as exc:  # ComfyUI may have received it
            self.tell(run, Cause.NOT_ANSWERED, type(exc).__name__)
            raise
        number = answer.get("number")
        explain(answer["node_errors"])
        facts = {"number": number, "node_errors": answer["node_errors"]}
        detail = f"as number {number}" if number is not None else ""
        await self.tell_and_wait(run, Cause.ACCEPTED, detail, facts=facts)
        if keep:
            with suppress(Exception):  # it is reported; a later state may be stored
                await self._context.saver.now_if_due(run.prompt_id, again=False)
        if run.record.number == number:
            text = "Run %s is queued on machine %s as number %s"
            write = log.info if run.record.batch is None else log.debug
            note(write, run, text, run.record.machine, number)

    async def _not_taken(self, run: Run, exc: ComfyDeployError, prompt: bytes) -> None:
        """Tell a run that ComfyUI has refused it, cannot have received it, or may have it."""
        if isinstance(exc, ComfyUIUnavailableError):
            sent = exc.details.get("sent", True)
            cause = Cause.NOT_ANSWERED if sent else Cause.NOT_SENT
            if tasks := self.tell(run, cause, exc.message):
                await asyncio.wait(tasks, timeout=REPLY_TIMEOUT if sent else None)
            return
        facts: dict[str, Any] = {"elsewhere": await self._elsewhere(run, prompt)}
        node_errors = exc.extra.get("node_errors") or {}
        explain(node_errors)
        node_id = next(iter(node_errors), None)
        if isinstance(exc, PromptInvalidError):
            if exc.details.get("type") == "prompt_unreadable":
                exc.details["details"] = await self._why_unreadable(run, prompt)
            exc.say(refusal(exc.details, node_errors, run.live_status.label))
        facts["node_errors"] = node_errors
        facts["error"] = {
            "type": exc.details.get("type") or exc.code,
            "message": exc.message,
            "node_id": node_id,
            "node_type": node_errors[node_id].get("class_type") if node_id is not None else None,
        }
        exc.extra["prompt_id"] = run.prompt_id
        await self.tell_and_wait(run, Cause.REFUSED, facts=facts)

    async def _elsewhere(self, run: Run, prompt: bytes) -> str | None:
        """Return why another member may accept a run that its machine refuses, if one may."""
        context, record = self._context, run.record
        machine = context.machines.find(record.machine)
        pool = None if record.pool is None else context.machines.find_pool(record.pool)
        members = [] if pool is None else context.machines.members(pool)
        try:
            if machine is None or len(members) < 2 or not await self._lacks(machine, prompt):
                return None
            for other in members:
                if other is not machine and other.answers and not await self._lacks(other, prompt):
                    return f"{machine.id} lacks a node class or a model of it"
        except Exception as exc:  # the run must end as refused
            report(log, "Run %s", run.prompt_id, error=exc, extra=record.log_fields)
        return None

    async def _why_unreadable(self, run: Run, prompt: bytes) -> str:
        """Return what is wrong with a graph if ComfyUI only answers 500; empty if not known."""
        machine = self._context.machines.find(run.record.machine)
        try:
            if machine is not None:
                definitions = await machine.definitions(max_age=DEFINITIONS_MAX_AGE)
                return await worker.run(_cause_of, prompt, definitions)
        except Exception as exc:  # the run must end as refused
            report(log, "Run %s", run.prompt_id, error=exc, extra=run.record.log_fields)
        return ""

    async def _lacks(self, machine: Machine, prompt: bytes) -> bool:
        """Return whether a connected machine lacks node classes or models, and remember which."""
        definitions = await machine.definitions(max_age=DEFINITIONS_MAX_AGE)
        if definitions.source != "live":
            return True
        lacking = await worker.run(_lacking, prompt, definitions)
        self._context.queue.set_lacks(machine.id, lacking)
        return bool(lacking)

    async def _post_again(self, run: Run, _: Effect) -> None:
        """Send a run that waited, or that ComfyUI has lost.

        ComfyUIUnavailableError: ComfyUI did not answer about one that it has lost, so the caller
        does not go on with many others.
        """
        assert run.outgoing is not None
        (client, prompt, workflow), run.outgoing = run.outgoing, None
        if run.record.pool is not None:
            self._context.estimates.load_for(run)  # its machine is known only now
        try:
            await self._post(run, client, prompt, workflow)
        except (PromptInvalidError, TooLargeError, ComfyUIUnavailableError) as exc:
            await self._not_taken(run, exc, prompt)
            if isinstance(exc, ComfyUIUnavailableError) and run.record.pool is None:
                raise

    async def _queue_anew(self, client: ComfyUIClient, run: Run, effect: Effect) -> None:
        stored = await self._stored_graph(run)
        if stored is None:
            return
        note(log.info, run, "ComfyUI restarted; run %s is queued again")
        run.outgoing = client, *stored
        connected = self._place(run).connected
        facts = {"session": self._context.session.id, "events_complete": connected}
        await self._again(run, effect, cause=Cause.QUEUED_ANEW, facts=facts)

    async def _stored_graph(self, run: Run) -> tuple[bytes, bytes | None] | None:
        """Return the graph of a run, in API and UI format; if it cannot be sent, end the run."""
        stored = await self._context.repository.prompt(run.prompt_id)
        if stored is None:
            await self._lose(run, "ComfyUIEnded", "The graph of the run is not in the store")
        elif run.record.own_keys and not run.keys:
            await self._lose(run, "KeysForgotten", FORGOTTEN)
            return None
        elif not run.record.own_keys:
            run.keys = await self._context.account.keys()
        return stored

    # -- runs that need outputs of others ----------------------------------------------------

    def _tell_needing(self, record: RunRecord) -> None:
        """Tell the runs that need outputs of a run that it has ended."""
        for run in self._context.active.take_needing(record.prompt_id):
            self._tell_ended(run, record.prompt_id, record.status, why_no_output(record))

    def _tell_ended(self, run: Run, needed: str, status: str, why: str) -> None:
        names = {each["input"] for each in run.record.needs if each["run"] == needed}
        inputs = ", ".join(f"inputs.{name}" for name in sorted(names))
        detail = f"{inputs}: the run {needed}, whose output it needs, {why}"
        facts = {"run": needed, "status": status}
        self.tell(run, Cause.NEED_ENDED, needed if status == "success" else detail, facts=facts)

    async def _look(self, run: Run, _: Effect) -> None:
        """Find out whether the runs that a run needs have ended.

        Those of this server tell it later; those of other servers are looked at again.
        """
        while run.state is State.NEEDING:
            others = False
            for needed in [*(run.record.waiting_for or ())]:
                if needed in self._context.active:
                    continue
                try:
                    record = await self._context.chains.record(needed)
                except ComfyDeployError:  # of the store
                    others = True
                    continue
                if record is None:
                    self._tell_ended(run, needed, "deleted", "was deleted")
                elif record.finished:
                    self._tell_ended(run, needed, record.status, why_no_output(record))
                else:
                    others = needed not in self._context.active or others
            if not others:
                return
            await asyncio.sleep(SAVE_AGAIN.first)

    async def _fill(self, run: Run, _: Effect) -> None:
        """Put the outputs that a run needs into its graph, as soon as that can be done."""
        while run.state is State.NEEDING:
            try:
                await self._try_to_fill(run)
            except ComfyUIUnavailableError as exc:
                run.problem = exc.message
                note(log.info, run, "Run %s waits for its inputs: %s", exc.message)
            except (*OF_FILES, UnicodeError) as exc:
                reason = exc.message if isinstance(exc, ComfyDeployError) else reason_of(exc)
                await self._lose(run, "InputFailed", reason)
            except Exception as exc:  # an error of the store, or an unexpected error
                note_failure(log, run, "Run %s cannot get its inputs yet: %s", exc=exc)
            if run.state is State.NEEDING:
                await asyncio.sleep(SAVE_AGAIN.first)

    async def _try_to_fill(self, run: Run) -> None:
        context, record = self._context, run.record
        find = context.machines.find_pool if record.waits else context.machines.find
        if find(record.machine) is None:
            await self._lose(run, "NotQueued", f"There is no machine {record.machine!r} any more")
            return
        machine = None if record.waits else context.machines.find(record.machine)
        graph = await self._stored_graph(run)
        if graph is None:
            return
        references = [Reference(**each) for each in record.needs]
        prompt = await self._context.chains.fill(graph[0], references, machine)
        if prompt != graph[0]:
            await context.repository.put_graph(run.prompt_id, prompt)
        facts = await read_stored(prompt, None, record.targets)
        run.models, run.fingerprint = facts.models, facts.fingerprint
        if machine is None:
            files = await self._context.inputs.named(facts.file_names, None) | record.file_hashes
            found = {"files": [*files], "file_hashes": files}
            await self.tell_and_wait(run, Cause.INPUTS_THERE, facts=found)
            return
        client = await machine.ready()
        if run.state is State.NEEDING:
            run.outgoing = client, prompt, graph[1]
            session = {"session": context.session.id, "events_complete": machine.connected}
            await self.tell_and_wait(run, Cause.DUE, f"to {machine.id}", facts=session)

    # -- runs that waited for a machine ------------------------------------------------------

    async def assign_waiting(self) -> None:
        """Hand waiting runs over to the machines that they are assigned to, until cancelled."""
        context = self._context
        while True:
            if not await wait_until_set(context.queue.decided, DECIDE_INTERVAL):
                context.queue.decide()
            for run, machine in context.queue.take():
                if machine is None:
                    self._wait_again(run)
                else:
                    context.background.step(self._assign(run, machine), run)

    def _wait_again(self, run: Run) -> None:
        """Put a run back into the queue that was assigned to a machine, but not sent there."""
        if run.state is State.WAITING:
            self._context.queue.wait(run)

    async def _assign(self, run: Run, machine: Machine) -> None:
        """Hand one run over; if that fails, it waits again, or ends.

        A run that has moved since is left alone: it may be assigned to another machine by now.
        """
        moves = run.moves
        try:
            async with machine.handover:
                await self._send(run, machine, moves)
        except ComfyUIUnavailableError:  # its input files could not be sent
            self._context.queue.pause(machine)
            if run.moves == moves:
                self._wait_again(run)
        except Exception as exc:  # an error of the store, or an unexpected error
            text = "Run %s cannot be handed to machine %r yet: %s"
            note_failure(log, run, text, machine.id, exc=exc)
            await asyncio.sleep(SAVE_AGAIN.first)
            if run.moves == moves:
                self._wait_again(run)

    async def _send(self, run: Run, machine: Machine, moves: int) -> None:
        client = machine.reachable_client()
        graph = None if client is None else await self._stored_graph(run)
        if client is None or graph is None:
            self._wait_again(run)
            return
        prompt, workflow = graph
        if run.record.files:
            with_files = await self._send_files(run, prompt, machine, client)
            if with_files is None:
                return
            prompt = with_files
        run.outgoing = client, prompt, workflow
        facts = {
            "machine": machine.id,
            "session": self._context.session.id,
            "events_complete": machine.connected,
        }
        await self.tell_and_wait(run, Cause.ASSIGNED, f"to {machine.id}", facts=facts, moves=moves)

    async def _send_files(
        self, run: Run, prompt: bytes, machine: Machine, client: ComfyUIClient
    ) -> bytes | None:
        """Send the input files of a run; return its graph, or None if the run has failed."""
        try:
            hashes = {name: run.record.file_hashes.get(name, "") for name in run.record.files}
            return await self._context.inputs.send(hashes, prompt, machine, client)
        except InputChangedError as exc:
            await self._lose(run, "InputChanged", exc.message)
        except OF_FILES as exc:
            reason = exc.message if isinstance(exc, ComfyDeployError) else reason_of(exc)
            reason = f"The input files cannot be sent to machine {machine.id!r}: {reason}"
            await self._lose(run, "NotQueued", reason)
        return None

    async def _lose(self, run: Run, kind: str, reason: str) -> None:
        await self.tell_and_wait(run, Cause.LOST, reason, facts={"kind": kind})

    # -- outputs -----------------------------------------------------------------------------

    async def _keep_outputs(self, run: Run, _: Effect) -> None:
        """Copy the outputs of a run from a member that may end at any time."""
        record = run.outcome or run.record
        try:
            await self._context.kept_outputs.keep(record.machine, record.outputs)
        except Exception as exc:
            # A ValueError: a name that cannot be encoded.
            if not isinstance(exc, (ComfyDeployError, OSError, ValueError)):
                note(log.exception, run, "The outputs of run %s could not be copied")
            reason = f"The outputs could not be copied from {record.machine}: {exc}"
            await self.tell_and_wait(run, Cause.OUTPUTS_LOST, reason)
        else:
            await self.tell_and_wait(run, Cause.OUTPUTS_KEPT)

    async def _upload(self, run: Run, _: Effect) -> None:
        """Upload the outputs of a run that was executed.

        The status becomes ``uploading`` when all uploads are in the queue, where they can be
        cancelled, and before the first of them starts.
        """
        note(log.debug, run, "Run %s uploads its outputs")
        record = run.outcome or run.record
        try:
            await _release(run)
            queued = partial(self.tell_and_wait, run, Cause.UPLOADS_QUEUED)
            error = await self._delivery.upload(run, record, queued)
        except Exception as exc:
            note(log.exception, run, "The outputs of run %s could not be uploaded")
            message = f"The outputs could not be uploaded: {exc}"
            error = {"type": "UploadFailed", "message": message, "node_id": None, "node_type": None}
        await self.tell_and_wait(run, Cause.UPLOADS_ENDED, facts={"error": error})

    # -- cancellations and restarts ----------------------------------------------------------

    async def cancel(self, run: Run) -> str:
        """Request the cancellation of a run; return ``queued`` or ``running``: its state before.

        The request is stored with the run. If ComfyUI cannot be reached now, it is sent when
        ComfyUI is back, and a run that ComfyUI has lost in the meantime is not queued again.
        """
        note(log.debug, run, "Run %s is being cancelled")
        while not run.ending:
            for effect in self.perform(run, run.handle(self.event(run, Cause.CANCEL_REQUESTED))):
                assert effect.record is not None
                assert effect.event is not None
                try:
                    await self._context.repository.save(effect.record)
                except BaseException:
                    self.start(run, run.handle(effect.event._replace(stored=False, at=utc_now())))
                    raise
            if run.record.cancelling:
                break  # else another request could not be stored, which took this one back, too
        task = self._context.background.step(outcome(self._cancel_now(run)), run)
        if not await done_by(now() + REPLY_TIMEOUT, task):
            return "running" if run.record.status == "running" else "queued"
        return result_of(task)

    async def put(self, run: Run, *, first: bool) -> None:
        """Queue a run again that has not begun: as the first one, or as the last one."""
        note(log.debug, run, "Run %s is put at another place in the queue")
        facts = {"front": first}
        for effect in run.handle(self.event(run, Cause.REORDERED, facts=facts)):
            assert effect.record is not None
            await self._context.repository.save(effect.record)
            await self._again(run, effect, stored=True, facts=facts)

    async def _cancel_now(self, run: Run) -> str:
        """Cancel a run once ComfyUI has answered whether it accepts it; return its state before."""
        while True:
            await run.answered.wait()
            was, moves = "running" if run.record.status == "running" else "queued", run.moves
            if not run.ending:
                try:
                    await self.tell_and_wait(run, Cause.CANCEL_DUE)
                except ComfyUIUnavailableError as exc:
                    note(log.warning, run, "Run %s cannot be cancelled yet: %s", exc.message)
                    return was
                if was == "running" or run.state in EXECUTING:
                    return "running"
            if run.ending:
                await run.settled.wait()
                if run.state is State.DROPPED:
                    raise unknown_run(run.prompt_id)
                if run.record.status != "cancelled":
                    raise not_possible(run.record)
                return was
            if run.moves == moves:
                return was
            # It was sent again in the meantime.

    async def recover(self, sessions: Collection[str]) -> None:
        """Load and follow the unfinished runs that were queued under the given session ids."""
        context = self._context
        for record in await context.repository.active(sessions):
            if record.prompt_id in context.active:
                continue
            try:
                await self._recover(record)
            except ComfyDeployError:
                raise  # the store cannot be written
            except Exception:  # the others are not affected
                log.exception(
                    "Run %s cannot be recovered", record.prompt_id, extra=record.log_fields
                )
        for machine in context.machines:
            if context.active.of(machine):
                machine.open()

    async def _recover(self, record: RunRecord) -> None:
        context = self._context
        # The ids of its events are larger than all ids that earlier servers used.
        record.first_id += IDS_OF_A_SERVER
        stored = await context.repository.prompt(record.prompt_id)
        machine = context.machines.find(record.machine)
        run = await recovered(record, stored, state_of(record), machine)
        [effect] = run.handle(self.event(run, Cause.RECOVERED))
        assert effect.record is not None
        assert effect.event is not None
        await context.repository.save(effect.record)
        run.keys = {} if record.own_keys else self._context.account.known_keys()
        context.active.add(run)
        if run.state is not State.WAITING:
            context.estimates.load_for(run)
        note(log.info, run, "Run %s is recovered")
        self.start(run, run.handle(effect.event._replace(stored=True)))


async def _release(run: Run) -> None:
    """Wait for the last event of a run whose success ComfyUI has reported."""
    if run.awaits_release:
        with suppress(asyncio.TimeoutError):
            await wait_for(run.released.wait(), RELEASE_TIMEOUT)


def _cause_of(prompt: bytes, definitions: DefinitionSet) -> str:
    found = validate_prompt(loads(prompt), definitions.nodes)
    return found.cause or found.raises or ""


def _lacking(prompt: bytes, definitions: DefinitionSet) -> set[str]:
    """Return the node classes and model files of a graph that a ComfyUI does not have."""
    found = validate_prompt(loads(prompt), definitions.nodes)
    classes = {str(issue["class_type"]) for issue in found.missing_nodes}
    return classes | {str(issue["name"]) for issue in found.missing_models}


def not_possible(record: RunRecord, why: str | None = None) -> ConflictError:
    """Return the error for what cannot be done with a run, by default since it is over."""
    if why is None and record.status == "uploading":
        why = "has been executed and uploads its outputs; cancel-uploads stops that"
    return ConflictError(
        f"The run {record.prompt_id!r} {why or f'has ended already: {record.status}'}",
        details={"prompt_id": record.prompt_id, "status": record.status},
    )


def _note_end(record: RunRecord) -> None:
    """Count and log how a run ended: the type of error and the node, without a node's message.

    A node's message may contain anything; it is in the record.
    """
    metrics.run_ended(record.machine, record.pool, record.status, record.execution_time)
    fields = {**record.log_fields, "status": record.status, "execution_time": record.execution_time}
    how = record.status
    if record.execution_time is not None:
        how += f" after {record.execution_time:.2f} s"
    if record.error is not None:
        kind, node_id, node_type = map(record.error.get, ("type", "node_id", "node_type"))
        fields |= {"error_type": kind, "node_id": node_id, "node_type": node_type}
        how += f", {kind}" + (f" in node {node_id} ({node_type})" if node_id is not None else "")
    is_usual = record.batch is not None and record.status == "success"  # one of many
    level = logging.DEBUG if is_usual else logging.INFO
    log.log(level, "Run %s ended: %s", record.prompt_id, how, extra=fields)
