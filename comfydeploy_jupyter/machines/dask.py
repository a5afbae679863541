"""Pools of the kind dask: their settings, and the clusters in the configuration."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import socket
import threading
import uuid
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .._version import __version__
from ..errors import ComfyUIUnavailableError, InvalidRequestError, NotFoundError
from ..util.tasks import end
from .dask_leases import (
    CONNECT_TIMEOUT,
    DaskProvider,
    SchedulerError,
    Target,
    certificates_of,
    check_address,
    close_client,
    of_cluster,
    reach,
)
from .dask_worker import LeaseRequest
from .settings import split_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..extension import ComfyDeploy

log = logging.getLogger(__name__)

FIELD = "cluster"
MAX_WORKERS = 10_000
DEFAULT_WORKERS = (0, 1)
SOON = 1.0  # seconds that most schedulers need at most to answer
NEEDED = "comfydeploy-jupyter[dask]"
OF_MACHINES = (
    *("comfyui_url", "comfyui_headers", "comfyui_client_cert", "comfyui_client_key", "comfyui_ca"),
    *("env", "gpu", "autostart", "members"),
)
OF_LEASES = ("--listen", "--port", "--tls-keyfile", "--tls-certfile")  # each lease chooses them


class DaskKind:
    """Pools of the kind dask, and the clusters in the setting ``clusters``."""

    def __init__(self, settings: ComfyDeploy) -> None:
        self._settings = settings
        self._made: dict[str, Any] = {}  # the clusters that callables have created
        self._lock = threading.Lock()

    def check_name(self, name: str) -> None:
        """Raise an error if there is no such cluster."""
        if name not in self._settings.clusters:
            known = sorted(self._settings.clusters)
            there = f"; it has {', '.join(known)}" if known else ""
            text = f"the setting clusters has no {name!r}{there}"
            raise NotFoundError.of_field(FIELD, text, known=known)

    def target(self, name: str) -> Target:
        """Return the target of a cluster. This may start the cluster, so call it in a thread."""
        self.check_name(name)
        given = self._settings.clusters[name]
        if isinstance(given, str):
            given = {"scheduler": given}
        if isinstance(given, dict):
            address = given.get("scheduler")
            if not isinstance(address, str):
                raise InvalidRequestError.of_field(
                    FIELD, f"'scheduler' of {name!r} in the setting clusters must be text"
                )
            return Target(self._checked(address, FIELD), certificates_of(given, field=FIELD))
        if callable(given):
            given = self._make_cluster(name, given)
        found = of_cluster(given, field=FIELD)
        self._checked(found.address, FIELD)
        return found

    async def close(self) -> None:
        """Close the clusters that callables have created, also if the caller is cancelled."""
        await asyncio.to_thread(self._close_made)

    def _close_made(self) -> None:
        with self._lock:  # held for as long as a cluster is being created
            made, self._made = self._made, {}
        for name, cluster in made.items():
            try:
                cluster.close()
            except Exception:
                log.exception("The cluster %r could not be closed", name)

    def _checked(self, address: str, field: str) -> str:
        allowed = self._settings.cluster_allow_plain_tcp
        return check_address(address, allow_plain_tcp=allowed, field=field)

    def _make_cluster(self, name: str, make: Any) -> Any:
        with self._lock:
            if name not in self._made:
                try:
                    self._made[name] = make()
                except Exception as error:
                    log.exception("The cluster %r could not be created", name)
                    raise ComfyUIUnavailableError(
                        f"The cluster {name!r} could not be created: {error}",
                        details={"field": FIELD},
                    ) from error
            return self._made[name]

    async def check(self, fields: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
        """Validate the settings that a pool would have, and return them for the store.

        A scheduler is connected to if its address or its certificates are not those in ``known``.
        """
        if importlib.util.find_spec("distributed") is None:
            raise InvalidRequestError.of_field(
                "kind", f"dask needs the package distributed: pip install '{NEEDED}'"
            )
        for name in OF_MACHINES:
            if fields.get(name) is not None:
                raise InvalidRequestError.of_field(
                    name,
                    "is no setting of a pool on a cluster: its ComfyUIs are started on the workers,"
                    " with their environment",
                )
        least, most = _workers(fields.get("workers"))
        found: dict[str, Any] = {
            "token": fields.get("token") or uuid.uuid4().hex[:12],
            "workers": [least, most],
            "comfyui_path": _absolute(fields, "comfyui_path", needed=True),
            "comfyui_python": _absolute(fields, "comfyui_python"),
            "launch_args": _arguments(fields.get("launch_args") or ()),
            "shared_dir": _absolute(fields, "shared_dir"),
            "retry": fields.get("retry") or 0,
        }
        cluster, scheduler = fields.get("cluster"), fields.get("scheduler")
        if bool(cluster) == bool(scheduler):
            raise InvalidRequestError.of_field("cluster", "is needed, or scheduler, but not both")
        if cluster:
            self.check_name(cluster)
            return {**found, "cluster": cluster}
        assert scheduler is not None
        security = fields.get("security") or {}
        certificates = await asyncio.to_thread(certificates_of, security, field="security")
        found["scheduler"] = scheduler
        if certificates is not None:
            found["security"] = {
                "tls_ca_file": certificates.ca,
                "tls_client_cert": certificates.cert,
                "tls_client_key": certificates.key,
            }
        if all(found.get(name) == known.get(name) for name in ("scheduler", "security")):
            return found
        found["scheduler"] = self._checked(scheduler, "scheduler")
        if certificates is None and scheduler.startswith("tls:"):
            raise InvalidRequestError.of_field("security", "is needed for a scheduler with tls://")
        try:
            await asyncio.to_thread(_try, Target(found["scheduler"], certificates))
        except SchedulerError as error:
            raise InvalidRequestError.of_field(
                "scheduler", f"the Dask scheduler at {found['scheduler']} cannot be used: {error}"
            ) from None
        return found

    def make(self, pool_id: str, settings: Mapping[str, Any]) -> DaskProvider:
        given = ("comfyui_path", "comfyui_python", "launch_args", "shared_dir")
        least, most = settings["workers"]
        request = LeaseRequest(
            lease="",
            version=__version__,
            start_timeout=self._settings.comfyui_start_timeout,
            idle_timeout=self._settings.cluster_idle_timeout,
            **{name: settings[name] for name in given},
            allow_plain_tcp=self._settings.cluster_allow_plain_tcp,
        )
        target = partial(self._target, settings)
        token = settings["token"]
        return DaskProvider(pool_id, token, target, request, least=least, most=most)

    def shown(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings without certificates, for replies."""
        return {name: settings[name] for name in settings if name not in ("security", "token")}

    def _target(self, settings: Mapping[str, Any]) -> Target:
        if "cluster" in settings:
            return self.target(settings["cluster"])
        address = self._checked(settings["scheduler"], "scheduler")
        security = settings.get("security") or {}
        return Target(address, certificates_of(security, field="security"))


def _try(target: Target) -> None:
    """Connect to a scheduler, on a new event loop.

    distributed tries an address that refuses connections until its time is over. So where it is not
    connected soon, the port is tried; only a scheduler that is slow gets the rest of the time.
    """

    async def connect() -> None:
        client = target.connect(CONNECT_TIMEOUT)
        connecting = asyncio.ensure_future(reach(client))
        try:
            await asyncio.wait([connecting], timeout=SOON)
            if not connecting.done():
                await asyncio.to_thread(_knock, target.address)
            await connecting
        finally:
            await end([connecting])
        await close_client(client)

    asyncio.run(connect())


def _knock(address: str) -> None:
    """Raise a `SchedulerError` if nothing listens at an address, or there is no such host."""
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), SOON).close()
    except TimeoutError:
        pass  # it may be slow
    except (OSError, UnicodeError) as error:
        raise SchedulerError(getattr(error, "strerror", None) or str(error)) from None


def _workers(given: Sequence[int] | None) -> tuple[int, int]:
    if given is None:
        return DEFAULT_WORKERS
    if len(given) != 2:
        raise InvalidRequestError.of_field(
            "workers", "must be two numbers: the smallest and the largest number of workers"
        )
    least, most = given
    if not (0 <= least <= most and 1 <= most <= MAX_WORKERS):
        raise InvalidRequestError.of_field(
            "workers",
            f"[{least}, {most}] is not a valid range: the first number must be from 0 to the second"
            f" one, and the second one from 1 to {MAX_WORKERS}",
        )
    return least, most


def _arguments(given: Sequence[str] | str) -> list[str]:
    """Return launch arguments that leave the address of ComfyUI to its lease."""
    arguments = split_arguments(given)
    for argument in arguments:
        option = argument.partition("=")[0]
        # argparse accepts a unique prefix of an option.
        if option.startswith("--") and any(name.startswith(option) for name in OF_LEASES):
            raise InvalidRequestError.of_field(
                "launch_args",
                f"{option[:80]!r} cannot be given on a cluster: ComfyUI listens only at the"
                " loopback address of its worker, behind a TLS proxy",
            )
    return list(arguments)


def _absolute(fields: Mapping[str, Any], name: str, *, needed: bool = False) -> str:
    """Return a path on the workers, which this server cannot check."""
    given = fields.get(name) or ""
    if not isinstance(given, str) or "\0" in given:
        raise InvalidRequestError.of_field(name, "is not a path")
    if not given and needed:
        raise InvalidRequestError.of_field(
            name, "is needed: the folder of ComfyUI on the nodes of the workers"
        )
    if given and not PurePosixPath(given).is_absolute():
        raise InvalidRequestError.of_field(name, "must be an absolute path on the workers")
    return given
