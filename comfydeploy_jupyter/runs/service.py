"""The service of runs, for handlers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from ..errors import ComfyUIUnavailableError, RunTimeoutError
from ..util.system import ALLOWED, FetchPolicy
from ..util.tasks import close_each
from .active import ActiveRuns
from .announcing import Announcer
from .assigning import Assigning
from .background import Background
from .cancel import Canceller
from .creation import CREATE_WITHIN, RunCreator
from .deletion import KEEP_ALL, LIMITS_AGAIN, Deleter
from .dispatching import Dispatching
from .editor import EditorRuns
from .estimates import EarlierTimes
from .events import MachineEvents
from .finalize import Finalizer
from .orphans import Orphans
from .pooled import Pooled
from .prepare import Loader
from .queueing import Queueing
from .reading import RunReader
from .recovery import Recovery
from .retention import EndedRuns
from .saving import StateSaver
from .shared import Shared
from .watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from ..compat.comfy_account import ComfyAccount
    from ..extension import ComfyDeploy
    from ..machines.machine import MachineListener
    from ..machines.outputs import KeptOutputs
    from ..machines.registry import MachineRegistry
    from ..request_models import RunRequest
    from ..store.session import Session
    from .announcing import Emit
    from .deletion import DeletionRepository, KeepRuns
    from .delivery import Delivery
    from .editor import EditorPrompts
    from .inputs import PoolInputs
    from .records import RunRepository
    from .run import Run


class RunService(RunReader):
    """Queues prompts, follows them until their end and emits their events to all followers.

    A run is stored before ComfyUI can queue it; its end is stored before any client receives it.
    The end is taken from ComfyUI's ``execution_success`` or from its history.

    Parameters
    ----------
    repository : RunRepository
        The records.
    deletions : DeletionRepository
        Deletes records.
    machines : MachineRegistry
        The machines that runs can be sent to.
    session : Session
        The identity of this server in its requests to ComfyUI.
    delivery : Delivery
        Uploads the outputs of runs and reports their states.
    stored_version : callable
        Returns a version of a stored workflow by its id and number (None: the latest version).
    kept_outputs : KeptOutputs
        The outputs of members that a provider has started.
    view_url : str
        Address of the ``view`` route, for the URLs of outputs.
    account : ComfyAccount
        Has the keys of a Comfy account for runs whose request has none.
    inputs : PoolInputs
        Has the input files of runs of pools.
    fetching : FetchPolicy
        Whether input files may be downloaded.
    emit : callable, optional
        Emits the events of runs and machines to Jupyter's event system.
    settings : ComfyDeploy
        The settings.
    editor_prompts : EditorPrompts, optional
        Stores the runs of ComfyUI's editor; by default these are not stored.
    keep : KeepRuns
        The limits beyond which old runs are deleted.

    Attributes
    ----------
    unresponsive : callable
        Returns since when a machine's ComfyUI has not answered requests; None if it answers.
    listener : MachineListener
        Handles the events of machines.
    deleter : Deleter
        Deletes runs.
    """

    def __init__(
        self,
        repository: RunRepository,
        deletions: DeletionRepository,
        machines: MachineRegistry,
        session: Session,
        delivery: Delivery,
        kept_outputs: KeptOutputs,
        *,
        stored_version: Callable[[str, int | None], Awaitable[dict[str, Any]]],
        view_url: str,
        account: ComfyAccount,
        inputs: PoolInputs,
        fetching: FetchPolicy = ALLOWED,
        emit: Emit | None = None,
        settings: ComfyDeploy,
        editor_prompts: EditorPrompts | None = None,
        keep: KeepRuns = KEEP_ALL,
    ) -> None:
        background = Background()
        active, ended, earlier_times = (
            ActiveRuns(view_url),
            EndedRuns(),
            EarlierTimes(repository, background),
        )
        saver = StateSaver(repository, background)
        dispatching = Dispatching(machines, active)
        shared = Shared(
            repository,
            machines,
            session,
            active,
            ended,
            saver,
            Loader(repository, machines, active, saver, background),
            earlier_times,
            background,
            dispatching,
            kept_outputs,
        )
        finalizer = Finalizer(shared, delivery)
        pooled = Pooled(shared, finalizer)
        creator = RunCreator(
            shared,
            finalizer,
            stored_version=stored_version,
            account=account,
            fetching=fetching,
            inputs=inputs,
        )
        queueing = Queueing(shared, delivery, finalizer, pooled, account)
        canceller = Canceller(shared, creator, finalizer)
        recovery = Recovery(shared, queueing, pooled, finalizer)
        super().__init__(shared)
        self._creator = creator
        self._queueing = queueing
        self._canceller = canceller
        self.unresponsive = recovery.unresponsive.of
        self._orphans = Orphans(shared, account, finalizer, pooled)
        self._assigning = Assigning(shared, queueing, pooled, finalizer, inputs)
        self._watchdog = Watchdog(shared, recovery, finalizer, pooled, settings)
        announcer = Announcer(emit)
        editor_runs = EditorRuns(shared, editor_prompts)
        self._events = MachineEvents(
            shared, recovery, canceller, finalizer, pooled, announcer, editor_runs
        )
        self.listener: MachineListener = self._events
        self.deleter = Deleter(shared, deletions, keep)
        self._submitting = 0  # runs that are being queued
        active.follow(delivery.handle_event)
        active.follow(announcer.handle_event)

    async def open(self) -> None:
        """Recover the runs that had not ended when the last server stopped, and watch all runs."""
        await self._orphans.recover(self._shared.session.claimed)
        await self.deleter.finish(self._shared.session.claimed)
        background = self._shared.background
        background.keep(self._watchdog.run, "Watching the machines")
        background.keep(self._assigning.run, "Handing waiting runs over")
        background.keep(self.deleter.run, "Deleting old runs", LIMITS_AGAIN)

    async def recover_orphans(self, sessions: Collection[str]) -> None:
        """Recover and follow the runs of servers that have exited, by their session ids."""
        await self._orphans.recover(sessions)
        await self.deleter.finish(sessions)

    async def close(self) -> None:
        """Stop following runs; ComfyUI continues them, and the next start recovers them."""
        self._events.close()
        await close_each(self._shared.saver.close, self._shared.background.close)
        for run in self._shared.active:
            run.stop_timer()

    async def submit(
        self,
        request: RunRequest,
        *,
        small: bool = False,
        reply_at_end: bool = False,
        key: str | None = None,
        arrived: float | None = None,
    ) -> Run:
        """Queue a run.

        Parameters
        ----------
        request : RunRequest
            The request.
        small : bool
            Whether the request is so small that it can be prepared on the event loop.
        reply_at_end : bool
            Whether no client is informed before the run has ended. If so, the acceptance by ComfyUI
            need not be stored at once.
        key : str, optional
            The idempotency key of the request.
        arrived : float, optional
            Time of the event loop's clock from which ``timeout`` counts; by default now.

        Returns
        -------
        Run
            The run, accepted by ComfyUI.

        Raises
        ------
        InvalidRequestError, UnknownInputError, NotFoundError
            If the request is invalid; then nothing was done.
        ConflictError
            If its ``prompt_id`` or its key is in use, or it was cancelled before there was a run.
        PromptInvalidError, TooLargeError
            If ComfyUI refuses the graph, or its size; the run is stored as failed.
        ComfyUIUnavailableError
            If ComfyUI cannot be reached.
        RunTimeoutError
            If it is not queued within the request's ``timeout``. If the error has a ``prompt_id``,
            ComfyUI has been asked and the run is followed. If not, nothing was done; that is not
            decided before `CREATE_WITHIN` seconds.
        """
        until = latest = None
        if request.timeout is not None:
            arrived_at = asyncio.get_running_loop().time() if arrived is None else arrived
            until = arrived_at + request.timeout
            latest = arrived_at + max(request.timeout, CREATE_WITHIN)
        self._submitting += 1
        try:
            new = await self._creator.create(request, small=small, key=key, until=latest)
            new.run.awaited = reply_at_end
            await self._queueing.hand_over(request, new, reply_at_end=reply_at_end, until=until)
        finally:
            self._submitting -= 1
        return new.run

    async def queue(
        self, request: RunRequest, *, small: bool = False, key: str | None = None
    ) -> Run:
        """Queue a run as `submit` does; also return a run that ComfyUI may still accept.

        The parameters and the errors are those of `submit`.
        """
        try:
            return await self.submit(request, small=small, key=key)
        except (ComfyUIUnavailableError, RunTimeoutError) as fault:
            run = await self.load(str(fault.extra.get("prompt_id")))
            if run is None or run.record.finished:
                raise
            return run

    def creation(self, prompt_id: str) -> asyncio.Future[Any] | None:
        """Return the task that creates the run with that id, or None if there is no such task."""
        found = self._creator.find(prompt_id)
        return None if found is None else found.task

    @property
    def at_work(self) -> bool:
        """Whether any run is being queued or has not ended."""
        return bool(self._submitting or len(self._shared.active))

    async def interrupt(self, prompt_id: str | None, machine_id: str | None) -> tuple[str, str]:
        """Cancel a run, queued or running.

        Returns
        -------
        tuple of str
            The id of the run, and its state before: ``queued`` or ``running``.

        Raises
        ------
        NotFoundError
            If there is no such run, or no such run on the given machine.
        ConflictError
            If it has ended, or if no id was given and no run is executing.
        """
        return await self._canceller.interrupt(prompt_id, machine_id)
