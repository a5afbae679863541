"""Read the runs: their records, stories, replies and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .outputs import reply, unknown_run
from .prepare import read_stored
from .records import ALL
from .story import describe

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping, Sequence

    from .live import NodeName
    from .log import RunEvent
    from .records import RunFilter, RunRecord
    from .run import Run
    from .shared import Shared


class RunReader:
    """Reads the runs, from memory or from the store.

    Parameters
    ----------
    shared : Shared
        The objects that all modules of runs use.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared

    def find(self, prompt_id: str) -> Run | None:
        """Return a run whose events are in memory, or None."""
        return self._shared.active.get(prompt_id) or self._shared.ended.get(prompt_id)

    async def load(self, prompt_id: str) -> Run | None:
        """Return a run whose events are in memory, or that waits for a pool, or None."""
        return await self._shared.loader.load(prompt_id) or self._shared.ended.get(prompt_id)

    async def record(self, prompt_id: str) -> RunRecord:
        """Return the record of a run.

        Raises
        ------
        NotFoundError
            If there is no run with that id.
        """
        # If both processes exit after a client has read the state, the run is not executed again.
        await self._shared.saver.now_if_due(prompt_id)
        run = self.find(prompt_id)
        record = run.record if run is not None else await self._shared.repository.get(prompt_id)
        if record is None:
            raise unknown_run(prompt_id)
        return record

    async def story(self, prompt_id: str) -> list[dict[str, Any]]:
        """Return the story of a run: what has happened to it, in order.

        Raises
        ------
        NotFoundError
            If there is no run with that id.
        """
        return describe((await self.record(prompt_id)).story)

    async def newest(
        self, *, limit: int = 100, offset: int = 0, which: RunFilter = ALL
    ) -> list[dict[str, Any]]:
        """Return the replies of runs, newest first, after skipping ``offset`` of them."""
        records = await self._shared.repository.newest(limit=limit, offset=offset, which=which)
        whys: dict[str, str] = {}
        return [self.reply(record, position=False, whys=whys) for record in records]

    async def graph(self, prompt_id: str) -> tuple[bytes, bytes | None]:
        """Return the JSON of the graph of a run in API format and, if known, in UI format.

        Raises
        ------
        NotFoundError
            If there is no run with that id.
        """
        found = await self._shared.repository.prompt(prompt_id)
        if found is None:
            raise unknown_run(prompt_id)
        return found

    async def nodes(self, prompt_id: str) -> Mapping[str, NodeName]:
        """Return the names of the nodes of a run; empty if they are not known."""
        run = self.find(prompt_id)
        if run is not None:
            return run.nodes
        prompt, _ = await self._shared.repository.prompt(prompt_id) or (None, None)
        return (await read_stored(prompt, None, None)).names

    def reply(
        self, record: RunRecord, *, position: bool = True, whys: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the body of the reply to ``POST run`` for a run.

        That of a queued run contains why it waits if its machine, or each of its pool, gets no runs
        now (`whys` keeps the reasons by machine), and with ``position`` its place in the queue.
        """
        body = reply(record, self._shared.active.view_url)
        active = self._shared.active
        run = active.get(record.prompt_id)
        if run is not None and record.status in ("running", "uploading"):
            body.update(run.live())
        if record.status == "queued" and record.prompt_id in active:
            if position:
                body["queue_position"] = self._shared.dispatching.position(record)
            body["live_status"] = self._why_waiting(record.machine, {} if whys is None else whys)
        return body

    def _why_waiting(self, machine_id: str, known: dict[str, str]) -> str:
        if machine_id not in known:
            why = self._shared.machines.why_waiting(machine_id)
            known[machine_id] = f"Waiting for a machine: {why}" if why else ""
        return known[machine_id]

    def queue_position(self, record: RunRecord) -> int | None:
        """Return the place of a run among the prompts that have not started, from 1, or None."""
        waits = record.status in ("not-started", "queued")
        if not waits or record.prompt_id not in self._shared.active:
            return None
        return self._shared.dispatching.position(record)

    def counts(self, machine_ids: Sequence[str] | None = None) -> dict[str, int]:
        """Return how many runs are executing and how many wait, on all machines or on some."""
        return self._shared.active.counts(machine_ids)

    def open_statuses(self) -> Counter[tuple[str, str]]:
        """Return the number of unfinished runs for each pair of machine and status."""
        return self._shared.active.by_status()

    def open_runs(self, client_id: str) -> int:
        """Return the number of unfinished runs of a client."""
        return self._shared.active.of_client(client_id)

    async def has_runs(self, client_id: str) -> bool:
        """Return whether a client has ever started a run."""
        return await self._shared.repository.has_client(client_id)

    def follow(self, follower: Callable[[Run, RunEvent], None]) -> Callable[[], None]:
        """Call ``follower(run, event)`` for each event of each run; return a function to stop."""
        return self._shared.active.follow(follower)
