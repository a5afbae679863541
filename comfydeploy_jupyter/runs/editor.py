"""Stores the prompts that ComfyUI's editor has queued as runs, each once.

ComfyUI sends the events of a prompt only to the client that queued it, but the length of its queue
to all. So its history is requested soon after the queue has had prompts of others, and from time to
time while it changes, as two changes may arrive at once.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakSet

from ..comfyui.client import OWN_PROMPT
from ..errors import ComfyDeployError
from ..graphs.dependencies import structure_of
from ..graphs.formats import inputs_of, is_link, without_added
from ..graphs.seeds import SeedMode, apply_seeds
from ..store.database import Repository, reading, writing
from ..util import jsons, worker
from ..util.jsons import dumps
from ..util.times import timestamp_of, utc_now
from .history import read_history
from .records import RunRecord, add_run

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection

    from ..comfyui.client import ComfyUIClient
    from ..machines.machine import Machine
    from .engine import RunContext

log = logging.getLogger(__name__)

KEPT = 20_000  # ids of prompts; ComfyUI's history has at most 10,000
SOON = 1.0  # seconds after a change of a queue with prompts of others
LATER = 30.0  # seconds after any other change
GROWTH = 8  # times as many prompts are requested next, until one was found before
MAX_PROMPTS = 4096  # that are requested at once
# Bytes that the next response will probably have at most: ComfyUI answers nobody else and reads no
# message while it encodes its history, a second for some 50 MB.
MAX_BYTES = 4 * 1024**2
MAX_SEEN = 20_000  # ids that are kept in memory
MAX_INPUTS = 2000  # values of a graph that its run has as inputs
MAX_INPUT_LENGTH = 10_000  # characters of such a value


class EditorPrompts(Repository):
    @reading
    def known(
        self, db: sqlite3.Connection, prompt_ids: Collection[str]
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Return which prompts were stored as a run of the editor, and which are runs now.

        A run that was stored may have been deleted.
        """
        return _known(db, "editor_prompts", prompt_ids), _known(db, "runs", prompt_ids)

    @writing
    def add(
        self, db: sqlite3.Connection, record: RunRecord, prompt: bytes, workflow: bytes | None
    ) -> bool:
        """Store a prompt as a run that has ended; return False if it is known already."""
        if any(_known(db, table, [record.prompt_id]) for table in ("editor_prompts", "runs")):
            return False
        cursor = db.execute(
            "INSERT INTO editor_prompts (prompt_id) VALUES (?)", (record.prompt_id,)
        )
        db.execute(
            "DELETE FROM editor_prompts WHERE position <= ?", ((cursor.lastrowid or 0) - KEPT,)
        )
        add_run(db, record, prompt, workflow)
        return True


def _known(db: sqlite3.Connection, table: str, prompt_ids: Collection[str]) -> frozenset[str]:
    rows = db.execute(
        f"SELECT prompt_id FROM {table} WHERE prompt_id IN (SELECT value FROM json_each(?))",  # noqa: S608 - constants
        (json.dumps(list(prompt_ids)),),
    )
    return frozenset(row[0] for row in rows)


class EditorPrompt(NamedTuple):
    """A prompt that ComfyUI's editor has queued, and that has ended."""

    record: RunRecord  # as it is stored, but for its machine
    prompt: bytes
    workflow: bytes


def read_prompts(text: bytes, known: frozenset[str]) -> tuple[list[str], list[EditorPrompt]]:
    """Return the ids of the prompts in a part of a history, and those of the editor among them.

    Only the editor adds the workflow in UI format to a prompt; so does this package, which marks
    its prompts. What is not as expected is left out; ValueError if the text is not JSON.
    """
    found: Any = jsons.loads(text)
    entries = found if isinstance(found, dict) else {}
    prompts = (
        _read(prompt_id, entry) for prompt_id, entry in entries.items() if prompt_id not in known
    )
    return list(entries), [prompt for prompt in prompts if prompt is not None]


def _read(prompt_id: str, entry: Any) -> EditorPrompt | None:
    prompt = entry.get("prompt") if isinstance(entry, dict) else None
    if not isinstance(prompt, list) or len(prompt) < 4:
        return None
    number, _, graph, extra = prompt[:4]
    if not isinstance(graph, dict) or not isinstance(extra, dict) or OWN_PROMPT in extra:
        return None
    if not all(isinstance(node, dict) for node in graph.values()):
        return None
    graph = {node_id: without_added(node) for node_id, node in graph.items()}
    embedded = extra.get("extra_pnginfo")
    workflow = embedded.get("workflow") if isinstance(embedded, dict) else None
    if not isinstance(workflow, dict) or not isinstance(entry.get("status"), dict):
        return None
    is_number = isinstance(number, (int, float)) and abs(number) < 2**53
    record = RunRecord(
        prompt_id,
        "",
        str(extra.get("client_id") or ""),
        created_at="",
        number=number if is_number else None,
        structure=structure_of(graph),
        inputs=_values_of(graph),
        seeds=apply_seeds(graph, SeedMode.SAVED).seeds,
        from_editor=True,
    )
    read_history(record, {"outputs": None, **entry})
    queued = extra.get("create_time")  # ComfyUI before 0.3.76 does not report it
    record.created_at = record.started_at or utc_now()
    if isinstance(queued, (int, float)) and 0 < queued < 1e13:
        record.created_at = timestamp_of(queued / 1000)
    return EditorPrompt(record, dumps(graph).encode(), dumps(workflow).encode())


def _values_of(graph: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the values in a graph that are no links, without those that are as long as files."""
    values = {
        f"{node_id}.{name}": value
        for node_id, node in graph.items()
        for name, value in inputs_of(node).items()
        if not is_link(value)
        and (not isinstance(value, (str, list, dict)) or len(dumps(value)) <= MAX_INPUT_LENGTH)
    }
    return values if len(values) <= MAX_INPUTS else {}


class EditorRuns:
    """Finds the prompts of ComfyUI's editor, and stores each as a run that has ended.

    Without a repository, none is stored.
    """

    def __init__(self, context: RunContext, repository: EditorPrompts | None) -> None:
        self._context = context
        self._repository = repository
        self._timers: dict[str, asyncio.TimerHandle] = {}
        # the machines whose queue has had prompts of others
        self._others: WeakSet[Machine] = WeakSet()
        self._seen: dict[str, None] = {}
        self._looking = asyncio.Lock()

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def connected(self, machine: Machine) -> None:
        """Search for prompts that have ended while there was no connection."""
        self._look_after(machine, 0.0)

    def queue_changed(self, machine: Machine) -> None:
        """Search soon if the queue has, or has had, more prompts than this server has sent."""
        if self._context.queue.others(machine.id):
            self._others.add(machine)
        self._look_after(machine, SOON if machine in self._others else LATER)

    def _look_after(self, machine: Machine, pause: float) -> None:
        """Search after a pause, unless an earlier search is scheduled."""
        if self._repository is None:
            return
        loop = asyncio.get_running_loop()
        waiting = self._timers.get(machine.id)
        if waiting is not None:
            if waiting.when() <= loop.time() + pause:
                return
            waiting.cancel()
        self._timers[machine.id] = loop.call_later(pause, self._start, machine)

    def _start(self, machine: Machine) -> None:
        del self._timers[machine.id]
        self._context.background.start(self.look(machine))

    async def look(self, machine: Machine) -> None:
        """Store what the machine's ComfyUI has in its history; an error is logged."""
        client, repository = machine.reachable_client(), self._repository
        if client is None or repository is None:
            return
        try:
            async with self._looking:
                ids, prompts = await self._find(client, repository)
                for prompt in prompts:
                    try:
                        await self._store(machine, prompt, repository)
                    except ValueError as error:  # for example for an id that is not valid Unicode
                        log.info("A run of ComfyUI's editor cannot be stored: %s", error)
        except (ComfyDeployError, ValueError) as error:
            log.info("The runs of ComfyUI's editor on %s are not read now: %s", machine.id, error)
            return
        if not self._context.queue.others(machine.id):
            self._others.discard(machine)
        self._seen.update(dict.fromkeys(ids))
        for _ in range(len(self._seen) - MAX_SEEN):
            del self._seen[next(iter(self._seen))]

    async def _find(
        self, client: ComfyUIClient, repository: EditorPrompts
    ) -> tuple[list[str], list[EditorPrompt]]:
        """Return the ids of ComfyUI's last prompts, and those of the editor that are not known yet.

        Both are oldest first. The search ends at a prompt that was found by an earlier search; runs
        of this server do not end it. It also ends where the next response would be too large.
        """
        ids: list[str] = []
        prompts: list[EditorPrompt] = []
        known = frozenset(self._seen)
        most, last = 1, 0
        while last < most <= MAX_PROMPTS:
            text = await client.recent_history(most)
            if text is None:
                break
            ids, found = await worker.run(read_prompts, text, known)
            stored, runs = await repository.known(ids)
            prompts = [p for p in found if p.record.prompt_id not in stored | runs]
            if len(ids) < most or not {*known, *stored}.isdisjoint(ids):
                break
            last, most = most, min(most * GROWTH, MAX_BYTES * most // len(text))
        return ids, prompts

    async def _store(
        self, machine: Machine, prompt: EditorPrompt, repository: EditorPrompts
    ) -> None:
        record = prompt.record
        record.machine = machine.id
        if await repository.add(record, prompt.prompt, prompt.workflow):
            text = "Run %s of ComfyUI's editor ended: %s"
            log.info(text, record.prompt_id, record.status, extra=record.log_fields)
