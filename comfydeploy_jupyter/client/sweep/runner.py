"""Runs the points of a sweep: queues them, follows them, cancels them."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ...errors import (
    ComfyDeployError,
    ConflictError,
    NotFoundError,
    RunCancelledError,
    RunTimeoutError,
    ServerUnreachableError,
    UnauthorizedError,
)
from ..events import FINAL, RunProgress
from ..results import Result
from .order import Branches
from .points import WAITING, Job
from .progress import time_left

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ..comfy import Comfy
    from ..stream import EventStream
    from .file import SweepFile
    from .plan import Plan
    from .progress import SweepProgress

P = ParamSpec("P")
T = TypeVar("T")

STOP_TIMEOUT = 10.0
"""How long `Runner.stop` waits for cancelled runs to end before it stops following them, s."""

KEEP_ALIVE_INTERVAL = 3.0
"""The time between requests that keep the server from counting as idle between two runs, s."""


class Runner:
    """Runs the jobs of a sweep in threads, a few at a time.

    Parameters
    ----------
    comfy : Comfy
        The client.
    plan : Plan
        What is run.
    jobs : dict
        The runs by the keys of their points.
    file : SweepFile
        Where they are saved.
    progress : SweepProgress
        Notes each change.

    Attributes
    ----------
    error : Exception or None
        What ended the sweep early, such as a ComfyUI that does not answer.
    progress : SweepProgress
        Notes each change; `Sweep.resume` replaces it by a new one.
    """

    def __init__(
        self,
        comfy: Comfy,
        plan: Plan,
        jobs: Mapping[str, Job],
        file: SweepFile,
        progress: SweepProgress,
    ) -> None:
        self.error: Exception | None = None
        self.progress = progress
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
        self._streams: dict[str, EventStream] = {}
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
        """Put the jobs that are left into the queue, to be run by `start` inside this context.

        Parameters
        ----------
        retry_failed : bool
            Whether jobs that failed are run again.

        Raises
        ------
        ConflictError
            The sweep is running.
        """
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
        """Run what is in the queue, in threads.

        Parameters
        ----------
        view : context manager
            Entered while the jobs run.
        """
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
            for stream in list(self._streams.values()):
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
                stream = self._attempt(job, self._open, job)
            if stream is not None:
                self._attempt(job, self._follow, job, stream)
            job.progress = None
            self._streams.pop(job.prompt_id, None)
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

    def _attempt(
        self, job: Job, step: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T | None:
        """Do one step of a job; an error fails the job, or ends the sweep if it concerns all jobs.

        Returns
        -------
        object or None
            What the step returned; None after an error.
        """
        try:
            return step(*args, **kwargs)
        except RunCancelledError:
            job.status = "cancelled"
            return None
        except Exception as error:
            refused = isinstance(error, ComfyDeployError) and error.status < 500
            if refused and not isinstance(error, (UnauthorizedError, RunTimeoutError)):
                job.status, job.error = "failed", str(error)
                return None
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

    def _follow(self, job: Job, stream: EventStream) -> None:
        """Follow the run of a job to its end."""
        assert job.progress is not None
        reply: dict[str, Any] = {}
        with stream:
            self._streams[job.prompt_id] = stream
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
