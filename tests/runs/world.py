"""The runs of a Jupyter server with a simulated ComfyUI and store."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from comfydeploy_jupyter.comfyui.socket import OversizedEvent
from comfydeploy_jupyter.compat.comfy_account import ComfyAccount
from comfydeploy_jupyter.compat.comfydeploy import Credentials
from comfydeploy_jupyter.errors import ComfyDeployError, NotFoundError
from comfydeploy_jupyter.machines.outputs import KeptOutputs
from comfydeploy_jupyter.machines.registry import MachineRegistry, Pool
from comfydeploy_jupyter.request_models import RunRequest
from comfydeploy_jupyter.runs.inputs import PoolInputs
from comfydeploy_jupyter.runs.records import FINAL, RunRecord
from comfydeploy_jupyter.runs.service import RunService
from comfydeploy_jupyter.runs.state import (
    EXECUTING,
    MAX_ATTEMPTS,
    OVER,
    POSTING,
    STATUS,
    Cause,
    State,
)

from .fake_comfyui import FakeComfyUI, FakeDeletions, FakeDelivery, FakeStore, Pauses, VirtualLoop

if TYPE_CHECKING:
    from comfydeploy_jupyter.runs.feed import RunEvent
    from comfydeploy_jupyter.runs.run import Run

NO_ACCOUNT = ComfyAccount(Credentials(Path("none")), Credentials(Path("none")), None)
GRAPH = {"1": {"class_type": "X", "inputs": {}}}
NEEDING = {"1": {"class_type": "X", "inputs": {"text": ""}}}
POOLS = ("gpus", "auto")
LOST_AFTER, GONE_AFTER = 30.0, 600.0
ORDER = ["not-started", "queued", "running", "uploading", *FINAL]
RANK = {status: min(place, 4) for place, status in enumerate(ORDER)}
HAPPENINGS = (
    "connection breaks",
    "connection is back",
    "ComfyUI dies",
    "ComfyUI is started",
    "HTTP is refused",
    "HTTP is answered",
    "ComfyUI hangs",
    "ComfyUI hangs no more",
    "others clear the queue",
    "an event is too large",
    "Jupyter is killed",
    "the store fails",
    "the store is well",
)
SUDDEN = ("connection breaks", "ComfyUI dies", "Jupyter is killed")
SENT = (State.QUEUED, State.UPLOADING, *OVER)  # states in which the first message has been sent


def validate(run: Run) -> None:
    """Fail if the data of a run is not possible in its state."""
    state, record = run.state, run.record
    over = state in OVER
    # Events may arrive before ComfyUI's reply: an executing run may still wait for the reply.
    assert run.answered.is_set() or state in (*POSTING, *EXECUTING)
    assert not run.answered.is_set() or state not in POSTING
    assert run.settled.is_set() or state not in (State.UPLOADING, *OVER)
    assert run.ended.is_set() == run.log.closed == (record.status in FINAL) == over
    assert (run.outcome is not None) == (state is State.ENDING)
    assert record.status == STATUS.get(state, record.status)
    assert record.status != "uploading" or state in (State.UPLOADING, State.ENDING)
    assert run.first_sent or state not in SENT
    assert record.started_at is not None or record.status != "running"
    assert len(record.story) <= 100


class World:
    """A Jupyter server that can be killed, its store and its two ComfyUIs, which are a pool.

    All messages about runs are compared with earlier messages, and with the store. Input files of
    runs of pools are in ``kept``.
    """

    def __init__(self, kept: Path = Path("/nonexistent")) -> None:
        self.kept = kept
        self.loop = VirtualLoop()
        self.pauses = Pauses()
        self.store = FakeStore(self.pauses)
        self.comfyui = FakeComfyUI(pauses=self.pauses)
        self.second = FakeComfyUI("second", self.pauses)
        self.comfyuis = (self.comfyui, self.second)
        self.executed: dict[str, int] = {}  # executions of runs that are stored as executing
        self.delivery = FakeDelivery()
        self.sent: dict[str, str] = {}  # the last status of each run that was sent to anybody
        self.ends: dict[str, int] = defaultdict(int)
        self.ids: dict[str, int] = {}  # the last event of each run
        self.faults: list[str] = []
        self.errors: dict[str, ComfyDeployError] = {}  # the results in replies to requests
        self.waiting: dict[str, asyncio.Task[None]] = {}
        self.retried: set[str] = set()  # runs that may be executed again
        self.blamed: Counter[str] = Counter()  # exits that this server has seen before a start
        for comfyui in self.comfyuis:
            comfyui.posted = self.posted
        self.serve()

    def serve(self) -> None:
        self.registry = registry = MachineRegistry()
        for comfyui in self.comfyuis:
            machine: Any = comfyui.machine
            registry.add(machine)
        registry.set_pool(Pool("gpus", "gpus", members=("local", "second")))
        store: Any = self.store
        deletions: Any = FakeDeletions()
        session: Any = SimpleNamespace(id="s", claimed=frozenset(["s"]))
        delivery: Any = self.delivery
        settings: Any = SimpleNamespace(
            comfyui_lost_after=LOST_AFTER, comfyui_gone_after=GONE_AFTER
        )
        self.service = RunService(
            store,
            deletions,
            registry,
            session,
            delivery,
            KeptOutputs(Path("/nowhere"), registry),
            stored_version=self.no_version,
            inputs=PoolInputs(registry, self.kept),
            view_url="view",
            account=NO_ACCOUNT,
            settings=settings,
        )
        for comfyui in self.comfyuis:
            comfyui.listener = self.service.listener
        self.service.active.follow(self.receive)
        self.do(self.service.open())

    async def no_version(self, *_: object) -> dict[str, Any]:
        raise NotFoundError("there is none")

    def receive(self, run: Run, event: RunEvent) -> None:
        prompt_id = run.prompt_id
        if event.id <= self.ids.get(prompt_id, 0):
            self.faults.append(f"{prompt_id}: event {event.id} comes again")
        self.ids[prompt_id] = event.id
        if event.event == "status":
            self.ends[prompt_id] += 1
            self.check_end(run.record)
            stored = self.store.rows.get(prompt_id)
            is_stored = stored is not None and stored.status == run.record.status
            if not is_stored and prompt_id not in self.store.refused:
                self.faults.append(f"{prompt_id}: its end is sent and not stored")

    def check_end(self, record: RunRecord) -> None:
        """Compare the reason why a run has failed with what has happened."""
        prompt_id, error = record.prompt_id, record.error or {}
        if error.get("type") == "InputFailed":
            return  # it says why another run has failed
        prompts = [prompt for prompt, run in self.store.runs.items() if run == prompt_id]
        exits = sum(comfyui.endangered[prompt] for comfyui in self.comfyuis for prompt in prompts)
        if "about to begin" in error.get("message", "") and exits < MAX_ATTEMPTS:
            self.faults.append(f"{prompt_id}: it is blamed for exits during other runs")
        for comfyui in self.comfyuis:
            since = self.loop.time() - (comfyui.troubled_at or 0.0)
            if record.comfyui_id not in comfyui.prompts or error.get("type") != "ComfyUIEnded":
                continue
            if comfyui.hangs and since < GONE_AFTER - 5.0:
                self.faults.append(f"{prompt_id}: it is given up although ComfyUI only hangs")
            if comfyui.is_well and self.loop.time() - comfyui.well_since > 10.0:
                self.faults.append(f"{prompt_id}: it is given up although ComfyUI has it")

    def posted(self, comfyui_id: str) -> None:
        """Fail if a prompt is sent that was cancelled, or that has made ComfyUI exit too often."""
        for row in self.store.rows.values():
            if row.comfyui_id == comfyui_id and row.cancelling:
                self.faults.append(f"{row.prompt_id}: it is sent although it was cancelled")
            ends = [self.store.rows[each["run"]].status for each in row.needs]
            known = self.store.refused.isdisjoint(each["run"] for each in row.needs)
            if row.comfyui_id == comfyui_id and known and {*ends} - {"success"}:
                self.faults.append(f"{row.prompt_id}: it is sent without what it needs")
        if self.blamed[comfyui_id] >= MAX_ATTEMPTS:
            self.faults.append(f"{comfyui_id}: it makes ComfyUI exit again and again")

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def tick(self, seconds: float) -> None:
        self.do(asyncio.sleep(seconds))

    def call(self, function: Any, *arguments: Any) -> None:
        """Call a function that needs the running event loop."""

        async def called() -> None:
            function(*arguments)
            await asyncio.sleep(0)

        self.do(called())

    def submit(self, **fields: Any) -> str:
        prompt_id = f"run-{len(self.waiting)}"
        if fields.get("retry") and fields.get("machine") in POOLS:
            self.retried.add(prompt_id)
        request = RunRequest(**{"workflow_api": GRAPH, "prompt_id": prompt_id, **fields})
        self.waiting[prompt_id] = self.loop.create_task(self._submit(request))
        return prompt_id

    async def _submit(self, request: RunRequest) -> None:
        """Submit a run like ``POST run``."""
        wait = request.wait is not False
        try:
            run = await self.service.submit(request, reply_at_end=wait)
        except ComfyDeployError as fault:
            self.errors[str(request.prompt_id)] = fault
            return
        if wait:
            await run.ended.wait()

    def chain(self, *needed: str, **fields: Any) -> str:
        """Submit a run that needs the texts of others."""
        rows = [{"$output": {"run": run, "file": "1.text[0]"}} for run in needed]
        text = rows[0] if len(rows) == 1 else rows
        chained = {"workflow_api": NEEDING, "inputs": {"text": text}, "wait": False}
        return self.submit(**chained, **fields)

    def cancel(self, prompt_id: str) -> None:
        async def interrupt() -> None:
            try:
                await self.service.interrupt(prompt_id, None)
            except ComfyDeployError:
                return

        self.waiting[f"cancel-{len(self.waiting)}"] = self.loop.create_task(interrupt())

    def put(self, prompt_id: str, *, first: bool) -> None:
        """Put a run first or last in its queue."""

        async def move() -> None:
            with suppress(ComfyDeployError):
                await self.service.put([prompt_id], first=first)

        self.waiting[f"put-{len(self.waiting)}"] = self.loop.create_task(move())

    def kill(self) -> None:
        """End the server as by ``kill -9``, and start another one."""
        for timer in self.loop.timers:
            if all(timer not in comfyui.timers for comfyui in self.comfyuis):
                timer.cancel()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.tick(0)
        self.store.failing = False
        for comfyui in self.comfyuis:
            comfyui.held.clear()  # the next server does not know of them
        self.blamed.clear()
        connected = [comfyui for comfyui in self.comfyuis if comfyui.connected]
        for comfyui in connected:
            comfyui.connected = False
            comfyui.machine.disconnected_at = self.loop.time()
        self.serve()
        for comfyui in connected:
            self.call(comfyui.connect)

    def happens(self, what: str, comfyui: FakeComfyUI | None = None) -> None:
        comfyui = comfyui or self.comfyui
        match what:
            case "connection breaks":
                self.call(comfyui.disconnect)
            case "connection is back":
                self.call(comfyui.connect)
            case "ComfyUI dies":
                run = self.next_run(comfyui)
                self.call(comfyui.die)
                self.blamed.update([] if run is None else [run.comfyui_id])
            case "ComfyUI is started":
                comfyui.start()
                self.call(comfyui.connect)
            case "HTTP is refused" | "HTTP is answered":
                comfyui.refuses = what == "HTTP is refused"
                comfyui.well_since = self.loop.time()
            case "ComfyUI hangs" | "ComfyUI hangs no more":
                comfyui.hangs = what == "ComfyUI hangs"
                comfyui.well_since = self.loop.time()
            case "others clear the queue":
                self.call(comfyui.clear)
            case "an event is too large":
                self.call(self.service.listener.machine_event, comfyui.machine, OversizedEvent())
            case "Jupyter is killed":
                self.kill()
            case "the store fails" | "the store is well":
                self.store.failing = what == "the store fails"
        for each in self.comfyuis:
            each.troubled_at = None if each.is_well else (each.troubled_at or self.loop.time())

    def next_run(self, comfyui: FakeComfyUI) -> Run | None:
        """Return the only queued run of a ComfyUI, if it is about to begin."""
        waiting = comfyui.waiting if comfyui.alive and comfyui.connected else []
        runs = [run for run in map(self.service.find, self.waiting) if run is not None]
        there = [run for run in runs if run.record.machine == comfyui.machine.id]
        queued = [run for run in there if run.record.status in ("queued", "running")]
        alone = [run.comfyui_id for run in queued] == waiting and len(waiting) == 1
        return queued[0] if alone and queued[0].state is State.QUEUED else None

    def remove(self, comfyui: FakeComfyUI) -> None:
        """Remove a machine whose end its provider has reported; it sends nothing more."""

        def left() -> None:
            comfyui.connected = False
            self.service.listener.machine_ended(comfyui.machine, "Its lease has ended", gone=True)
            comfyui.machine.closed = True
            self.registry.remove(comfyui.machine.id)

        self.call(left)

    def check(self) -> None:
        assert self.faults == [], self.faults
        known = [self.service.find(prompt_id) for prompt_id in self.waiting]
        for run in known:
            if run is not None:
                validate(run)
        for prompt_id in self.waiting:
            try:
                record: RunRecord = self.do(self.service.record(prompt_id))
            except ComfyDeployError:
                continue
            if prompt_id in self.store.refused:
                continue  # its messages may be lost with the server
            stored = self.store.rows.get(prompt_id, RunRecord("", "", "", ""))
            is_stored = RANK[stored.status] >= RANK[record.status]
            assert is_stored, f"{prompt_id}: it is read as {record.status} before that is stored"
            before = self.sent.get(prompt_id, "not-started")
            if any(entry[1] == Cause.MOVED.value for entry in record.story):
                self.retried.add(prompt_id)
            again = record.status == "queued" and before == "running" and prompt_id in self.retried
            assert RANK[record.status] >= RANK[before] or again, (
                f"{prompt_id}: {before} -> {record.status}"
            )
            assert before not in FINAL or record.status == before, f"{prompt_id}: its end changes"
            self.sent[prompt_id] = record.status
            assert self.ends[prompt_id] <= 1, f"{prompt_id}: it ends twice"
        self.check_executions()
        self.check_held()
        self.check_counts()

    def check_counts(self) -> None:
        """Fail if runs are not counted as what they are."""
        active = self.service.active
        places = ["gpus", *(comfyui.machine.id for comfyui in self.comfyuis)]
        for place in places:
            here = active.on(place)
            statuses = [run.record.status for run in here]
            queued = [run.record for run in here if run.record.status == "queued"]
            queued.sort(key=lambda record: math.inf if record.number is None else record.number)
            assert [run_id for *_, run_id in active.turns(place)] == [r.prompt_id for r in queued]
            for record in queued:
                before = [r for r in queued if r.number is not None]
                if record.number is not None:
                    before = [r for r in before if r.number < record.number]
                assert active.before(place, record) == len(before)
            assert active.executes(place) == ("running" in statuses)
            assert active.count_on(place) == len(here) - statuses.count("uploading")
            assert active.in_comfyui(place) == sum(run.should_be_queued for run in here)
        begun = {run for run in active if run.record.status in ("running", "uploading")}
        assert {*active.begun()} == begun
        shown = self.service.open_runs(0, len(active))
        assert {each["prompt_id"] for each in shown} == {run.prompt_id for run in active}
        places = [each["position"] for each in shown if each["position"] is not None]
        assert places == sorted(places)
        for each in shown:
            run = active.get(each["prompt_id"])
            assert run is not None
            if run.state is State.WAITING:
                place = self.service.queue_position(run.record)
                assert each["position"] in (place, None)  # none while it is handed over
        statuses = [run.record.status for run in active]
        assert active.counts() == {
            "running": statuses.count("running"),
            "pending": statuses.count("queued") + statuses.count("not-started"),
        }

    def check_held(self) -> None:
        """Fail if a ComfyUI was let execute a prompt that arrived after its run was given up."""
        for comfyui in self.comfyuis:
            for prompt in comfyui.held_executed:
                row = self.store.rows[self.store.runs[prompt]]
                has_it = (row.machine, row.comfyui_id) == (comfyui.machine.id, prompt)
                known = has_it and (row.error or {}).get("type") != "NotQueued"
                assert known, f"{row.prompt_id}: it was given up, and executed after all"

    def check_executions(self) -> None:
        """Fail if a run that is known to execute is executed again, or is in two ComfyUIs."""
        for prompt_id, row in self.store.rows.items():
            count = sum(comfyui.executions[row.comfyui_id] for comfyui in self.comfyuis)
            known = self.executed.get(prompt_id, count)
            if prompt_id not in self.retried:
                assert count <= known, f"{prompt_id}: it is executed again"
            if row.status in ("running", "uploading", "success"):
                self.executed[prompt_id] = max(count, 1)
            over = row.status == "cancelled" and row.story[-1][1] == Cause.WITHDRAWN.value
            never = (row.error or {}).get("type") == "NotQueued"
            prompts = [prompt for comfyui in self.comfyuis for prompt in comfyui.prompts]
            having = [prompt for prompt in prompts if prompt == row.comfyui_id]
            held = any(row.comfyui_id in comfyui.held for comfyui in self.comfyuis)
            assert not having or held or not (over or never), (
                f"{prompt_id}: ComfyUI has it after its end"
            )
            assert len(having) <= 1, f"{prompt_id}: ComfyUI has it twice"

    def end_faults(self) -> None:
        """End all simulated errors."""
        self.store.failing = False
        for comfyui in self.comfyuis:
            if not comfyui.is_well:
                comfyui.well_since = self.loop.time()
            comfyui.answer, comfyui.refuses, comfyui.hangs = "taken", False, False
            comfyui.start()
            self.call(comfyui.connect)
            comfyui.troubled_at = None

    def finish(self) -> None:
        """End all simulated errors, and let both ComfyUIs execute all their prompts."""
        self.tick(3.0)  # what ComfyUI will do happens before
        self.end_faults()
        for _ in range(3 + 3 * len(self.waiting)):
            for comfyui in self.comfyuis:
                self.call(comfyui.begin)
            self.tick(5.0)
            for comfyui in self.comfyuis:
                self.call(comfyui.finish, "execution_success")
            self.tick(15.0)
            if not (self.service.at_work or any(comfyui.prompts for comfyui in self.comfyuis)):
                break

    def unfinished(self) -> str:
        """Return which runs have not ended."""
        rows = self.store.rows.values()
        ids = [row.prompt_id for row in rows if row.status not in FINAL]
        return f"{', '.join(ids) or 'a step'}: there is no end"

    def close(self) -> None:
        self.do(self.service.close())
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.tick(0)
        self.loop.close()
