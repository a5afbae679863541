"""The members of a pool on a Dask cluster: leases at its scheduler."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
import time
import uuid
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .._version import __version__
from ..dask_clusters import adapt, pem, release
from ..errors import ComfyUIUnavailableError, InvalidRequestError
from ..util.tasks import BackgroundTasks, end, report, wait_for, wait_until_set
from ..util.times import Backoff
from .dask_tls import Certificates
from .dask_worker import LeaseEndedError, LeaseRefusedError, hold, renew
from .pool import Member

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Mapping

    from .dask_worker import LeaseRequest
    from .pool import Pools

log = logging.getLogger(__name__)

COMPARED = ("python", "dask", "distributed", "msgpack", "cloudpickle")
NAMED = 3  # processes in the text
TIMES = 4  # how often a lease is renewed in its idle time
SEND_TIMEOUT = 10.0  # seconds; a worker that has just ended delays the reply
# A worker without this package would end when it gets a function of the package as its task. The
# task is a text, so that it fails with an ImportError instead, which is reported.
TASK = f"__import__({hold.__module__!r}, fromlist=['hold']).hold(request)"
CONNECT_TIMEOUT = 10.0  # seconds in which a scheduler must answer
CHECK_INTERVAL = 0.5  # seconds between two checks of the leases
RECONNECT = Backoff(first=0.5, longest=15.0)
RENEW = Backoff(first=1.0, longest=60.0)  # pauses before a lease that follows failed ones
SUCCEEDED_AFTER = 30.0  # seconds; a lease that lasted longer does not count as failed
FORGOTTEN = (None, "released", "forgotten")  # states of a task that the scheduler does not execute
_ADDRESS = re.compile(r"(tls|tcp)://[^/?#@\s]+:\d{1,5}/?")
MAX_LENGTH = 300  # characters of an address
FILES = ("tls_ca_file", "tls_client_cert", "tls_client_key")
CLOSE_TIMEOUT = 10.0  # seconds that the manager has to disconnect


async def differences(client: Any) -> str | None:
    """Return the versions that differ as a text; None if all are the same."""
    found = await client.get_versions(check=False)
    own = _versions(found["client"])
    others = {"the scheduler": found["scheduler"]}
    others |= {f"worker {address}": info for address, info in found["workers"].items()}
    texts = []
    for who, info in others.items():
        theirs = _versions(info).items()
        pairs = [(name, version) for name, version in theirs if version != own.get(name)]
        if pairs:
            unlike = (f"{name} {version} instead of {own.get(name)}" for name, version in pairs)
            texts.append(f"{who} has {', '.join(unlike)}")
    if len(texts) > NAMED:
        texts = [*texts[:NAMED], f"and {len(texts) - NAMED} others differ"]
    return "; ".join(texts) or None


def _versions(info: Any) -> dict[str, str]:
    """Return the versions of the packages that have to be the same, and that of Python."""
    if not isinstance(info, dict):
        return {}
    versions = {**dict(info.get("packages") or {}), **dict(info.get("host") or {})}
    found = {name: str(versions[name]) for name in COMPARED if versions.get(name) is not None}
    if "python" in found:
        found["python"] = ".".join(found["python"].split(".")[:3])
    return found


class SchedulerError(Exception):
    """A scheduler cannot be reached; the text says why."""


class _ConnectionLostError(Exception):
    """The connection to the scheduler was interrupted."""


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

    def __init__(self, provider: DaskProvider, target: Target) -> None:
        self.failure: str | None = None  # of the scheduler, or of the last lease
        self.note: str | None = None  # versions of packages that differ
        self.connected = False
        self._prefix = f"comfydeploy-{provider.token}-"
        self._target = target
        self._request = provider.request
        self._least, self._most = provider.least, provider.most
        self._provider = provider
        self._runs = 0
        self._client: Any = None  # distributed.Client
        self._leases: dict[str, _Lease] = {}
        self._kept: list[str] = []  # the ids of the grants that are renewed
        self._renewed_at = 0.0
        self._renewing: asyncio.Task[None] | None = None
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
        client = self._target.connect(CONNECT_TIMEOUT)
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
        if self._renewing is not None:
            await end([self._renewing])
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
        self._provider.synchronized([one.grant for one in found.values() if one.grant])
        for lease in found.values():
            if lease.grant is not None and lease.grant.state == "serving":
                self._provider.grant_serves(lease.grant)

    async def _compare_versions(self, client: Any) -> None:
        """Set `note`, unless a worker does not return its versions in time."""
        with contextlib.suppress(asyncio.TimeoutError, OSError):
            self.note = await wait_for(differences(client), CONNECT_TIMEOUT)

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
                self._provider.grant_serves(grant)
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
            self._provider.grant_ended(grant, reason)
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
            self._renew(client)
            await wait_until_set(self._wake, CHECK_INTERVAL)

    async def _drop(self, client: Any, lease: _Lease) -> None:
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

    def _renew(self, client: Any) -> None:
        """Renew as many leases as the pool keeps, if it is time to: first those of before."""
        if self._renewing is not None and not self._renewing.done():
            return
        grants = [lease.grant for lease in self._leases.values() if lease.grant is not None]
        serving = [grant for grant in grants if grant.state == "serving"]
        kept = sorted(serving, key=lambda grant: grant.id not in self._kept)[: self._least]
        ids = [grant.id for grant in kept]
        pause = self._request.idle_timeout / TIMES
        if kept and (ids != self._kept or time.monotonic() - self._renewed_at >= pause):
            self._kept, self._renewed_at = ids, time.monotonic()
            workers = [grant.worker for grant in kept]
            self._renewing = asyncio.ensure_future(self._send(client, ids, workers))

    async def _send(self, client: Any, ids: list[str], workers: list[str]) -> None:
        """Renew grants on their workers; what fails is tried again at the next time."""
        with contextlib.suppress(Exception):
            await wait_for(client.run(renew, ids, workers=workers, on_error="ignore"), SEND_TIMEOUT)

    async def _submit(self, client: Any) -> None:
        name = f"{self._prefix}{uuid.uuid4().hex[:12]}"
        request = asdict(replace(self._request, lease=name))
        task = eval, TASK, {"request": request}
        future = client.submit(*task, key=_key(name), pure=False, retries=0)
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
    return f"comfyui_lease-{lease}"


async def reach(client: Any) -> None:
    connected = False
    try:
        await wait_for(client, CONNECT_TIMEOUT + 5.0)
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


def _why_unreachable(error: BaseException) -> str:
    """Return why a scheduler cannot be reached, with the causes of the error."""
    if isinstance(error, (asyncio.TimeoutError, TimeoutError)) and not str(error):
        return (
            f"nothing at this address answers as a Dask scheduler within {CONNECT_TIMEOUT + 5:g} s"
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


@dataclass(frozen=True)
class Target:
    address: str  # for example `tls://10.0.0.1:8786`
    certificates: Certificates | None = None  # the certificates of a client; None for `tcp`
    cluster: Any = None  # the Dask cluster object that starts workers, if it is in this process

    def connect(self, timeout: float) -> Any:
        """Return a `distributed.Client` for the current event loop; the caller must await it."""
        from distributed.security import Security

        security = None
        if self.certificates is not None:
            security = Security(
                require_encryption=True,
                tls_ca_file=self.certificates.ca,
                tls_client_cert=self.certificates.cert,
                tls_client_key=self.certificates.key or self.certificates.cert,
            )
        return _client_class()(
            self.address,
            security=security,
            asynchronous=True,
            set_as_default=False,
            timeout=timeout,
            name="comfydeploy",
        )

    def client_context(self) -> ssl.SSLContext | None:
        """Return the TLS context for connections to the proxies of leases; None: no TLS."""
        return None if self.certificates is None else self.certificates.client_context()


@cache
def _client_class() -> Any:
    """Return the class of clients that do not close themselves when they are deleted.

    They could not: without a running event loop nothing awaits the end of the connection, and
    Python warns of that in whatever code is running at that moment.
    """
    from distributed import Client

    class ClosedByItsOwner(Client):
        def __del__(self) -> None:
            """Do nothing."""

    return ClosedByItsOwner


def check_address(address: str, *, allow_plain_tcp: bool, field: str) -> str:
    try:
        port = urlsplit(address).port
    except ValueError:
        port = None
    if len(address) > MAX_LENGTH or not _ADDRESS.fullmatch(address) or not port:
        raise InvalidRequestError.of_field(
            field,
            f"{address[:80]!r} is not the address of a Dask scheduler, such as tls://host:8786",
        )
    if address.startswith("tcp:") and not allow_plain_tcp:
        raise InvalidRequestError.of_field(
            field,
            "must begin with tls://: without TLS, everyone who reaches the scheduler can run"
            " programs as its user, and a program that answers in its place can run programs as"
            " the user of Jupyter. Create the cluster with security=Security.temporary() (from"
            " distributed.security), or set cluster_allow_plain_tcp",
        )
    return address.rstrip("/")


def certificates_of(given: Mapping[str, str], *, field: str) -> Certificates | None:
    """Return the certificates in a request or a setting; None if there are none."""
    values = {name: given[name] for name in FILES if given.get(name)}
    if not values:
        return None
    if not values.keys() >= {*FILES[:2]}:
        raise InvalidRequestError.of_field(field, f"{FILES[0]} and {FILES[1]} are both needed")
    try:
        found = Certificates(*(pem(values.get(name, ""), name) for name in FILES))
        found.client_context()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise InvalidRequestError.of_field(field, f"cannot be used: {error}") from None
    return found


def of_cluster(cluster: Any, *, field: str) -> Target:
    """Return the target of a Dask cluster object: its address and its security."""
    address = getattr(cluster, "scheduler_address", None)
    if not isinstance(address, str) or not address:
        raise InvalidRequestError.of_field(
            field, f"{type(cluster).__name__} has no scheduler_address: is it a Dask cluster?"
        )
    try:
        certificates = Certificates.of_security(getattr(cluster, "security", None), "client")
    except ValueError as error:
        raise InvalidRequestError.of_field(field, f"its certificates: {error}") from None
    if not address.startswith("tls:"):
        certificates = None
    return Target(address, certificates, cluster)


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
        least: int,  # leases also without runs, and if they are idle
        most: int,
    ) -> None:
        self.token = token
        self.request = request
        self.least, self.most = least, most
        self._pool_id = pool_id
        self._find_target = target
        self._target: Target | None = None
        self._tls: ssl.SSLContext | None = None
        self._pools: Pools | None = None
        self._member_ids: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._own: asyncio.AbstractEventLoop | None = None
        self._manager: LeaseManager | None = None
        self._changes: asyncio.Queue[Coroutine[Any, Any, None]] = asyncio.Queue()
        self._managing, self._changing = BackgroundTasks(log), BackgroundTasks(log)

    # --- called by the pool, on Jupyter's loop

    async def start(self, pools: Pools) -> None:
        """Connect to the scheduler, and find the leases of an earlier server.

        Any exception is the error of the pool: a new provider is started after a pause.
        """
        self._pools = pools
        self._loop = asyncio.get_running_loop()
        self._target = target = await asyncio.to_thread(self._find_target)
        self._tls = await asyncio.to_thread(target.client_context)
        self._own = asyncio.new_event_loop()
        threading.Thread(
            target=_run_loop, args=(self._own,), name=f"dask-{self._pool_id}", daemon=True
        ).start()
        self._changing.keep(self._make_changes, f"Changing the members of pool {self._pool_id!r}")
        try:
            opening = asyncio.run_coroutine_threadsafe(self._open(target), self._own)
            await asyncio.wrap_future(opening)
        except SchedulerError as error:
            raise ComfyUIUnavailableError(
                f"The Dask scheduler at {target.address} cannot be used: {error}",
                details={"scheduler": target.address},
            ) from error
        if target.cluster is not None:  # else the owner of the cluster has to start the workers
            workers = self.token, self.least, self.most
            await asyncio.to_thread(adapt, target.cluster, *workers)
        await self._changes.join()

    def wanted(self, runs: int) -> None:
        """Note how many runs of the pool wait or execute; does not block."""
        if self._own is not None and self._manager is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                self._own.call_soon_threadsafe(self._manager.want, runs)

    def describe(self) -> dict[str, Any]:
        """Return what ``GET machine`` shows; ``state`` is that of a pool without members."""
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
            "workers": [self.least, self.most],
            "leases": leases,
            "error": None if manager is None else manager.failure,
            "note": None if manager is None else manager.note,
        }

    async def close(self, *, delete: bool, stays: bool = False) -> None:
        """Disconnect, also after `start` has failed or was cancelled.

        ``delete``: the ComfyUIs must end; if not, Jupyter stops, and a later server may find them.
        ``stays``: the pool stays on its cluster with other settings, and keeps the workers.
        """
        await self._stop(end_leases=delete)
        if delete and not stays and self._target is not None and self._target.cluster is not None:
            try:
                await asyncio.to_thread(release, self._target.cluster, self.token)
            except Exception:
                log.exception("The workers of the pool %r could not be ended", self._pool_id)

    # --- called on the event loop of the manager

    def grant_serves(self, grant: Grant) -> None:
        self._change(self._join(grant))

    def grant_ended(self, grant: Grant, reason: str) -> None:
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
        assert self._pools is not None
        log.info("Pool %r: ComfyUI %s answers on %s", self._pool_id, grant.id, grant.worker)
        if grant.note and grant.id not in self._member_ids:
            log.warning("Pool %r: worker %s: %s", self._pool_id, grant.worker, grant.note)
        self._member_ids.add(grant.id)
        member = Member(
            grant.id,
            grant.url,
            name=f"{self._pool_id}-{grant.id[:6]}",
            tls=self._tls if grant.url.startswith("https:") else None,
        )
        await self._pools.joined(self._pool_id, member)

    async def _leave(self, member_id: str, reason: str) -> None:
        assert self._pools is not None
        log.info("Pool %r: ComfyUI %s has ended: %s", self._pool_id, member_id, reason)
        self._member_ids.discard(member_id)
        await self._pools.left(self._pool_id, member_id, reason)

    async def _compare(self, existing: set[str]) -> None:
        assert self._pools is not None
        for member_id in self._member_ids - existing:
            await self._leave(member_id, "Its lease is not at the scheduler any more")
        await self._pools.found(self._pool_id, existing)

    # --- the thread of the manager

    async def _open(self, target: Target) -> None:
        self._manager = manager = LeaseManager(self, target)
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
            await asyncio.wait([asyncio.wrap_future(closing)], timeout=CLOSE_TIMEOUT)
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
