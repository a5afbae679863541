"""The execution times of the nodes of a workflow in earlier runs."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from ..errors import ComfyDeployError
from .background import note
from .progress import NodeWork

if TYPE_CHECKING:
    from .background import Background
    from .records import RunRecord, RunRepository
    from .run import Run

log = logging.getLogger(__name__)

KEPT_RUNS = 10  # earlier runs from which the durations of nodes are estimated
KEPT_WORKFLOWS = 16  # workflows whose last runs are kept in memory


class DurationEstimates:
    """Reads the execution times of nodes in earlier runs; caches those of the last workflows."""

    def __init__(self, repository: RunRepository, background: Background) -> None:
        self._repository = repository
        self._background = background
        self._kept: OrderedDict[tuple[str, str], deque[dict[str, NodeWork]]] = OrderedDict()

    def load_for(self, run: Run) -> None:
        """Set the times of a run's nodes in earlier runs: at once if cached, else when read."""
        structure, machine = run.record.structure, run.record.machine
        if structure is None:
            return
        known = self._kept.get((structure, machine))
        if known is not None:
            run.live_status.learn(known)
        else:
            self._background.step(self._read(run, structure, machine), run)

    def add(self, record: RunRecord) -> None:
        """Add the times of a run that has ended to the cache, if it was successful."""
        if record.status != "success" or record.structure is None or not record.node_times:
            return
        key = record.structure, record.machine
        runs = self._kept.get(key)
        if runs is not None:
            runs.appendleft(_work(record.node_times, record.node_steps))
            self._kept.move_to_end(key)

    async def _read(self, run: Run, structure: str, machine: str) -> None:
        try:
            stored = await self._repository.node_times(structure, machine, KEPT_RUNS)
        except ComfyDeployError as exc:
            text = "The earlier durations of run %s cannot be read: %s"
            note(log.debug, run, text, exc.message)
            return
        runs = deque((_work(*row) for row in stored), maxlen=KEPT_RUNS)
        self._kept[structure, machine] = runs
        while len(self._kept) > KEPT_WORKFLOWS:
            self._kept.popitem(last=False)
        run.live_status.learn(runs)


def _work(times: dict[str, float], steps: dict[str, list[int]]) -> dict[str, NodeWork]:
    return {node: NodeWork(seconds, *steps.get(node, ())) for node, seconds in times.items()}
