"""Tasks that are ended have ended."""

from __future__ import annotations

import asyncio
import threading

import pytest

from comfydeploy_jupyter.net import tasks
from comfydeploy_jupyter.net.tasks import open_in_thread


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


async def test_a_file_that_opens_after_its_caller_was_cancelled_is_closed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    go, opened = threading.Event(), []

    def slow_open():
        go.wait(10)
        opened.append(path.open("rb"))
        return opened[0]

    task = asyncio.ensure_future(open_in_thread(slow_open))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    for _ in range(1000):
        await asyncio.sleep(0.01)
        if opened and opened[0].closed:
            return
    raise AssertionError


async def test_an_open_file_is_handed_over(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with await open_in_thread(path.open, "rb") as file:
        assert file.read() == b"x"
    assert await open_in_thread(lambda: None) is None
