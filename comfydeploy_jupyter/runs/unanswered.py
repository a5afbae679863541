"""Find out whether ComfyUI has a prompt although it did not answer the request to queue it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ..comfyui.client import REPLY_TIMEOUT
from ..errors import ComfyUIUnavailableError
from ..util.tasks import wait_for
from .lifecycle import EXECUTING, Cause, State

if TYPE_CHECKING:
    from ..comfyui.client import ComfyUIClient
    from .delivery import Delivery
    from .finalize import Finalizer
    from .run import Run
    from .shared import Shared

log = logging.getLogger(__name__)


class Unanswered:
    """Looks for prompts in ComfyUI, and removes runs that it cannot have received.

    Parameters
    ----------
    shared : Shared
        The objects that all modules of runs use.
    delivery : Delivery
        Has the callback targets of runs, which are removed with them.
    finalizer : Finalizer
        Ends runs.
    """

    def __init__(self, shared: Shared, delivery: Delivery, finalizer: Finalizer) -> None:
        self._repository = shared.repository
        self._delivery = delivery
        self._finalizer = finalizer

    async def look_for(
        self, run: Run, client: ComfyUIClient, fault: ComfyUIUnavailableError
    ) -> None:
        """Find out whether a prompt was queued although ComfyUI did not answer the request.

        Parameters
        ----------
        run : Run
            The run.
        client : ComfyUIClient
            Its ComfyUI.
        fault : ComfyUIUnavailableError
            The error of the request; raised if the prompt is not known to be queued.
        """
        if run.ending:
            await run.ended.wait()  # it was cancelled, or its ComfyUI exited, in the meantime
            return
        if run.state in EXECUTING:
            return  # its events have shown that it is queued
        if run.state is not State.UNANSWERED:
            await self._not_sent(run, fault)
            raise fault
        try:
            known = await wait_for(self._found(client, run), REPLY_TIMEOUT)
        except (ComfyUIUnavailableError, asyncio.TimeoutError):
            log.warning(
                "It is not known yet whether ComfyUI has run %s",
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
        if run.id_returned or run.record.cancelling:
            await self._finalizer.fail(run, fault.message, kind="NotQueued")
            fault.extra["prompt_id"] = run.prompt_id
            return
        log.info(
            "Run %s was not queued: %s",
            run.prompt_id,
            fault.message,
            extra=run.record.log_fields,
        )
        self._finalizer.drop(run, Cause.NOT_SENT, fault.message)
        await self._repository.discard(run.prompt_id)
        self._delivery.forget(run.prompt_id)

    async def _found(self, client: ComfyUIClient, run: Run) -> bool:
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
