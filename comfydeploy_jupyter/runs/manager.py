"""Runs from the request to their true end."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..comfyui.events import Preview
from ..errors import (
    ComfyDeployError,
    ComfyUIUnavailableError,
    ConflictError,
    NotFoundError,
    PromptInvalidError,
)
from ..store.runs import RunRecord
from .outputs import read_history, reply, with_urls
from .prepare import node_names, prepare
from .run import Run, utcnow

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from ..comfyui.client import ComfyUIClient
    from ..comfyui.events import Event
    from ..machines.machine import Machine
    from ..machines.registry import MachineRegistry
    from ..schemas import RunRequest
    from ..store.runs import RunRepository
    from ..store.session import Session
    from .delivery import Delivery
    from .log import RunEvent

log = logging.getLogger(__name__)

KEPT_RUNS = 100  # finished runs whose events stay in memory for late readers
WATCH_EVERY = 2.0  # seconds
SILENCE = 8.0  # seconds without a word from ComfyUI after which it is asked
LOST_AFTER = 30.0  # seconds without ComfyUI after which a run that was executing counts as lost
GONE_AFTER = 600.0  # seconds without ComfyUI after which runs that wait for it are given up
MAX_ATTEMPTS = 3  # times that a run is queued anew because ComfyUI restarted before it began


class RunManager:
    """Queues prompts, follows them to their end and tells everybody who listens.

    A run is in the store before ComfyUI hears of it, and its end is in the store before anybody is
    told. The end itself comes from ComfyUI's ``execution_success`` or from its history.

    Parameters
    ----------
    repository : RunRepository
        The records.
    machines : MachineRegistry
        Where runs can go.
    session : Session
        The identity of this server towards ComfyUI.
    delivery : Delivery
        Uploads the outputs of runs and reports their state.
    view_url : str
        Address of the ``view`` route, for the outputs' URLs.
    """

    def __init__(
        self,
        repository: RunRepository,
        machines: MachineRegistry,
        session: Session,
        delivery: Delivery,
        *,
        view_url: str,
    ) -> None:
        self._repository = repository
        self._machines = machines
        self._session = session
        self._delivery = delivery
        self._view_url = view_url
        self._runs: dict[str, Run] = {}
        self._recent: OrderedDict[str, Run] = OrderedDict()
        self._followers: set[Callable[[Run, RunEvent], None]] = {delivery.see}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._reconciling: dict[str, asyncio.Lock] = {}

    async def open(self) -> None:
        """Take over the runs that did not end before the last stop, and watch all runs."""
        for record in await self._repository.active():
            if record.session in self._session.claimed:
                await self._adopt(record)
        self._background(self._watch())

    async def close(self) -> None:
        """Stop following; runs that execute go on and are found again at the next start."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- what handlers ask for ---------------------------------------------------------------

    async def submit(self, request: RunRequest) -> Run:
        """Queue a run.

        Returns
        -------
        Run
            Accepted by ComfyUI.

        Raises
        ------
        InvalidRequestError, UnknownInputError, NotFoundError
            If the request is wrong; nothing has happened then.
        ConflictError
            If its ``prompt_id`` is taken.
        PromptInvalidError
            If ComfyUI refuses the graph; the run is kept as failed.
        ComfyUIUnavailableError
            If ComfyUI cannot be reached.
        """
        machine = self._machines.get(request.machine)
        if request.prompt_id is not None:
            await self._check_free(request.prompt_id)
        prepared = await prepare(request, machine)
        client = await machine.ready()
        record = RunRecord(
            prompt_id=request.prompt_id or str(uuid.uuid4()),
            machine=machine.id,
            session=self._session.id,
            client_id=request.client_id,
            created_at=utcnow(),
            seeds=prepared.seeds,
            next_seeds=prepared.next_seeds,
            front=bool(request.front),
        )
        await self._repository.add(record, prepared.prompt, prepared.workflow)
        await self._delivery.begin(request, record.prompt_id)
        run = self._follow(Run(record, prepared.nodes))
        try:
            await self._post(run, client, prepared.prompt, prepared.workflow)
        except PromptInvalidError as fault:
            await self._refused(run, fault)
            raise
        except ComfyUIUnavailableError as fault:
            await self._unanswered(run, client, fault)
        return run

    def find(self, prompt_id: str) -> Run | None:
        """Return a run whose events are in memory, or None."""
        return self._runs.get(prompt_id) or self._recent.get(prompt_id)

    async def record(self, prompt_id: str) -> RunRecord:
        """Return the record of a run.

        Raises
        ------
        NotFoundError
            If there is none of that id.
        """
        run = self.find(prompt_id)
        record = run.record if run is not None else await self._repository.get(prompt_id)
        if record is None:
            raise NotFoundError(
                f"prompt_id: there is no run {prompt_id!r}",
                details={"field": "prompt_id", "prompt_id": prompt_id},
            )
        return record

    async def newest(
        self, *, limit: int = 100, offset: int = 0, status: str | None = None
    ) -> list[dict[str, Any]]:
        """Return the replies of runs, newest first."""
        records = await self._repository.newest(limit=limit, offset=offset, status=status)
        return [self.reply(record) for record in records]

    def reply(self, record: RunRecord) -> dict[str, Any]:
        """Return the body that ``POST run`` answers for a run."""
        return reply(record, self._view_url)

    def running(self, machine_id: str) -> Run | None:
        """Return the run that a machine executes now, if it is one of ours."""
        for run in self._runs.values():
            if run.record.machine == machine_id and run.record.status == "running":
                return run
        return None

    def counts(self) -> dict[str, int]:
        """Return how many of our runs execute and wait."""
        statuses = [run.record.status for run in self._runs.values()]
        return {
            "running": statuses.count("running"),
            "pending": statuses.count("queued") + statuses.count("not-started"),
        }

    def open_runs(self, client_id: str) -> int:
        """Return how many unfinished runs a client has."""
        return sum(run.record.client_id == client_id for run in self._runs.values())

    async def has_runs(self, client_id: str) -> bool:
        """Return whether a client ever started a run."""
        return await self._repository.has_client(client_id)

    def follow(self, follower: Callable[[Run, RunEvent], None]) -> Callable[[], None]:
        """Call ``follower(run, event)`` for every event of every run; returns how to stop."""
        self._followers.add(follower)
        return lambda: self._followers.discard(follower)

    async def interrupt(self, prompt_id: str | None, machine_id: str | None) -> tuple[str, str]:
        """Cancel a run, queued or running.

        Returns
        -------
        tuple of str
            The id of the run, and ``queued`` or ``running``: what it was.

        Raises
        ------
        NotFoundError
            If there is no such run.
        ConflictError
            If it has ended, or if no id was given and nothing runs.
        """
        if prompt_id is None:
            machine = self._machines.get(machine_id)
            run = self.running(machine.id)
            if run is None:
                raise ConflictError(f"No run executes on machine {machine.id!r}")
        else:
            found = self._runs.get(prompt_id)
            if found is None:
                record = await self.record(prompt_id)
                raise ConflictError(
                    f"The run {prompt_id!r} has ended already: {record.status}",
                    details={"prompt_id": prompt_id, "status": record.status},
                )
            if found.record.status == "uploading":
                raise ConflictError(
                    f"The run {prompt_id!r} has been executed and uploads its outputs;"
                    " cancel-uploads stops that",
                    details={"prompt_id": prompt_id, "status": "uploading"},
                )
            run = found
        return run.prompt_id, await self._cancel(run)

    # -- what machines tell ------------------------------------------------------------------

    def machine_event(self, machine: Machine, event: Event | Preview) -> None:
        """Take an event of a machine's ComfyUI."""
        if not isinstance(event, Preview) and event.type == "status":
            self._check_queue(machine, event)
            return
        run = self._runs.get(event.prompt_id) if event.prompt_id is not None else None
        if run is None and event.prompt_id is None:
            # Old previews and progress texts do not name their prompt: it is the one that runs.
            run = self.running(machine.id)
        if run is None or run.record.machine != machine.id or run.ending:
            return
        if isinstance(event, Preview):
            run.see_preview(event)
            return
        if run.see(event):
            self._background(self._repository.save(replace(run.record)))
        if event.type == "executing" and event.data.get("node") is None:
            run.stop_clock()
            self._background(self._conclude(run, machine))

    def machine_connected(self, machine: Machine) -> None:
        """Learn what became of the machine's runs while no events came."""
        self._background(self._reconcile(machine))

    def machine_disconnected(self, machine: Machine) -> None:
        """Note that events of the machine's runs are being missed."""
        for run in self._of(machine):
            run.whole = False

    def machine_ended(self, machine: Machine, reason: str) -> None:
        """End what a dead ComfyUI was executing; what only waited will be queued anew."""
        for run in self._of(machine):
            run.whole = False
            if run.record.status == "running":
                self._background(self._lose(run, reason))

    # -- queueing ----------------------------------------------------------------------------

    async def _check_free(self, prompt_id: str) -> None:
        if prompt_id in self._runs or await self._repository.get(prompt_id) is not None:
            raise ConflictError(
                f"prompt_id: a run {prompt_id!r} exists already",
                details={"field": "prompt_id", "prompt_id": prompt_id},
            )

    def _follow(self, run: Run) -> Run:
        run.listener = self._tell_followers
        run.with_urls = lambda output: with_urls(output, self._view_url, run.record.machine)
        self._runs[run.prompt_id] = run
        return run

    def _tell_followers(self, run: Run, event: RunEvent) -> None:
        for follower in list(self._followers):
            follower(run, event)

    async def _post(
        self, run: Run, client: ComfyUIClient, prompt: bytes, workflow: bytes | None
    ) -> None:
        run.posting = True
        try:
            answer = await client.post_prompt(
                prompt,
                prompt_id=run.prompt_id,
                client_id=self._session.id,
                workflow=workflow,
                front=run.record.front,
            )
        finally:
            run.posting = False
        run.accept(answer.get("number"), answer.get("node_errors") or {})
        if not run.ending:
            self._background(self._repository.save(replace(run.record)))

    async def _refused(self, run: Run, fault: PromptInvalidError) -> None:
        node_errors = fault.extra.get("node_errors") or {}
        node_id = next(iter(node_errors), None)
        error = {
            "type": fault.details.get("type") or fault.code,
            "message": fault.message,
            "node_id": node_id,
            "node_type": node_errors[node_id].get("class_type") if node_id is not None else None,
        }
        fault.extra["prompt_id"] = run.prompt_id
        await self._end(
            run, replace(run.record, status="failed", error=error, node_errors=node_errors)
        )

    async def _unanswered(
        self, run: Run, client: ComfyUIClient, fault: ComfyUIUnavailableError
    ) -> None:
        """Find out whether a prompt whose queueing was not answered is queued all the same."""
        if fault.details.get("sent", True):
            try:
                running, pending = await client.queue()
                entry = await client.history(run.prompt_id)
            except ComfyUIUnavailableError:
                # ComfyUI hangs. The record stays as not started and is judged when it is back.
                fault.extra["prompt_id"] = run.prompt_id
                raise fault from None
            if run.prompt_id in running or run.prompt_id in pending or entry is not None:
                run.accept(None, {})
                if entry is not None:
                    self._background(self._settle(run, entry))
                return
        self._runs.pop(run.prompt_id, None)
        await self._repository.discard(run.prompt_id)
        self._delivery.forget(run.prompt_id)
        raise fault

    # -- ending ------------------------------------------------------------------------------

    async def _conclude(self, run: Run, machine: Machine) -> None:
        """Decide how a run ended that ComfyUI has just stopped executing."""
        if run.succeeded and run.whole:
            await self._end(run, replace(run.record, status="success"))
            return
        client = machine.reachable_client()
        if client is None:
            return
        try:
            entry = await client.history(run.prompt_id)
        except ComfyUIUnavailableError as fault:
            log.warning("The end of run %s is not known yet: %s", run.prompt_id, fault.message)
            return
        if entry is not None:
            await self._settle(run, entry)

    async def _settle(self, run: Run, entry: dict[str, Any]) -> None:
        """End a run as ComfyUI's history has it."""
        if run.whole:
            run.stop_clock()
        record = replace(run.record)
        read_history(record, entry)
        record.finished_at = record.finished_at or utcnow()
        record.started_at = record.started_at or record.created_at
        await self._end(run, record)

    async def _lose(self, run: Run, reason: str) -> None:
        """End a run that died with its ComfyUI."""
        run.stop_clock()
        node = run.current_node
        name = run.name(node) if node is not None else None
        where = f" while {name.title} was executing" if name is not None else ""
        error = {
            "type": "ComfyUIEnded",
            "message": f"{reason}{where}",
            "node_id": node,
            "node_type": name.class_type if name is not None else None,
        }
        await self._end(run, replace(run.record, status="failed", error=error))

    async def _end(self, run: Run, record: RunRecord) -> None:
        """Keep the end of a run, then tell it. The first end counts."""
        if run.ending:
            return
        run.ending = True
        if record.status == "success" and self._delivery.uploads(run.prompt_id):
            self._background(self._upload(run, record))
        else:
            await self._finish(run, record)

    async def _upload(self, run: Run, record: RunRecord) -> None:
        """Upload the outputs of a run that was executed, then end it."""
        run.record = replace(record, status="uploading", finished_at=None)
        try:
            await self._repository.save(run.record)
            run.tell_uploading()
            error = await self._delivery.upload(run)
        except Exception as fault:
            log.exception("The outputs of run %s could not be uploaded", run.prompt_id)
            message = f"The outputs could not be uploaded: {fault}"
            error = {"type": "UploadFailed", "message": message, "node_id": None, "node_type": None}
        status = "success" if error is None else "failed"
        await self._finish(run, replace(run.record, status=status, error=error))

    async def _finish(self, run: Run, record: RunRecord) -> None:
        record.finished_at = record.finished_at or utcnow()
        try:
            await self._repository.save(record)
        except Exception:
            log.exception("The end of run %s could not be stored", run.prompt_id)
        run.record = record
        self._runs.pop(run.prompt_id, None)
        self._recent[run.prompt_id] = run
        while len(self._recent) > KEPT_RUNS:
            self._recent.popitem(last=False)
        run.close(self.reply(record))

    # -- cancelling --------------------------------------------------------------------------

    async def _cancel(self, run: Run) -> str:
        machine = self._machines.find(run.record.machine)
        client = machine.reachable_client() if machine is not None else None
        if client is None:
            # Nobody executes it: the record is all there is of the run.
            was = "running" if run.record.status == "running" else "queued"
            await self._end(run, replace(run.record, status="cancelled"))
            return was
        if run.record.status != "running":
            await client.delete_queued(run.prompt_id)
            running, pending = await client.queue()
            if run.prompt_id not in running and run.prompt_id not in pending:
                entry = await client.history(run.prompt_id)
                if entry is None:
                    await self._end(run, replace(run.record, status="cancelled"))
                    return "queued"
                await self._settle(run, entry)
                raise ConflictError(
                    f"The run {run.prompt_id!r} has ended already: {run.record.status}",
                    details={"prompt_id": run.prompt_id, "status": run.record.status},
                )
        await client.interrupt(run.prompt_id)
        return "running"

    # -- after a gap -------------------------------------------------------------------------

    def _of(self, machine: Machine) -> list[Run]:
        return [
            run
            for run in self._runs.values()
            if run.record.machine == machine.id and run.record.status != "uploading"
        ]

    async def _adopt(self, record: RunRecord) -> None:
        stored = await self._repository.prompt(record.prompt_id)
        graph = json.loads(stored[0]) if stored is not None else {}
        run = self._follow(Run(record, node_names(graph), whole=False))
        if record.attempts:
            run.resume()
        if record.status == "uploading":
            run.ending = True
            self._background(self._upload(run, record))

    def _check_queue(self, machine: Machine, event: Event) -> None:
        """Notice that ComfyUI's queue is shorter than ours: somebody else has changed it."""
        remaining = ((event.data.get("status") or {}).get("exec_info") or {}).get("queue_remaining")
        if isinstance(remaining, int) and remaining < self._expected(machine):
            self._background(self._reconcile(machine))

    def _expected(self, machine: Machine) -> int:
        return sum(
            run.accepted and not run.ending and not run.succeeded for run in self._of(machine)
        )

    async def _reconcile(self, machine: Machine) -> bool:
        """Compare the machine's runs with ComfyUI's queue and history.

        Returns
        -------
        bool
            Whether a run had ended without our hearing of it.
        """
        lock = self._reconciling.setdefault(machine.id, asyncio.Lock())
        async with lock:
            runs = [run for run in self._of(machine) if not run.ending and not run.posting]
            client = machine.reachable_client()
            if not runs or client is None:
                return False
            news = False
            try:
                running, pending = await client.queue()
                missing = []
                for run in runs:
                    if run.prompt_id in running:
                        run.resume()
                        if run.begin():
                            await self._repository.save(replace(run.record))
                    elif run.prompt_id in pending:
                        run.resume()
                    else:
                        missing.append(run)
                for run in missing:
                    news = await self._judge(run, client) or news
            except ComfyUIUnavailableError as fault:
                log.warning("The runs of machine %r cannot be checked: %s", machine.id, fault)
            return news

    async def _judge(self, run: Run, client: ComfyUIClient) -> bool:
        """Decide what became of a run that is not in ComfyUI's queue."""
        entry = await client.history(run.prompt_id)
        if entry is not None:
            if run.ending:
                return False
            await self._settle(run, entry)
            return True
        if run.ending or run.posting or (run.succeeded and run.whole):
            return False
        running, pending = await client.queue()
        if run.prompt_id in running or run.prompt_id in pending:
            return False  # it was queued in the meantime
        if run.record.status == "running":
            await self._lose(run, "ComfyUI restarted or forgot the run")
        elif not run.accepted:
            await self._lose(run, "The run was not handed to ComfyUI before Jupyter stopped")
        elif run.whole:
            await self._end(run, replace(run.record, status="cancelled"))
        elif run.record.attempts >= MAX_ATTEMPTS:
            await self._lose(run, f"ComfyUI ended {run.record.attempts} times before the run began")
        else:
            await self._queue_anew(run, client)
        return True

    async def _queue_anew(self, run: Run, client: ComfyUIClient) -> None:
        stored = await self._repository.prompt(run.prompt_id)
        if stored is None:
            await self._lose(run, "The graph of the run is not in the store")
            return
        log.info("ComfyUI restarted; run %s is queued anew", run.prompt_id)
        run.restart()
        run.record.session = self._session.id
        try:
            await self._post(run, client, *stored)
        except PromptInvalidError as fault:
            await self._refused(run, fault)

    async def _watch(self) -> None:
        """Notice what no event tells: lost machines, lost sockets, runs of dead servers."""
        while True:
            await asyncio.sleep(WATCH_EVERY)
            for machine in self._machines:
                try:
                    await self._watch_machine(machine)
                except ComfyDeployError as fault:
                    log.debug("Machine %r cannot be checked: %s", machine.id, fault)
                except Exception:
                    log.exception("The watch over machine %r failed", machine.id)

    async def _watch_machine(self, machine: Machine) -> None:
        runs = self._of(machine)
        connection = machine.connection
        if not runs:
            return
        if not machine.connected:
            away = time.monotonic() - machine.disconnected_at
            for run in runs:
                limit = LOST_AFTER if run.record.status == "running" else GONE_AFTER
                if away > limit and not run.posting:
                    await self._lose(run, f"ComfyUI has been unreachable for {away:.0f} s")
            return
        assert connection is not None
        strangers = any(run.record.session != self._session.id for run in runs)
        silent = time.monotonic() - connection.last_heard > SILENCE
        if not strangers and not silent:
            return
        client = machine.reachable_client()
        if client is None:
            return
        if not strangers and await client.queue_remaining() >= self._expected(machine):
            return
        if await self._reconcile(machine) and silent and not strangers:
            # A run ended and we heard nothing: ComfyUI has lost our socket.
            await connection.reconnect()

    def _background(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("A step of a run failed", exc_info=task.exception())
