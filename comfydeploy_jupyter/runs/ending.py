"""How runs end: each once, and in the store before anybody is told."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import metrics
from ..errors import ComfyDeployError
from ..net.json_stream import rough_size
from ..secrets import hide
from .outputs import read_history
from .run import not_before

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..store.runs import RunRecord, RunRepository
    from .background import Background
    from .delivery import Delivery
    from .run import Run

log = logging.getLogger(__name__)

SAVE_AGAIN = 3.0  # seconds
LEAVE_TAKING = 0.5  # seconds that ComfyUI has to be done with a run of whose success it has told


class Endings:
    """Ends runs, whoever has found out that they are over.

    Parameters
    ----------
    repository : RunRepository
        The records.
    delivery : Delivery
        Uploads the outputs of runs that succeeded.
    background : Background
        Where uploads are waited for.
    retire : callable
        Called with a run whose end is in the store, to tell of it.
    """

    def __init__(
        self,
        repository: RunRepository,
        delivery: Delivery,
        background: Background,
        retire: Callable[[Run], None],
    ) -> None:
        self._repository = repository
        self._delivery = delivery
        self._background = background
        self._retire = retire

    async def succeed(self, run: Run) -> None:
        """End a run of whose success ComfyUI has told, and of which no event is missing."""
        run.stop_clock()
        await self.end(run, replace(run.record, status="success"))

    async def settle(self, run: Run, entry: dict[str, Any]) -> None:
        """End a run as ComfyUI's history has it."""
        run.outputs_size = await asyncio.to_thread(rough_size, entry.get("outputs"))
        if run.whole:
            run.stop_clock()
        record = replace(run.record)
        if not run.whole:
            # What was seen of it may have been seen late: ComfyUI knows better.
            record.started_at = record.finished_at = record.execution_time = None
        read_history(record, hide(entry, run.keys.values()) if run.keys else entry)
        record.started_at = record.started_at or run.record.started_at or record.created_at
        await self.end(run, record)

    async def lose(
        self, run: Run, reason: str, *, kind: str = "ComfyUIEnded", advice: str | None = None
    ) -> None:
        """End a run of which nothing will come any more.

        Parameters
        ----------
        run : Run
            The run.
        reason : str
            What happened, as the beginning of a sentence.
        kind : str
            The type of its error.
        advice : str, optional
            Why that may be so, and what helps.
        """
        run.stop_clock()
        if run.record.cancelling:
            await self.end(run, replace(run.record, status="cancelled"))
            return
        node = run.current_node
        name = run.name(node) if node is not None else None
        where = f" while {name.title} was executing" if name is not None else ""
        error = {
            "type": kind,
            "message": f"{reason}{where}{f': {advice}' if advice else ''}",
            "node_id": node,
            "node_type": name.class_type if name is not None else None,
        }
        await self.end(run, replace(run.record, status="failed", error=error))

    async def end(self, run: Run, record: RunRecord) -> None:
        """Keep the end of a run, then tell it. The first end counts, and others wait for it.

        Nobody waits for uploads: these may take longer than anything that waits here has time.
        """
        if run.ending:
            await run.settled.wait()
            return
        run.ending = True
        if record.status == "success" and self._delivery.uploads(run.prompt_id):
            self._background.start(self.upload(run, record), run)
        else:
            await self._finish(run, record)

    async def upload(self, run: Run, record: RunRecord) -> None:
        """Upload the outputs of a run that was executed, as its record has them, then end it.

        Its status is ``uploading`` once all uploads are in the queue, where they can be cancelled,
        and before the first one begins.
        """
        log.debug("Run %s uploads its outputs", run.prompt_id, extra=record.log_fields)
        record = replace(record, status="uploading", finished_at=None)

        async def queued() -> None:
            try:
                await self._repository.save(record)
            except ComfyDeployError as fault:
                log.warning(
                    "That run %s uploads its outputs cannot be stored: %s",
                    run.prompt_id,
                    fault.message,
                    extra=record.log_fields,
                )
            run.record = record
            run.tell_uploading()

        try:
            await _leave_taking(run)
            error = await self._delivery.upload(run, record, queued)
        except Exception as fault:
            log.exception(
                "The outputs of run %s could not be uploaded",
                run.prompt_id,
                extra=run.record.log_fields,
            )
            message = f"The outputs could not be uploaded: {fault}"
            error = {"type": "UploadFailed", "message": message, "node_id": None, "node_type": None}
        status = "success" if error is None else "failed"
        await self._finish(run, replace(record, status=status, error=error))

    async def _finish(self, run: Run, record: RunRecord) -> None:
        created, started = record.created_at, record.started_at
        if started is not None:
            record.started_at = started = not_before(created, moment=started)
        record.finished_at = not_before(created, started, moment=record.finished_at)
        try:
            await self._repository.save(record)
        except Exception:
            log.exception(
                "The end of run %s cannot be stored yet", run.prompt_id, extra=record.log_fields
            )
            self._background.start(self._save_later(record))
        await _leave_taking(run)
        run.record = record
        self._retire(run)
        # After those who wait for the run.
        asyncio.get_running_loop().call_soon(_note_end, record)

    async def _save_later(self, record: RunRecord) -> None:
        """Store the end of a run when the store is in order again; nobody waits for that."""
        while True:
            await asyncio.sleep(SAVE_AGAIN)
            try:
                await self._repository.save(record)
            except ComfyDeployError as fault:
                log.debug(
                    "The end of run %s: %s",
                    record.prompt_id,
                    fault.message,
                    extra=record.log_fields,
                )
            else:
                return


async def _leave_taking(run: Run) -> None:
    """Wait until ComfyUI is done with a run of whose success it has told."""
    if run.succeeded and run.whole and not run.left.is_set():
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(run.left.wait(), LEAVE_TAKING)


def _note_end(record: RunRecord) -> None:
    """Count and log how a run ended: what kind of fault and where, but not what a node says of it.

    That may be anything, and is in the record.
    """
    metrics.run_ended(record.machine, record.status, record.execution_time)
    fields = {**record.log_fields, "status": record.status, "execution_time": record.execution_time}
    text = f"Run %s ended: {record.status}"
    if record.execution_time is not None:
        text += f" after {record.execution_time:.2f} s"
    values: list[Any] = [record.prompt_id]
    if record.error is not None:
        fields["error_type"] = record.error.get("type")
        fields["node_id"] = record.error.get("node_id")
        fields["node_type"] = record.error.get("node_type")
        text += ", %s"
        values.append(fields["error_type"])
        if fields["node_id"] is not None:
            text += " in node %s (%s)"
            values += [fields["node_id"], fields["node_type"]]
    log.info(text, *values, extra=fields)
