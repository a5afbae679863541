"""Creates runs from their records in the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .lifecycle import Cause, State
from .prepare import read_stored, steps_of
from .run import Run
from .waiting import outcome, result_of

if TYPE_CHECKING:
    from ..errors import ComfyDeployError
    from ..machines.registry import MachineRegistry
    from .active import ActiveRuns
    from .background import Background
    from .records import RunRecord, RunRepository
    from .saving import StateSaver

RESERVED = 1_000  # ids of events that streams of an unloaded run may have used


class Loader:
    """Creates the runs of recovered records, and loads unloaded runs (see `ActiveRuns`).

    Parameters
    ----------
    repository : RunRepository
        The records and graphs.
    machines : MachineRegistry
        The machines, whose node definitions determine which nodes are executed.
    active : ActiveRuns
        The unfinished runs.
    saver : StateSaver
        Stores the states of the runs.
    background : Background
        Runs the reading as a background task.
    """

    def __init__(
        self,
        repository: RunRepository,
        machines: MachineRegistry,
        active: ActiveRuns,
        saver: StateSaver,
        background: Background,
    ) -> None:
        self._repository = repository
        self._machines = machines
        self._active = active
        self._saver = saver
        self._background = background
        self._loading: dict[str, asyncio.Task[Run | ComfyDeployError | None]] = {}

    async def load(self, prompt_id: str) -> Run | None:
        """Return an unfinished run; if it is unloaded and not in use, read it from the store.

        It stays in memory for as long as the caller uses it.

        Raises
        ------
        StoreUnavailableError
            If it cannot be read.
        """
        run = self._active.get(prompt_id)
        while run is None and prompt_id in self._active:
            task = self._loading.get(prompt_id)
            if task is None:
                task = self._background.start(outcome(self._load(prompt_id)))
                self._loading[prompt_id] = task
                task.add_done_callback(lambda _: self._loading.pop(prompt_id, None))
            await asyncio.wait({task})
            run = result_of(task)
        return run

    async def make(
        self, record: RunRecord, stored: tuple[bytes, bytes | None] | None, state: State
    ) -> Run:
        """Return the run of a record, which is not among the active ones yet.

        Parameters
        ----------
        record : RunRecord
            The record.
        stored : tuple of bytes or None
            Its graph, in API and UI format.
        state : State
            The state of the run.
        """
        prompt = stored[0] if stored is not None else None
        machine = self._machines.find(record.machine)
        definitions = None if machine is None else machine.known_definitions
        graph = await read_stored(prompt, definitions, record.targets)
        steps = await steps_of(graph.workload, machine, record.targets)
        run = Run(
            record,
            graph.names,
            steps=steps,
            state=state,
            saver=self._saver,
            events_complete=False,
        )
        run.models, run.fingerprint = graph.models, graph.fingerprint
        return run

    async def _load(self, prompt_id: str) -> Run | None:
        record, stored = await self._repository.get_with_graph(prompt_id)
        run = None if record is None else await self.make(record, stored, State.WAITING)
        unloaded = self._active.unloaded(prompt_id)
        if run is None or unloaded is None:
            return None
        run.order, run.graph = unloaded.order, stored
        run.transition(Cause.LOADED)
        run.log.reserve(RESERVED)
        self._active.use(run)
        return run
