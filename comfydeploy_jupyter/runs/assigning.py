"""Hand waiting runs over to the machines that they are assigned to."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    ConflictError,
    ForbiddenPathError,
    InvalidRequestError,
    NotFoundError,
    PromptInvalidError,
    TooLargeError,
)
from ..util.http import reason_of
from ..util.tasks import wait_until_set
from .inputs import InputChangedError
from .lifecycle import Cause, State
from .saving import SAVE_AGAIN

if TYPE_CHECKING:
    from ..comfyui.client import ComfyUIClient
    from ..machines.machine import Machine
    from .finalize import Finalizer
    from .inputs import PoolInputs
    from .pooled import Pooled
    from .queueing import Queueing
    from .run import Run
    from .shared import Shared

log = logging.getLogger(__name__)

DECIDE_EVERY = 1.0  # seconds between two decisions without an event
# Errors of the files of a run, which would be the same at the next attempt.
OF_FILES = (NotFoundError, ForbiddenPathError, ConflictError, InvalidRequestError, OSError)


class Assigning:
    """Sends each waiting run to ComfyUI's queue once a machine has room for it.

    Parameters
    ----------
    shared : Shared
        The objects that all modules of runs use.
    queueing : Queueing
        Sends prompts to ComfyUI.
    pooled : Pooled
        Takes runs back that could not be sent.
    finalizer : Finalizer
        Ends runs that ComfyUI refuses.
    inputs : PoolInputs
        Sends the input files of runs.
    """

    def __init__(
        self,
        shared: Shared,
        queueing: Queueing,
        pooled: Pooled,
        finalizer: Finalizer,
        inputs: PoolInputs,
    ) -> None:
        self._inputs = inputs
        self._session = shared.session
        self._saver = shared.saver
        self._active = shared.active
        self._earlier_times = shared.earlier_times
        self._loader = shared.loader
        self._dispatching = shared.dispatching
        self._background = shared.background
        self._queueing = queueing
        self._pooled = pooled
        self._finalizer = finalizer

    async def run(self) -> None:
        """Hand runs over until cancelled."""
        while True:
            if not await wait_until_set(self._dispatching.decided, DECIDE_EVERY):
                self._dispatching.decide()
            for run_id, machine in self._dispatching.take():
                self._background.keep(
                    partial(self._begin, run_id, machine), f"Reading run {run_id}", SAVE_AGAIN
                )

    async def _begin(self, run_id: str, machine: Machine | None) -> None:
        """Read an assigned run from the store, and begin to hand it over."""
        run = await self._loader.load(run_id)
        if run is None:
            return  # it was cancelled in the meantime
        if machine is None:
            self._pooled.wait_again(run)
        else:
            self._background.start(self._hand_over(run, machine), run)

    async def _hand_over(self, run: Run, machine: Machine) -> None:
        """Hand one run over; if that fails, it waits again, or ends."""
        try:
            await self._send(run, machine)
        except (PromptInvalidError, TooLargeError) as fault:
            await self._refused(run, machine, fault)
        except ComfyUIUnavailableError as fault:
            await self._pooled.not_taken(run, machine, fault)
        except Exception as fault:  # an error of the store, or an unexpected error
            known = isinstance(fault, ComfyDeployError)
            log.log(
                logging.WARNING if known else logging.ERROR,
                "Run %s cannot be handed to machine %r yet: %s",
                run.prompt_id,
                machine.id,
                fault,
                exc_info=None if known else fault,
                extra=run.record.log_fields,
            )
            await asyncio.sleep(SAVE_AGAIN.first)
            self._pooled.wait_again(run)

    async def _refused(self, run: Run, machine: Machine, fault: ComfyDeployError) -> None:
        """End a run that ComfyUI refuses, unless another member has what this one lacks."""
        try:
            graph = await self._queueing.stored_graph(run)
            if graph is not None and await self._pooled.refused(run, machine, graph[0]):
                return
        except ComfyDeployError as other:
            log.warning("Run %s: %s", run.prompt_id, other.message, extra=run.record.log_fields)
        await self._finalizer.refuse(run, fault)

    async def _send(self, run: Run, machine: Machine) -> None:
        client = machine.reachable_client()
        graph = None if client is None else await self._queueing.stored_graph(run)
        if client is None or graph is None:
            self._pooled.wait_again(run)
            return
        prompt, workflow = graph
        if run.record.files:
            with_files = await self._send_files(run, prompt, machine, client)
            if with_files is None:
                return
            prompt = with_files
        facts: dict[str, Any] = {
            "machine": machine.id,
            "session": self._session.id,
            "events_complete": machine.connected,
        }
        detail = f"to {machine.id}"
        stored = False
        while not stored:
            if run.state is not State.WAITING:
                return  # it was cancelled in the meantime
            if run.record.cancelling:  # it ends now, unless that cannot be stored
                await asyncio.sleep(SAVE_AGAIN.first)
                self._pooled.wait_again(run)
                return
            stored = await self._saver.ahead(run, Cause.ASSIGNED, detail, **facts)
        run.transition(Cause.ASSIGNED, detail, **facts)
        self._active.moved(run)
        self._earlier_times.load_for(run)
        await self._queueing.post(run, client, prompt, workflow)
        await self._pooled.check_machine(run)

    async def _send_files(
        self, run: Run, prompt: bytes, machine: Machine, client: ComfyUIClient
    ) -> bytes | None:
        """Send the input files of a run; return its graph, or None if the run has failed."""
        try:
            hashes = {name: run.record.file_hashes.get(name, "") for name in run.record.files}
            return await self._inputs.send(hashes, prompt, machine, client)
        except InputChangedError as fault:
            await self._finalizer.fail(run, fault.message, kind="InputChanged")
            return None
        except OF_FILES as fault:
            reason = fault.message if isinstance(fault, ComfyDeployError) else reason_of(fault)
            reason = f"The input files cannot be sent to machine {machine.id!r}: {reason}"
            await self._finalizer.fail(run, reason, kind="NotQueued")
            return None
