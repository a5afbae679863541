"""The protocol between a pool and a cluster that starts and ends the machines of the pool."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import ssl
    from collections.abc import Collection, Mapping


@dataclass(frozen=True)
class Member:
    """A ComfyUI that a provider has started.

    Attributes
    ----------
    id : str
        Id of its machine. Another ComfyUI never gets the same id, but a member of which only the
        address has changed keeps it.
    url : str
        Address of the ComfyUI.
    name : str
        Name of its machine; by default its id.
    tls : ssl.SSLContext or None
        The certificates for an ``https`` address; by default those that the system trusts.
    headers : mapping of str to str
        Headers that each request to it needs.
    path : str
        The folder of ComfyUI, if this server can read it; else empty.
    launch_args : sequence of str
        The arguments that determine ComfyUI's folders, if this server can read these.
    """

    id: str
    url: str
    name: str = ""
    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    path: str = ""
    launch_args: tuple[str, ...] = ()


class Members(Protocol):
    """The members of one pool; the pool implements it, and its provider calls it.

    Nothing has to be called for a member that does not answer: its runs wait for it until it
    answers again or `left` is called. Only `left` moves runs to other members.
    """

    async def joined(self, member: Member) -> None:
        """Add a member, or change the address of one; runs are assigned to it once it answers.

        Raises
        ------
        ConflictError
            If a machine that is no member of this pool has its id.
        """

    async def left(self, member_id: str, reason: str) -> None:
        """Remove a member whose ComfyUI has certainly ended, or whose queue is certainly lost.

        The run that it executed fails, or is executed again if its request allows that. All other
        runs that were assigned to it wait for another member. The member may be one that only an
        earlier server had.

        Parameters
        ----------
        member_id : str
            The member.
        reason : str
            What has happened; the beginning of a sentence.
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
        """Begin to provide members; returns once it is known which ones exist.

        Raises
        ------
        ComfyDeployError
            If the cluster cannot be reached.
        """

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

        Parameters
        ----------
        delete : bool
            Whether its ComfyUIs must end. If not, Jupyter stops: a later server may find the
            members again.
        stays : bool
            Whether the pool stays on its cluster with other settings, so that it keeps the workers.
        """


class ProviderKind(Protocol):
    """Makes the providers of one kind of pool, such as ``dask``."""

    async def check(self, fields: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
        """Validate the settings that a pool would have; return them.

        The settings are stored as JSON.

        Parameters
        ----------
        fields : mapping
            The fields of ``machine/create``; for ``machine/update`` with the settings that do not
            change.
        known : mapping
            The settings before; empty for a new pool. Those that do not change need not be tried.

        Raises
        ------
        InvalidRequestError
            If a field is invalid; the error names the field.
        """

    def make(self, pool_id: str, settings: Mapping[str, Any]) -> Provider:
        """Return a provider that has not been started."""

    def shown(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings without secrets, for replies."""

    async def close(self) -> None:
        """Close what all providers of this kind have shared, after these."""
