"""The provider of a pool whose members run on a Dask cluster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import ComfyUIUnavailableError
from ..machines.providers import Member
from ..util.tasks import BackgroundTasks, end, report
from .lease_manager import CONNECT_WITHIN, LeaseManager, SchedulerError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine

    from ..machines.providers import Members
    from .lease import LeaseRequest
    from .lease_manager import Grant
    from .target import Target

T = TypeVar("T")

log = logging.getLogger(__name__)

CLOSE_WITHIN = 10.0  # seconds that the manager has to disconnect


class DaskProvider:
    """Provides the ComfyUIs of leases as the members of a pool.

    The client of the scheduler runs in a separate thread with a separate event loop.
    """

    def __init__(
        self,
        pool_id: str,
        token: str,
        target: Callable[[], Target],  # called in a thread: it may create a cluster
        request: LeaseRequest,
        *,
        least: int,
        most: int,
    ) -> None:
        self._pool_id = pool_id
        self._token = token
        self._find_target = target
        self._request = request
        self._least, self._most = least, most
        self._target: Target | None = None
        self._tls: ssl.SSLContext | None = None
        self._members: Members | None = None
        self._member_ids: set[str] = set()
        self._runs = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._own: asyncio.AbstractEventLoop | None = None
        self._manager: LeaseManager | None = None
        self._changes: asyncio.Queue[Coroutine[Any, Any, None]] = asyncio.Queue()
        self._managing, self._changing = BackgroundTasks(log), BackgroundTasks(log)

    # --- the protocol `Provider`

    async def start(self, members: Members) -> None:
        """Connect to the scheduler, and find the leases of an earlier server."""
        self._members = members
        self._loop = asyncio.get_running_loop()
        self._target = target = await asyncio.to_thread(self._find_target)
        self._tls = await asyncio.to_thread(target.client_context)
        self._own = asyncio.new_event_loop()
        threading.Thread(
            target=_run_loop, args=(self._own,), name=f"dask-{self._pool_id}", daemon=True
        ).start()
        self._changing.keep(self._make_changes, f"Changing the members of pool {self._pool_id!r}")
        try:
            await self._in_thread(self._open(target))
        except SchedulerError as error:
            raise ComfyUIUnavailableError(
                f"The Dask scheduler at {target.address} cannot be used: {error}",
                details={"scheduler": target.address},
            ) from error
        await asyncio.to_thread(target.adapt, self._token, self._least, self._most)
        await self._changes.join()

    def wanted(self, runs: int) -> None:
        """Set the number of runs of the pool that wait or execute."""
        self._runs = runs
        if self._own is not None and self._manager is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                self._own.call_soon_threadsafe(self._manager.want, runs)

    def describe(self) -> dict[str, Any]:
        """Return the scheduler, its state, and the leases."""
        manager = self._manager
        leases = [] if manager is None else manager.states()
        if manager is None or not manager.connected:
            state = "unreachable"
        elif leases:
            serves = any(lease["state"] == "serving" for lease in leases)
            state = "ready" if serves else "starting"
        else:
            state = "stopped" if manager.failure is None else "failed"
        return {
            "state": state,
            "scheduler": None if self._target is None else self._target.address,
            "connected": manager is not None and manager.connected,
            "workers": [self._least, self._most],
            "leases": leases,
            "error": None if manager is None else manager.failure,
            "note": None if manager is None else manager.note,
        }

    async def close(self, *, delete: bool, stays: bool = False) -> None:
        """Disconnect; leases end only if `delete` says so, or once they are idle."""
        await self._stop(end_leases=delete)
        if delete and not stays and self._target is not None:
            try:
                await asyncio.to_thread(self._target.release, self._token)
            except Exception:
                log.exception("The workers of the pool %r could not be ended", self._pool_id)

    # --- LeaseManager's listener; called on the manager's event loop

    def grant_serves(self, grant: Grant) -> None:
        """Add the ComfyUI of the grant to the pool."""
        self._change(self._join(grant))

    def grant_ended(self, grant: Grant, reason: str) -> None:
        """Remove the ComfyUI of the grant from the pool."""
        self._change(self._leave(grant.id, reason))

    def synchronized(self, grants: list[Grant]) -> None:
        """Remove all members without a grant from the pool."""
        self._change(self._compare({grant.id for grant in grants}))

    # --- changes of the members, in order, on Jupyter's loop

    def _change(self, change: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._changes.put_nowait, change)
        except RuntimeError:  # Jupyter's loop is closed
            change.close()

    async def _make_changes(self) -> None:
        while True:
            change = await self._changes.get()
            try:
                await change
            except Exception as error:
                text = "A member of the pool %r could not be changed"
                report(log, text, self._pool_id, error=error)
            finally:
                self._changes.task_done()

    async def _join(self, grant: Grant) -> None:
        assert self._members is not None
        log.info("Pool %r: ComfyUI %s answers on %s", self._pool_id, grant.id, grant.worker)
        if grant.note and grant.id not in self._member_ids:
            log.warning("Pool %r: worker %s: %s", self._pool_id, grant.worker, grant.note)
        self._member_ids.add(grant.id)
        await self._members.joined(self._member(grant))

    async def _leave(self, member_id: str, reason: str) -> None:
        assert self._members is not None
        log.info("Pool %r: ComfyUI %s has ended: %s", self._pool_id, member_id, reason)
        self._member_ids.discard(member_id)
        await self._members.left(member_id, reason)

    async def _compare(self, existing: set[str]) -> None:
        assert self._members is not None
        for member_id in self._member_ids - existing:
            await self._leave(member_id, "Its lease is not at the scheduler any more")
        await self._members.found(existing)

    def _member(self, grant: Grant) -> Member:
        return Member(
            grant.id,
            grant.url,
            name=f"{self._pool_id}-{grant.id[:6]}",
            tls=self._tls if grant.url.startswith("https:") else None,
        )

    # --- the thread of the manager

    async def _in_thread(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._own is not None
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._own))

    async def _open(self, target: Target) -> None:
        self._manager = manager = LeaseManager(
            self._token,
            lambda: target.connect(CONNECT_WITHIN),
            self._request,
            least=self._least,
            most=self._most,
            listener=self,
        )
        manager.want(self._runs)
        await manager.open()
        self._managing.keep(manager.run, f"Managing the leases of pool {self._pool_id!r}")

    async def _close_manager(self, end_leases: bool) -> None:
        await self._managing.close()
        if self._manager is not None:
            await self._manager.close(end_leases=end_leases)

    async def _stop(self, *, end_leases: bool) -> None:
        own = self._own
        if own is not None:
            closing = asyncio.run_coroutine_threadsafe(self._close_manager(end_leases), own)
            await asyncio.wait([asyncio.wrap_future(closing)], timeout=CLOSE_WITHIN)
            self._own = None
            with contextlib.suppress(RuntimeError):  # it was stopped by another call
                own.call_soon_threadsafe(own.stop)
        await self._changing.close()
        while not self._changes.empty():
            self._changes.get_nowait().close()


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(end(asyncio.all_tasks(loop)))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
