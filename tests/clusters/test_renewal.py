"""Which leases a pool keeps although they are idle."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from comfydeploy_jupyter.machines.dask_leases import Renewal


class Client:
    """Records which leases are renewed, in place of Dask's client."""

    def __init__(self) -> None:
        self.renewed: list[list[str]] = []

    async def run(self, _function: object, ids: list[str], **_options: Any) -> None:
        self.renewed.append(ids)


async def test_the_same_leases_are_kept_in_any_order() -> None:
    """After a reconnection they come in another order; the kept one has models in its memory."""
    client, renewal = Client(), Renewal(2, idle_timeout=600)
    first, second, third = (SimpleNamespace(id=name, worker=f"tcp://{name}:1") for name in "abc")

    async def update(*serving: Any) -> None:
        renewal.update(client, serving)
        await asyncio.sleep(0.01)

    await update(second)
    assert client.renewed == [["b"]]
    await update(first, second, third)
    assert client.renewed[1:] == [["b", "a"]]
    await update(third, first, second)
    assert {*client.renewed[-1]} == {"a", "b"}
    await update(third, first)  # one has ended
    assert client.renewed[-1] == ["a", "c"]
    await renewal.close()
