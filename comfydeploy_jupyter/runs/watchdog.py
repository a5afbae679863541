"""Detects faults without an event: lost machines, sockets without events, exited servers."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from ..comfyui.client import REPLY_TIMEOUT
from ..comfyui.memory import HANGS
from ..errors import ComfyDeployError
from .events import REFUSES
from .lifecycle import IN_DOUBT, State
from .recovery import IN_FLIGHT
from .waiting import now

if TYPE_CHECKING:
    from ..extension import ComfyDeploy
    from ..machines.machine import Machine
    from .finalize import Finalizer
    from .pooled import Pooled
    from .recovery import Recovery
    from .run import Run
    from .shared import Shared

log = logging.getLogger(__name__)

WATCH_EVERY = 2.0  # seconds
QUIET = 3.0  # seconds without a message from ComfyUI after which a request is sent to it
ENDED_AFTER = 1.0  # seconds after which a local ComfyUI that refuses connections counts as exited
RECHECK = 30.0  # seconds after which runs are looked up in ComfyUI, also if events were received


class Watchdog:
    """Checks the machines that have prompts, every `WATCH_EVERY` seconds.

    Parameters
    ----------
    shared : Shared
        The objects that all modules of runs use.
    recovery : Recovery
        Compares runs with ComfyUI's queue and history.
    finalizer : Finalizer
        Ends runs that have failed because their ComfyUI has ended or does not answer.
    pooled : Pooled
        Lets runs of pools wait for another machine if their ComfyUI has ended.
    settings : ComfyDeploy
        The settings.
    """

    def __init__(
        self,
        shared: Shared,
        recovery: Recovery,
        finalizer: Finalizer,
        pooled: Pooled,
        settings: ComfyDeploy,
    ) -> None:
        self._machines = shared.machines
        self._session = shared.session
        self._active = shared.active
        self._dispatching = shared.dispatching
        self._recovery = recovery
        self._finalizer = finalizer
        self._pooled = pooled
        self._background = shared.background
        self._settings = settings
        self._watched: set[str] = set()

    async def run(self) -> None:
        """Check all machines until cancelled."""
        while True:
            await asyncio.sleep(WATCH_EVERY)
            for machine in self._machines:
                if machine.id not in self._watched:
                    self._background.start(self._look_after(machine))

    async def _look_after(self, machine: Machine) -> None:
        runs = [run for run in self._active.of(machine) if not run.ending]
        others = machine.connected and self._dispatching.others(machine.id)
        if not runs and not others:
            return
        self._watched.add(machine.id)
        seen = [(run, run.moves) for run in runs]
        try:
            if machine.connected:
                try:
                    await self._check(machine, runs)
                finally:
                    self._give_up_unanswered(machine, seen)
            else:
                await self._give_up_disconnected(machine, seen)
        except ComfyDeployError as fault:
            log.debug(
                "Machine %r cannot be checked: %s", machine.id, fault, extra={"machine": machine.id}
            )
        finally:
            self._watched.discard(machine.id)

    async def _give_up_disconnected(self, machine: Machine, seen: list[tuple[Run, int]]) -> None:
        """End runs whose ComfyUI has been disconnected for too long, or has exited."""
        machine.open()
        since = machine.disconnected_at
        away = now() - since
        ended = away > ENDED_AFTER and await machine.has_ended()
        verdict = await machine.look_for_memory_verdict()
        if machine.connected or machine.disconnected_at != since:
            return
        for run, moves in seen:
            if run.posting or run.moves != moves:
                continue
            urgent = _is_urgent(run)
            if urgent and ended:
                ending = self._finalizer.fail(run, REFUSES, advice=verdict)
            elif run.record.pool is not None and ended:
                ending = self._pooled.give_back(run, REFUSES)
            elif away > self._limit(urgent, hangs=machine.hangs):
                reason = f"ComfyUI has been unreachable for {away:.0f} s"
                advice = HANGS if machine.hangs else verdict
                ending = self._finalizer.fail(run, reason, advice=advice)
            else:
                continue
            self._background.start(ending, run)

    def _give_up_unanswered(self, machine: Machine, seen: list[tuple[Run, int]]) -> None:
        """End runs whose ComfyUI has an open WebSocket, but has not answered for too long.

        Events count as answers, except for a run that ComfyUI is not known to have received.
        """
        unresponsive, connection = self._recovery.unresponsive.of(machine), machine.connection
        if unresponsive is None or connection is None:
            return
        for run, moves in seen:
            if run.posting or run.moves != moves:
                continue
            since = unresponsive.since
            if run.state is not State.UNANSWERED:
                since = max(since, connection.last_heard)
            away = now() - since
            if away > self._limit(_is_urgent(run), hangs=unresponsive.hangs):
                reason = f"ComfyUI has not answered for {away:.0f} s"
                advice = HANGS if unresponsive.hangs else None
                self._background.start(self._finalizer.fail(run, reason, advice=advice), run)

    def _limit(self, urgent: bool, *, hangs: bool) -> float:
        settings = self._settings
        lost = urgent and not hangs
        return settings.comfyui_lost_after if lost else settings.comfyui_gone_after

    async def _check(self, machine: Machine, runs: list[Run]) -> None:
        """Request the state of runs from ComfyUI if its events do not show enough."""
        client, connection = machine.reachable_client(), machine.connection
        assert client is not None
        assert connection is not None
        heard = connection.last_heard
        silent = now() - heard > QUIET
        foreign = any(run.record.session != self._session.id for run in runs)
        due = now() - self._recovery.reconciled_at(machine) > RECHECK
        remaining = len(runs)
        if silent:
            asking = client.queue_remaining(within=REPLY_TIMEOUT)
            remaining = await self._recovery.unresponsive.track(machine, asking)
        unheard = False
        if (
            foreign
            or due
            or remaining < len(runs)
            or any(run.record.cancelling or run.state in IN_DOUBT for run in runs)
        ):
            unheard = await self._recovery.reconcile(machine) and not foreign
        if not silent:
            return
        # ComfyUI sends an event to all clients whenever its queue changes. A socket that has not
        # received it gets no events; the same may be true of one whose predecessor was not closed.
        await asyncio.sleep(IN_FLIGHT)
        outdated = connection.queue_remaining not in (None, remaining)
        executing = any(run.record.status == "running" for run in runs)
        if connection.last_heard == heard and (
            unheard or outdated or (executing and connection.may_miss_events)
        ):
            await connection.reconnect()


def _is_urgent(run: Run) -> bool:
    """Return whether a run is executing or being cancelled: it is ended sooner than others."""
    return run.record.status == "running" or run.record.cancelling
