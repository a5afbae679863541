"""The protocol between a pool and a cluster that starts and ends the machines of the pool."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection, Mapping


@dataclass(frozen=True)
class Member:
    """A ComfyUI that a provider has started."""

    id: str  # no other ComfyUI gets it; one of which only the address has changed keeps it
    url: str
    name: str = ""  # default: its id
    tls: ssl.SSLContext | None = None  # default: the certificates that the system trusts
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    path: str = ""  # the folder of ComfyUI, if this server can read it
    launch_args: tuple[str, ...] = ()  # that determine its folders


class Members(Protocol):
    """The members of one pool; the pool implements it, and its provider calls it.

    Nothing has to be called for a member that does not answer: its runs wait for it until it
    answers again or `left` is called. Only `left` moves runs to other members.
    """

    async def joined(self, member: Member) -> None:
        """Add a member, or change the address of one; runs are assigned to it once it answers."""

    async def left(self, member_id: str, reason: str) -> None:
        """Remove a member whose ComfyUI has certainly ended, or whose queue is certainly lost.

        The run that it executed fails, or is executed again if its request allows that. All other
        runs that were assigned to it wait for another member. The member may be one that only an
        earlier server had.
        """

    async def found(self, member_ids: Collection[str]) -> None:
        """Declare which members still exist, of this server and of an earlier one.

        `left` is called for all others that are in the pool, or to which a run of it is assigned.
        """


class Provider(Protocol):
    """Starts and ends the ComfyUIs of one pool.

    All methods are called on the event loop. Any exception of `start` is reported as the error of
    the pool, and `start` of a new provider is called after a pause; the runs of the pool wait.
    """

    async def start(self, members: Members) -> None:
        """Begin to provide members; returns once it is known which ones exist."""

    def wanted(self, runs: int) -> None:
        """Record how many runs of the pool are waiting or executing.

        Called at each change of this number; must not block.
        """

    def describe(self) -> dict[str, Any]:
        """Return what ``GET machine`` shows of the provider, without secrets.

        ``state`` in it is the state of a pool without members: ``ready`` (one is about to join),
        ``starting``, ``stopped`` (nothing is wanted), ``failed`` or ``unreachable``; ``error`` is a
        text for users, or None.
        """

    async def close(self, *, delete: bool, stays: bool = False) -> None:
        """Stop providing members; called also after `start` has failed or was cancelled.

        ``delete``: its ComfyUIs must end; if not, Jupyter stops, and a later server may find them.
        ``stays``: the pool stays on its cluster with other settings, and keeps the workers.
        """


class ProviderKind(Protocol):
    """Makes the providers of one kind of pool, such as ``dask``."""

    async def check(self, fields: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
        """Validate the settings that a pool would have; return them.

        The settings are stored as JSON. Those that are as in ``known`` need not be tried.
        """

    def make(self, pool_id: str, settings: Mapping[str, Any]) -> Provider:
        """Return a provider that has not been started."""

    def shown(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings without secrets, for replies."""

    async def close(self) -> None:
        """Close what all providers of this kind have shared, after these."""
