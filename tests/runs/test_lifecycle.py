"""Runs with random orders of events, lost messages, restarts, cancellations, kills and errors."""

import asyncio
import os
import re
from collections import Counter
from cProfile import Profile
from functools import partial
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from comfydeploy_jupyter.errors import ConflictError, NotFoundError, StoreUnavailableError
from comfydeploy_jupyter.request_models import RunRequest
from comfydeploy_jupyter.runs.records import FINAL
from comfydeploy_jupyter.runs.state import (
    KEPT_FIRST,
    MAX_DETAIL,
    MAX_ENTRIES,
    OPEN,
    OVER,
    RECOVERED,
    TABLE,
    TRANSITIONS,
    UNFINISHED,
    State,
    add_entry,
)
from tests.helpers.processes import REPOSITORY
from tests.helpers.selection import examples

from .fake_comfyui import LATENCY
from .world import GONE_AFTER, GRAPH, HAPPENINGS, LOST_AFTER, SUDDEN, World


@pytest.fixture(autouse=True)
def no_hidden_errors():
    """Errors of the store are in the log as errors; `World` checks for others."""


ANSWERS = ("taken", "taken", "slow", "lost", "late", "held", "ignored", "refused")
BEFORE_A_START = [
    ("ComfyUI dies", 0.0),
    ("ComfyUI dies", 0.3),
    ("connection breaks", 0.3),
    ("connection is back", 0.05),
    ("Jupyter is killed", 0.1),
    ("nothing", 0.05),
]


class Life(RuleBasedStateMachine):
    """Random changes of a `World` in random order."""

    @initialize(seed=st.none() | st.integers(0, 2**32))
    def begin(self, seed):
        self.world = World()
        self.world.pauses.random = None if seed is None else Random(seed)

    @rule(
        well=st.sampled_from([True, True, False]),
        uploads=st.booleans(),
        answer=st.sampled_from(ANSWERS),
        pause=st.sampled_from([0.0, 0.01, 0.03, 0.05, 0.1, 0.6]),
        fields=st.fixed_dictionaries(
            {
                "wait": st.booleans(),
                "timeout": st.sampled_from([None, None, 0.5]),
                "machine": st.sampled_from([None, "gpus", "gpus", "auto", "second"]),
                "retry": st.sampled_from([0, 0, 1]),
                "front": st.booleans(),
            }
        ),
    )
    def submit(self, well, uploads, answer, pause, fields):
        if well:
            self.world.end_faults()
        for comfyui in self.world.comfyuis:
            comfyui.answer = answer
        prompt_id = self.world.submit(**fields)
        if uploads:
            self.world.delivery.uploading.add(prompt_id)
        self.world.tick(pause)

    @rule(
        connected=st.booleans(),
        meanwhile=st.sampled_from(["nothing", "nothing", *HAPPENINGS, *SUDDEN]),
        end=st.sampled_from([None, "success", "success", "error", "interrupted"]),
        pause=st.sampled_from([0.0, 0.01, 0.01, 0.03]),
        afterwards=st.sampled_from(["nothing", "nothing", *HAPPENINGS, *SUDDEN * 3]),
        second=st.booleans(),
        before=st.sampled_from([None, None, *BEFORE_A_START]),
    )
    def comfyui_works(
        self,
        before,
        connected,
        meanwhile,
        end,
        pause,
        afterwards,
        second,
    ):
        """Execute the next prompt; its events are lost if ComfyUI is not ``connected``."""
        comfyui = self.world.comfyuis[second]
        if not connected:
            self.world.call(comfyui.disconnect)
        if before is not None:
            self.world.call(comfyui.pick)
            self.world.happens(before[0], comfyui)
            self.world.tick(before[1])
        self.world.call(comfyui.begin)
        self.world.happens(meanwhile, comfyui)
        if end is not None:
            self.world.call(comfyui.finish, f"execution_{end}")
        if not connected:
            self.world.call(comfyui.connect)
        self.world.tick(pause)
        self.world.happens(afterwards, comfyui)

    @precondition(lambda self: self.world.waiting)
    @rule(data=st.data(), pause=st.sampled_from([0.0, 0.01, 0.03, 0.1]))
    def cancel(self, data, pause):
        runs = [name for name in self.world.waiting if name.startswith("run-")]
        self.world.cancel(data.draw(st.sampled_from(runs)))
        self.world.tick(pause)

    @precondition(lambda self: self.world.waiting)
    @rule(data=st.data(), first=st.booleans(), pause=st.sampled_from([0.0, 0.01, 0.03, 0.1]))
    def put(self, data, first, pause):
        runs = [name for name in self.world.waiting if name.startswith("run-")]
        self.world.put(data.draw(st.sampled_from(runs)), first=first)
        self.world.tick(pause)

    @rule(
        what=st.sampled_from(["pick", "begin", "die", "disconnect", "clear", "execution_success"]),
        after=st.sampled_from([0.005, 0.01, 0.03, 0.05, 0.07, 0.1, 0.3, 2.02]),
        second=st.booleans(),
    )
    def comfyui_will(self, what, after, second):
        """Let a ComfyUI do something later, while this server waits for something."""
        comfyui = self.world.comfyuis[second]
        whole = what.startswith("execution_")
        deed = partial(comfyui.finish, what) if whole else getattr(comfyui, what)
        comfyui.timers.append(self.world.loop.call_later(after, deed))

    @rule(count=st.integers(3, 6), answer=st.sampled_from(["taken", "taken", "late", "slow"]))
    def many(self, count, answer):
        """Submit more runs to a pool than its machines take at the same time."""
        for comfyui in self.world.comfyuis:
            comfyui.answer = answer
        for _ in range(count):
            self.world.submit(wait=False, machine="gpus", retry=0)
        self.world.tick(0.03)

    @precondition(lambda self: self.world.waiting)
    @rule(
        data=st.data(),
        machine=st.sampled_from([None, "gpus", "second"]),
        cancel_with=st.booleans(),
        pause=st.sampled_from([0.0, 0.01, 0.03, 0.3]),
    )
    def chain(self, data, machine, cancel_with, pause):
        """Submit a run that needs the output of another one, or of two."""
        runs = [name for name in self.world.waiting if name.startswith("run-")]
        needed = data.draw(st.lists(st.sampled_from(runs), min_size=1, max_size=2, unique=True))
        self.world.chain(*needed, machine=machine, cancel_with=cancel_with)
        self.world.tick(pause)

    @rule(second=st.booleans(), away=st.booleans(), after=st.sampled_from([0.01, 0.03, 0.05]))
    def cancel_at_the_start(self, second, away, after):
        """Cancel a run that ComfyUI takes from its queue now, or when it is connected again."""
        world, comfyui = self.world, self.world.comfyuis[second]
        world.end_faults()
        run = world.submit(wait=False, machine=comfyui.machine.id)
        world.tick(1.0)
        while comfyui.prompts[1:]:
            world.call(comfyui.begin)
            world.call(comfyui.finish, "execution_success")
        if away:
            world.call(comfyui.disconnect)
        else:
            world.call(comfyui.pick)
        world.cancel(run)
        world.tick(after)
        world.call(comfyui.connect)
        comfyui.timers.append(world.loop.call_later(0.03, comfyui.pick))
        world.tick(0.3)
        world.check()
        world.call(comfyui.begin)

    @rule(
        answer=st.sampled_from(["late", "late", "slow", "lost"]),
        second=st.booleans(),
        pause=st.sampled_from([0.06, 0.1, 0.3]),
    )
    def killed_while_sending(self, answer, second, pause):
        """Kill the server while it sends a run to a machine that has room again."""
        self.world.end_faults()
        self.many(6, "taken")
        self.world.tick(0.5)
        for comfyui in self.world.comfyuis:
            comfyui.answer = answer
        comfyui = self.world.comfyuis[second]
        self.world.call(comfyui.begin)
        self.world.call(comfyui.finish, "execution_success")
        self.world.tick(pause)
        self.world.kill()
        self.world.end_faults()
        self.world.tick(5.0)

    @rule(times=st.integers(1, 3), machine=st.sampled_from([None, "gpus", "gpus"]))
    def exits_at_the_start(self, times, machine):
        """Let a ComfyUI exit each time that a run is about to begin."""
        self.world.end_faults()
        self.world.submit(wait=False, machine=machine)
        self.world.tick(0.2)
        for _ in range(times):
            comfyui = max(self.world.comfyuis, key=lambda comfyui: len(comfyui.waiting))
            self.world.happens("ComfyUI dies", comfyui)
            self.world.tick(1.0)
            self.world.happens("ComfyUI is started", comfyui)
            self.world.tick(1.0)

    @rule(
        second=st.booleans(),
        end=st.sampled_from([None, "success"]),
        cancels=st.booleans(),
        wanted=st.sampled_from([None, 0, 1]),
    )
    def exit_in_turn(self, second, end, cancels, wanted):
        """Let one ComfyUI exit, then the other one; Jupyter has stopped the one ``wanted``."""
        world, comfyuis = self.world, self.world.comfyuis
        world.end_faults()
        runs = [world.submit(wait=False, machine="gpus") for _ in range(2)]
        world.tick(0.5)
        world.call(comfyuis[not second].begin)
        if end is not None:
            world.call(comfyuis[not second].finish, f"execution_{end}")
        world.call(comfyuis[second].die, wanted == 0)
        for run in runs * cancels:
            world.cancel(run)  # while one of them is taken back
        world.tick(1.0)
        world.call(comfyuis[not second].die, wanted == 1)
        world.tick(20.0 if cancels else 1.0)
        for run in runs * cancels:
            row = world.store.rows.get(run)
            assert row is None or row.status in FINAL, f"{run}: it waits although it was cancelled"

    @rule(second=st.booleans(), away=st.booleans(), begun=st.booleans())
    def hangs_for_long(self, second, away, begun):
        """Let a ComfyUI answer nothing for longer than a lost one may take."""
        comfyui = self.world.comfyuis[second]
        self.world.end_faults()
        self.world.submit(wait=False, machine=comfyui.machine.id)
        self.world.tick(0.5)
        if begun:
            self.world.call(comfyui.begin)
        self.world.happens("ComfyUI hangs", comfyui)
        if away:
            self.world.happens("connection breaks", comfyui)
        self.world.tick(LOST_AFTER + 10.0)

    @rule(second=st.booleans(), begins=st.booleans(), after=st.sampled_from([603.5, 604.0]))
    def exits_while_it_is_checked(self, second, begins, after):
        """Let a ComfyUI that has answered nothing for very long exit, so that its runs move."""
        self.world.end_faults()
        self.world.tick(5.0)  # it is seen that it answers again, if it has hung before
        comfyui = self.begins_to_work(second)
        self.world.tick(0.5)
        self.world.happens("ComfyUI hangs", comfyui)
        self.world.tick(after)
        self.world.happens("ComfyUI dies", comfyui)
        self.world.tick(0.3)
        if begins:
            self.world.call(self.world.comfyuis[not second].begin)
        self.world.tick(2.0)

    @rule(
        second=st.booleans(),
        verdict=st.sampled_from([0.5, 1.5]),
        pause=st.sampled_from([0, 1]),
        begins=st.booleans(),
    )
    def dies_while_sending(self, second, verdict, pause, begins):
        """Let a ComfyUI exit while runs are sent to it, and be examined for a while."""
        self.world.end_faults()
        self.world.tick(pause)
        comfyui = self.world.comfyuis[second]
        comfyui.answer, comfyui.patience, comfyui.machine.verdict_takes = "lost", 3.0, verdict
        self.begins_to_work(second)
        self.world.happens("ComfyUI dies", comfyui)
        self.world.tick(3.2)
        self.world.check()
        if begins:
            self.world.call(self.world.comfyuis[not second].begin)
        self.world.tick(2.0)
        comfyui.patience, comfyui.machine.verdict_takes = 1.0, 0.0

    def begins_to_work(self, second):
        """Submit runs to both ComfyUIs, and let the other one execute what it has."""
        for _ in range(2):
            self.world.submit(wait=False, machine="gpus")
        self.world.tick(0.1)
        other = self.world.comfyuis[not second]
        while other.prompts:
            self.world.call(other.begin)
            self.world.call(other.finish, "execution_success")
        return self.world.comfyuis[second]

    @rule(what=st.sampled_from(HAPPENINGS), second=st.booleans())
    def event_occurs(self, what, second):
        self.world.happens(what, self.world.comfyuis[second])

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.03, 0.3, 1.0, 5.0, 40.0, 700.0]))
    def time_passes(self, seconds):
        self.world.tick(seconds)

    @invariant()
    def all_is_well(self):
        if hasattr(self, "world"):
            self.world.check()

    def teardown(self):
        if not hasattr(self, "world"):
            return
        self.world.finish()
        self.world.check()
        for name, task in self.world.waiting.items():
            assert task.done(), f"{name} waits for ever"
        assert not self.world.service.at_work, self.world.unfinished()
        self.world.close()


TestLife = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")(
    Life.TestCase
)
FUZZ = int(os.environ.get("FUZZ_EXAMPLES", "0")) // 20
Life.TestCase.settings = settings(
    max_examples=FUZZ or examples(40),
    derandomize=not FUZZ,  # `make fuzz` draws other orders each time
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow],
)


GROUPS = {OPEN: "every open state", UNFINISHED: "every unfinished state"}


# The diagram has these states in one box, and one arrow from the box in place of one from each.
BOXES = {
    "sending": (State.RECEIVED, State.POSTED, State.REQUEUING),
    "uncertain": (State.UNANSWERED, State.UNCONFIRMED),
}


def arrows():
    """Return an arrow for each two states of which the second follows the first."""
    pairs = [
        (source.value, row.to.value)
        for row in TRANSITIONS
        if row.to is not None
        for source in row.sources
        if source is not row.to
    ]
    for box, states in {"open": OPEN, **BOXES}.items():
        for to in dict.fromkeys(to for _, to in pairs):
            inner = [(state.value, to) for state in states]
            if set(inner) <= set(pairs):
                pairs[pairs.index(inner[0])] = (box, to)
                pairs = [pair for pair in pairs if pair not in inner]
    return [f"  {source} --> {to}" for source, to in dict.fromkeys(pairs)]


def drawn():
    """Return the states and transitions as ``docs/architecture.md`` shows them."""
    diagram = ["```mermaid", "stateDiagram-v2", "  [*] --> received", "  state open {"]
    for box, states in BOXES.items():
        inner = [f"      {state.value}" for state in states]
        diagram += [f"    state {box} {{", *inner, "    }"]
    boxed = {state for states in BOXES.values() for state in states}
    diagram += [f"    {state.value}" for state in OPEN if state not in boxed]
    diagram += ["  }", *arrows(), *(f"  {state.value} --> [*]" for state in OVER), "```"]
    *names, last = (f"`{state.value}`" for state in RECOVERED.values())
    begin = f"A run that is recovered after a restart begins as {', '.join(names)} or {last}."
    rows = ["| from | cause | to | stored | sent to clients |", "|---|---|---|---|---|"]
    for row in TRANSITIONS:
        sources = GROUPS.get(row.sources) or ", ".join(s.value for s in row.sources)
        to = "stays" if row.to is None else row.to.value
        cells = (sources, row.cause.value, to, row.saved.value, row.sends.value)
        rows.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join([*diagram, "", begin, "", *rows])


def test_the_documents_show_the_table():
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert drawn() in text
    assert set(re.findall(r"^- \*\*(\w+)\*\*: ", text, re.MULTILINE)) >= {s.value for s in State}
    routes = (REPOSITORY / "docs" / "routes.md").read_text(encoding="utf-8")
    causes = {row.cause.value for row in TRANSITIONS if row.in_story}
    assert {cause for cause in causes if f"`{cause}`" not in routes} == set()


def test_each_state_can_be_reached_and_left():
    reached = {State.RECEIVED, *RECOVERED.values(), *(row.to for row in TRANSITIONS if row.to)}
    left = {source for row in TRANSITIONS if row.to is not None for source in row.sources}
    assert (reached, left) == ({*State}, {*State} - {*OVER})
    assert len(TABLE) == sum(len(row.sources) for row in TRANSITIONS), "a row hides another one"


@pytest.fixture
def world():
    found = World()
    yield found
    found.close()


def causes(world, prompt_id):
    return [entry["cause"] for entry in world.do(world.service.story(prompt_id))]


def queue_in_order(world, count):
    for _ in range(count):
        world.submit(wait=False)
        world.tick(0.5)


def test_a_start_while_the_acceptance_is_stored_does_not_replace_it(world):
    """Its client has been told that it is queued, and finds it with its number after a crash.

    The reply does not wait for the start to be stored, too.
    """
    prompt_id = world.submit(wait=False)
    while not world.comfyui.pending:
        world.tick(0.001)
    world.tick(LATENCY + 0.005)  # ComfyUI has answered, and the answer is being stored
    world.call(world.comfyui.begin)
    while not world.waiting[prompt_id].done():
        world.tick(0.001)
    stored = world.store.rows[prompt_id]
    assert (stored.status, stored.number) == ("queued", 1)
    world.tick(1)
    stored = world.store.rows[prompt_id]
    assert (stored.status, stored.number) == ("running", 1)


def test_a_stream_begins_before_the_acceptance_is_stored(world):
    """Like each other event: a slow disk delays none of them."""
    request = RunRequest(workflow_api=GRAPH, prompt_id="streamed")
    submitting = world.loop.create_task(world.service.submit(request, streamed=True))
    while not submitting.done():
        world.tick(0.001)
    assert [event.event for event in submitting.result().log.after(0)] == [""]
    assert world.store.rows["streamed"].number is None
    world.tick(1)
    assert world.store.rows["streamed"].number == 1


def test_a_story_is_in_order_and_survives_a_restart(world):
    prompt_id = world.submit(wait=False)
    world.tick(0.5)
    world.call(world.comfyui.begin)
    world.tick(0.5)
    world.kill()
    world.tick(0.5)
    world.call(world.comfyui.disconnect)
    world.call(world.comfyui.finish, "execution_success")
    world.call(world.comfyui.connect)
    world.tick(5.0)
    world.kill()
    entries = world.do(world.service.story(prompt_id))
    assert [(entry["cause"], entry["state"], entry["detail"]) for entry in entries] == [
        ("received", "received", None),
        ("stored and handed to ComfyUI", "posted", None),
        ("accepted by ComfyUI", "queued", "as number 1"),
        ("execution started", "running", None),
        ("recovered after a restart", "running", None),
        ("connected again", "running", None),
        ("connection lost", "running", None),
        ("connected again", "running", None),
        ("found in the history", "success", None),
    ]
    times = [entry["at"] for entry in entries]
    assert times == sorted(times)


def test_a_long_story_keeps_its_beginning():
    story = []
    for number in range(3 * MAX_ENTRIES):
        add_entry(story, str(number), "running", "x" * 2 * MAX_DETAIL)
    assert len(story) == MAX_ENTRIES
    kept = [int(entry[1]) for entry in story]
    assert kept[:KEPT_FIRST] == [*range(KEPT_FIRST)]
    assert kept[KEPT_FIRST:] == [*range(3 * MAX_ENTRIES)][KEPT_FIRST - MAX_ENTRIES :]
    assert {len(entry[3]) for entry in story} == {MAX_DETAIL}


@pytest.mark.parametrize("place", [0, 20, -1])
def test_a_run_that_others_remove_from_a_long_queue_ends_at_once(world, place):
    queue_in_order(world, 40)
    world.call(world.comfyui.begin)
    removed = world.comfyui.pending[place]
    world.call(world.comfyui.remove, removed)
    world.tick(1.0)
    records = [world.do(world.service.record(prompt_id)) for prompt_id in world.waiting]
    assert [each.comfyui_id for each in records if each.status == "cancelled"] == [removed]


@pytest.mark.thorough
def test_an_event_costs_the_same_in_a_long_queue(world):
    """The number of function calls does not depend on the number of runs."""

    def calls_at_an_end():
        world.call(world.comfyui.begin)
        world.tick(1.0)
        with Profile() as profile:
            world.call(world.comfyui.finish, "execution_success")
        world.tick(1.0)
        return sum(entry.callcount for entry in profile.getstats())

    queue_in_order(world, 20)
    few = calls_at_an_end()
    queue_in_order(world, 280)
    assert calls_at_an_end() < few + 100


def test_a_look_at_a_long_queue_costs_the_same(world):
    """So does the reply to each request that queues a run: it has the place of this run."""
    service = world.service

    def calls_of_a_look():
        last = [*service.active][-1].record
        with Profile() as profile:
            service.reply(last)
            service.open_runs(0, 15)
            service.active.counts()
            world.registry.work(world.comfyui.machine)
        return sum(entry.callcount for entry in profile.getstats())

    queue_in_order(world, 20)
    few = calls_of_a_look()
    queue_in_order(world, 280)
    assert calls_of_a_look() < few + 20


def test_runs_of_a_comfyui_that_never_replies_fail(world):
    """Its WebSocket stays open, so it counts as connected."""
    running = world.submit()
    world.tick(0.5)
    queued = world.submit()
    world.tick(0.5)
    world.call(world.comfyui.begin)
    world.comfyui.refuses = True
    world.tick(LOST_AFTER - 1)
    assert [world.do(world.service.record(i)).status for i in (running, queued)] == [
        "running",
        "queued",
    ]
    world.tick(10)
    record = world.do(world.service.record(running))
    assert record.status == "failed"
    assert "has not answered for" in record.error["message"]
    assert world.do(world.service.record(queued)).status == "queued"
    world.tick(GONE_AFTER)
    assert world.do(world.service.record(queued)).status == "failed"
    assert all(task.done() for task in world.waiting.values())


@pytest.mark.parametrize("connected", [False, True])
def test_runs_are_given_up_while_the_end_of_another_one_is_being_stored(world, connected):
    queue_in_order(world, 2)
    first, second = map(world.service.find, world.waiting)
    assert first is not None
    assert second is not None
    world.comfyui.refuses = True
    if not connected:
        world.call(world.comfyui.disconnect)
    while not first.ending:
        world.tick(0.1)
    world.tick(0.05)
    assert second.ending


def test_a_run_is_not_blamed_for_the_exit_of_a_comfyui_that_did_not_have_it(world):
    comfyui = world.comfyui
    prompt_id = world.submit(wait=False)
    world.tick(0.5)
    for answer in ("ignored", "taken"):
        world.call(comfyui.die)
        comfyui.answer = answer
        comfyui.start()
        world.call(comfyui.connect)
        world.tick(5.0)
    world.tick(20.0)
    record = world.do(world.service.record(prompt_id))
    assert (record.status, record.attempts, record.error) == ("queued", 2, None)


def test_a_comfyui_that_sends_events_but_no_replies_counts_as_alive(world):
    prompt_id = world.submit()
    world.tick(0.5)
    world.call(world.comfyui.begin)
    world.comfyui.refuses = True
    for _ in range(60):
        world.tick(1)
        world.call(world.comfyui.progress)
    world.call(world.comfyui.finish, "execution_success")
    world.tick(1)
    assert world.do(world.service.record(prompt_id)).status == "success"


def test_a_prompt_without_a_reply_fails_despite_other_events(world):
    other = world.submit()
    world.tick(0.5)
    world.call(world.comfyui.begin)
    world.comfyui.answer = "ignored"
    unanswered = world.submit()
    world.tick(0.5)
    world.comfyui.refuses = True
    for _ in range(int(GONE_AFTER) + 10):
        world.tick(1)
        world.call(world.comfyui.progress)
    assert world.do(world.service.record(unanswered)).status == "failed"
    assert "given up" in causes(world, unanswered)
    assert world.do(world.service.record(other)).status == "running"


def test_a_run_is_cancelled_even_if_its_start_ignores_the_cancellation(world):
    """As `asyncio.wait_for` may do before Python 3.12."""
    machine = world.comfyui.machine

    async def stubborn():
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)
        return world.comfyui

    machine.ready = stubborn
    prompt_id = world.submit()
    world.tick(0.5)
    world.cancel(prompt_id)
    world.tick(1)
    assert isinstance(world.errors[prompt_id], ConflictError)
    assert world.errors[prompt_id].details["status"] == "cancelled"
    world.tick(10)
    with pytest.raises(NotFoundError):
        world.do(world.service.record(prompt_id))
    assert not world.service.at_work
    assert world.comfyui.number == 0


def test_an_end_is_found_while_the_outputs_of_another_run_are_uploaded(world, monkeypatch):
    """Both ends are missed, and looked for in the history, one run after the other."""

    async def upload(run, record, queued):
        await queued()
        await asyncio.sleep(10 * GONE_AFTER)

    monkeypatch.setattr(world.delivery, "upload", upload)
    queue_in_order(world, 2)
    first, second = world.waiting
    world.delivery.uploading.add(first)
    world.call(world.comfyui.begin)
    world.call(world.comfyui.disconnect)
    world.call(world.comfyui.finish, "execution_success")
    world.call(world.comfyui.begin)
    world.call(world.comfyui.connect)
    world.tick(5)
    assert world.do(world.service.record(first)).status == "uploading"
    assert world.do(world.service.record(second)).status == "running"
    world.call(world.comfyui.disconnect)
    world.call(world.comfyui.finish, "execution_success")
    world.call(world.comfyui.connect)
    world.tick(5)
    assert world.do(world.service.record(second)).status == "success"


def test_a_request_about_an_early_end_is_not_the_one_that_queues_the_run(world, monkeypatch):
    """ComfyUI accepts a run that has failed already, and does not answer how."""
    history = world.comfyui.history

    async def refused(_):
        raise world.comfyui.unavailable("connection refused", sent=False)

    monkeypatch.setattr(world.comfyui, "history", refused)
    world.comfyui.answer = "slow"
    prompt_id = world.submit(wait=False)
    while not world.comfyui.pending:
        world.tick(0.001)
    world.call(world.comfyui.begin)
    world.call(world.comfyui.finish, "execution_error")
    world.tick(1.5)
    assert world.waiting[prompt_id].done()
    assert prompt_id not in world.errors
    monkeypatch.setattr(world.comfyui, "history", history)
    world.tick(60)
    record = world.do(world.service.record(prompt_id))
    assert (record.status, record.number) == ("failed", 1)
    assert "not answered by ComfyUI" not in causes(world, prompt_id)


def test_many_runs_of_a_restarted_comfyui_cost_few_requests(world, monkeypatch):
    """Its queue, which has all graphs, is not read for each of them."""
    asked = Counter()
    for name in ("find", "history"):
        request = getattr(world.comfyui, name)

        def counted(*given, name=name, request=request):
            asked[name] += 1
            return request(*given)

        monkeypatch.setattr(world.comfyui, name, counted)
    queue_in_order(world, 101)
    world.call(world.comfyui.begin)
    world.tick(1)
    world.call(world.comfyui.die)
    asked.clear()
    world.comfyui.start()
    world.call(world.comfyui.connect)
    for _ in range(100):
        world.tick(0.5)
        world.call(world.comfyui.begin)
        world.call(world.comfyui.finish, "execution_success")
    world.tick(5)
    statuses = Counter(row.status for row in world.store.rows.values())
    assert statuses == {"success": 100, "failed": 1}
    assert asked["find"] < 25
    assert asked["history"] < 200


def test_few_of_many_lost_runs_are_sent_to_a_comfyui_that_does_not_answer(world, monkeypatch):
    queue_in_order(world, 20)
    world.call(partial(world.comfyui.die, wanted=True))
    world.tick(2)
    sent = []

    async def post(*_, prompt_id, **__):
        sent.append(prompt_id)
        raise world.comfyui.unavailable("no answer", hangs=True)

    monkeypatch.setattr(world.comfyui, "post_prompt", post)
    world.comfyui.start()
    world.call(world.comfyui.connect)
    world.tick(1.5)
    assert 0 < len(sent) < 10


def test_a_cancellation_is_not_taken_back_by_another_one_that_is_not_stored(world, monkeypatch):
    queue_in_order(world, 1)
    [prompt_id] = world.waiting
    world.comfyui.refuses = True  # it is cancelled there later
    answers = iter([True])

    def check(_):
        if next(answers, False):
            raise StoreUnavailableError("the store is locked")

    monkeypatch.setattr(world.store, "_check", check)
    world.cancel(prompt_id)
    world.cancel(prompt_id)
    world.tick(1)
    run = world.service.find(prompt_id)
    assert run.record.cancelling
    assert world.store.rows[prompt_id].cancelling


def test_a_state_that_is_being_stored_is_stored_when_the_server_stops(world):
    queue_in_order(world, 1)
    [prompt_id] = world.waiting
    saver = world.service._context.saver

    async def stop():
        world.comfyui.begin()
        saver._save_all()  # its task has not begun
        await world.service.close()

    world.do(stop())
    assert world.store.rows[prompt_id].status == "running"


def test_a_run_that_has_moved_does_not_wait_again_because_of_an_earlier_error(world, monkeypatch):
    """It is assigned to another machine by now, and would be assigned twice."""
    engine, queue = world.service._engine, world.service._context.queue
    world.call(world.comfyui.disconnect)
    world.call(world.second.disconnect)
    prompt_id = world.submit(machine="gpus", wait=False)
    world.tick(1)
    run = world.service.find(prompt_id)
    machine = world.comfyui.machine
    again = []
    monkeypatch.setattr(queue, "wait", again.append)

    async def moves(run, *_):
        run.moves += 2
        raise RuntimeError

    monkeypatch.setattr(engine, "_send", moves)
    world.do(engine._assign(run, machine))
    assert again == []


def test_a_run_is_followed_although_its_acceptance_cannot_be_stored(world, monkeypatch):
    """The error is one that nobody expects."""
    prompt_id = world.submit(wait=False)
    while not world.comfyui.pending:
        world.tick(0.001)

    def check(_):
        monkeypatch.undo()
        raise RuntimeError

    monkeypatch.setattr(world.store, "_check", check)
    world.tick(1)
    assert world.waiting[prompt_id].exception() is None
    world.call(world.comfyui.begin)
    world.call(world.comfyui.die)
    world.tick(5)
    assert world.do(world.service.record(prompt_id)).status == "failed"
