"""What the nodes of a workflow did in earlier runs."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from .progress import NodeWork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..store.runs import RunRecord, RunRepository

KEPT_RUNS = 10  # that tell how long the nodes of a workflow take
KEPT_WORKFLOWS = 16  # whose last runs stay in memory


class Past:
    """Reads what nodes did in earlier runs, and keeps it for the workflows of the last runs.

    Parameters
    ----------
    repository : RunRepository
        The records of runs.
    """

    def __init__(self, repository: RunRepository) -> None:
        self._repository = repository
        self._kept: OrderedDict[tuple[str, str], deque[dict[str, NodeWork]]] = OrderedDict()

    def known(self, structure: str, machine: str) -> Sequence[dict[str, NodeWork]] | None:
        """Return what is in memory of the runs of a workflow on a machine, the newest first."""
        return self._kept.get((structure, machine))

    async def read(self, structure: str, machine: str) -> Sequence[dict[str, NodeWork]]:
        """Return what the nodes of a workflow did on a machine, the newest run first."""
        stored = await self._repository.node_times(structure, machine, KEPT_RUNS)
        runs = deque((_work(*told) for told in stored), maxlen=KEPT_RUNS)
        self._kept[structure, machine] = runs
        while len(self._kept) > KEPT_WORKFLOWS:
            self._kept.popitem(last=False)
        return runs

    def add(self, record: RunRecord) -> None:
        """Take in a run that has ended."""
        if record.status != "success" or record.structure is None or not record.node_times:
            return
        key = record.structure, record.machine
        runs = self._kept.get(key)
        if runs is not None:
            runs.appendleft(_work(record.node_times, record.node_steps))
            self._kept.move_to_end(key)


def _work(times: dict[str, float], steps: dict[str, list[int]]) -> dict[str, NodeWork]:
    return {node: NodeWork(seconds, *steps.get(node, ())) for node, seconds in times.items()}
