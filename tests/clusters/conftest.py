"""A pool that records the calls of its provider, and providers for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from comfydeploy_jupyter.extension import ComfyDeploy
from comfydeploy_jupyter.machines.dask import DaskKind
from tests.helpers.waiting import until_async

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Collection, Iterator

    from comfydeploy_jupyter.machines.dask_leases import DaskProvider
    from comfydeploy_jupyter.machines.pool import Member
    from tests.helpers.clusters import DaskCluster


@dataclass
class RecordedMembers:
    """The members of a pool, and all calls about them, in place of `Pools`.

    Attributes
    ----------
    members : dict of str to Member
        The present members, by id.
    ends : list of (str, str)
        The members that have left, with the reasons.
    found_ids : list of set of str
        The arguments of `found`.
    """

    members: dict[str, Member] = field(default_factory=dict)
    ends: list[tuple[str, str]] = field(default_factory=list)
    found_ids: list[set[str]] = field(default_factory=list)

    async def joined(self, _: str, member: Member) -> None:
        self.members[member.id] = member

    async def left(self, _: str, member_id: str, reason: str) -> None:
        self.members.pop(member_id, None)
        self.ends.append((member_id, reason))

    async def found(self, _: str, member_ids: Collection[str]) -> None:
        self.found_ids.append(set(member_ids))

    async def until(self, count: int, *, what: Callable[[], object] = str) -> list[Member]:
        """Wait until there are so many members."""
        await until_async(lambda: len(self.members) == count, timeout=150, what=what)
        return list(self.members.values())


async def ask(member: Member, path: str, body: Any = None) -> Any:
    """Return the JSON of a member's reply, through its TLS proxy."""
    method = "GET" if body is None else "POST"
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, member.url + path, json=body, ssl=member.tls or False) as reply,
    ):
        assert reply.status == 200, await reply.text()
        return await reply.json()


def sleeping(seconds: float) -> dict[str, Any]:
    """Return the body of a prompt that takes so many seconds."""
    return {
        "prompt": {
            "1": {"class_type": "TestSleep", "inputs": {"seconds": seconds}},
            "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
        }
    }


@pytest.fixture
def provide(
    lease_settings: dict[str, Any],
    jp_asyncio_loop: asyncio.AbstractEventLoop,
) -> Iterator[Callable[..., Awaitable[tuple[DaskProvider, RecordedMembers]]]]:
    """A function that starts the provider of a pool on a cluster, with a recorder as the pool."""
    providers: list[DaskProvider] = []

    async def make(
        cluster: DaskCluster,
        *,
        members: RecordedMembers | None = None,
        idle_timeout: float = 300.0,
        **fields: Any,
    ) -> tuple[DaskProvider, RecordedMembers]:
        kind = DaskKind(ComfyDeploy(cluster_idle_timeout=idle_timeout))
        request = {
            "scheduler": cluster.address,
            "security": cluster.security,
            "workers": [0, 2],
            **lease_settings,
            **fields,
        }
        provider: Any = kind.make("hpc", await kind.check(request, {}))
        members = members or RecordedMembers()
        providers.append(provider)
        await provider.start(members)
        return provider, members

    yield make
    for provider in providers:
        jp_asyncio_loop.run_until_complete(provider.close(delete=True))
