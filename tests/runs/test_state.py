"""The decisions about runs alone, in random orders of events, results, failures and kills.

A small driver performs the effects in place of the engine: each takes its time, so that anything
can happen between two of them. A server that is killed loses all that is not in the store.
"""

from __future__ import annotations

import copy
import os
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

from comfydeploy_jupyter.runs.progress import LiveStatus
from comfydeploy_jupyter.runs.records import FINAL, RunRecord
from comfydeploy_jupyter.runs.state import (
    GRACE,
    IN_DOUBT,
    MAX_ATTEMPTS,
    OVER,
    Cause,
    Do,
    Event,
    Place,
    RunState,
    State,
    next_of,
    state_of,
)
from tests.helpers.selection import examples

ORDERS = int(os.environ.get("STATE_ORDERS", examples(1000)))
STEPS = 45
AT = "2030-01-01T00:00:00.000Z"
ORDER = ["not-started", "queued", "running", "uploading", *FINAL]
RANK = {status: min(place, 4) for place, status in enumerate(ORDER)}
LIMITS = {"lost_after": 1e9, "gone_after": 1e9}


class BrokenRuleError(AssertionError):
    """A rule of the contract is broken."""


@dataclass(eq=False)
class ComfyUI:
    name: str
    connected: bool = True
    alive: bool = True
    number: int = 0
    queue: list[str] = field(default_factory=list)
    running: str | None = None
    begun: bool = False
    history: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def prompts(self):
        return [*([] if self.running is None else [self.running]), *self.queue]


@dataclass(eq=False)
class Post:
    """A request to queue a prompt, which may arrive after its sender was killed."""

    run: RunState | None
    comfyui: ComfyUI
    prompt: str
    last_byte: bool  # it can be executed only then
    arrived: bool = False
    dead: bool = False  # the process that it was sent to has ended


class Driver:
    """Runs of a server, its store and two ComfyUIs, which are a pool."""

    def __init__(self, random):
        self.random = random
        self.now = 1000.0
        self.comfyuis = {name: ComfyUI(name) for name in ("a", "b")}
        self.rows = {}
        self.failing = False
        self.refused = set()  # runs with a state that could not be stored
        self.posts = []
        self.given_up = set()
        self.owner = {}  # the run of each prompt
        self.told = {}
        self.ends = Counter()
        self.executions = Counter()
        self.known = {}  # executions of runs that are stored as executing
        self.again = set()  # runs that may be executed again
        self.exits = Counter()
        self.ids = 0
        self._forget_server()

    def _forget_server(self):
        self.runs = {}
        self.waiting = []
        self.writes = []
        self.written = []  # runs whose writes are done, and not answered yet
        self.jobs = []

    # -- the engine --------------------------------------------------------------------------

    def make(self, record, state):
        return RunState(
            record,
            LiveStatus(record, {}, {}),
            state=state,
            events_complete=state is State.RECEIVED,
            new_id=self.new_id,
        )

    def new_id(self):
        self.ids += 1
        return f"prompt-{self.ids}"

    def place(self, run):
        comfyui = self.comfyuis.get(run.record.machine)
        pool = None if run.record.pool is None else "pool"
        connected = comfyui is not None and comfyui.connected
        return Place(comfyui is not None, connected, pool=pool)

    def tell(self, run, cause, detail="", **options):
        self.handle(run, Event(cause, detail, **options))

    def handle(self, run, event, asked=None):
        now = self.now if asked is None else asked
        event = event._replace(at=AT, now=now, place=self.place(run))
        before = run.state
        effects = run.handle(event)
        if before is not run.state:
            self.check_transition(run, before)
        for effect in effects:
            self.perform(run, effect)

    def perform(self, run, effect):
        event, later = effect.event, self.jobs.append
        comfyui = self.comfyuis.get(run.record.machine)
        there = comfyui is not None and comfyui.connected
        match effect.do:
            case Do.SAVE_SOON:
                later(lambda: self.tell(run, Cause.SAVE_DUE))
            case Do.STORE | Do.SAVE | Do.STORE_END:
                self.writes.append((copy.deepcopy(effect.record), self.when_written(run, effect)))
            case Do.SEARCH | Do.HISTORY | Do.OUTCOME if there:
                later(lambda: self.ask(run, effect.do, event, comfyui))
            case Do.CANCEL if there:
                later(lambda: self.cancel_there(run, event, comfyui))
            case Do.INTERRUPT if there:
                prompt = run.comfyui_id
                later(lambda: self.interrupt(comfyui, prompt))
            case Do.READ_GRAPH:
                facts = {"session": "s", "events_complete": there}
                again = event._replace(cause=Cause.QUEUED_ANEW, facts=facts)
                later(lambda: self.handle(run, again))
            case Do.POST:
                self.post(run, comfyui)
            case Do.GIVE_UP:
                self.given_up.add(effect.prompt)
            case Do.LOOK:
                later(lambda: self.look_for_needs(run))
            case Do.FILL:
                later(lambda: self.fill(run))
            case Do.ENQUEUE:
                self.waiting.append(run)
            case Do.TRY_LATER:
                later(lambda: self.waiting.append(run))
            case Do.KEEP_OUTPUTS:
                later(lambda: self.tell(run, Cause.OUTPUTS_KEPT))
            case Do.UPLOAD:
                later(lambda: self.tell(run, Cause.UPLOADS_QUEUED))
            case Do.END:
                self.ends[run.prompt_id] += 1
                self.runs.pop(run.prompt_id, None)
                self.check_end(run)
                self.tell_needing(run.record)
            case Do.DROP:
                self.runs.pop(run.prompt_id, None)
                self.tell_needing(run.record)
            case Do.DISCARD:
                self.rows.pop(run.prompt_id, None)

    def tell_needing(self, ended):
        for run in [*self.runs.values()]:
            facts = {"run": ended.prompt_id, "status": ended.status}
            self.tell(run, Cause.NEED_ENDED, "it has ended", facts=facts)

    def look_for_needs(self, run):
        for needed in run.record.waiting_for or ():
            row = self.rows.get(needed)
            if needed not in self.runs:
                status = "deleted" if row is None else row.status
                facts = {"run": needed, "status": status}
                self.tell(run, Cause.NEED_ENDED, "it had ended", facts=facts)

    def fill(self, run):
        """Put the outputs into the graph; that is tried again until it is done."""
        busy = {*self.written, *(record.prompt_id for record, _ in self.writes)}
        if run.state is not State.NEEDING:
            return
        self.jobs.append(lambda: self.fill(run))
        if run.prompt_id in busy or self.random.random() < 0.3:
            return
        if run.record.machine == run.record.pool:
            self.tell(run, Cause.INPUTS_THERE, facts={"files": [], "file_hashes": {}})
        elif self.comfyuis[run.record.machine].connected:
            facts = {"session": "s", "events_complete": True}
            self.tell(run, Cause.DUE, facts=facts)

    def when_written(self, run, effect):
        def written(stored):
            event = effect.event
            if effect.do is Do.STORE:
                self.handle(run, event._replace(stored=stored))
            elif effect.do is Do.STORE_END:
                cause = Cause.END_STORED if stored else Cause.END_NOT_STORED
                self.tell(run, cause)

        return written

    def ask(self, run, do, event, comfyui):
        """Ask a ComfyUI now; the answer arrives later."""
        prompt, cause, facts = run.comfyui_id, Cause.MISSING, {}
        if not comfyui.alive:
            return
        if do is Do.SEARCH:
            if prompt == comfyui.running:
                cause = Cause.FOUND_EXECUTING
            elif prompt in comfyui.queue:
                cause = Cause.FOUND_QUEUED
        elif (entry := comfyui.history.get(prompt)) is not None:
            cause, facts = Cause.FOUND_IN_HISTORY, {"entry": entry, "excused": False}
        elif do is Do.HISTORY:
            cause = Cause.NOT_IN_HISTORY
        else:
            return
        found = event._replace(cause=cause, facts=facts, detail="")
        if cause not in (Cause.MISSING, Cause.NOT_IN_HISTORY):
            found = found._replace(state=None)
        asked = self.now
        self.jobs.append(lambda: self.handle(run, found, asked))

    def cancel_there(self, run, event, comfyui):
        if not comfyui.alive:
            return
        prompt = run.comfyui_id
        if prompt in comfyui.queue:
            comfyui.queue.remove(prompt)
        self.interrupt(comfyui, prompt)
        sent = event._replace(cause=Cause.CANCEL_SENT, facts={}, state=None)
        self.jobs.append(lambda: self.handle(run, sent))

    def post(self, run, comfyui, *, last_byte=True):
        if run.record.cancelling:
            raise BrokenRuleError("it is sent although it was cancelled")
        for need in run.record.needs:
            row = self.rows.get(need["run"])
            if (row is None or row.status != "success") and need["run"] not in self.refused:
                raise BrokenRuleError("it is sent before a run that it needs has succeeded")
        if self.exits[run.comfyui_id] >= MAX_ATTEMPTS:
            raise BrokenRuleError("it makes ComfyUI exit again and again")
        self.owner[run.comfyui_id] = run.prompt_id
        post = Post(run, comfyui, run.comfyui_id, last_byte, dead=not comfyui.alive)
        self.posts.append(post)

    def reconcile(self, comfyui):
        runs = [run for run in self.on(comfyui) if not (run.ending or run.posting)]
        seen = [(run, run.moves, run.state, run.comfyui_id) for run in runs]

        def asked():
            if not (comfyui.alive and comfyui.connected):
                return
            running, queue = comfyui.running, [*comfyui.queue]

            def answered():
                for run, moves, state, prompt in seen:
                    if prompt == running:
                        self.tell(run, Cause.FOUND_EXECUTING, moves=moves)
                    elif prompt in queue:
                        self.tell(run, Cause.FOUND_QUEUED, moves=moves)
                    else:
                        self.tell(run, Cause.MISSING, moves=moves, state=state)

            self.jobs.append(answered)

        self.jobs.append(asked)

    def watch(self, comfyui):
        """Look at runs now, and tell them later what was seen."""
        seen = [(run, run.moves) for run in self.on(comfyui)]
        ended = not comfyui.alive
        facts = {"since": self.now, "heard": self.now, "hangs": False, "advice": None}

        def told():
            if comfyui.connected:
                return
            for run, moves in seen:
                self.tell(run, Cause.AWAY, facts={**facts, "ended": ended, **LIMITS}, moves=moves)

        self.jobs.append(told)

    def on(self, comfyui):
        runs = self.runs.values()
        here = (run for run in runs if run.record.machine == comfyui.name)
        return [run for run in here if run.record.waiting_for is None]

    # -- what happens ------------------------------------------------------------------------

    def submit(self):
        if len(self.rows) + len(self.runs) >= 3:
            return
        pool = self.random.choice([None, "p", "p"])
        name = self.random.choice([*self.comfyuis])
        prompt = self.new_id()
        record = RunRecord(
            f"run-{self.ids}",
            name,
            "s",
            created_at=AT,
            comfyui_id=prompt,
            attempts=1,
            pool=pool,
            retry=int(pool is not None and self.random.random() < 0.3),
            batch=self.random.choice([None, "batch"]),
        )
        if record.retry:
            self.again.add(record.prompt_id)
        room = pool is None or self.random.random() < 0.5
        others = [run.prompt_id for run in self.runs.values()]
        if others and self.random.random() < 0.4:
            needed = self.random.sample(others, self.random.randint(1, len(others)))
            record.needs = [{"run": name, "input": "x"} for name in needed]
            record.waiting_for, record.cancel_with = needed, self.random.random() < 0.5
        if not room:
            record.machine = "p"
        run = self.make(record, State.RECEIVED)
        self.runs[run.prompt_id] = run
        self.tell(run, Cause.RECEIVED)
        if not room or record.needs:
            cause = Cause.NEEDS if record.needs else Cause.NO_ROOM
            [effect] = run.handle(Event(cause, at=AT, now=self.now))
            assert effect.record is not None
            self.writes.append((copy.deepcopy(effect.record), self.when_added(run, effect.event)))
            return
        self.writes.append((copy.deepcopy(run.record), self.when_added(run, None)))
        self.post(run, self.comfyuis[name], last_byte=False)

    def when_added(self, run, event):
        def added(stored):
            if not stored:
                self.posts = [post for post in self.posts if post.run is not run]
                self.tell(run, Cause.NOT_STORED, "no")
            elif event is not None:
                self.handle(run, event._replace(stored=True))
            else:
                self.tell(run, Cause.STORED)
                for post in self.posts:
                    post.last_byte = post.last_byte or post.run is run

        return added

    def write(self):
        """Do the next write; the writes of a server are done in order."""
        if not self.writes:
            return
        record, done = self.writes.pop(0)
        self.apply(record)
        stored = not self.failing
        if not stored:
            self.refused.add(record.prompt_id)
        self.written.append(record.prompt_id)

        def answered():
            self.written.remove(record.prompt_id)
            done(stored)

        self.jobs.append(answered)

    def apply(self, record):
        known = self.rows.get(record.prompt_id)
        if not self.failing and (known is None or known.status not in FINAL):
            self.rows[record.prompt_id] = record

    def job(self):
        if self.jobs:
            self.jobs.pop(self.random.randrange(len(self.jobs)))()

    def post_goes_on(self):
        if not self.posts:
            return
        post = self.random.choice(self.posts)
        comfyui, run = post.comfyui, post.run
        what = self.random.choice(["arrives", "arrives", "answer", "answer", "lost", "not sent"])
        if what == "arrives" and post.last_byte and not (post.arrived or post.dead):
            self.arrive(post)
        elif what == "answer" and post.arrived and run is not None and not post.dead:
            self.posts.remove(post)
            comfyui.number += 1
            facts = {"number": comfyui.number, "node_errors": {}}
            self.tell(run, Cause.ACCEPTED, facts=facts)
        elif what == "lost" and run is not None and post.last_byte:
            post.run = None
            if post.arrived or post.dead:
                self.posts.remove(post)
            self.tell(run, Cause.NOT_ANSWERED, "no answer")
        elif what == "not sent" and run is not None and not post.arrived and post.last_byte:
            self.posts.remove(post)
            self.tell(run, Cause.NOT_SENT, "no connection")

    def arrive(self, post):
        post.arrived = True
        post.comfyui.queue.append(post.prompt)
        if (post.comfyui.name, post.prompt) in self.given_up:
            post.comfyui.queue.remove(post.prompt)  # this server deletes it at once
        if post.run is None:
            self.posts.remove(post)

    def assign(self):
        if not self.waiting:
            return
        run = self.waiting.pop(self.random.randrange(len(self.waiting)))
        comfyui = self.random.choice([*self.comfyuis.values()])
        if run.state is not State.WAITING or self.runs.get(run.prompt_id) is not run:
            return
        if not comfyui.connected:
            self.waiting.append(run)
            return
        facts = {"machine": comfyui.name, "session": "s", "events_complete": True}
        self.tell(run, Cause.ASSIGNED, "to it", facts=facts, moves=run.moves)

    def cancel(self):
        runs = [run for run in self.runs.values() if not run.ending]
        if not runs:
            return
        run = self.random.choice(runs)
        self.tell(run, Cause.CANCEL_REQUESTED)
        self.jobs.append(lambda: self.carry_out(run))

    def carry_out(self, run):
        if run.posting and not run.ending:
            self.jobs.append(lambda: self.carry_out(run))
        else:
            self.tell(run, Cause.CANCEL_DUE)

    def read(self):
        """Let a client read the state of a run, which is stored before."""
        if not self.runs:
            return
        run = self.random.choice([*self.runs.values()])
        self.tell(run, Cause.SAVE_DUE, keep=True)
        last = self.writes[-1:] and self.writes[-1][0].prompt_id == run.prompt_id
        if not last and not any(record.prompt_id == run.prompt_id for record, _ in self.writes):
            self.is_read(run)

    def is_read(self, run):
        row = self.rows.get(run.prompt_id)
        if run.prompt_id in self.refused or row is None or run.due:
            return
        if RANK[row.status] < RANK[run.record.status]:
            raise BrokenRuleError(f"it is read as {run.record.status} before that is stored")
        self.told[run.prompt_id] = run.record.status

    # -- what ComfyUI does -------------------------------------------------------------------

    def event_of(self, comfyui, prompt, cause):
        """Send an event; it may come twice."""
        if not comfyui.connected:
            return
        for run in self.on(comfyui):
            if run.comfyui_id == prompt and (not run.ending or cause is Cause.RELEASED):
                self.tell(run, cause)
                if self.random.random() < 0.1:
                    self.tell(run, cause)

    def pick(self):
        comfyui = self.random.choice([*self.comfyuis.values()])
        if comfyui.alive and comfyui.running is None and comfyui.queue:
            comfyui.running, comfyui.begun = comfyui.queue.pop(0), False

    def begin(self):
        comfyui = self.random.choice([*self.comfyuis.values()])
        prompt = comfyui.running
        if prompt is None or comfyui.begun:
            return
        comfyui.begun = True
        self.executions[self.owner[prompt]] += 1
        self.event_of(comfyui, prompt, Cause.EXECUTION_STARTED)

    def finish(self):
        comfyui = self.random.choice([*self.comfyuis.values()])
        if comfyui.running is not None and comfyui.begun:
            self.end(comfyui, self.random.choice(["success", "success", "error"]))

    def end(self, comfyui, how):
        prompt, comfyui.running, comfyui.begun = comfyui.running, None, False
        assert prompt is not None
        good = how == "success"
        messages = [["execution_interrupted" if how == "interrupted" else "execution_error", {}]]
        comfyui.history[prompt] = {
            "outputs": {},
            "status": {
                "status_str": "success" if good else "error",
                "messages": [] if good else messages,
            },
        }
        if good:
            self.event_of(comfyui, prompt, Cause.EXECUTION_SUCCEEDED)
        self.event_of(comfyui, prompt, Cause.RELEASED)

    def interrupt(self, comfyui, prompt):
        if comfyui.running == prompt and comfyui.begun:
            self.end(comfyui, "interrupted")

    def disconnect(self):
        self._disconnect(self.random.choice([*self.comfyuis.values()]))

    def _disconnect(self, comfyui):
        if not comfyui.connected:
            return
        comfyui.connected = False
        runs = self.on(comfyui)
        next_run = next_of(runs)
        for run in runs:
            facts = {"was_next": run is next_run or run.was_next}
            self.tell(run, Cause.CONNECTION_LOST, facts=facts)

    def connect(self):
        comfyui = self.random.choice([*self.comfyuis.values()])
        comfyui.alive = True
        self._connect(comfyui)

    def _connect(self, comfyui):
        if comfyui.connected or not comfyui.alive:
            return
        comfyui.connected = True
        for run in self.on(comfyui):
            self.tell(run, Cause.CONNECTED)
        self.reconcile(comfyui)

    def die(self):
        comfyuis = [*self.comfyuis.values()]
        comfyui = self.random.choice([each for each in comfyuis if each.prompts] or comfyuis)
        if not comfyui.alive:
            return
        runs = self.on(comfyui)
        before, next_run = comfyui.prompts, next_of(runs)
        if next_run is not None and comfyui.connected and before == [next_run.comfyui_id]:
            self.exits[next_run.comfyui_id] += next_run.state is State.QUEUED
        comfyui.alive = comfyui.begun = False
        comfyui.queue, comfyui.running, comfyui.history = [], None, {}
        self._disconnect(comfyui)
        for post in [post for post in self.posts if post.comfyui is comfyui]:
            post.dead = True
            if post.run is None:
                self.posts.remove(post)
        for run in runs:
            facts = {"was_next": run is next_run or run.was_next, "gone": False, "advice": None}
            self.tell(run, Cause.COMFYUI_ENDED, "ComfyUI was killed", facts=facts)

    def calm(self):
        """Let nothing else happen for a while."""
        for _ in range(8):
            self.write()
            self.job()
            self.post_goes_on()
            self.assign()

    def clear(self):
        """Let another client delete the prompts that wait."""
        comfyui = self.random.choice([*self.comfyuis.values()])
        comfyui.queue.clear()
        self.reconcile(comfyui)

    def look(self):
        comfyui = self.random.choice([*self.comfyuis.values()])
        (self.reconcile if comfyui.connected else self.watch)(comfyui)

    def time_passes(self):
        """No request is on its way for longer than a run in doubt is looked for."""
        for post in [*self.posts]:
            if post.run is None and not (post.arrived or post.dead):
                self.arrive(post)
        self.now += self.random.choice([0.5, GRACE + 1.0])

    def store(self):
        self.failing = not self.failing and self.random.random() < 0.3

    def kill(self):
        """Kill the server between any two effects; some of the writes are done before."""
        for record, _ in self.writes[: self.random.randint(0, len(self.writes))]:
            self.apply(record)
        self.failing = False
        for post in [*self.posts]:
            post.run = None
            kept = post.last_byte and not (post.arrived or post.dead)
            if not kept or self.random.random() < 0.5:
                self.posts.remove(post)
        for comfyui in self.comfyuis.values():
            comfyui.connected = False
        self._forget_server()
        self.given_up.clear()
        self.exits.clear()
        self.recover()

    def recover(self):
        for record in [row for row in self.rows.values() if row.status not in FINAL]:
            run = self.make(copy.deepcopy(record), state_of(record))
            [effect] = run.handle(Event(Cause.RECOVERED, at=AT, now=self.now))
            assert effect.record is not None
            self.apply(copy.deepcopy(effect.record))
            self.runs[run.prompt_id] = run
            self.handle(run, effect.event._replace(stored=True))

    # -- what must be true -------------------------------------------------------------------

    def check_transition(self, run, before):
        """What is stored before a transition is in the store when it is made."""
        row = self.rows.get(run.prompt_id)
        if run.prompt_id in self.refused or row is None:
            return
        if run.state in (State.WAITING, State.REQUEUING) or before is State.WAITING:
            if run.state in (State.ENDING, *OVER):
                return
            known = run.record.machine, run.comfyui_id, run.record.waiting_for
            if (row.machine, row.comfyui_id, row.waiting_for) != known:
                raise BrokenRuleError(
                    f"{before.value} -> {run.state.value} is made before it is stored"
                )

    def check_end(self, run):
        row, prompt_id = self.rows.get(run.prompt_id), run.prompt_id
        if prompt_id in self.refused:
            return
        if row is None or row.status != run.record.status:
            raise BrokenRuleError("its end is told before it is stored")
        if self.ends[prompt_id] > 1:
            raise BrokenRuleError("it ends twice")

    def check(self):
        for prompt_id, row in self.rows.items():
            if prompt_id in self.refused:
                continue
            having = [
                (comfyui, prompt)
                for comfyui in self.comfyuis.values()
                for prompt in comfyui.prompts
                if self.owner[prompt] == prompt_id and (comfyui.name, prompt) not in self.given_up
            ]
            if len(having) > 1:
                raise BrokenRuleError("ComfyUI has it twice")
            if having and row.status == "cancelled":
                raise BrokenRuleError("ComfyUI has it after it was cancelled")
            given_up = (row.error or {}).get("type") in ("NotQueued", "ComfyUIEnded")
            if having and row.status in FINAL and given_up:
                raise BrokenRuleError("it was given up, and ComfyUI has it")
            if prompt_id not in self.again:
                if self.executions[prompt_id] > self.known.get(prompt_id, 99):
                    raise BrokenRuleError("it is executed again")
                if row.status in ("running", "uploading", "success"):
                    begins = sum(
                        self.owner.get(comfyui.running or "") == prompt_id and not comfyui.begun
                        for comfyui in self.comfyuis.values()
                    )
                    self.known[prompt_id] = max(self.executions[prompt_id] + begins, 1)
            told = self.told.get(prompt_id, "not-started")
            if RANK[row.status] < RANK[told] and prompt_id not in self.again:
                raise BrokenRuleError(f"it was told as {told}, and is stored as {row.status}")
        busy = {*self.written, *(record.prompt_id for record, _ in self.writes), *self.refused}
        for run in self.runs.values():
            row = self.rows.get(run.prompt_id)
            if row is not None and not run.due and run.prompt_id not in busy:
                known = run.record.status, run.record.machine, run.record.comfyui_id
                if (row.status, row.machine, row.comfyui_id) != known and row.status not in FINAL:
                    raise BrokenRuleError(
                        f"it is {known}, and stored as {row.status} on {row.machine}"
                    )
            assert (run.outcome is not None) == (run.state is State.ENDING)
            assert run.is_answered or run.state not in (State.QUEUED, State.WAITING, *IN_DOUBT)

    def heal(self):
        """End all faults, and let everything come to its end."""
        self.failing = False
        for _ in range(120):
            for comfyui in self.comfyuis.values():
                comfyui.alive = True
                self._connect(comfyui)
            for _ in range(4 + len(self.jobs) + len(self.writes)):
                self.write()
                self.job()
            for post in [*self.posts]:
                if post.dead and post.run is not None and post.last_byte:
                    self.posts.remove(post)
                    self.tell(post.run, Cause.NOT_ANSWERED, "no answer")
                elif post.last_byte and not (post.arrived or post.dead):
                    self.arrive(post)
                if post.run is not None and post in self.posts and post.arrived:
                    self.posts.remove(post)
                    self.tell(post.run, Cause.ACCEPTED, facts={"number": 1, "node_errors": {}})
            self.assign()
            for run in [*self.runs.values()]:
                if run.state is State.UPLOADING:
                    self.tell(run, Cause.UPLOADS_ENDED, facts={"error": None})
            for comfyui in self.comfyuis.values():
                if comfyui.running is not None and comfyui.begun:
                    self.end(comfyui, "success")
                self.reconcile(comfyui)
            self.pick()
            self.begin()
            self.check()
            self.now += 3.0
            if not (self.runs or self.posts or self.writes):
                return
        states = [(run.prompt_id, run.state.value) for run in self.runs.values()]
        raise BrokenRuleError(f"left over: {states} {self.posts} {self.writes}")


DEEDS = [
    *[Driver.submit] * 2,
    *[Driver.write] * 5,
    *[Driver.job] * 7,
    *[Driver.post_goes_on] * 5,
    *[Driver.assign] * 2,
    *[Driver.pick] * 3,
    *[Driver.begin] * 3,
    *[Driver.finish] * 2,
    *[Driver.cancel] * 2,
    Driver.read,
    Driver.read,
    Driver.disconnect,
    *[Driver.connect] * 2,
    *[Driver.calm] * 2,
    Driver.die,
    Driver.clear,
    *[Driver.look] * 2,
    Driver.time_passes,
    Driver.store,
    Driver.kill,
]


def drive(seed):
    """Let everything happen in one random order."""
    random = Random(seed)
    driver = Driver(random)
    often = {deed: random.choice([0, 1, 1, 1, 3]) for deed in DEEDS}  # another mix in each order
    deeds = [each for deed in DEEDS for each in [deed] * often[deed]] + [Driver.submit]
    trace = []
    try:
        for _ in range(STEPS):
            deed = random.choice(deeds)
            trace.append(deed.__name__)
            deed(driver)
            driver.check()
        driver.heal()
    except BrokenRuleError as fault:
        raise BrokenRuleError(f"order {seed}: {fault}; {' '.join(trace)}") from None


def test_no_order_breaks_a_rule():
    """No run is told before it is stored, ends twice, is in two ComfyUIs, or outlives its end.

    None that needs outputs of others is sent before these have succeeded.
    """
    for seed in range(ORDERS):
        drive(seed)


def run_on(machine, state, **fields):
    record = RunRecord("run", machine, "s", created_at=AT, comfyui_id="prompt", **fields)
    return RunState(record, LiveStatus(record, {}, {}), state=state)


AWAY, THERE = Place(connected=False, pool="pool"), Place(pool="pool")


def tell(run, cause, detail="", place=AWAY, **facts):
    return run.handle(Event(cause, detail, facts, AT, 1.0, place))


def exits(run, was_next=False):
    return tell(run, Cause.COMFYUI_ENDED, "killed", was_next=was_next, gone=False, advice=None)


def when_stored(run, store):
    return [effect.do for effect in run.handle(store.event._replace(stored=True))]


def test_what_was_stored_in_vain_is_replaced_in_the_store():
    """Its success becomes known while it is stored as one that waits for another machine."""
    run = run_on("a", State.RUNNING, status="running", started_at=AT, pool="p", retry=1)
    run.events_complete = False
    [store] = exits(run)
    assert (store.do, store.event.cause, store.record.machine) == (Do.STORE, Cause.RETRIED, "p")
    tell(run, Cause.EXECUTION_SUCCEEDED)
    assert when_stored(run, store) == [Do.SAVE_SOON]
    assert (run.record.status, run.record.machine) == ("running", "a")


def test_a_run_that_could_not_be_sent_waits_although_its_storing_is_told_later():
    run = run_on("a", State.RECEIVED, pool="p")
    pause, store = tell(run, Cause.NOT_SENT, "no")
    assert (pause.do, store.do) == (Do.PAUSE, Do.STORE)
    assert tell(run, Cause.STORED) == []
    assert Do.ENQUEUE in when_stored(run, store)
    assert run.state is State.WAITING


def test_a_run_that_a_restarted_comfyui_has_accepted_is_not_given_back():
    """Its connection is lost again before its answer comes."""
    run = run_on("a", State.RECEIVED, pool="p")
    tell(run, Cause.STORED, place=THERE)
    exits(run)
    tell(run, Cause.CONNECTED, place=THERE)
    tell(run, Cause.CONNECTION_LOST, was_next=False)
    effects = tell(run, Cause.ACCEPTED, number=1, node_errors={})
    assert run.state is State.QUEUED
    assert Do.STORE not in [effect.do for effect in effects]


def test_a_run_that_was_next_at_each_exit_fails():
    for was_next, end in ((True, "failed"), (False, None)):
        run = run_on("a", State.QUEUED, status="queued", number=1, attempts=MAX_ATTEMPTS, pool="p")
        exits(run, was_next)
        assert (run.outcome and run.outcome.status) == end


def test_a_late_finding_about_an_earlier_machine_changes_nothing():
    run = run_on("p", State.WAITING, status="queued", pool="p")
    before = run.moves
    [store] = tell(run, Cause.ASSIGNED, "to a", machine="a", session="s", events_complete=True)
    when_stored(run, store)
    assert run.state is State.POSTED
    for cause in Cause:
        assert run.handle(Event(cause, at=AT, now=2.0, moves=before)) == []
    assert run.state is State.POSTED


def test_a_point_that_a_killed_comfyui_may_have_received_is_queued_anew():
    """Nobody else sends it again; the client of a single run may."""
    for state in (State.UNCONFIRMED, State.UNANSWERED):
        for batch in (None, "batch"):
            run = run_on("a", state, status="not-started", batch=batch)
            run.events_complete = False
            run.missed_at = -60.0
            effects = tell(run, Cause.MISSING, place=Place())
            assert [effect.do for effect in effects] == [Do.HISTORY]
            effects = tell(run, Cause.NOT_IN_HISTORY, place=Place())
            [search] = effects
            effects = run.handle(search.event._replace(cause=Cause.MISSING))
            found = [effect.do for effect in effects]
            assert (found == [Do.READ_GRAPH]) == (batch is not None)
            assert (run.outcome and run.outcome.status) == (None if batch else "failed")


def test_a_run_whose_start_was_not_seen_fails_with_its_comfyui():
    """No other machine of its pool can get it, because it was executed."""
    run = run_on("a", State.QUEUED, status="queued", number=1, pool="p")
    run.events_complete = False
    tell(run, Cause.EXECUTION_SUCCEEDED)
    tell(run, Cause.AWAY, since=1.0, ended=True, hangs=False, advice=None, **LIMITS)
    assert (run.outcome and run.outcome.status) == "failed"
