"""Send runs to ComfyUI, which queues them, refuses them, or does not answer."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    PromptInvalidError,
    RunTimeoutError,
    TooLargeError,
)
from ..net.tasks import wait_for
from .lifecycle import EXECUTING, Cause, State
from .waiting import ASK_WITHIN, done_by, outcome, result_of

if TYPE_CHECKING:
    from ..comfyui.client import ComfyUIClient
    from ..schemas import RunRequest
    from .begin import Begun
    from .delivery import Delivery
    from .finalize import Finalizer
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
    """

    def __init__(
        self,
        shared: Shared,
        delivery: Delivery,
        finalizer: Finalizer,
    ) -> None:
        self._repository = shared.repository
        self._machines = shared.machines
        self._session = shared.session
        self._active = shared.active
        self._saver = shared.saver
        self._delivery = delivery
        self._finalizer = finalizer
        self._background = shared.background

    async def hand_over(
        self, request: RunRequest, begun: Begun, *, reply_at_end: bool, until: float | None
    ) -> None:
        """Store a new run and send it to ComfyUI's queue.

        Parameters
        ----------
        request : RunRequest
            The request.
        begun : Begun
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
        handing = self._hand_over(request, begun, keep=not reply_at_end)
        if until is None:
            await handing
            return
        run = begun.run
        task = self._background.start(outcome(handing), run)
        if not await done_by(until, task):
            if self._active.get(run.prompt_id) is run:
                run.transition(Cause.PROMISED)
                raise RunTimeoutError(
                    "ComfyUI has not answered in time whether it takes the run",
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
        stored = await self._repository.prompt(run.prompt_id)
        if stored is None:
            await self._finalizer.fail(run, "The graph of the run is not in the store")
            return
        if run.record.own_keys and not run.keys:
            reason = (
                "ComfyUI restarted, and so did Jupyter, which had the run's keys of a Comfy account"
                " in its memory only. Start the run again"
            )
            await self._finalizer.fail(run, reason, kind="KeysForgotten")
            return
        machine = self._machines.find(run.record.machine)
        facts: dict[str, Any] = {
            "session": self._session.id,
            "attempts": run.record.attempts + run.was_next,
            "events_complete": machine is not None and machine.connected,
        }
        await self._saver.now(run.record_after(Cause.QUEUED_ANEW, **facts))
        if not run.transition(Cause.QUEUED_ANEW, **facts):
            return  # it has started or ended in the meantime
        run.restart()
        log.info(
            "ComfyUI restarted; run %s is queued anew",
            run.prompt_id,
            extra=run.record.log_fields,
        )
        try:
            await self._post(run, client, *stored)
        except (PromptInvalidError, TooLargeError) as fault:
            await self._finalizer.refuse(run, fault)

    async def _hand_over(self, request: RunRequest, begun: Begun, *, keep: bool) -> None:
        run, client, prepared = begun
        adding = self._repository.add(run.record, prepared.prompt, prepared.workflow)
        adding.add_done_callback(partial(_note_stored, run))
        if self._delivery.is_wanted(request):
            await self._added(run, adding)
            await self._begin_delivery(request, run)
        try:
            await self._post(
                run, client, prepared.prompt, prepared.workflow, keep=keep, after=adding
            )
        except (PromptInvalidError, TooLargeError) as fault:
            await self._added(run, adding)
            await self._finalizer.refuse(run, fault)
            raise
        except ComfyUIUnavailableError as fault:
            await self._added(run, adding)
            await self._not_answered(run, client, fault)

    async def _added(self, run: Run, adding: asyncio.Future[None]) -> None:
        """Wait until a new run is stored; if it cannot be stored, there is no run."""
        try:
            await adding
        except BaseException:
            log.warning("Run %s cannot be stored", run.prompt_id, extra=run.record.log_fields)
            self._finalizer.drop(run, Cause.NOT_STORED, "The run could not be stored")
            raise

    async def _begin_delivery(self, request: RunRequest, run: Run) -> None:
        try:
            await self._delivery.begin(request, run.prompt_id)
        except ComfyDeployError as fault:
            reason = f"The run was not handed to ComfyUI: {fault.message}"
            await self._finalizer.fail(run, reason, kind="NotQueued")
            fault.extra["prompt_id"] = run.prompt_id
            raise

    async def _post(
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
        number = answer.get("number")
        facts: dict[str, Any] = {"number": number, "node_errors": answer["node_errors"]}
        detail = f"as number {number}" if number is not None else ""
        if keep:  # if both processes exit now, the run is queued again
            stored = run.record_after(Cause.ACCEPTED, detail, **facts)
            await self._saver.try_now(stored, "is queued")
        if run.transition(Cause.ACCEPTED, detail, saved=keep, **facts):
            log.info(
                "Run %s is queued on machine %s as number %s",
                run.prompt_id,
                run.record.machine,
                number,
                extra=run.record.log_fields,
            )

    async def _not_answered(
        self, run: Run, client: ComfyUIClient, fault: ComfyUIUnavailableError
    ) -> None:
        """Find out whether a prompt was queued although ComfyUI did not answer the request."""
        if run.ending:
            await run.ended.wait()  # it was cancelled, or its ComfyUI exited, in the meantime
            return
        if run.state in EXECUTING:
            return  # its events have shown that it is queued
        if run.state is not State.UNANSWERED:
            await self._not_sent(run, fault)
            raise fault
        try:
            known = await wait_for(self._look_for(client, run), ASK_WITHIN)
        except (ComfyUIUnavailableError, asyncio.TimeoutError):
            log.warning(
                "Whether ComfyUI has run %s is not known yet",
                run.prompt_id,
                extra=run.record.log_fields,
            )
            known = False
        if not known:
            # ComfyUI may still queue it. This is decided once it cannot do so any more.
            fault.extra["prompt_id"] = run.prompt_id
            raise fault

    async def _not_sent(self, run: Run, fault: ComfyUIUnavailableError) -> None:
        """Remove a run that ComfyUI cannot have received, unless a client has its id."""
        if run.promised or run.record.cancelling:
            await self._finalizer.fail(run, fault.message, kind="NotQueued")
            fault.extra["prompt_id"] = run.prompt_id
            return
        log.info(
            "Run %s does not take place: %s",
            run.prompt_id,
            fault.message,
            extra=run.record.log_fields,
        )
        self._finalizer.drop(run, Cause.NOT_SENT, fault.message)
        await self._repository.discard(run.prompt_id)
        self._delivery.forget(run.prompt_id)

    async def _look_for(self, client: ComfyUIClient, run: Run) -> bool:
        """Find a run in ComfyUI and note its state; return False if ComfyUI does not have it."""
        running, pending = await client.find([run.comfyui_id])
        if running:
            run.begin(Cause.FOUND_EXECUTING)
        elif pending:
            run.transition(Cause.FOUND_QUEUED)
        else:
            entry = await client.history(run.comfyui_id)
            if entry is None:
                return False
            await self._finalizer.settle(run, entry)
        return True


def _note_stored(run: Run, adding: asyncio.Future[None]) -> None:
    if not adding.cancelled() and adding.exception() is None:
        run.transition(Cause.STORED)
