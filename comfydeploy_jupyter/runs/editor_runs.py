"""Stores the runs that ComfyUI's editor has queued at ComfyUI itself.

ComfyUI sends the events of a prompt only to the client that queued it, but the length of its queue
to all. So its history is requested soon after the queue has had prompts of others, and from time to
time while it changes, as two changes may arrive at once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING
from weakref import WeakSet

from ..errors import ComfyDeployError
from ..util import worker
from ..util.responses import LARGE
from ..util.timestamps import timestamp_of, utc_now
from .editor_history import read_prompts
from .outputs import read_history
from .records import RunRecord

if TYPE_CHECKING:
    from ..comfyui.client import ComfyUIClient
    from ..machines.machine import Machine
    from .editor_history import EditorPrompt
    from .editor_prompts import EditorPrompts
    from .shared import Shared

log = logging.getLogger(__name__)

SOON = 1.0  # seconds after a change of a queue with prompts of others
LATER = 30.0  # seconds after any other change
MORE = 8  # times as many prompts are requested next, until one was found before
MOST = 4096  # prompts that are requested at once
# Bytes that the next response will probably have at most: ComfyUI answers nobody else and reads no
# message while it encodes its history, a second for some 50 MB.
MOST_BYTES = 4 * 1024**2
MOST_SEEN = 20_000  # ids that are kept in memory


class EditorRuns:
    """Finds the prompts of ComfyUI's editor, and stores each as a run that has ended.

    Parameters
    ----------
    shared : Shared
        The objects that all modules of runs use.
    repository : EditorPrompts or None
        Stores the prompts; None if they are not stored.
    """

    def __init__(self, shared: Shared, repository: EditorPrompts | None) -> None:
        self._shared = shared
        self._repository = repository
        self._timers: dict[str, asyncio.TimerHandle] = {}
        # the machines whose queue has had prompts of others
        self._others: WeakSet[Machine] = WeakSet()
        self._seen: dict[str, None] = {}
        self._looking = asyncio.Lock()

    def close(self) -> None:
        """Stop the searches for prompts."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def connected(self, machine: Machine) -> None:
        """Search for prompts that have ended while there was no connection."""
        self._look_after(machine, 0.0)

    def queue_changed(self, machine: Machine) -> None:
        """Search soon if the queue has, or has had, more prompts than this server has sent."""
        if self._shared.dispatching.others(machine.id):
            self._others.add(machine)
        self._look_after(machine, SOON if machine in self._others else LATER)

    def _look_after(self, machine: Machine, pause: float) -> None:
        """Search after a pause, unless an earlier search is scheduled."""
        if self._repository is None:
            return
        loop = asyncio.get_running_loop()
        waiting = self._timers.get(machine.id)
        if waiting is not None:
            if waiting.when() <= loop.time() + pause:
                return
            waiting.cancel()
        self._timers[machine.id] = loop.call_later(pause, self._start, machine)

    def _start(self, machine: Machine) -> None:
        del self._timers[machine.id]
        self._shared.background.start(self.look(machine))

    async def look(self, machine: Machine) -> None:
        """Store what the machine's ComfyUI has in its history; an error is logged."""
        client, repository = machine.reachable_client(), self._repository
        if client is None or repository is None:
            return
        try:
            async with self._looking:
                ids, prompts = await self._find(client, repository)
                for prompt in prompts:
                    try:
                        await self._store(machine, prompt, repository)
                    except ValueError as error:  # for example for an id that is not valid Unicode
                        log.info("A run of ComfyUI's editor cannot be stored: %s", error)
        except (ComfyDeployError, ValueError) as error:
            log.info("The runs of ComfyUI's editor on %s are not read now: %s", machine.id, error)
            return
        if not self._shared.dispatching.others(machine.id):
            self._others.discard(machine)
        self._seen.update(dict.fromkeys(ids))
        for _ in range(len(self._seen) - MOST_SEEN):
            del self._seen[next(iter(self._seen))]

    async def _find(
        self, client: ComfyUIClient, repository: EditorPrompts
    ) -> tuple[list[str], list[EditorPrompt]]:
        """Return the ids of ComfyUI's last prompts, and those of the editor that are not known yet.

        Both are oldest first. The search ends at a prompt that was found by an earlier search; runs
        of this server do not end it. It also ends where the next response would be too large.
        """
        ids: list[str] = []
        prompts: list[EditorPrompt] = []
        known = frozenset(self._seen)
        most, last = 1, 0
        while last < most <= MOST:
            text = await client.recent_history(most)
            if text is None:
                break
            ids, found = await worker.compute(read_prompts, text, known, large=len(text) > LARGE)
            stored, runs = await repository.known(ids)
            prompts = [p for p in found if p.prompt_id not in stored | runs]
            if len(ids) < most or not {*known, *stored}.isdisjoint(ids):
                break
            last, most = most, min(most * MORE, MOST_BYTES * most // len(text))
        return ids, prompts

    async def _store(
        self, machine: Machine, prompt: EditorPrompt, repository: EditorPrompts
    ) -> None:
        record = RunRecord(
            prompt.prompt_id,
            machine.id,
            prompt.client_id,
            created_at="",
            number=prompt.number,
            structure=prompt.structure,
            inputs=prompt.inputs,
            seeds=prompt.seeds,
            from_editor=True,
        )
        read_history(record, prompt.outcome)
        queued = None if prompt.queued_at is None else timestamp_of(prompt.queued_at)
        record.created_at = queued or record.started_at or utc_now()
        if await repository.add(record, prompt.prompt, prompt.workflow):
            log.info(
                "Run %s of ComfyUI's editor ended: %s",
                record.prompt_id,
                record.status,
                extra=record.log_fields,
            )
