"""The WebSocket that shows a page all that a server does: runs, batches, transfers, machines."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from tornado.websocket import WebSocketClosedError

from .._version import __version__
from ..errors import ComfyDeployError, InvalidRequestError, TooLargeError
from ..machines.hardware import memory_at
from ..request_models import Model, optional, parse
from ..util.jsons import dumps
from ..util.tasks import wait_until_set
from ..util.times import utc_now
from . import route
from .route import TIME
from .runs import Time
from .ws import SocketHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..runs.feed import RunEvent
    from ..runs.records import RunRecord
    from ..runs.run import Run
    from ..services import Services
    from ..util.tasks import BackgroundTasks


INTERVAL = 0.5  # seconds between two messages
LOOK_INTERVAL = 2.0  # the longest pause between two looks; nothing reports changes of machines
MEMORY_INTERVAL = 3.0  # seconds between two requests for the memory of machines
MOST_RUNS = 200  # runs in a message
MOST_BATCHES = 50
MOST_TRANSFERS = 100
MOST_MACHINES = 200
MOST_MEMBERS = 16  # machines of a pool whose memory is asked for
MOST_ENDS = 100
REMEMBERED = 1000  # ends for pages that are slow
MAX_REASON = 500  # characters of why a run has failed
MAX_MESSAGE = 4096  # bytes of a message of the page
NAMES_KEPT = 20.0  # seconds until the names of workflows are read again


class OverviewQuery(Model):
    after: Time | None = optional(
        "The `mark` of an earlier message. The ends since then are sent again, at most"
        f" {MOST_ENDS} of the runs and as many of the batches.",
        TIME,
    )


class Watch(Model):
    """What a page shows now, in a message of the page."""

    first: Annotated[int, Field(ge=0)] = 0
    count: Annotated[int, Field(ge=0, le=MOST_RUNS)] = 1
    details: bool = False


class Overview:
    """What a server does: read once for all pages that look at it, and only while one does."""

    def __init__(self, services: Services, tasks: BackgroundTasks) -> None:
        self._services = services
        self._start_loop = tasks.keep
        self._pages: set[OverviewSocket] = set()
        self._changed = asyncio.Event()
        self._stop: list[Callable[[], object]] = []  # reading, while there are pages
        self._asking: asyncio.Task[None] | None = None  # for the memory of machines
        self.parts: dict[str, Any] = {}  # the same for all pages
        self.windows: dict[tuple[int, int], dict[str, Any]] = {}  # the runs that pages show
        self.memory: dict[str, list[dict[str, Any]]] = {}
        self._new: list[dict[str, Any]] = []  # ends since the last look
        self._ends: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)  # the last ones before
        self.ended = 0  # how many there were before

    def join(self, page: OverviewSocket) -> None:
        self._pages.add(page)
        if not self._stop:
            self.parts, self.windows = {}, {}
            self._batches_changed = True
            self._since, self._told = utc_now(), set[str]()  # the last end of a batch
            self._names: dict[str, str] = {}
            self._names_at = 0.0
            active = self._services.runs.active
            self._stop = [
                active.follow(self._note),
                active.follow_edits(self._changed.set),
                self._start_loop(self._read, "Reading what the server does").cancel,
            ]
        self.show(page)

    def leave(self, page: OverviewSocket) -> None:
        self._pages.discard(page)
        self._ask_if_shown()
        if not self._pages:
            for stop in self._stop:
                stop()
            self._stop = []

    def show(self, page: OverviewSocket) -> None:
        """Read what a page shows now."""
        if page in self._pages:
            self._ask_if_shown()
            self._read_changes = -1  # those of transfers that were read
            self._changed.set()

    def _ask_if_shown(self) -> None:
        """Ask the machines for their memory while a page shows it."""
        is_shown = any(page.watch.details for page in self._pages)
        if is_shown and self._asking is None:
            self._asking = self._start_loop(
                self._ask_for_memory, "Asking machines for their memory"
            )
        elif not is_shown and self._asking is not None:
            self._asking.cancel()
            self._asking = None

    def ends_after(self, number: int) -> tuple[list[dict[str, Any]], int]:
        """Return at most `MOST_ENDS` of the kept ends from a number on, and the next number."""
        oldest = self.ended - len(self._ends)
        first = max(number - oldest, 0)
        found = list(islice(self._ends, first, first + MOST_ENDS))
        return found, oldest + first + len(found)

    async def missed(self, moment: str) -> list[dict[str, Any]]:
        """Return the first ends in the store at a moment or later."""
        services = self._services
        runs = await services.runs.ended_after(moment, MOST_ENDS)
        batches = await services.batches.ended_after(moment, MOST_ENDS)
        ends = [*map(_end_of_run, runs), *map(_end_of_batch, batches)]
        ends.sort(key=lambda end: str(end["ended_at"]))
        await self._add_titles(ends)
        return ends

    def _note(self, run: Run, event: RunEvent) -> None:
        """Look again: something has happened to a run."""
        record = run.record
        if record.batch is not None:
            self._batches_changed = True
        elif event.event == "status":
            self._new.append(_end_of_run(record))
        if event.preview is None:
            self._changed.set()

    async def _read(self) -> None:
        while True:
            self._changed.clear()
            services = self._services
            counts = services.runs.active.counts()
            self.parts |= {
                "server": {"instance": services.instance, "version": __version__},
                "queue": {"running": counts["running"], "waiting": counts["pending"]},
                "machines": self._machines(),
                "edits": services.runs.active.edits,
            }
            await self._read_runs()
            for read in (self._read_batches, self._read_transfers):
                with suppress(ComfyDeployError):  # of the store: the part stays as it is
                    await read()
            new, self._new = self._new, []
            await self._add_titles(new)
            self._ends += new
            self.ended += len(new)
            for page in self._pages:
                page.changed.set()
            await asyncio.sleep(INTERVAL)
            await wait_until_set(self._changed, LOOK_INTERVAL)

    async def _read_runs(self) -> None:
        windows = {}
        for first, count in {(page.watch.first, page.watch.count) for page in self._pages}:
            runs = self._services.runs
            found = runs.open_runs(first, count)
            head = runs.open_runs(0, 1) if first else found[:1]
            await self._add_titles([*found, *head])
            shown = {"first": first, "total": len(runs.active), "runs": found, "head": head}
            windows[first, count] = shown
        self.windows = windows

    async def _read_batches(self) -> None:
        """Read the batches that have not ended, and ends of others, if runs of some have moved."""
        if not self._batches_changed and not self.parts["batches"]:
            return
        self._batches_changed = False
        batches = self._services.batches
        try:
            self.parts["batches"] = await batches.unfinished(MOST_BATCHES)
            ended = await batches.ended_after(self._since, MOST_ENDS)
        except ComfyDeployError:
            self._batches_changed = True
            raise
        for batch in ended:
            if batch["finished_at"] > self._since:
                self._since, self._told = batch["finished_at"], set()
            if batch["batch_id"] not in self._told:
                self._told.add(batch["batch_id"])
                self._new.append(_end_of_batch(batch))
        if len(ended) == MOST_ENDS:
            self._batches_changed = True
            self._changed.set()

    async def _read_transfers(self) -> None:
        """Read the transfers if a page shows them; the store is asked while some are open."""
        if self._asking is None:
            return
        queue = self._services.transfers.queue
        changes = queue.changes
        if changes != self._read_changes or queue.counts()["pending_uploads"]:
            found = (await queue.status())["uploads"]
            self.parts["transfers"] = found[-MOST_TRANSFERS:]
            self._read_changes = changes

    async def _add_titles(self, shown: Iterable[dict[str, Any]]) -> None:
        """Name the stored workflow of each run or batch without a title of its own."""
        now = asyncio.get_running_loop().time()
        if now - self._names_at > NAMES_KEPT:
            self._names, self._names_at = {"": ""}, now
        for each in [one for one in shown if not one.get("title")]:
            workflow_id = each["workflow_id"]
            if workflow_id not in self._names:
                self._names[workflow_id] = ""
                with suppress(ComfyDeployError):  # it was deleted, or is one of ComfyDeploy
                    name = await self._services.local_workflows.name(workflow_id)
                    self._names[workflow_id] = name
            each["title"] = self._names.get(workflow_id, "")

    def _machines(self) -> list[dict[str, Any]]:
        """Return the machines, the default one first, and the pools."""
        services = self._services
        found: list[dict[str, Any]] = []
        for summary in services.machine_service.summaries()[:MOST_MACHINES]:
            machine = services.machines.find(summary["id"])
            if machine is None:
                continue  # of ComfyDeploy
            status = machine.status()
            more = {"hint": status.get("hint"), "restarts": status.get("restarts") or 0}
            found.append({**summary, **more})
        pools = (services.pools.summary(p, members=False) for p in services.machines.pools)
        found += [{"url": None, "version": None, **pool} for pool in islice(pools, MOST_MACHINES)]
        return found

    async def _ask_for_memory(self) -> None:
        while True:
            machines = self._services.machines
            asked = {machine.id: [machine] for machine in [*machines][:MOST_MACHINES]}
            for pool in machines.pools:
                asked[pool.id] = [*machines.members(pool)][:MOST_MEMBERS]
            once = {machine.id: machine for group in asked.values() for machine in group}
            connected = [machine for machine in once.values() if machine.connected]
            replies = await asyncio.gather(*map(memory_at, connected), return_exceptions=True)
            of = {
                machine.id: [{**each, "machine": machine.name} for each in reply]
                for machine, reply in zip(connected, replies, strict=True)
                if isinstance(reply, list)
            }
            self.memory = {
                known: [each for machine in group for each in of.get(machine.id, [])]
                for known, group in asked.items()
            }
            self._changed.set()
            await asyncio.sleep(MEMORY_INTERVAL)


class OverviewSocket(SocketHandler):
    """``GET overview``: the present state, and then each part of it that has changed."""

    tag = "Status"
    max_message_size = MAX_MESSAGE + 1024

    @route.get("overview", "openOverview", auth_action="read", is_activity=False)
    @route.opens_socket
    async def open_overview(self, query: OverviewQuery) -> None:
        """WebSocket with what the server does: runs, batches, transfers and machines.

        Messages have the parts that have changed, at most two a second.
        """
        self._after = query.after
        await super().get()

    def open(self, *args: Any, **kwargs: Any) -> None:
        super().open(*args, **kwargs)
        self.watch = Watch()
        self.changed = asyncio.Event()
        self._overview = overview = self.extension.overview
        self._sent: dict[str, Any] = {}
        self._mark = str(self._after or utc_now())
        self._told = overview.ended
        overview.join(self)
        self._task = self.extension.tasks.start(
            self._show(), "Showing what the server does", when_done=self.close
        )

    def on_close(self) -> None:
        super().on_close()
        if hasattr(self, "_task"):
            self._overview.leave(self)
            self._task.cancel()

    async def on_message(self, message: str | bytes) -> None:
        """Take what the page shows; after an invalid message it gets ``error``."""
        try:
            if len(message) > MAX_MESSAGE:
                raise TooLargeError(f"The message is larger than {MAX_MESSAGE} bytes")
            try:
                body = json.loads(message)
            except ValueError:
                body = None
            if not isinstance(body, dict) or body.pop("event", None) != "watch":
                raise InvalidRequestError.of_field("event", "must be watch")
            self.watch = parse(Watch, body)
        except ComfyDeployError as error:
            with suppress(WebSocketClosedError):
                await self.write_message({"event": "error", "data": error.to_reply()})
        else:
            self._overview.show(self)

    async def _show(self) -> None:
        missed: list[dict[str, Any]] = []
        if self._after:
            with suppress(ComfyDeployError):  # of the store: what is now can be shown
                missed = await self._overview.missed(self._mark)
        with suppress(WebSocketClosedError):
            while True:
                await self.changed.wait()
                self.changed.clear()
                news = self._news(missed)
                missed = []
                if news:
                    text = await asyncio.to_thread(dumps, {"event": "overview", "data": news})
                    await self.write_message(text)
                await asyncio.sleep(INTERVAL)

    def _news(self, missed: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the parts that differ from those that were sent, and ends that were not."""
        overview, watch = self._overview, self.watch
        parts = dict(overview.parts)
        runs = overview.windows.get((watch.first, watch.count))
        if runs is not None:
            parts["runs"] = runs
        if watch.details:
            machines, memory = parts["machines"], overview.memory
            parts["machines"] = [
                {**each, "memory": memory.get(each["id"], [])} for each in machines
            ]
        else:
            parts.pop("transfers", None)
        news = {name: part for name, part in parts.items() if part != self._sent.get(name)}
        self._sent |= news
        found, self._told = overview.ends_after(self._told)
        if self._told < overview.ended:
            self.changed.set()
        known = {(end["id"], end["ended_at"]) for end in missed}
        ends = missed + [end for end in found if (end["id"], end["ended_at"]) not in known]
        if ends:
            self._mark = max(self._mark, *(end["ended_at"] for end in ends))
            news["ended"] = ends
        if news and self._mark != self._sent.get("mark"):
            news["mark"] = self._sent["mark"] = self._mark
        return news


def _end_of_run(record: RunRecord) -> dict[str, Any]:
    return {
        "id": record.prompt_id,
        "kind": "run",
        "title": "",
        "workflow_id": record.workflow_id or "",
        "status": record.status,
        "began_at": record.started_at or record.created_at,
        "ended_at": record.finished_at,
        "why": str((record.error or {}).get("message") or "")[:MAX_REASON],
    }


def _end_of_batch(batch: dict[str, Any]) -> dict[str, Any]:
    has_failed = "failed" if batch["counts"].get("failed") else "success"
    return {
        "id": batch["batch_id"],
        "kind": "batch",
        "title": batch["title"],
        "workflow_id": batch["workflow_id"] or "",
        "status": "cancelled" if batch["state"] == "cancelled" else has_failed,
        "began_at": batch["created_at"],
        "ended_at": batch["finished_at"],
        "why": batch["why"],
    }
