"""The runs of a sweep: its points, its file, its progress, and the threads that run it."""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections import defaultdict
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeVar

from ...errors import (
    ComfyDeployError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    RunCancelledError,
    RunTimeoutError,
    ServerUnreachableError,
    UnauthorizedError,
    printable,
)
from ..files import write_text
from ..results import Result
from ..runs import Run
from ..stream import FINAL, RunProgress
from .plan import Branches, digest, value_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ..comfy import Comfy
    from ..stream import EventStream
    from .plan import Plan
    from .sweep import Sweep


WAITING = "waiting"
"""Status of a point that is not queued yet."""

SAVED = ("values", "prompt_id", "status", "error", "record", "sent")
"""The attributes of a `Job` that are saved in the file of the sweep."""


@dataclass
class Job:
    """One run of a sweep; points with the same graph and values share it."""

    plan: Plan  # what the sweep runs
    values: dict[str, Any]  # the values of the inputs that are swept
    # the id that the run has, or will have
    prompt_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = WAITING  # ``waiting``, or the status of the run
    error: str = ""  # why it failed; empty if it did not
    # the server's record of the run, once the run has ended
    record: dict[str, Any] = field(default_factory=dict)
    sent: bool = False  # whether the server may know the run
    progress: RunProgress | None = None  # the progress of the run while it is followed
    stream: EventStream | None = None  # its events while they are followed
    starred: bool = False  # whether the user has marked it as one of the best
    _result: Result | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what is saved of it."""
        star = {"starred": True} if self.starred else {}
        return {**{name: getattr(self, name) for name in SAVED}, **star}

    def restore(self, saved: Mapping[str, Any], *, fresh: bool = False) -> None:
        """Set the state that `to_json` returned; the values stay."""
        self.starred = saved.get("starred") is True
        for name in SAVED:
            if name != "values" and not fresh:
                setattr(self, name, saved[name])

    def reset(self) -> None:
        """Remove the run, so that a new one is created; the star stays."""
        self.prompt_id = str(uuid.uuid4())
        self.status, self.error, self.record = WAITING, "", {}
        self.sent, self.progress, self._result = False, None, None

    @cached_property
    def work(self) -> int:
        """How often it executes a node: points differ if they set the iterations of a loop."""
        return self.plan.work_at(self.values)

    @property
    def run(self) -> Run:
        """The handle on the run."""
        return Run(self.plan.server, {"prompt_id": self.prompt_id, **self.record}, self.plan.source)

    @property
    def result(self) -> Result | None:
        """The result of the run; None before it has ended, and if ComfyUI never ran it."""
        if self._result is None and self.status in FINAL and self.record:
            self._result = Result(self.plan.server, self.record, self.plan.source)
        return self._result


class Point:
    """One point of a sweep: its values and its run."""

    __slots__ = ("_job", "index", "values")

    def __init__(self, index: int, values: dict[str, Any], job: Job) -> None:
        self._job = job
        self.index = index
        """Its position in the sweep, from 0."""
        self.values = values
        """The values by input."""

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def label(self) -> str:
        """Its values on one line, e.g. ``"seed 3, cfg 7"``."""
        return ", ".join(f"{name} {value_text(value)}" for name, value in self.values.items())

    @property
    def status(self) -> str:
        """``waiting``, or the status of its run."""
        return self._job.status

    @property
    def error(self) -> str:
        """Why it failed; empty if it did not."""
        return self._job.error

    @property
    def prompt_id(self) -> str:
        """The id that its run has, or will have."""
        return self._job.prompt_id

    @property
    def starred(self) -> bool:
        """Whether it is marked as one of the best, see `Sweep.star`."""
        return self._job.starred

    @property
    def progress(self) -> RunProgress | None:
        """The progress of its run while that is followed; else None."""
        return self._job.progress

    @property
    def run(self) -> Run:
        """The handle on its run."""
        return self._job.run

    @property
    def result(self) -> Result | None:
        """The result of its run; None before that has ended."""
        return self._job.result

    def __repr__(self) -> str:
        return printable(f"<Point {self.index}: {self.label}: {self.status}>")


FORMAT = "comfydeploy-sweep"
VERSION = 1
SERVER = ("url", "store", "id")
"""What identifies the server that has the runs: its address, and the file and id of its store."""

FOLDER = Path("sweeps")
"""The folder where sweeps are saved by default, relative to the working directory."""

SAVE_INTERVAL = 1.0
"""Shortest time between two savings, s; the ids of all runs are saved before the first starts."""

SAVE_SHARE = 20
"""The time between two savings is at least this many times the time that the last one took."""


class SweepFile:
    """Saves a sweep in a JSON file; safe to use from several threads."""

    def __init__(self, plan: Plan, jobs: Mapping[str, Job], path: Path | None) -> None:
        self.path = path
        self._server: dict[str, str] | None = None  # the one that has the runs
        self._plan = plan
        self._jobs = jobs
        self._others: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._saved_at, self._saving_took = 0.0, 0.0

    def restore(self, *, fresh: bool) -> None:
        """Set the jobs to the state that the file has of them, if the file exists.

        Runs in the file that belong to no point of this sweep stay in the file.
        """
        if self.path is None or not self.path.exists():
            return
        content = read_file(self.path)
        server = content.get("server")  # older files have none
        if isinstance(server, dict) and all(isinstance(server.get(name), str) for name in SERVER):
            self._server = {name: server[name] for name in SERVER}
            try:
                self.check_server()
            except ConflictError:
                raise
            except ComfyDeployError:
                pass  # without an answer, what the file has can be seen
        try:
            for key, saved in content["runs"].items():
                job = self._jobs.get(key)
                if job is None:
                    self._others[key] = saved
                else:
                    job.restore(saved, fresh=fresh)
        except (KeyError, TypeError, AttributeError) as error:
            raise not_a_sweep(self.path) from error

    def check_server(self) -> None:
        """Raise a ConflictError if the runs are on another server than the present one."""
        server = self._plan.server
        store = server.get("check-status", timeout=10).get("store", {})
        if "id" not in store:  # an older version
            return
        present = {"url": server.url, "store": store["path"], "id": store["id"]}
        known = self._server
        if known is not None and known["id"] != present["id"]:
            runs = "this sweep" if self.path is None else str(self.path)
            raise ConflictError(
                f"the runs of {runs} are on the Jupyter server {known['url']!r}, whose data are in"
                f" {known['store']!r}; {server.url!r} is another one, or its data were replaced."
                " Connect to that server to continue, or run the points here with save= another"
                " file"
            )
        self._server = present

    def save(self, path: str | Path | None = None) -> Path | None:
        """Write the file; a crash leaves the old content."""
        with self._lock:
            if path is not None:
                self.path = Path(path).expanduser()
            if self.path is None:
                return None
            started = time.monotonic()
            runs = {key: job.to_json() for key, job in self._jobs.items()}
            content = {
                "format": FORMAT,
                "version": VERSION,
                "server": self._server,
                **self._plan.to_json(),
                "runs": {**self._others, **runs},
            }
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps(content, ensure_ascii=False) + "\n")
            self._saved_at = time.monotonic()
            self._saving_took = self._saved_at - started
            return self.path

    @property
    def is_due(self) -> bool:
        """Whether the last saving is long enough ago for another one."""
        interval = max(SAVE_INTERVAL, SAVE_SHARE * self._saving_took)
        return time.monotonic() - self._saved_at > interval


def default_path(title: str, keys: Iterable[str]) -> Path:
    """Return the path of a sweep's file, the same for the same workflow and points."""
    name = re.sub(r"[^\w.-]+", "-", title).strip("-.")[:60] or "sweep"
    return FOLDER / f"{name}-{digest(list(keys))[:8]}.json"


def read_file(path: Path) -> dict[str, Any]:
    """Return the content of a sweep's file."""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise not_a_sweep(path) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise not_a_sweep(path)
    if content.get("version") != VERSION:
        raise InvalidRequestError.of_field("path", f"{path} was saved by a newer version")
    return content


def not_a_sweep(path: Path) -> InvalidRequestError:
    """Return the error for a file that holds something else."""
    return InvalidRequestError.of_field("path", f"{path} is not the file of a sweep")


MIN_DURATION = 0.001
"""The shortest duration of a run that estimates assume, s."""


class SweepProgress:
    """The progress of a sweep."""

    def __init__(self, sweep: Sweep, *, blocking: bool = False) -> None:
        self.sweep = sweep
        """The sweep."""
        self.blocking = blocking
        """Whether the kernel waits for it; then the kernel cannot react to buttons."""
        self.started = time.monotonic()
        """When it was started, s of `time.monotonic`."""
        self.ended: float | None = None
        """When it ended, s of `time.monotonic`; None while it runs."""
        self._changes = 0

    @property
    def status(self) -> str:
        """The status of the sweep."""
        return self.sweep.status

    @property
    def version(self) -> int:
        """A number that grows with each change."""
        return self._changes + sum(p.version for p in self._running())

    @property
    def counts(self) -> dict[str, int]:
        """How many points have each status; ``total`` is the number of all points."""
        return self.sweep.counts

    @property
    def fraction(self) -> float:
        """The part that is done, 0 to 1."""
        ended = sum(point.status in FINAL for point in self.sweep)
        running = sum(progress.fraction for progress in self._running())
        return min(1.0, (ended + running) / len(self.sweep))

    @property
    def elapsed(self) -> float:
        """Time since the start, or from the start to the end, s."""
        return (time.monotonic() if self.ended is None else self.ended) - self.started

    @property
    def time_left(self) -> float | None:
        """How long it will probably take from now on, s; None if that is not known.

        It is known once a point has ended.
        """
        return None if self.ended is not None else self.sweep._runner.time_left()

    @property
    def summary(self) -> str:
        """The counts as text, e.g. ``"5 of 16 points, 1 failed"``."""
        counts = self.counts
        words = [f"{counts.get('success', 0)} of {counts['total']} points"]
        words += [f"{counts[name]} {name}" for name in ("failed", "cancelled") if name in counts]
        return ", ".join(words)

    @property
    def current(self) -> tuple[Point, RunProgress | None] | None:
        """The point that runs now, else one that is queued, with its progress; else None."""
        points = sorted(self.sweep, key=lambda point: point.status != "running")
        active = (p for p in points if p.status in ("running", "queued"))
        return next(((point, point.progress) for point in active), None)

    def changed(self) -> None:
        """Record that something has changed."""
        self._changes += 1

    def finish(self, status: str) -> None:
        """Record the end; ``status`` is ignored, because the sweep has its own status."""
        self.ended = time.monotonic()
        self._changes += 1
        self.sweep._notify()

    def _running(self) -> list[RunProgress]:
        jobs = self.sweep._runner.active_jobs()
        return [job.progress for job in jobs if job.progress is not None]


def time_left(jobs: Iterable[Job], machines: int) -> float | None:
    """Return how long the jobs that have not ended will take, s.

    It is estimated from the durations of those that have ended and their `Job.work`, on each
    machine by itself. A machine that has not executed any is taken to be as fast as the others.
    """
    ended: dict[object, list[tuple[float, int]]] = defaultdict(list)
    left, unfinished = 0.0, 0
    for job in jobs:
        if job.status not in FINAL:
            unfinished += 1
            left += job.work * (1 - (job.progress.fraction if job.progress is not None else 0))
        seconds = job.record.get("execution_time")
        if job.status == "success" and isinstance(seconds, (int, float)):
            ended[job.record.get("machine")].append((seconds, job.work))
    if not ended:
        return None
    speed = fmean(
        sum(work for _, work in runs) / max(MIN_DURATION * len(runs), sum(s for s, _ in runs))
        for runs in ended.values()
    )
    return left / min(machines, max(1, unfinished)) / speed


T = TypeVar("T")

STOP_TIMEOUT = 10.0
"""How long `Runner.stop` waits for cancelled runs to end before it stops following them, s."""

KEEP_ALIVE_INTERVAL = 3.0
"""The time between requests that keep the server from counting as idle between two runs, s."""


class Runner:
    """Runs the jobs of a sweep in threads, a few at a time."""

    def __init__(
        self,
        comfy: Comfy,
        plan: Plan,
        jobs: Mapping[str, Job],
        file: SweepFile,
        progress: SweepProgress,
    ) -> None:
        self.error: Exception | None = None  # what ended the sweep early
        self.progress = progress  # a new one each time that the sweep is resumed
        self._comfy = comfy
        self._plan = plan
        self._jobs = jobs
        self._file = file
        self._lock = threading.Lock()
        self._taking_turns = threading.Lock()
        self._queue: Branches[Job] = Branches([], [], 1)
        self._at_once = 1
        self._machines = 1
        self._active: list[Job] = []
        self._stopping = threading.Event()
        self._over = threading.Event()
        self._over.set()

    @property
    def status(self) -> str:
        """``running``, ``done``, ``stopped`` or ``failed``: the status of the sweep."""
        if not self._over.is_set() and self.progress.ended is None:
            return "running"
        return self._final_status

    @property
    def _final_status(self) -> str:
        """The value of `status` when no more jobs run."""
        if self.error is not None:
            return "failed"
        done = all(job.status in {"success", "failed"} for job in self._jobs.values())
        return "done" if done else "stopped"

    def active_jobs(self) -> list[Job]:
        """Return the jobs that are queued or run now."""
        with self._lock:
            return list(self._active)

    def time_left(self) -> float | None:
        """Return how long the jobs that have not ended will probably take, s; None: unknown."""
        return time_left(self._jobs.values(), self._machines)

    @contextmanager
    def starting(self, *, retry_failed: bool) -> Iterator[None]:
        """Put the jobs that are left into the queue, to be run by `start` inside this context."""
        with self._lock:
            if not self._over.is_set():
                raise ConflictError("the sweep is running")
            self._over.clear()
        try:
            self.error = None
            self._stopping.clear()
            again = {"cancelled", *(("failed",) if retry_failed else ())}
            for job in self._jobs.values():
                if job.status in again:
                    job.reset()
                elif job.status not in FINAL:
                    job.status = WAITING
            waiting = [job for job in self._jobs.values() if job.status == WAITING]
            order = self._plan.in_run_order([job.values for job in waiting])
            pool = self._comfy.machines.number(self._plan.machine)
            self._machines, self._at_once = self._plan.division(pool)
            in_order = [waiting[index] for index in order.indexes]
            self._queue = Branches(in_order, order.levels, self._machines)
            yield
        except BaseException:
            self._over.set()
            raise

    def start(self, view: AbstractContextManager[object]) -> None:
        """Run what is in the queue, in threads."""
        threading.Thread(
            target=self._run, args=(view,), name="comfydeploy-sweep", daemon=True
        ).start()

    def wait(self, timeout: float | None) -> bool:
        """Wait until the sweep has ended; return False if it has not within ``timeout``, s."""
        return self._over.wait(timeout)

    def stop(self) -> None:
        """Queue no more jobs and cancel those that are queued or run.

        Returns when they have ended. Where that takes longer than `STOP_TIMEOUT`, they are no
        longer followed.
        """
        self._stopping.set()
        for job in self.active_jobs():
            self._cancel(job)
        if not self._over.wait(STOP_TIMEOUT):
            for stream in filter(None, [job.stream for job in self.active_jobs()]):
                stream.close()
            self._over.wait(STOP_TIMEOUT)

    def _run(self, view: AbstractContextManager[object]) -> None:
        threading.Thread(target=self._keep_alive, name="comfydeploy-alive", daemon=True).start()
        try:
            with view:
                workers = [
                    threading.Thread(target=self._work, name="comfydeploy-point", daemon=True)
                    for _ in range(min(self._at_once, len(self._queue)))
                ]
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()
                self._save()
                self.progress.finish(self._final_status)
        except Exception as error:
            self.error = self.error or error
        finally:
            self._over.set()
            self.progress.changed()

    def _keep_alive(self) -> None:
        while not self._over.wait(KEEP_ALIVE_INTERVAL):
            with suppress(ComfyDeployError):  # the workers meet the same error and raise it
                self._comfy.server.get("check-status", in_use="true")

    def _work(self) -> None:
        """Run one job after another until none is left."""
        while True:
            with self._taking_turns:  # one worker at a time, so that jobs are queued in order
                found = self._next_job()
                if found is None:
                    return
                branch, job = found
                job.stream = self._attempt(job, self._open)
            if job.stream is not None:
                self._attempt(job, self._follow)
            job.progress = job.stream = None
            with self._lock:
                self._active.remove(job)
                self._queue.ended(branch)
            self.progress.changed()
            if self._file.is_due:
                self._save()

    def _next_job(self) -> tuple[int, Job] | None:
        """Take a job from the queue; return None if it is empty or the sweep must stop."""
        with self._lock:
            found = None if self._stopping.is_set() else self._queue.take()
            if found is None:
                return None
            job = found[1]
            job.status, job.progress = "queued", RunProgress(self._plan.source)
            self._active.append(job)
        self.progress.changed()
        return found

    def _attempt(self, job: Job, step: Callable[[Job], T]) -> T | None:
        """Do one step of a job; an error fails the job, or if it concerns all jobs, the sweep."""
        try:
            return step(job)
        except RunCancelledError:
            job.status = "cancelled"
        except Exception as error:
            refused = isinstance(error, ComfyDeployError) and error.status < 500
            if refused and not isinstance(error, (UnauthorizedError, RunTimeoutError)):
                job.status, job.error = "failed", str(error)
            else:
                job.status = WAITING
                self.error = self.error or error
                self._stopping.set()
        return None

    def _open(self, job: Job) -> EventStream:
        """Queue the run of a job, or find the one that is queued already; return its events."""
        if job.sent:
            with suppress(NotFoundError):
                return job.run.events()
        job.sent = True
        plan = self._plan
        try:
            return self._comfy.stream(
                plan.workflow,
                plan.inputs_at(job.values),
                machine=plan.machine,
                prompt_id=job.prompt_id,
                **plan.options,
            )
        except ConflictError:
            return job.run.events()
        except ServerUnreachableError as error:
            job.sent = bool(error.extra.get("sent"))
            raise

    def _follow(self, job: Job) -> None:
        """Follow the run of a job to its end."""
        assert job.progress is not None
        assert job.stream is not None
        reply: dict[str, Any] = {}
        with job.stream as stream:
            if self._stopping.is_set():
                self._cancel(job)
            for event in stream:
                job.progress.feed(event)
                if job.progress.status not in FINAL:  # a final status is set with the record
                    job.status = job.progress.status
                if event.event == "result":
                    reply = event.data
        record = reply or self._comfy.server.get("check-status", prompt_id=job.prompt_id)
        if record.get("status") not in FINAL:
            job.status = WAITING
            return
        if record["status"] == "failed":
            job.error = Result(self._comfy.server, record, self._plan.source).failure
        job.record = record
        job.status = str(record["status"])

    def _cancel(self, job: Job) -> None:
        # The server may not know the run yet; then `_follow` cancels it once its stream is open.
        with suppress(ComfyDeployError):
            self._comfy.server.post("interrupt", {"prompt_id": job.prompt_id}, timeout=5)

    def _save(self) -> None:
        try:
            self._file.save()
        except (OSError, ComfyDeployError) as error:
            self.error = self.error or error
