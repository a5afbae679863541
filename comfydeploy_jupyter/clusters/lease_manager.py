"""Requests, follows and cancels the leases of one pool at a Dask scheduler.

All code here runs in a separate thread with a separate event loop (`provider` starts it), because
distributed's client must not delay Jupyter's event loop.

A lease is a Dask task (`lease.hold`). It is published as a dataset, so that it continues without
this client, and so that the next Jupyter server finds it. The scheduler grants it to a worker; if
that worker ends, it grants the lease to another one. Each grant has its own ComfyUI.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from .._version import __version__
from ..util.backoff import Backoff
from ..util.tasks import wait_for, wait_until_set
from .lease import LeaseEndedError, LeaseRefusedError, hold
from .renewal import Renewal
from .versions import differences

if TYPE_CHECKING:
    from collections.abc import Callable

    from .lease import LeaseRequest

log = logging.getLogger(__name__)

# A worker without this package would end when it gets a function of the package as its task. The
# task is a text, so that it fails with an ImportError instead, which is reported.
TASK = f"__import__({hold.__module__!r}, fromlist=['hold']).hold(request)"
CONNECT_WITHIN = 10.0  # seconds in which a scheduler must answer
CHECK_EVERY = 0.5  # seconds between two checks of the leases
RECONNECT = Backoff(first=0.5, longest=15.0)
RENEW = Backoff(first=1.0, longest=60.0)  # pauses before a lease that follows failed ones
SUCCEEDED_AFTER = 30.0  # seconds; a lease that lasted longer does not count as failed
FORGOTTEN = (None, "released", "forgotten")  # states of a task that the scheduler does not execute


class SchedulerError(Exception):
    """A scheduler cannot be reached; the text says why."""


class _ConnectionLostError(Exception):
    """The connection to the scheduler was interrupted."""


class Listener(Protocol):
    """Receives the changes of grants. Its methods are called on the event loop of the manager."""

    def grant_serves(self, grant: Grant) -> None:
        """Handle that the ComfyUI of a grant answers."""

    def grant_ended(self, grant: Grant, reason: str) -> None:
        """Handle the end of a grant and its ComfyUI."""

    def synchronized(self, grants: list[Grant]) -> None:
        """Handle a new connection to the scheduler; exactly these grants exist."""


@dataclass(frozen=True)
class Grant:
    """A lease on a particular worker."""

    id: str
    lease: str
    worker: str  # the address of the worker at the scheduler
    state: str  # `starting` or `serving`
    url: str = ""  # address of the TLS proxy, when it serves
    folder: str = ""  # folder with the files of its ComfyUI, when it serves
    note: str | None = None  # that its ComfyUI runs on the CPU, if the pool has no `--cpu`


@dataclass
class _Lease:
    id: str
    future: Any  # distributed.Future
    submitted_at: float
    grant: Grant | None = None
    ended_grants: set[str] = field(default_factory=set)  # ids
    cancelled: bool = False


class LeaseManager:
    """Manages the leases of one pool: as many as its runs need, within the limits of the pool."""

    def __init__(
        self,
        token: str,
        connect: Callable[[], Any],
        request: LeaseRequest,
        *,
        least: int,  # also without runs, and if they are idle
        most: int,
        listener: Listener,
    ) -> None:
        self.failure: str | None = None  # of the scheduler, or of the last lease
        self.note: str | None = None  # versions of packages that differ
        self.connected = False
        self._prefix = f"comfydeploy-{token}-"
        self._connect = connect
        self._request = request
        self._least, self._most = least, most
        self._listener = listener
        self._runs = 0
        self._client: Any = None  # distributed.Client
        self._leases: dict[str, _Lease] = {}
        self._renewal = Renewal(least, request.idle_timeout)
        self._wake = asyncio.Event()
        self._gone_workers: set[str] = set()
        self._failures = 0
        self._not_before = 0.0

    # --- called by the provider

    def want(self, runs: int) -> None:
        """Set the number of runs; each one needs a lease."""
        self._runs = runs
        self._wake.set()

    def states(self) -> list[dict[str, Any]]:
        """Return the leases as dicts, for the reply of ``GET machine``."""
        return [
            {
                "lease": lease.id,
                "state": lease.grant.state if lease.grant else "waiting",
                "worker": lease.grant.worker if lease.grant else None,
                "member": lease.grant.id if lease.grant else None,
                "note": lease.grant.note if lease.grant else None,
            }
            for lease in list(self._leases.values())
        ]

    async def open(self) -> None:
        """Connect to the scheduler, and find the leases of an earlier server."""
        client = self._connect()
        try:
            await reach(client)
            self._client = client
            await self._synchronize(client)
        except SchedulerError as error:
            self.failure = str(error)
            raise
        except Exception as error:
            await self._disconnect()
            self.failure = _why_unreachable(error)
            raise SchedulerError(self.failure) from error
        self.connected, self.failure = True, None

    async def run(self) -> None:
        """Manage the leases until this is cancelled; reconnect whenever the connection breaks."""
        failures = 0
        while True:
            try:
                if self._client is None:
                    await self.open()
                failures = 0
                await self._manage()
            except SchedulerError as error:
                log.warning("%s", error)
            except Exception as error:
                expected = isinstance(error, (_ConnectionLostError, OSError))
                self.failure = str(error) or type(error).__name__
                log.warning(
                    "The leases cannot be managed: %s", self.failure, exc_info=not expected or None
                )
            await self._disconnect()
            failures += 1
            await asyncio.sleep(RECONNECT.pause(failures))

    async def close(self, *, end_leases: bool) -> None:
        """Disconnect; with ``end_leases`` after all leases have been cancelled."""
        if end_leases and self._client is not None and self._client.status == "running":
            for lease in list(self._leases.values()):
                await self._cancel(lease)
        await self._disconnect()

    # --- the connection

    async def _disconnect(self) -> None:
        self.connected = False
        await self._renewal.close()
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(Exception):
                client.unsubscribe_topic("all")  # else it gets an event about its own end
            await close_client(client)

    async def _synchronize(self, client: Any) -> None:
        """Read the leases from the scheduler, and report the grants that exist."""
        self._gone_workers.clear()
        client.subscribe_topic("all", self._handle_scheduler_event)
        await self._compare_versions(client)
        found: dict[str, _Lease] = {}
        names = [n for n in await client.list_datasets() if str(n).startswith(self._prefix)]
        states = await client.scheduler.get_task_status(keys=[*map(_key, names)])
        for name in names:
            if states[_key(name)] in FORGOTTEN:  # by `Client.restart`, which keeps datasets
                await client.unpublish_dataset(name)
                continue
            future = await client.get_dataset(name)
            known = self._leases.get(name)
            lease = found[name] = _Lease(name, future, time.monotonic())
            if known is not None:
                lease.submitted_at, lease.ended_grants = known.submitted_at, known.ended_grants
        self._leases = found
        for lease in found.values():
            await self._follow(client, lease)
        granted = [(lease, lease.grant) for lease in found.values() if lease.grant is not None]
        workers = set((await client.scheduler.identity())["workers"])
        for lease, grant in granted:
            if grant.worker not in workers:
                self._end_grant(lease, grant.id, "Its worker has ended", report=False)
        self._listener.synchronized([one.grant for one in found.values() if one.grant])
        for lease in found.values():
            if lease.grant is not None and lease.grant.state == "serving":
                self._listener.grant_serves(lease.grant)

    async def _compare_versions(self, client: Any) -> None:
        """Set `note`, unless a worker does not return its versions in time."""
        with contextlib.suppress(asyncio.TimeoutError, OSError):
            self.note = await wait_for(differences(client), CONNECT_WITHIN)

    async def _follow(self, client: Any, lease: _Lease) -> None:
        """Subscribe to the events of a lease, and handle those that were sent before."""
        client.subscribe_topic(lease.id, self._handle_event)
        for event in await client.get_events(lease.id) or ():
            self._handle_event(event, report=False)

    # --- events

    def _handle_event(self, event: tuple[float, Any], *, report: bool = True) -> None:
        """Handle an event of a lease; the same event may arrive twice.

        Its time is not used: the scheduler's clock may be set back.
        """
        message = event[1]
        if not isinstance(message, dict):
            return
        lease = self._leases.get(str(message.get("lease")))
        grant_id = str(message.get("grant"))
        if lease is None or grant_id in lease.ended_grants:
            return
        state = message.get("state")
        if state == "ended":
            reason = f"Its lease has ended: {message.get('reason')}"
            self._end_grant(lease, grant_id, reason, report=report)
            return
        grant = lease.grant
        if grant is None or grant.id != grant_id:
            if grant is not None:
                self._end_grant(
                    lease, grant.id, "Its lease was granted to another worker", report=report
                )
            grant = Grant(grant_id, lease.id, str(message.get("at")), "starting")
        if state == "serving" and grant.state != "serving":
            why = message.get("no_gpu_reason")
            grant = replace(
                grant,
                state="serving",
                url=str(message.get("url")),
                folder=str(message.get("folder")),
                note=f"its ComfyUI runs on the CPU: {why}" if why else None,
            )
            if report:
                self._failures = 0
                self.failure = None
                self._listener.grant_serves(grant)
        lease.grant = grant

    def _handle_scheduler_event(self, event: tuple[float, Any]) -> None:
        message = event[1]
        if isinstance(message, dict) and message.get("action") == "remove-worker":
            worker = str(message.get("worker"))
            self._end_grants_on({worker})
            self._gone_workers.add(worker)  # again later: a grant there may not be known yet
            self._wake.set()

    def _end_grants_on(self, workers: set[str]) -> None:
        for lease in self._leases.values():
            if lease.grant is not None and lease.grant.worker in workers:
                self._end_grant(lease, lease.grant.id, "Its worker has ended", report=True)

    def _end_grant(self, lease: _Lease, grant_id: str, reason: str, *, report: bool) -> None:
        grant, lease.grant = lease.grant, None
        lease.ended_grants.add(grant_id)
        if grant is None or grant.id != grant_id:
            lease.grant = grant
        elif report:
            self._listener.grant_ended(grant, reason)
        self._wake.set()

    # --- managing the leases

    async def _manage(self) -> None:
        client = self._client
        assert client is not None
        while True:
            self._wake.clear()
            if client.status != "running":
                raise _ConnectionLostError("The connection to the scheduler was lost")
            gone, self._gone_workers = self._gone_workers, set()
            self._end_grants_on(gone)
            for lease in list(self._leases.values()):
                if lease.future.status != "pending":
                    await self._drop(client, lease)
            await self._adjust(client)
            grants = (lease.grant for lease in self._leases.values())
            self._renewal.update(client, (one for one in grants if one and one.state == "serving"))
            await wait_until_set(self._wake, CHECK_EVERY)

    async def _drop(self, client: Any, lease: _Lease) -> None:
        """Remove a lease whose task has ended."""
        reason = "Its lease was cancelled"
        if lease.future.status in ("cancelled", "lost"):
            if not lease.cancelled:
                raise _ConnectionLostError("The connection to the scheduler was interrupted")
        else:
            error = await lease.future.exception()
            if not isinstance(error, LeaseEndedError):
                await self._compare_versions(client)  # there may be new workers
            reason = self._reason(lease, error)
            await client.unpublish_dataset(lease.id)
        client.unsubscribe_topic(lease.id)
        del self._leases[lease.id]
        if lease.grant is not None:
            self._end_grant(lease, lease.grant.id, reason, report=True)

    def _reason(self, lease: _Lease, error: BaseException | None) -> str:
        """Return why a lease has ended; if it failed, store the reason and set a pause."""
        lasted = time.monotonic() - lease.submitted_at
        reason = str(error) or type(error).__name__
        if isinstance(error, LeaseEndedError):
            reason = f"Its lease has ended: {reason}"
            failed = lasted < min(SUCCEEDED_AFTER, self._request.idle_timeout)
        else:
            failed = True
            if not isinstance(error, LeaseRefusedError):
                reason = f"{type(error).__name__}: {reason}"
            if isinstance(error, ImportError):
                reason = f"The workers need comfydeploy-jupyter[dask] {__version__}: {reason}"
            if self.note:
                reason = f"{reason} ({self.note})"
        if failed:
            self.failure = reason
            self._failures += 1
            pause = RENEW.pause(self._failures)
            self._not_before = time.monotonic() + pause
            log.warning("A lease failed; the next one is requested in %.0f s: %s", pause, reason)
        return reason

    async def _adjust(self, client: Any) -> None:
        """Submit missing leases; cancel leases that are neither granted nor needed."""
        wanted = min(max(self._runs, self._least), self._most)
        surplus = len(self._leases) - wanted
        for lease in [one for one in self._leases.values() if one.grant is None][: max(surplus, 0)]:
            await self._cancel(lease)
        if time.monotonic() >= self._not_before:
            for _ in range(wanted - len(self._leases)):
                await self._submit(client)

    async def _submit(self, client: Any) -> None:
        name = f"{self._prefix}{uuid.uuid4().hex[:12]}"
        request = replace(self._request, lease=name, topic=name).to_dict()
        future = client.submit(
            eval,
            TASK,
            {"request": request},
            key=_key(name),
            pure=False,
            retries=0,
        )
        lease = self._leases[name] = _Lease(name, future, time.monotonic())
        await client.publish_dataset(future, name=name)
        await self._follow(client, lease)

    async def _cancel(self, lease: _Lease) -> None:
        """Cancel a lease; if it was granted in the meantime, its worker notices it."""
        assert self._client is not None
        lease.cancelled = True
        await lease.future.cancel(force=True)
        await self._client.unpublish_dataset(lease.id)
        self._client.unsubscribe_topic(lease.id)
        self._leases.pop(lease.id, None)


def _key(lease: str) -> str:
    """Return the key of the task of a lease."""
    return f"comfyui_lease-{lease}"


async def reach(client: Any) -> None:
    """Connect a client to its scheduler."""
    connected = False
    try:
        await wait_for(_connected(client), CONNECT_WITHIN + 5.0)
        connected = True
    except Exception as error:
        raise SchedulerError(_why_unreachable(error)) from error
    finally:
        if not connected:  # also if this is cancelled
            await close_client(client)


async def close_client(client: Any) -> None:
    """Close a client within 5 s, also if its scheduler does not answer."""
    with contextlib.suppress(Exception):
        await wait_for(client.close(), 5.0)


async def _connected(client: Any) -> Any:
    return await client


def _why_unreachable(error: BaseException) -> str:
    """Return why a scheduler cannot be reached, with the causes of the error."""
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)) and not str(error):
        return (
            f"nothing at this address answers as a Dask scheduler within {CONNECT_WITHIN + 5:g} s"
        )
    texts: list[str] = []
    while error is not None:
        text = re.sub(r"in <[^<>]*>: ", "", str(error)) or type(error).__name__  # a connector
        if not any(text in earlier for earlier in texts):
            texts.append(text)
        if error.__cause__ is None:
            break
        error = error.__cause__
    return ": ".join(texts)
