"""Tasks that are ended have ended."""

from __future__ import annotations

import asyncio

from comfydeploy_jupyter import tasks


async def test_a_swallowed_cancellation_is_repeated(monkeypatch):
    monkeypatch.setattr(tasks, "CANCEL_AGAIN", 0.01)
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while swallowed < 2:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.sleep(3600)

    task = asyncio.ensure_future(stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(tasks.end([task]), 10)
    assert task.cancelled()
    assert swallowed == 2


async def test_what_is_done_or_fails_or_never_began():
    async def fail() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            raise RuntimeError("on its way out")

    done, failing = asyncio.ensure_future(asyncio.sleep(0)), asyncio.ensure_future(fail())
    await done
    never_began = asyncio.ensure_future(asyncio.sleep(3600))
    await tasks.end([done, failing, never_began])
    assert never_began.cancelled()
    assert isinstance(failing.exception(), RuntimeError) or failing.cancelled()
    await tasks.end([])
