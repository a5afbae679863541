"""Send runs to ComfyUI, which queues them, refuses them, or does not answer."""

from __future__ import annotations

import asyncio
import logging
import uuid
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    ConflictError,
    PromptInvalidError,
    RunTimeoutError,
    TooLargeError,
)
from .lifecycle import Cause, State
from .unanswered import Unanswered
from .waiting import done_by, outcome, result_of

if TYPE_CHECKING:
    from ..comfyui.client import ComfyUIClient
    from ..compat.comfy_account import ComfyAccount
    from ..request_models import RunRequest
    from .delivery import Delivery
    from .finalize import Finalizer
    from .new_run import NewRun
    from .pooled import Pooled
    from .run import Run
    from .shared import Shared

log = logging.getLogger(__name__)


class Queueing:
    """Sends runs to ComfyUI's queue, for the first time and again.

    A run is stored before ComfyUI can queue it: while it is being stored, the request is sent
    except for its last byte.

    Parameters
    ----------
    shared : Shared
        The objects that all modules of runs use.
    delivery : Delivery
        Stores the uploads and reports that a request asks for.
    finalizer : Finalizer
        Ends runs that ComfyUI does not execute.
    pooled : Pooled
        Stores the runs of pools that have to wait.
    account : ComfyAccount
        Has the keys of a Comfy account for runs whose request had none.
    """

    def __init__(
        self,
        shared: Shared,
        delivery: Delivery,
        finalizer: Finalizer,
        pooled: Pooled,
        account: ComfyAccount,
    ) -> None:
        self._repository = shared.repository
        self._machines = shared.machines
        self._session = shared.session
        self._active = shared.active
        self._saver = shared.saver
        self._delivery = delivery
        self._finalizer = finalizer
        self._pooled = pooled
        self._unanswered = Unanswered(shared, delivery, finalizer)
        self._account = account
        self._background = shared.background

    async def hand_over(
        self, request: RunRequest, new: NewRun, *, reply_at_end: bool, until: float | None
    ) -> None:
        """Store a new run and send it to ComfyUI's queue, or let it wait for a machine with room.

        Parameters
        ----------
        request : RunRequest
            The request.
        new : NewRun
            The run.
        reply_at_end : bool
            Whether no client is informed before the run has ended. If so, the acceptance by ComfyUI
            need not be stored at once.
        until : float or None
            Time of the event loop's clock until which the caller waits; after that the work
            continues in the background.

        Raises
        ------
        PromptInvalidError, TooLargeError
            If ComfyUI refuses the graph, or its size; the run is stored as failed.
        ComfyUIUnavailableError
            If ComfyUI cannot be reached, or does not answer whether it accepts the run.
        RunTimeoutError
            If ComfyUI has not answered in time.
        """
        handing = self._hand_over(request, new, keep=not reply_at_end)
        if until is None:
            await handing
            return
        run = new.run
        task = self._background.start(outcome(handing), run)
        if not await done_by(until, task):
            if self._active.get(run.prompt_id) is run:
                run.transition(Cause.NOT_IN_TIME)
                raise RunTimeoutError(
                    "ComfyUI did not answer in time whether it accepts the run",
                    extra={"prompt_id": run.prompt_id},
                )
            await asyncio.wait({task})  # the outcome is known and only being stored
        result_of(task)

    async def queue_anew(self, run: Run, client: ComfyUIClient) -> None:
        """Queue a run again that ComfyUI has lost.

        Raises
        ------
        ComfyUIUnavailableError
            If that is not possible now, or ComfyUI does not answer whether it accepts the run.
        """
        moves = run.moves
        stored = await self.stored_graph(run)
        if stored is None:
            return
        machine = self._machines.find(run.record.machine)
        facts: dict[str, Any] = {
            "session": self._session.id,
            "attempts": run.record.attempts + run.was_next,
            "events_complete": machine is not None and machine.connected,
        }
        given_up = run.comfyui_id if run.state is State.UNANSWERED else None
        if given_up is not None:
            facts["comfyui_id"] = str(uuid.uuid4())
        latest = False
        while not latest or run.record.cancelling:
            if run.moves != moves or run.record_after(Cause.QUEUED_ANEW, **facts) is run.record:
                return  # it has started or ended in the meantime
            if run.record.cancelling:
                await self._finalizer.withdraw(run)
                return
            latest = await self._saver.ahead(run, Cause.QUEUED_ANEW, "", **facts)
        if run.moves != moves or not run.transition(Cause.QUEUED_ANEW, **facts):
            return
        if given_up is not None:
            self._active.give_up(run.record.machine, given_up)
            self._active.moved(run)
        run.restart()
        log.info(
            "ComfyUI restarted; run %s is queued again",
            run.prompt_id,
            extra=run.record.log_fields,
        )
        try:
            await self.post(run, client, *stored)
        except (PromptInvalidError, TooLargeError) as fault:
            await self._finalizer.refuse(run, fault)

    async def stored_graph(self, run: Run) -> tuple[bytes, bytes | None] | None:
        """Return the graph of a run, in API and UI format; if it cannot be sent, end the run."""
        stored, run.graph = run.graph, None
        if stored is None:
            stored = await self._repository.prompt(run.prompt_id)
        if stored is None:
            await self._finalizer.fail(run, "The graph of the run is not in the store")
        elif run.record.own_keys and not run.keys:
            reason = (
                "Jupyter was restarted, and had the run's keys of a Comfy account only in its"
                " memory. Start the run again"
            )
            await self._finalizer.fail(run, reason, kind="KeysForgotten")
            return None
        elif not run.record.own_keys:
            run.keys = await self._account.keys()
        return stored

    async def _hand_over(self, request: RunRequest, new: NewRun, *, keep: bool) -> None:
        run, client, prepared, key = new
        if client is None:
            await self._pooled.keep(new, partial(self._begin_delivery, request, run))
            return
        adding = self._repository.add(run.record, prepared.prompt, prepared.workflow, key=key)
        adding.add_done_callback(partial(_note_stored, run))
        if self._delivery.is_wanted(request):
            await self._added(run, adding)
            await self._begin_delivery(request, run)
        try:
            await self.post(
                run, client, prepared.prompt, prepared.workflow, keep=keep, after=adding
            )
        except (PromptInvalidError, TooLargeError) as fault:
            await self._added(run, adding)
            machine = self._machines.find(run.record.machine)
            if await self._pooled.refused(run, machine, prepared.prompt):
                return
            await self._finalizer.refuse(run, fault)
            raise
        except ComfyUIUnavailableError as fault:
            await self._added(run, adding)
            if run.record.pool is not None:
                await self._pooled.not_taken(run, self._machines.find(run.record.machine), fault)
            else:
                await self._unanswered.look_for(run, client, fault)
        else:
            if run.record.pool is not None:
                await self._pooled.check_machine(run)

    async def _added(self, run: Run, adding: asyncio.Future[None]) -> None:
        """Wait until a new run is stored; if it cannot be stored, there is no run."""
        try:
            await adding
        except BaseException as fault:
            if not isinstance(fault, ConflictError):
                log.warning("Run %s cannot be stored", run.prompt_id, extra=run.record.log_fields)
            self._finalizer.drop(run, Cause.NOT_STORED, "The run could not be stored")
            raise

    async def _begin_delivery(self, request: RunRequest, run: Run) -> None:
        if not self._delivery.is_wanted(request):
            return
        try:
            await self._delivery.begin(request, run.prompt_id)
        except ComfyDeployError as fault:
            reason = f"The run was not handed to ComfyUI: {fault.message}"
            await self._finalizer.fail(run, reason, kind="NotQueued")
            fault.extra["prompt_id"] = run.prompt_id
            raise

    async def post(
        self,
        run: Run,
        client: ComfyUIClient,
        prompt: bytes,
        workflow: bytes | None,
        *,
        keep: bool = False,
        after: asyncio.Future[None] | None = None,
    ) -> None:
        """Ask ComfyUI to queue a run; with ``keep``, store its acceptance before reporting it.

        The last byte of the request is sent when ``after`` is done.

        Raises
        ------
        PromptInvalidError, TooLargeError, ComfyUIUnavailableError
            As in `hand_over`.
        """
        method = run.record.preview_method
        try:
            answer = await client.post_prompt(
                prompt,
                prompt_id=run.comfyui_id,
                client_id=self._session.id,
                workflow=workflow,
                front=run.record.front,
                outputs=run.record.targets,
                extra={**run.keys, **({"preview_method": method} if method else {})},
                after=after,
            )
        except ComfyUIUnavailableError as fault:
            if fault.details.get("sent", True):
                run.transition(Cause.NOT_ANSWERED, fault.message)
            elif run.state is State.REQUEUING:
                run.transition(Cause.NOT_SENT, fault.message)
            raise
        except (PromptInvalidError, TooLargeError):
            raise
        except Exception as fault:  # ComfyUI may have received it
            run.transition(Cause.NOT_ANSWERED, type(fault).__name__)
            raise
        number = answer.get("number")
        facts: dict[str, Any] = {"number": number, "node_errors": answer["node_errors"]}
        detail = f"as number {number}" if number is not None else ""
        # If both processes exit now, the run is queued again. The state that an event causes now
        # may be stored after this one, without the acceptance.
        latest = False
        while keep and not latest and not run.ending:
            latest = await self._saver.try_ahead(run, Cause.ACCEPTED, detail, **facts)
        if run.transition(Cause.ACCEPTED, detail, saved=keep, **facts):
            log.info(
                "Run %s is queued on machine %s as number %s",
                run.prompt_id,
                run.record.machine,
                number,
                extra=run.record.log_fields,
            )


def _note_stored(run: Run, adding: asyncio.Future[None]) -> None:
    if not adding.cancelled() and adding.exception() is None:
        run.transition(Cause.STORED)
