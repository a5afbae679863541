"""A ComfyUI, a machine and a store without processes, sockets, files or real time.

They replace the environment of `comfydeploy_jupyter.runs`; the code of that package is the real
one.
"""

from __future__ import annotations

import asyncio
import copy
import selectors
from collections import Counter
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from comfydeploy_jupyter.comfyui.folders import Folders
from comfydeploy_jupyter.comfyui.socket import Event
from comfydeploy_jupyter.errors import (
    ComfyUIUnavailableError,
    ConflictError,
    PromptInvalidError,
    StoreUnavailableError,
)
from comfydeploy_jupyter.graphs.definitions import NodeDefinitions
from comfydeploy_jupyter.runs.records import ACTIVE, FINAL, Made, RunRecord

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from pathlib import Path
    from random import Random

LATE = {"late": 3.0, "held": 60.0}  # simulated seconds until a prompt is queued
TICK = 1e-6  # seconds; the clock cannot tell shorter times apart
FACTORS = (0.0, 0.5, 1, 1, 1, 2, 5, 25)  # of the usual duration of a request or write
LATENCY = 0.02  # simulated seconds of each request and each write
REACTS_WITHIN = 1.0  # simulated seconds
STOPS_WITHIN = 0.4  # simulated seconds until a ComfyUI that Jupyter stops has ended
END_LATENCY = 0.3  # the same for the end of a run, so that many events can happen meanwhile


class _Skipping(selectors.SelectSelector):
    """A selector that does not wait: the time until the next timer passes at once."""

    skipped = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "nothing would ever happen"
        self.skipped += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps from timer to timer; calls in threads return at once."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        self.timers: list[asyncio.TimerHandle] = []
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.skipped

    def call_at(self, when: float, callback: Any, *args: Any, **options: Any) -> Any:
        self.timers = [timer for timer in self.timers if timer.when() >= self.time()]
        self.timers.append(super().call_at(when, callback, *args, **options))
        return self.timers[-1]

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        found: asyncio.Future[Any] = self.create_future()
        try:
            found.set_result(func(*args))
        except Exception as fault:
            found.set_exception(fault)
        return found


class Pauses:
    """The simulated duration of requests and writes: always the same, or random from a seed."""

    def __init__(self) -> None:
        self.random: Random | None = None

    def of(self, usual: float) -> float:
        return usual if self.random is None else usual * self.random.choice(FACTORS)


class FakeStore:
    """Replaces `RunRepository`; all writes fail while ``failing`` is set.

    The writes of a run are done in order. Some time passes before and after each of them, in which
    a server can be killed.
    """

    def __init__(self, pauses: Pauses) -> None:
        self.rows: dict[str, RunRecord] = {}
        self.prompts: dict[str, bytes] = {}
        self.failing = False
        self.refused: set[str] = set()  # runs with a state that could not be stored
        self.runs: dict[str, str] = {}  # the run of each id in ComfyUI
        self._pauses = pauses
        self._written_at: dict[str, float] = {}  # when the last write of each run is done

    def add(
        self, record: RunRecord, prompt: bytes, workflow: bytes | None, *, key: str | None = None
    ) -> Any:
        return asyncio.ensure_future(self._add(copy.deepcopy(record), prompt))

    async def _add(self, record: RunRecord, prompt: bytes) -> None:
        await self._write(record.prompt_id, LATENCY)
        if record.prompt_id in self.rows:
            raise ConflictError("it exists already")
        self.rows[record.prompt_id] = record
        self.prompts[record.prompt_id] = prompt
        self.runs[record.comfyui_id] = record.prompt_id
        await self._answer()

    async def save(self, record: RunRecord) -> None:
        kept = copy.deepcopy(record)
        await self._write(record.prompt_id, END_LATENCY if record.status in FINAL else LATENCY)
        known = self.rows.get(record.prompt_id)
        if known is not None and known.status not in FINAL:
            self.rows[record.prompt_id] = kept
            self.runs[record.comfyui_id] = record.prompt_id
        await self._answer()

    async def put_graph(self, prompt_id: str, prompt: bytes) -> None:
        await self._write(prompt_id, LATENCY)
        self.prompts[prompt_id] = prompt
        await self._answer()

    async def discard(self, prompt_id: str) -> None:
        await asyncio.sleep(0)
        self._check(prompt_id)
        self.rows.pop(prompt_id, None)

    async def was_deleted(self, _: str) -> bool:
        await asyncio.sleep(0)
        return False

    async def get(self, prompt_id: str) -> RunRecord | None:
        await asyncio.sleep(0)
        return copy.deepcopy(self.rows.get(prompt_id))

    async def statuses(self, prompt_ids: Collection[str]) -> dict[str, str]:
        await asyncio.sleep(0)
        return {name: self.rows[name].status for name in prompt_ids if name in self.rows}

    async def made(
        self, prompt_ids: Collection[str], wanted: Collection[str]
    ) -> list[tuple[Made, bytes | None]]:
        await asyncio.sleep(0)
        rows = copy.deepcopy([self.rows[name] for name in prompt_ids if name in self.rows])
        return [
            (
                Made(row.prompt_id, row.machine, row.status, row.outputs, row.error),
                self.prompts[row.prompt_id] if row.prompt_id in wanted else None,
            )
            for row in rows
        ]

    async def prompt(self, prompt_id: str) -> tuple[bytes, None] | None:
        await asyncio.sleep(0)
        return (self.prompts[prompt_id], None)

    async def active(self, _: Collection[str]) -> list[RunRecord]:
        await asyncio.sleep(0)
        return [copy.deepcopy(row) for row in self.rows.values() if row.status in ACTIVE]

    async def node_times(self, *_: object) -> list[Any]:
        await asyncio.sleep(0)
        return []

    async def _write(self, prompt_id: str, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        begins = max(now, self._written_at.get(prompt_id, 0.0) + TICK)
        self._written_at[prompt_id] = ends = begins + self._pauses.of(seconds)
        await asyncio.sleep(ends - now)
        self._check(prompt_id)

    async def _answer(self) -> None:
        if self._pauses.random is not None:
            await asyncio.sleep(self._pauses.of(LATENCY))

    def _check(self, prompt_id: str) -> None:
        if self.failing:
            self.refused.add(prompt_id)
            raise StoreUnavailableError("the store is locked")


class FakeComfyUI:
    """ComfyUI's replies, and the events that it sends while it is connected.

    ``answer`` is the handling of the next prompts: ``taken``, ``refused``, ``slow`` (queued, but
    the reply comes after the events), ``lost`` (queued without a reply), ``late`` (no reply, queued
    seconds later), ``held`` (the same, a minute later, as by a proxy), ``ignored`` (no reply and
    not queued).
    """

    timeout = 30.0
    url = "fake"

    def __init__(self, name: str = "local", pauses: Pauses | None = None) -> None:
        self.answer = "taken"
        self.refuses = self.hangs = False  # it rejects every request, or answers none
        self.begun = False  # whether `running` has begun; an interruption before is ignored
        self.troubled_at: float | None = None  # when it became unreachable in any way
        self.pauses = pauses or Pauses()
        self.posted: Callable[[str], None] = str  # called with the id of each prompt that is sent
        self.silent = False  # whether it does not answer pings
        self.late = False  # whether the events after the success of a prompt come later
        self.upload_faults: list[Exception] = []  # of the next uploads
        self.post_faults: list[Exception] = []  # of the next requests to queue a prompt
        self.output: dict[str, Any] = {"text": ["done"]}
        self.patience = 1.0  # seconds until the reply to a prompt that is not `taken`
        self.alive = self.connected = True
        self.listener: Any = None
        self.machine = FakeMachine(self, name)
        self.pending: list[str] = []
        self.running: str | None = None
        self.history_of: dict[str, dict[str, Any]] = {}
        self.executions: Counter[str] = Counter()
        # How often it was lost when it may have been about to begin each prompt.
        self.endangered: Counter[str] = Counter()
        self.held: set[str] = set()  # the prompts that were held back and then queued
        self.held_executed: list[str] = []  # those that it has executed although it was reachable
        self.well_since = self.begun_at = 0.0  # since then requests and events arrive
        self.number = self.starts = 0
        self.timers: list[asyncio.TimerHandle] = []  # other prompts, which are not from Jupyter

    # -- ComfyUIClient -----------------------------------------------------------------------

    async def post_prompt(
        self, prompt: bytes, *, prompt_id: str, after: Awaitable[None] | None = None, **_: object
    ) -> dict[str, Any]:
        self.posted(prompt_id)
        self.endangered[prompt_id] += 1
        await self._reach(sent=False)
        if self.post_faults:
            raise self.post_faults.pop()
        if after is not None:
            try:
                await asyncio.shield(asyncio.ensure_future(after))
            except Exception:
                raise self.unavailable("broken off", sent=False) from None
        await self._reach(sent=True)
        answer, life = self.answer, self.starts
        if answer == "refused":
            raise PromptInvalidError("no such node", extra={"node_errors": {}})
        if answer in ("taken", "slow", "lost"):
            self.take(prompt_id)
        elif answer in ("late", "held"):
            loop = asyncio.get_running_loop()
            take = loop.call_later(LATE[answer], self._take_late, prompt_id, life, answer)
            self.timers.append(take)
        await asyncio.sleep(self.pauses.of(LATENCY) if answer == "taken" else self.patience)
        if answer not in ("taken", "slow") or life != self.starts or self.refuses:
            raise self.unavailable("no answer", hangs=True)
        self.endangered[prompt_id] -= 1
        return {"prompt_id": prompt_id, "number": self.number, "node_errors": {}}

    async def find(self, ids: Collection[str]) -> tuple[frozenset[str], frozenset[str]]:
        await self._reach()
        running = frozenset([self.running] if self.running is not None else [])
        return running & {*ids}, frozenset(self.pending) & {*ids}

    async def history(self, prompt_id: str) -> dict[str, Any] | None:
        await self._reach()
        return copy.deepcopy(self.history_of.get(prompt_id))

    async def withdraw(self, prompt_id: str) -> None:
        await self._reach()
        if prompt_id in self.pending:
            self.remove(prompt_id)

    async def cancel(self, prompt_id: str) -> None:
        await self.withdraw(prompt_id)
        await self.interrupt(prompt_id)

    async def interrupt(self, prompt_id: str) -> None:
        await self._reach()
        if self.running == prompt_id and self.begun:
            self.finish("execution_interrupted")

    async def upload(self, _: object, name: str, *, subfolder: str) -> tuple[str, str]:
        await self._reach()
        if self.upload_faults:
            raise self.upload_faults.pop()
        return name, subfolder

    async def queue_remaining(self, **_: object) -> int:
        await self._reach()
        return len(self.pending) + (self.running is not None)

    def unavailable(self, reason: str, **details: Any) -> ComfyUIUnavailableError:
        return ComfyUIUnavailableError(reason, details=details)

    async def _reach(self, **details: Any) -> None:
        await asyncio.sleep(self.pauses.of(LATENCY))
        if not self.alive or self.refuses:
            raise self.unavailable("connection refused", **details)
        if self.hangs:
            await asyncio.sleep(self.patience)
            raise self.unavailable("no answer", hangs=True, **details)

    @property
    def prompts(self) -> list[str]:
        """All its prompts."""
        return [*([] if self.running is None else [self.running]), *self.pending]

    @property
    def waiting(self) -> list[str]:
        """The prompts that it would begin next; none while one executes."""
        return [] if self.begun else self.prompts

    @property
    def is_well(self) -> bool:
        """Whether it answers requests and sends events."""
        return self.alive and self.connected and not (self.refuses or self.hangs)

    # -- its actions -------------------------------------------------------------------------

    def take(self, prompt_id: str) -> None:
        self.number += 1
        self.pending.append(prompt_id)
        self._send_queue_status()

    def pick(self) -> None:
        """Take the next prompt from the queue; its execution has not begun yet."""
        if self.alive and self.running is None and self.pending:
            self.running, self.begun = self.pending.pop(0), False

    def begin(self) -> None:
        """Start the execution of the next prompt."""
        self.pick()
        if self.running is not None and not self.begun:
            self.begun = True
            self.begun_at = asyncio.get_running_loop().time()
            self.executions[self.running] += 1
            self._send("execution_start")
            self._send("executing", node="1")

    def progress(self) -> None:
        self._send("progress", node="1", value=1, max=10)

    def finish(self, end: str) -> None:
        """End the execution: ``execution_success``, ``_error`` or ``_interrupted``."""
        if self.running is None or not self.begun:
            return
        prompt_id, good = self.running, end == "execution_success"
        if good:
            self._send("executed", node="1", output=self.output)
        self.history_of[prompt_id] = {
            "outputs": {"1": self.output} if good else {},
            "status": {
                "status_str": "success" if good else "error",
                "messages": [["execution_start", {}], [end, {}]],
            },
        }
        well_for = asyncio.get_running_loop().time() - max(self.begun_at, self.well_since)
        reacts = self.connected and not (self.refuses or self.hangs) and well_for > REACTS_WITHIN
        if good and prompt_id in self.held and reacts:
            self.held_executed.append(prompt_id)
        self._send(end)
        self.running, self.begun = None, False
        if self.late:
            asyncio.get_running_loop().call_later(LATENCY, self._release, prompt_id)
        else:
            self._release(prompt_id)

    def _release(self, prompt_id: str) -> None:
        self._send_queue_status()
        self._send("executing", node=None, prompt_id=prompt_id)

    def disconnect(self, *, wanted: bool = False) -> None:
        if self.connected:
            self.endangered.update([] if wanted else self.waiting)
            self.connected = False
            self.machine.disconnected_at = asyncio.get_running_loop().time()
            self.listener.machine_disconnected(self.machine)

    def connect(self) -> None:
        if self.alive and not self.connected:
            self.connected = True
            self.well_since = asyncio.get_running_loop().time()
            self.machine.connection.last_heard = asyncio.get_running_loop().time()
            self.machine.connection.queue_remaining = None
            self.listener.machine_connected(self.machine)
            self._send_queue_status()

    def die(self, wanted: bool = False) -> None:
        """Lose the queue, the history and the executing prompt, as after ``kill -9``.

        With ``wanted``, Jupyter has closed the connection and stopped it, which takes a while.
        """
        if self.alive:
            if not (self.connected or wanted):
                self.endangered.update(self.prompts)
            self.alive = False
            self.starts += 1
            connection = self.machine.connection
            self.machine.connection = None if wanted else connection
            self.disconnect(wanted=wanted)
            self.machine.connection = connection
            self.pending, self.running, self.history_of = [], None, {}
            self.begun = False
            end = partial(self.listener.machine_ended, self.machine, "ComfyUI was killed")
            if wanted:
                asyncio.get_running_loop().call_later(STOPS_WITHIN, partial(end, wanted=True))
            else:
                end()

    def start(self) -> None:
        self.alive = True

    def clear(self) -> None:
        """Delete the waiting prompts, as after a request of another client."""
        self.endangered.update(self.pending)  # until Jupyter notices, an exit may count for them
        self.pending.clear()
        self._send_queue_status()

    def remove(self, prompt_id: str) -> None:
        """Delete a waiting prompt, as after a request of another client."""
        self.endangered[prompt_id] += 1
        self.pending.remove(prompt_id)
        self._send_queue_status()

    def _take_late(self, prompt_id: str, life: int, answer: str) -> None:
        if self.alive and life == self.starts:
            if answer == "held":
                self.held.add(prompt_id)
            self.take(prompt_id)

    def _send(self, kind: str, **data: Any) -> None:
        if self.connected:
            self.machine.connection.last_heard = asyncio.get_running_loop().time()
            event = Event(kind, {"prompt_id": self.running, **data})
            self.listener.machine_event(self.machine, event)

    def _send_queue_status(self) -> None:
        if self.connected:
            remaining = len(self.pending) + (self.running is not None)
            self.machine.connection.last_heard = asyncio.get_running_loop().time()
            self.machine.connection.queue_remaining = remaining
            status = {"status": {"exec_info": {"queue_remaining": remaining}}}
            self.listener.machine_event(self.machine, Event("status", status))


class FakeMachine:
    """The methods of `Machine` that runs use."""

    is_dead = closed = False
    memory_verdict = known_definitions = process = None
    path: Path | None = None

    def __init__(self, comfyui: FakeComfyUI, name: str) -> None:
        self.handover = asyncio.Lock()
        self.id = self.name = name
        self._comfyui = comfyui
        self.disconnected_at = 0.0
        self.verdict_takes = 0.0  # seconds until it is known whether its ComfyUI has ended
        self.connection = SimpleNamespace(
            last_heard=0.0, queue_remaining=None, may_miss_events=False, reconnect=self._reconnect
        )

    @property
    def connected(self) -> bool:
        return self._comfyui.connected

    @property
    def answers(self) -> bool:
        return self.connected and not self._comfyui.silent

    @property
    def hangs(self) -> bool:
        return self._comfyui.hangs

    async def ready(self) -> FakeComfyUI:
        await asyncio.sleep(LATENCY)
        if not self.connected:
            raise self._comfyui.unavailable("there is none")
        return self._comfyui

    async def definitions(self, *, max_age: float | None = None) -> SimpleNamespace:
        return SimpleNamespace(nodes=NodeDefinitions({}), source="live")

    async def folders(self) -> Folders:
        return Folders(self.path)

    def reachable_client(self) -> FakeComfyUI | None:
        return self._comfyui if self.connected else None

    def open(self) -> None:
        """Do nothing: `FakeComfyUI.connect` connects."""

    async def has_ended(self) -> bool:
        ended = not self._comfyui.alive
        await asyncio.sleep(self.verdict_takes)
        return ended

    async def look_for_memory_verdict(self) -> None:
        return None

    async def _reconnect(self) -> None:
        self._comfyui.disconnect()
        self._comfyui.connect()


class FakeDeletions:
    """Replaces `DeletionRepository`: nothing is to be deleted."""

    async def files_to_delete(self, sessions: object) -> dict[int, Any]:
        return {}


class FakeDelivery:
    """Uploads the outputs of the runs in ``uploading`` in one simulated second."""

    def __init__(self) -> None:
        self.uploading: set[str] = set()

    def is_wanted(self, request: object) -> bool:
        return False

    def forget(self, prompt_id: str) -> None:
        self.uploading.discard(prompt_id)

    def uploads(self, prompt_id: str) -> bool:
        return prompt_id in self.uploading

    def handle_event(self, run: object, event: object) -> None:
        """Report nothing."""

    async def upload(
        self, run: object, record: object, queued: Callable[[], Awaitable[None]]
    ) -> None:
        await queued()
        await asyncio.sleep(1.0)
