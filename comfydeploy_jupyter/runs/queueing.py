"""Handing runs to ComfyUI, which queues them, refuses them, or does not answer."""

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
    """Has ComfyUI queue runs, for the first time and anew.

    A run is in the store before ComfyUI hears of it: the request is on its way meanwhile, but for
    its last byte.

    Parameters
    ----------
    shared : Shared
        What the modules of runs share.
    delivery : Delivery
        Keeps what is to be uploaded and reported.
    finalizer : Finalizer
        Ends those that do not take place.
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
        self, request: RunRequest, begun: Begun, *, told_at_end: bool, until: float | None
    ) -> None:
        """Store a new run and have ComfyUI queue it.

        Parameters
        ----------
        request : RunRequest
            What was asked for.
        begun : Begun
            The run.
        told_at_end : bool
            Whether nobody is told that it is queued before it has ended: that ComfyUI has it need
            not be in the store at once then.
        until : float or None
            Time of the event loop's clock until which that is waited for; then it goes on by
            itself.

        Raises
        ------
        PromptInvalidError, TooLargeError
            If ComfyUI refuses the graph, or its size; the run is kept as failed.
        ComfyUIUnavailableError
            If ComfyUI cannot be reached, or does not say whether it takes the run.
        RunTimeoutError
            If it has not answered in time.
        """
        handing = self._hand_over(request, begun, keep=not told_at_end)
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
            await asyncio.wait({task})  # how it ended is only being stored
        result_of(task)

    async def queue_anew(self, run: Run, client: ComfyUIClient) -> None:
        """Queue a run again that ComfyUI has lost.

        Raises
        ------
        ComfyUIUnavailableError
            If that cannot be done now, or ComfyUI does not say whether it takes the run.
        """
        stored = await self._repository.prompt(run.prompt_id)
        if stored is None:
            await self._finalizer.lose(run, "The graph of the run is not in the store")
            return
        if run.record.own_keys and not run.keys:
            reason = (
                "ComfyUI restarted, and so did Jupyter, which had the run's keys of a Comfy account"
                " in its memory only. Start the run again"
            )
            await self._finalizer.lose(run, reason, kind="KeysForgotten")
            return
        machine = self._machines.find(run.record.machine)
        facts: dict[str, Any] = {
            "session": self._session.id,
            "attempts": run.record.attempts + run.was_next,
            "events_complete": machine is not None and machine.connected,
        }
        await self._saver.now(run.record_after(Cause.QUEUED_ANEW, **facts))
        if not run.transition(Cause.QUEUED_ANEW, **facts):
            return  # it has begun or ended meanwhile
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
        """Wait until a new run is in the store; where it cannot be kept there is no run."""
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
            await self._finalizer.lose(run, reason, kind="NotQueued")
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
        """Have ComfyUI queue a run; with ``keep`` that is in the store before it is told.

        ComfyUI hears of it when ``after`` is done.
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
        if keep:  # should both die now, it is queued anew
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
        """Find out whether a prompt whose queueing was not answered is queued all the same."""
        if run.ending:
            await run.ended.wait()  # it was cancelled, or its ComfyUI ended, meanwhile
            return
        if run.state in EXECUTING:
            return  # its events have told so
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
            # ComfyUI may still be about to queue it. That is decided once it can no longer be.
            fault.extra["prompt_id"] = run.prompt_id
            raise fault

    async def _not_sent(self, run: Run, fault: ComfyUIUnavailableError) -> None:
        """Forget a run of which ComfyUI cannot have heard, unless somebody knows of it."""
        if run.promised or run.record.cancelling:
            await self._finalizer.lose(run, fault.message, kind="NotQueued")
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
        """Note where ComfyUI has a run; return False if it has it nowhere."""
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
