"""The life of runs in any order of events, losses, restarts, cancellations, deaths and faults."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from comfydeploy_jupyter.comfyui.events import Unread
from comfydeploy_jupyter.errors import ComfyDeployError, NotFoundError
from comfydeploy_jupyter.machines.registry import MachineRegistry
from comfydeploy_jupyter.runs.lifecycle import (
    EXECUTING,
    OPEN,
    OVER,
    POSTING,
    RECOVERED,
    STATUS,
    TABLE,
    TRANSITIONS,
    UNFINISHED,
    Cause,
    State,
)
from comfydeploy_jupyter.runs.service import RunService
from comfydeploy_jupyter.schemas import RunRequest
from comfydeploy_jupyter.store.runs import FINAL, RunRecord
from tests.jupyter_process import REPOSITORY

from .fake_comfyui import FakeComfyUI, FakeDelivery, FakeStore, VirtualLoop

if TYPE_CHECKING:
    from comfydeploy_jupyter.runs.log import RunEvent
    from comfydeploy_jupyter.runs.run import Run

GRAPH = {"1": {"class_type": "X", "inputs": {}}}
LOST_AFTER, GONE_AFTER = 30.0, 600.0
ORDER = ["not-started", "queued", "running", "uploading", *FINAL]
RANK = {status: min(place, 4) for place, status in enumerate(ORDER)}
TOLD = (State.QUEUED, State.UPLOADING, *OVER)  # where the first message has been told


def validate(run: Run) -> None:
    """Fail where what is known of a run cannot be so in its state."""
    state, record = run.state, run.record
    over = state in OVER
    # Events may overtake ComfyUI's answer: a run that executes may still wait for it.
    assert run.answered.is_set() or state in (*POSTING, *EXECUTING)
    assert not run.answered.is_set() or state not in POSTING
    assert run.settled.is_set() or state not in (State.UPLOADING, *OVER)
    assert run.ended.is_set() == run.log.closed == (record.status in FINAL) == over
    assert (run.outcome is not None) == (state is State.ENDING)
    assert record.status == STATUS.get(state, record.status)
    assert record.status != "uploading" or state in (State.UPLOADING, State.ENDING)
    assert run.first_told or state not in TOLD
    assert record.started_at is not None or record.status != "running"
    assert len(record.story) <= 100


class World:
    """A Jupyter server, which may be killed, its store and its ComfyUI.

    All that is told of runs is compared with what was told before, and with the store.
    """

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.store = FakeStore()
        self.comfyui = FakeComfyUI()
        self.delivery = FakeDelivery()
        self.told: dict[str, str] = {}  # the last status of each run that anybody was told
        self.ends: dict[str, int] = defaultdict(int)
        self.ids: dict[str, int] = {}  # the last event of each run
        self.faults: list[str] = []
        self.waiting: dict[str, asyncio.Task[None]] = {}
        self.runs: list[Run] = []
        self.serve()

    def serve(self) -> None:
        registry = MachineRegistry()
        machine: Any = self.comfyui.machine
        registry.add(machine)
        store: Any = self.store
        session: Any = SimpleNamespace(id="s", claimed=frozenset(["s"]))
        delivery: Any = self.delivery
        self.service = RunService(
            store,
            registry,
            session,
            delivery,
            stored_version=self.no_version,
            view_url="view",
            lost_after=LOST_AFTER,
            gone_after=GONE_AFTER,
        )
        self.comfyui.listener = self.service.listener
        self.service.follow(self.hear)
        self.do(self.service.open())

    async def no_version(self, *_: object) -> dict[str, Any]:
        raise NotFoundError("there is none")

    def hear(self, run: Run, event: RunEvent) -> None:
        prompt_id = run.prompt_id
        if event.id <= self.ids.get(prompt_id, 0):
            self.faults.append(f"{prompt_id}: event {event.id} comes again")
        self.ids[prompt_id] = event.id
        if event.event == "status":
            self.ends[prompt_id] += 1
            stored = self.store.rows.get(prompt_id)
            is_stored = stored is not None and stored.status == run.record.status
            if not is_stored and prompt_id not in self.store.refused:
                self.faults.append(f"{prompt_id}: its end is told and not stored")

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def tick(self, seconds: float) -> None:
        self.do(asyncio.sleep(seconds))

    def call(self, function: Any, *arguments: Any) -> None:
        """Call what needs the event loop to run."""

        async def called() -> None:
            function(*arguments)
            await asyncio.sleep(0)

        self.do(called())

    def submit(self, **fields: Any) -> str:
        prompt_id = f"run-{len(self.waiting)}"
        request = RunRequest(workflow_api=GRAPH, prompt_id=prompt_id, **fields)
        self.waiting[prompt_id] = self.loop.create_task(self._submit(request))
        return prompt_id

    async def _submit(self, request: RunRequest) -> None:
        """Do what ``POST run`` does."""
        wait = request.wait is not False
        try:
            run = await self.service.submit(request, small=True, told_at_end=wait)
        except ComfyDeployError:
            return
        self.runs.append(run)
        if wait:
            await run.ended.wait()

    def cancel(self, prompt_id: str) -> None:
        async def ask() -> None:
            try:
                await self.service.interrupt(prompt_id, None)
            except ComfyDeployError:
                return

        self.waiting[f"cancel-{len(self.waiting)}"] = self.loop.create_task(ask())

    def kill(self) -> None:
        """End the server as ``kill -9`` does, and start another one."""
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.tick(0)
        self.runs.clear()
        self.store.failing = False
        self.serve()

    def check(self) -> None:
        assert self.faults == []
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
                continue  # what was told of it may be lost with the server
            before = self.told.get(prompt_id, "not-started")
            assert RANK[record.status] >= RANK[before], f"{prompt_id}: {before} -> {record.status}"
            assert before not in FINAL or record.status == before, f"{prompt_id}: its end moves"
            self.told[prompt_id] = record.status
            assert self.ends[prompt_id] <= 1, f"{prompt_id}: it ends twice"

    def mend(self) -> None:
        """Let everything work again, and ComfyUI execute all that it has."""
        self.store.failing = False
        self.comfyui.answer, self.comfyui.refuses = "taken", False
        self.comfyui.start()
        self.call(self.comfyui.connect)
        for _ in range(3 + 3 * len(self.waiting)):
            self.call(self.comfyui.begin)
            self.tick(5.0)
            self.call(self.comfyui.finish, "execution_success")
            self.tick(15.0)

    def close(self) -> None:
        self.do(self.service.close())
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.tick(0)
        self.loop.close()


class Life(RuleBasedStateMachine):
    """Whatever happens to a world in whatever order."""

    @initialize()
    def begin(self) -> None:
        self.world = World()

    @rule(
        wait=st.booleans(),
        timeout=st.sampled_from([None, None, 0.5]),
        uploads=st.booleans(),
        answer=st.sampled_from(["taken", "taken", "slow", "lost", "late", "ignored", "refused"]),
        pause=st.sampled_from([0.0, 0.0015, 0.0025, 0.01, 0.6]),
    )
    def submit(
        self, wait: bool, timeout: float | None, uploads: bool, answer: str, pause: float
    ) -> None:
        self.world.comfyui.answer = answer
        prompt_id = self.world.submit(wait=wait, timeout=timeout)
        if uploads:
            self.world.delivery.uploading.add(prompt_id)
        self.world.tick(pause)

    @rule(
        begins=st.booleans(),
        end=st.sampled_from([None, "success", "success", "error", "interrupted"]),
        told=st.booleans(),
    )
    def comfyui_works(self, begins: bool, end: str | None, told: bool) -> None:
        """What it does before a connection that breaks now is not ``told``."""
        comfyui = self.world.comfyui
        if not told:
            self.world.call(comfyui.disconnect)
        if begins:
            self.world.call(comfyui.begin)
        if end is not None:
            self.world.call(comfyui.finish, f"execution_{end}")
        if not told:
            self.world.call(comfyui.connect)

    @precondition(lambda self: self.world.waiting)
    @rule(data=st.data(), pause=st.sampled_from([0.0, 0.0015, 0.01]))
    def cancel(self, data: st.DataObject, pause: float) -> None:
        runs = [name for name in self.world.waiting if name.startswith("run-")]
        self.world.cancel(data.draw(st.sampled_from(runs)))
        self.world.tick(pause)

    @rule(
        what=st.sampled_from(
            [
                "connection breaks",
                "connection is back",
                "ComfyUI dies",
                "ComfyUI is started",
                "HTTP is refused",
                "HTTP is answered",
                "others clear the queue",
                "an event is too large",
                "Jupyter is killed",
                "the store fails",
                "the store is well",
            ]
        )
    )
    def something_happens(self, what: str) -> None:
        world, comfyui = self.world, self.world.comfyui
        if what == "connection breaks":
            world.call(comfyui.disconnect)
        elif what == "connection is back":
            world.call(comfyui.connect)
        elif what == "ComfyUI dies":
            world.call(comfyui.die)
        elif what == "ComfyUI is started":
            comfyui.start()
            world.call(comfyui.connect)
        elif what in ("HTTP is refused", "HTTP is answered"):
            comfyui.refuses = what == "HTTP is refused"
        elif what == "others clear the queue":
            world.call(comfyui.clear)
        elif what == "an event is too large":
            world.call(world.service.listener.machine_event, comfyui.machine, Unread(1))
        elif what == "Jupyter is killed":
            world.kill()
        else:
            world.store.failing = what == "the store fails"

    @rule(seconds=st.sampled_from([0.0, 0.0015, 0.3, 1.0, 5.0, 40.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.tick(seconds)

    @invariant()
    def all_is_well(self) -> None:
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.mend()
        self.world.check()
        for name, task in self.world.waiting.items():
            assert task.done(), f"{name} waits for ever"
        assert not self.world.service.at_work
        self.world.close()


TestLife = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")(
    Life.TestCase
)
Life.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


GROUPS = {OPEN: "every open state", UNFINISHED: "every unfinished state"}


def drawn() -> str:
    """Return the states and transitions as ``docs/architecture.md`` shows them."""
    diagram = ["```mermaid", "stateDiagram-v2", "  [*] --> received", "  state open {"]
    diagram += [f"    {state.value}" for state in OPEN]
    diagram += ["  }"]
    rows = ["| from | cause | to | stored | told |", "|---|---|---|---|---|"]
    for row in TRANSITIONS:
        sources = GROUPS.get(row.sources) or ", ".join(s.value for s in row.sources)
        to = "stays" if row.to is None else row.to.value
        cells = (sources, row.cause.value, to, row.saved.value, row.told.value)
        rows.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
        if row.to is not None:
            begins = ["open"] if row.sources == OPEN else [s.value for s in row.sources]
            diagram += [f"  {begin} --> {to}: {row.cause.value}" for begin in begins]
    recovered = [f"  [*] --> {s.value}: {Cause.RECOVERED.value}" for s in RECOVERED.values()]
    ends = [f"  {state.value} --> [*]" for state in OVER]
    return "\n".join([*diagram, *recovered, *ends, "```", "", *rows])


def test_the_drawing_shows_the_table() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert drawn() in text


def test_each_state_is_explained() -> None:
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^- \*\*(\w+)\*\*: ", text, re.MULTILINE)) >= {s.value for s in State}


def test_each_state_can_be_reached_and_left() -> None:
    reached = {State.RECEIVED, *RECOVERED.values(), *(row.to for row in TRANSITIONS if row.to)}
    left = {source for row in TRANSITIONS if row.to is not None for source in row.sources}
    assert reached == {*State}
    assert left == {*State} - {*OVER}
    assert len(TABLE) == sum(len(row.sources) for row in TRANSITIONS), "a row hides another one"


def test_each_cause_is_explained_where_stories_are() -> None:
    text = (REPOSITORY / "docs" / "routes.md").read_text(encoding="utf-8")
    causes = {row.cause.value for row in TRANSITIONS if row.in_story}
    assert {cause for cause in causes if f"`{cause}`" not in text} == set()
