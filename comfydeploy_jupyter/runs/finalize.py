"""End runs: each only once, and stored before it is reported to clients."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .. import metrics
from ..errors import ComfyDeployError, PromptInvalidError
from ..graphs.validation import refusal
from ..util.jsons import rough_size
from ..util.secrets import hide
from ..util.tasks import wait_for
from .lifecycle import IN_DOUBT, Cause
from .outputs import read_history, reply
from .story import not_before

if TYPE_CHECKING:
    from .delivery import Delivery
    from .records import RunRecord
    from .run import Run
    from .shared import Shared

log = logging.getLogger(__name__)

RELEASE_WITHIN = 0.5  # seconds from the success of a run to its last event


class Finalizer:
    """Ends runs; all modules that detect the end of a run call it.

    Parameters
    ----------
    shared : Shared
        The objects that all modules of runs use.
    delivery : Delivery
        Uploads the outputs of runs that succeeded.
    """

    def __init__(
        self,
        shared: Shared,
        delivery: Delivery,
    ) -> None:
        self._saver = shared.saver
        self._delivery = delivery
        self._active = shared.active
        self._ended = shared.ended
        self._earlier_times = shared.earlier_times
        self._background = shared.background
        self._dispatching = shared.dispatching
        self._kept_outputs = shared.kept_outputs

    async def complete(self, run: Run) -> None:
        """End a run whose success ComfyUI has reported, and of which no event is missing."""
        run.stop_clock()
        await self._end(run, Cause.COMPLETE, run.record.changed(status="success"))

    async def settle(self, run: Run, entry: dict[str, Any]) -> None:
        """End a run with the outcome in ComfyUI's history."""
        run.outputs_size = await asyncio.to_thread(rough_size, entry.get("outputs"))
        if run.events_complete:
            run.stop_clock()
        record = run.record.changed()
        if not run.events_complete:
            # Events may have been received late: the times in ComfyUI's history are more exact.
            record.started_at = record.finished_at = record.execution_time = None
        read_history(record, hide(entry, run.keys.values()) if run.keys else entry)
        record.started_at = record.started_at or run.record.started_at or record.created_at
        await self._end(run, Cause.FOUND_IN_HISTORY, record)

    async def withdraw(self, run: Run) -> None:
        """End a run that was cancelled before ComfyUI executed it."""
        await self._end(run, Cause.WITHDRAWN, run.record.changed(status="cancelled"))

    async def refuse(self, run: Run, fault: ComfyDeployError) -> None:
        """End a run that ComfyUI refuses, with the reason; add the id of the run to the error."""
        node_errors = fault.extra.get("node_errors") or {}
        node_id = next(iter(node_errors), None)
        if isinstance(fault, PromptInvalidError):
            fault.say(refusal(fault.details, node_errors, run.live_status.label))
        error = {
            "type": fault.details.get("type") or fault.code,
            "message": fault.message,
            "node_id": node_id,
            "node_type": node_errors[node_id].get("class_type") if node_id is not None else None,
        }
        fault.extra["prompt_id"] = run.prompt_id
        record = run.record.changed(status="failed", error=error, node_errors=node_errors)
        await self._end(run, Cause.REFUSED, record)

    async def fail(
        self, run: Run, reason: str, *, kind: str = "ComfyUIEnded", advice: str | None = None
    ) -> None:
        """End a run of which nothing more will be received.

        Parameters
        ----------
        run : Run
            The run.
        reason : str
            What happened; the beginning of a sentence.
        kind : str
            The type of the run's error.
        advice : str, optional
            The probable cause and a remedy.
        """
        run.stop_clock()
        if run.record.cancelling:
            record = run.record.changed(status="cancelled")
        else:
            node = run.live_status.current_node
            name = run.live_status.name(node) if node is not None else None
            where = f" while {name.title} was executing" if name is not None else ""
            error = {
                "type": kind,
                "message": f"{reason}{where}{f': {advice}' if advice else ''}",
                "node_id": node,
                "node_type": name.class_type if name is not None else None,
            }
            record = run.record.changed(status="failed", error=error)
        await self._end(run, Cause.LOST, record, reason)

    def drop(self, run: Run, cause: Cause, reason: str) -> None:
        """Remove a run of which no message was sent; everything that waits for it is woken.

        Parameters
        ----------
        run : Run
            The run.
        cause : Cause
            ``NOT_SENT`` or ``NOT_STORED``.
        reason : str
            What happened; a sentence.
        """
        self._active.remove(run)
        self._dispatching.ended(run)
        error = {"type": "NotQueued", "message": reason, "node_id": None, "node_type": None}
        record = run.record.changed(status="failed", error=error)
        run.transition(cause, outcome=record, reply=reply(record, self._active.view_url))

    async def upload(self, run: Run) -> None:
        """Upload the outputs of a run that was executed, then end it.

        The status becomes ``uploading`` when all uploads are in the queue, where they can be
        cancelled, and before the first of them starts.
        """
        log.debug("Run %s uploads its outputs", run.prompt_id, extra=run.record.log_fields)
        record = run.outcome or run.record

        async def queued() -> None:
            while not await self._saver.try_ahead(run, Cause.UPLOADS_QUEUED):
                pass  # a reader had an older state stored meanwhile
            run.transition(Cause.UPLOADS_QUEUED)

        try:
            await _release(run)
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
        record = (run.outcome or run.record).changed(status=status, error=error)
        run.transition(Cause.UPLOADS_ENDED, outcome=record)
        await self._finish(run)

    async def _end(self, run: Run, cause: Cause, record: RunRecord, detail: str = "") -> None:
        """Store the end of a run, then report it. Only the first end counts; others wait for it.

        Uploads are not waited for: they may take longer than callers of this method can wait.
        """
        error = record.error or {}
        title = run.live_status.title(str(error.get("node_id")))
        if title is not None:
            record.error = {**error, "node_title": title}
        uploads = record.status == "success" and self._delivery.uploads(run.prompt_id)
        if uploads:
            record = record.changed(status="uploading", finished_at=None)
        elif record.error is not None and not detail:
            detail = str(record.error.get("type"))
        if run.state in IN_DOUBT and cause is not Cause.FOUND_IN_HISTORY:
            self._active.give_up(run.record.machine, run.comfyui_id)
        if not run.transition(cause, detail, outcome=record):
            await run.settled.wait()
            return
        succeeded = record.status in ("success", "uploading")
        executed = run.record.status == "running"
        self._dispatching.ended(
            run,
            record.execution_time if succeeded else None,
            failed=executed and record.status == "failed",
        )
        if succeeded and self._kept_outputs.may_have(record.machine):
            self._background.start(self._keep_outputs(run), run)
        elif uploads:
            self._background.start(self.upload(run), run)
        else:
            await self._finish(run)

    async def _keep_outputs(self, run: Run) -> None:
        """Copy the outputs of a run from a member that may end at any time; then end the run."""
        record = run.outcome or run.record
        try:
            await self._kept_outputs.keep(record.machine, record.outputs)
        except Exception as fault:
            # A ValueError: a name that cannot be encoded.
            if not isinstance(fault, (ComfyDeployError, OSError, ValueError)):
                log.exception(
                    "The outputs of run %s could not be copied",
                    run.prompt_id,
                    extra=run.record.log_fields,
                )
            message = f"The outputs could not be copied from {record.machine}: {fault}"
            error = {"type": "OutputsLost", "message": message, "node_id": None, "node_type": None}
            record = record.changed(status="failed", error=error)
            run.transition(Cause.OUTPUTS_LOST, outcome=record)
        else:
            if record.status == "uploading":
                await self.upload(run)
                return
        await self._finish(run)

    async def _finish(self, run: Run) -> None:
        record = run.outcome
        assert record is not None
        created, started = record.created_at, record.started_at
        if started is not None:
            record.started_at = started = not_before(created, moment=started)
        record.finished_at = not_before(created, started, moment=record.finished_at)
        stored = await self._saver.end(record)
        await _release(run)
        run.stop_timer()
        cause = Cause.END_STORED if stored else Cause.END_NOT_STORED
        self._active.remove(run)
        self._earlier_times.add(record)
        run.transition(cause, reply=reply(record, self._active.view_url))
        self._ended.add(run)
        # After the tasks that wait for the run.
        asyncio.get_running_loop().call_soon(_note_end, record)


async def _release(run: Run) -> None:
    """Wait for the last event of a run whose success ComfyUI has reported."""
    if run.success_reported and run.events_complete and not run.released.is_set():
        with suppress(asyncio.TimeoutError):
            await wait_for(run.released.wait(), RELEASE_WITHIN)


def _note_end(record: RunRecord) -> None:
    """Count and log how a run ended: the type of error and the node, without a node's message.

    A node's message may contain anything; it is in the record.
    """
    metrics.run_ended(record.machine, record.pool, record.status, record.execution_time)
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
